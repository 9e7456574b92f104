"""Saving and loading a model as a folder of safetensors and JSON; nothing is unpickled.

- config.json: the model's settings and preprocessing
- open_clip_config.json or transformers_config.json: the backbone's architecture, in the form of its library
- model.safetensors: all weights
- tokenizer files: only for backbones with a Hugging Face tokenizer

A checkpoint is the parts of a model; `VideoColBERT` puts them together.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from colbert_video.base.access import open_plain, os_problem, read_problem
from colbert_video.base.json_values import parse_json
from colbert_video.base.user_files import user_path
from colbert_video.base.weight_files import WEIGHTS_FILE, unfit, weight_shapes
from colbert_video.errors import ColBERTVideoError, HubError, ModelError, SettingsError, in_one_line, shown
from colbert_video.hub import REPOSITORY, HubRepository
from colbert_video.model.backbone import Backbone
from colbert_video.model.backbones import open_clip, transformers_backbone
from colbert_video.model.backbones.transformers_files import PREFIX, TOKENIZER_FILES, ModelSource
from colbert_video.model.config import ModelConfig

FORMAT = 1
CONFIG_FILE = "config.json"
BACKBONES: dict[str, Callable[..., Backbone]] = {
    open_clip.CONFIG_FILE: open_clip.OpenClipBackbone.from_folder,
    transformers_backbone.CONFIG_FILE: transformers_backbone.TransformersBackbone.from_folder,
}
"""How a checkpoint's backbone is built, by the name of the file that describes its architecture.

Called with the folder, `Preprocess` and `shapes=` of all weights by name."""
SHIPPED = Path(__file__).parent / "checkpoints"
"""Checkpoints that come with the package; "toy" is one."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The parts of a saved model."""

    name: str
    """What `VideoColBERT.from_pretrained` loads it by."""
    config: ModelConfig
    backbone: Backbone
    """The architecture; its weights are to be loaded."""
    weights: Path
    """File of all weights."""

    def load_weights(self, model: nn.Module) -> None:
        """Replace the weights of a model that was built from the other parts.

        Raises:
            ModelError: If the file is missing, damaged, or does not fit the model.
        """
        try:
            model.load_state_dict(load_file(self.weights), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise unfit(self.weights, error) from error
        check_weights(model, str(self.weights))


def check_weights(model: nn.Module, where: str) -> None:
    """Check that all weights are numbers.

    Args:
        model: Whose weights they are.
        where: Where they come from, for errors.

    Raises:
        ModelError: If one is NaN or infinite.
    """
    for name, weight in model.named_parameters():
        # aminmax passes NaN on, and unlike isfinite it makes no copy
        if weight.is_floating_point() and weight.numel() and not bool(torch.stack(weight.aminmax()).isfinite().all()):
            raise ModelError(f"{where}: {shown(name)} holds NaN or infinity. Save or download the weights again.")


def find_checkpoint(name: str | Path) -> Checkpoint | None:
    """Open a checkpoint by any of its names.

    Args:
        name: "toy" or another shipped checkpoint, a folder, or a Hugging Face Hub id "user/model" or
            "user/model@revision".

    Returns:
        The checkpoint; None if the name has the form BACKBONE:TAG or hf:NAME, which is no checkpoint but a backbone with
        its weights.

    Raises:
        ModelError: If the name leads nowhere or the checkpoint is unusable.
    """
    text, folder = str(name), _path_of(name)
    if _is_shipped(text):
        return open_checkpoint(SHIPPED / text, name=text)
    if folder.is_dir():
        return open_checkpoint(folder, name=str(folder.resolve()))
    if isinstance(name, Path):
        raise ModelError(f"there is no folder {name}: check the path.")
    if text.startswith(PREFIX):
        return None
    backbone, _, tag = text.partition(":")
    if tag and "/" not in backbone:
        return None
    repository, _, revision = text.partition("@")
    if REPOSITORY.fullmatch(repository):
        try:
            return fetch_checkpoint(HubRepository(repository, "model", revision or None))
        except HubError as error:
            raise ModelError(f"there is no folder {shown(text)}, and {error}") from None
    shipped = ", ".join(sorted(path.name for path in SHIPPED.iterdir())) if SHIPPED.is_dir() else "none"
    raise ModelError(
        f"there is no model {shown(text)}: it is neither a shipped one ({shipped}), nor a folder, nor BACKBONE:TAG "
        "such as 'PE-Core-B-16:meta', nor a Hub id 'user/model'. For a model of Hugging Face transformers, write 'hf:' before "
        "its name."
    )


def settled_name(name: str | Path) -> str | Path:
    """Return a name that means the same checkpoint in every working folder: that of a folder becomes its absolute path.

    Raises:
        ModelError: If it is empty or cannot be a name.
    """
    folder = _path_of(name)
    if isinstance(name, Path):
        return folder
    if name.startswith(PREFIX) and not folder.is_dir():
        return backbone_name(name)
    if _is_shipped(name) or not folder.is_dir():
        backbone, _, tag = name.partition(":")
        return f"{backbone}:{weights_name(tag)}" if tag and "/" not in backbone else name
    return str(folder)


def backbone_name(name: str) -> str:
    """Return the name of a backbone that means the same in every working folder: "hf:FOLDER" gets an absolute path.

    Raises:
        ModelError: If it begins with "hf:" and leads nowhere.
    """
    return ModelSource.from_name(name).name if name.startswith(PREFIX) else name


def weights_name(pretrained: str) -> str:
    """Return the absolute path of a weight file; any other name of weights, which is a tag, comes back as it is.

    Raises:
        ModelError: If it is empty or cannot be a name.
    """
    file = _path_of(pretrained)
    # A tag is one word; a file of that name does not hide it.
    return str(file) if any(mark in pretrained for mark in "./~") and file.is_file() else pretrained


def _path_of(name: str | Path) -> Path:
    if not str(name).strip():
        raise ModelError("the model is empty: name one, such as 'toy', 'PE-Core-B-16:meta' or 'hf:user/model'.")
    try:
        return user_path(name, "the model")
    except SettingsError as error:
        raise ModelError(str(error)) from error


def _is_shipped(name: str) -> bool:
    return len(Path(name).parts) == 1 and (SHIPPED / name / CONFIG_FILE).is_file()


def fetch_checkpoint(repository: HubRepository, *, cache_dir: Path | None = None) -> Checkpoint:
    """Download a checkpoint from the Hugging Face Hub, or find it in the cache, and open it.

    Args:
        repository: Where it is.
        cache_dir: Where downloads are kept; None for huggingface_hub's cache.

    Raises:
        HubError: If the Hub cannot be reached or refuses.
        ModelError: If the repository holds no usable checkpoint.
    """
    files = (CONFIG_FILE, WEIGHTS_FILE, *BACKBONES, *TOKENIZER_FILES)
    return open_checkpoint(repository.fetch(files, cache_dir=cache_dir), name=repository.name)


def open_checkpoint(folder: Path, *, name: str) -> Checkpoint:
    """Read a checkpoint's configuration and build its backbone.

    Args:
        folder: Where it is.
        name: What `from_pretrained` loads it by.

    Raises:
        ModelError: If a file is missing or damaged.
    """
    config = _read_config(folder)
    for description, build in BACKBONES.items():
        if (folder / description).is_file():
            weights = folder / WEIGHTS_FILE
            shapes = weight_shapes(weights)
            _check_size(config, shapes, folder)
            return Checkpoint(name, config, build(folder, config.preprocess, shapes=shapes), weights)
    raise ModelError(f"{folder} is not a complete checkpoint: {' or '.join(BACKBONES)} is missing.")


def _check_size(config: ModelConfig, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    """Check that the weights have what the settings ask for, before memory is taken for it."""
    rows = sum(shape[0] for shape in shapes.values() if shape)
    most = {"temporal_layers": len(shapes), "expansion_tokens": rows, "max_frames": rows, "query_length": rows}
    for name, limit in most.items():
        if getattr(config, name) > limit:
            raise ModelError(f"{folder / CONFIG_FILE}: {name}={getattr(config, name)} is more than the weights hold.")


def _read_config(folder: Path) -> ModelConfig:
    path = folder / CONFIG_FILE
    try:
        with open_plain(path) as file:
            values = parse_json(file.read())
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a checkpoint: {path.name} is missing.") from error
    except OSError as error:
        problem = read_problem(path) or os_problem(error)
        raise ModelError(f"{folder} is not a checkpoint: its {path.name} cannot be read: {problem}.") from error
    except ValueError as error:
        raise ModelError(f"{folder} is not a checkpoint: its {path.name} is no JSON ({error}).") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT or "model" not in values:
        other = isinstance(values, dict) and "model_type" in values
        hint = " For a model of Hugging Face transformers, write 'hf:' before its name." if other else ""
        raise ModelError(f"{path} has no format {FORMAT}; it was written by another program or a newer version.{hint}")
    try:
        return ModelConfig.from_dict(values["model"])
    except ColBERTVideoError as error:
        raise ModelError(f"{path}: {error}") from error


def save_checkpoint(
    folder: Path, config: ModelConfig, backbone: Backbone, weights: Mapping[str, Tensor], *, half: bool = False
) -> None:
    """Write a checkpoint beside its target and move it into place, so that no interruption leaves a half-written one.

    Args:
        folder: Target; an empty folder is filled, a checkpoint replaced.
        config: The model's settings.
        backbone: Writes its architecture.
        weights: All weights by name.
        half: True to store weights in half precision.

    Raises:
        ModelError: If the folder cannot be written, or holds files that are no checkpoint's.
    """
    folder = user_path(folder, "the folder").resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
            complete = Path(staging) / "checkpoint"
            complete.mkdir()
            _write_config(complete / CONFIG_FILE, config)
            backbone.save(complete)
            _write_weights(complete / WEIGHTS_FILE, weights, half=half)
            _check_replaceable(folder, {path.name for path in complete.iterdir()})
            _move_into_place(complete, folder, aside=Path(staging) / "replaced")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the checkpoint {folder} cannot be written: {in_one_line(error)}.") from error


def _write_config(path: Path, config: ModelConfig) -> None:
    values = {"format": FORMAT, "model": config.to_dict()}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_weights(path: Path, weights: Mapping[str, Tensor], *, half: bool) -> None:
    def stored(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu().contiguous()
        return tensor.half() if half and tensor.is_floating_point() else tensor

    save_file({name: stored(tensor) for name, tensor in weights.items()}, path)
    # safetensors writes files that only their owner can read.
    path.chmod(path.with_name(CONFIG_FILE).stat().st_mode)


def _check_replaceable(folder: Path, names: set[str]) -> None:
    """Check that the folder holds nothing but an older checkpoint, if anything."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        _read_config(folder)
    except ModelError as error:
        raise ModelError(f"{folder} exists and is not a checkpoint; choose another folder or remove it.") from error
    others = sorted(path.name for path in folder.iterdir() if path.name not in names)
    if others:
        raise ModelError(
            f"replacing the checkpoint {folder} would delete {', '.join(others)}; choose another folder or move them away."
        )


def _move_into_place(complete: Path, folder: Path, *, aside: Path) -> None:
    try:
        if folder.exists():
            folder.rename(aside)
        complete.rename(folder)
    except BaseException:
        if aside.exists():
            aside.rename(folder)
        raise


def model_card(config: ModelConfig, dim: int, repository: str) -> str:
    """Return the README.md of a repository that holds a model of `dim` dimensions per token."""
    weights = f"with the weights `{config.pretrained}`" if config.pretrained else "with weights of its own"
    start = f"open_clip model `{config.backbone}` {weights}"
    if config.backbone.startswith(PREFIX):
        start = f"Hugging Face transformers model `{config.backbone.removeprefix(PREFIX)}`"
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
{start}, and is {state}. Tokens have {dim} dimensions; {config.num_frames}
frames are sampled from each video.

```python
from colbert_video import Indexer, VideoColBERT

model = VideoColBERT.from_pretrained("{repository}")
Indexer("my.index", model=model).index("videos/")
```

No licence is stated yet: the owner of this repository has to add one, in accord with that of the weights it started
from.
"""
