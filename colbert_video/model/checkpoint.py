"""Saving and loading a model as a folder of safetensors and JSON; nothing is unpickled.

- config.json: the model's switches and preprocessing
- open_clip_config.json: the backbone's architecture, in open_clip's own form
- model.safetensors: all weights
- tokenizer files: only for backbones with a Hugging Face tokenizer
"""

import copy
import json
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from colbert_video.errors import ColBERTVideoError, HubError, ModelError
from colbert_video.hub import REPOSITORY, HubRepository
from colbert_video.model.config import ModelConfig
from colbert_video.model.open_clip import in_one_line, rebuild_backbone
from colbert_video.model.video_colbert import VideoColBERT

FORMAT = 1
FILES = ("config.json", "open_clip_config.json", "model.safetensors")
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""What Hugging Face tokenizers may consist of; nothing else is downloaded with a checkpoint."""
SHIPPED = Path(__file__).parent / "checkpoints"
"""Checkpoints that come with the package; "toy" is one."""


def save_model(model: VideoColBERT, folder: Path, *, half: bool = False) -> None:
    """Write a checkpoint beside its target and move it into place, so that no interruption leaves a half-written one.

    Args:
        model: What to save; it is named after the folder, unless it is stored in half precision.
        folder: Target; an empty folder is filled, a checkpoint replaced.
        half: Whether to store weights in half precision.

    Raises:
        ModelError: If the folder cannot be written, or holds files that are no checkpoint's.
    """
    folder = folder.expanduser().resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
            fresh = Path(staging) / "checkpoint"
            fresh.mkdir()
            _write(model, fresh, half=half)
            _check_replaceable(folder, {path.name for path in fresh.iterdir()})
            _move_into_place(fresh, folder, aside=Path(staging) / "replaced")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the checkpoint {folder} cannot be written: {in_one_line(error)}.") from error
    if not half:
        model.name = str(folder)


def _check_replaceable(folder: Path, names: set[str]) -> None:
    """Refuse to replace a folder that would lose anything but an older checkpoint."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        _read_config(folder)
    except ModelError as error:
        raise ModelError(
            f"{folder} exists and is not a checkpoint; choose another folder or remove it."
        ) from error
    others = sorted(path.name for path in folder.iterdir() if path.name not in names)
    if others:
        raise ModelError(
            f"replacing the checkpoint {folder} would delete {', '.join(others)}; choose another folder or move them away."
        )


def _move_into_place(fresh: Path, folder: Path, *, aside: Path) -> None:
    try:
        if folder.exists():
            folder.rename(aside)
        fresh.rename(folder)
    except BaseException:
        if aside.exists():
            aside.rename(folder)
        raise


def _write(model: VideoColBERT, folder: Path, *, half: bool) -> None:
    _write_json(folder / "config.json", {"format": FORMAT, "model": model.config.to_dict()})
    _write_json(folder / "open_clip_config.json", {"model_cfg": model.backbone.model_cfg})
    if hasattr(model.backbone.tokenizer, "save_pretrained"):
        model.backbone.tokenizer.save_pretrained(str(folder))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        weights = {
            name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()
        }
    path = folder / "model.safetensors"
    save_file(weights, path)
    path.chmod(
        (folder / "config.json").stat().st_mode
    )  # safetensors writes files that their owner alone can read


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load_model(name: str | Path, *, device: torch.device) -> VideoColBERT:
    """Load a model by any of its names.

    Args:
        name: "toy" or another shipped checkpoint, a folder, "BACKBONE:TAG" for an untrained open_clip model, or a
            Hugging Face Hub id "user/model" or "user/model@revision".
        device: Where to put it.

    Raises:
        ModelError: If the name leads nowhere or the checkpoint is unusable.
    """
    text, folder = str(name), Path(name).expanduser()
    if len(folder.parts) == 1 and (SHIPPED / text / "config.json").is_file():
        return load_checkpoint(SHIPPED / text, device=device, name=text)
    if folder.is_dir():
        return load_checkpoint(folder, device=device, name=str(folder.resolve()))
    if isinstance(name, Path):
        raise ModelError(f"there is no folder {folder}.")
    backbone, colon, tag = text.partition(":")
    if colon and tag and "/" not in backbone:
        return VideoColBERT.from_backbone(backbone, pretrained=tag, device=device)
    repository, _, revision = text.partition("@")
    if REPOSITORY.fullmatch(repository):
        return _from_hub_or_nowhere(HubRepository(repository, "model", revision or None), device)
    shipped = ", ".join(sorted(path.name for path in SHIPPED.iterdir())) if SHIPPED.is_dir() else "none"
    raise ModelError(
        f"there is no model {text!r}: it is neither a shipped one ({shipped}), nor a folder, nor BACKBONE:TAG such as "
        "'PE-Core-B-16:meta', nor a Hub id 'user/model'."
    )


def load_checkpoint(folder: Path, *, device: torch.device, name: str) -> VideoColBERT:
    """Load a checkpoint folder, to be remembered by `name`.

    Raises:
        ModelError: If a file is missing, damaged, or does not fit the others.
    """
    config = _read_config(folder)
    backbone = rebuild_backbone(folder, config.preprocess)
    model = VideoColBERT(config, backbone)
    try:
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict(weights, strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{folder / 'model.safetensors'} is missing, damaged, or does not fit its configuration: "
            f"{in_one_line(error)}. Save or download the checkpoint again."
        ) from error
    model.name = name
    return model.to(device).eval()


def _read_config(folder: Path) -> ModelConfig:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} is not a checkpoint: {path.name} is missing or no JSON ({error})."
        ) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT or "model" not in values:
        raise ModelError(
            f"{path} has no format {FORMAT}; it was written by another program or a newer version."
        )
    if not (folder / "open_clip_config.json").is_file():
        raise ModelError(f"{folder} is not a complete checkpoint: open_clip_config.json is missing.")
    try:
        return ModelConfig.from_dict(values["model"])
    except ColBERTVideoError as error:
        raise ModelError(f"{path}: {error}") from error


def load_from_hub(
    repository: HubRepository, *, device: torch.device, cache_dir: Path | None = None
) -> VideoColBERT:
    """Load a model from the Hugging Face Hub, to be remembered by the repository's name.

    Args:
        repository: Where it is.
        device: Where to put it.
        cache_dir: Where downloads are kept; None for huggingface_hub's cache.

    Raises:
        HubError: If the Hub cannot be reached or refuses.
        ModelError: If the repository holds no usable checkpoint.
    """
    folder = repository.fetch((*FILES, *TOKENIZER_FILES), cache_dir=cache_dir)
    return load_checkpoint(folder, device=device, name=repository.name)


def _from_hub_or_nowhere(repository: HubRepository, device: torch.device) -> VideoColBERT:
    try:
        return load_from_hub(repository, device=device)
    except HubError as error:
        raise ModelError(f"there is no folder {repository.name!r}, and {error}") from None


def push_model(
    model: VideoColBERT, repository: HubRepository, *, private: bool = True, message: str | None = None
) -> str:
    """Push a model to the Hugging Face Hub, by whose name it is known from then on.

    Args:
        model: What to push.
        repository: Where to.
        private: Whether a new repository is private.
        message: The commit's message.

    Returns:
        The address of the commit.

    Raises:
        HubError: If the Hub cannot be reached or refuses.
        ModelError: If the disk for temporary files is full.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        save_model(copy.copy(model), folder)  # saving names what it saves
        card = model_card(model, repository.id)
        commit = repository.push(folder, card=card, private=private, message=message or "Push a model")
    model.name = repository.name
    return commit


def model_card(model: VideoColBERT, repository: str) -> str:
    """The README.md of a repository that holds a model."""
    config = model.config
    weights = f"with the weights `{config.pretrained}`" if config.pretrained else "with weights of its own"
    state = (
        "trained: every query token is compared with frame tokens and video tokens"
        if config.trained
        else "not trained for late interaction: the pooled query token is compared with frame tokens"
    )
    return f"""---
library_name: colbert_video
tags: [colbert_video, video-retrieval, late-interaction]
---

# {repository}

A Video-ColBERT model (Reddy et al., CVPR 2025) for late-interaction text-to-video search. It started from the
open_clip model `{config.backbone}` {weights}, and is {state}. Tokens have {model.dim} dimensions; {config.num_frames}
frames are sampled from each video.

```python
from colbert_video import Indexer, VideoColBERT

model = VideoColBERT.from_pretrained("{repository}")
Indexer("my.index", model=model).index("videos/")
```

No licence is stated yet: the owner of this repository has to add one, in accord with that of the weights it started
from.
"""
