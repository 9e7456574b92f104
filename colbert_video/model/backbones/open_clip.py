"""CLIP and SigLIP backbones from open_clip, opened up so that every text token comes out, not only the pooled one.

open_clip pools inside `encode_text`; late interaction needs the tokens before that (Reddy et al., CVPR 2025,
section 3.1). `text_tokens` repeats open_clip's own steps on sliced positions and mask, and a parity test holds its
pooled row equal to `encode_text`. Models are built by name, and every trap on that way is an error with a remedy.
"""

import difflib
import json
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from colbert_video.base.once import ForkLock
from colbert_video.base.torch_state import own_torch, shapes_alone
from colbert_video.base.weight_files import check_no_larger, larger_than_weights
from colbert_video.errors import ModelError, in_one_line, shown
from colbert_video.model.backbone import MAX_SIDE, Preprocess, TokenizedQueries
from colbert_video.model.backbones.clip_tokenizer import ClipTokenizer
from colbert_video.model.backbones.clip_towers import ClipTowers, give_memory, plain_towers
from colbert_video.model.backbones.open_clip_downloads import fetch_weights, fetching_remedy, load_tokenizer
from colbert_video.model.backbones.tower_block import use_tower_blocks

CONFIG_FILE = "open_clip_config.json"
"""The architecture in a checkpoint's folder, in open_clip's own form."""
SUPPORTED_FAMILIES = (
    "CLIP (ViT, ConvNeXt, ResNet), SigLIP, SigLIP 2, PE-Core, MobileCLIP, EVA02-CLIP, CLIPA, MetaCLIP, DFN"
)
_BUILDING, _TOKENIZING = ForkLock(), ForkLock()


class OpenClipBackbone(nn.Module):
    """An open_clip dual encoder whose text tower gives all its tokens.

    Args:
        clip: A model built by open_clip.
        tokenizer: The open_clip tokenizer that belongs to it.
        architecture: open_clip's configuration of the model (its `model_cfg`), from which it can be built again.
        preprocess: How its weights expect frames.

    Raises:
        ModelError: If the text tower has no plain token outputs.
    """

    def __init__(
        self, clip: nn.Module, *, tokenizer: Any, architecture: dict[str, Any], preprocess: Preprocess
    ) -> None:
        super().__init__()
        self.clip: Any = clip
        self.tokenizer = tokenizer
        self.architecture = architecture
        self.preprocess = preprocess
        self._check_text_tower()
        self._freeze_unused()
        if not isinstance(clip, ClipTowers):  # these have such blocks
            use_tower_blocks(self.text.transformer)
            _use_image_blocks(self.clip.visual)

    @classmethod
    def from_name(
        cls, name: str, pretrained: str | None = None, *, preprocess: Preprocess | None = None
    ) -> "OpenClipBackbone":
        """Build an open_clip model and its tokenizer.

        Args:
            name: An open_clip model name, such as "ViT-B-32-quickgelu" or "PE-Core-B-16".
            pretrained: A tag of that model ("openai", "webli", "meta"), the path of a weight file, or None for random
                weights.
            preprocess: Overrides what the weights' tag prescribes; needed for a weight file of unknown preprocessing.

        Raises:
            ModelError: If the model is unknown or unsupported, the tag does not fit, or a download fails.
        """
        import open_clip
        from open_clip.pretrained import get_pretrained_cfg

        model_cfg = _model_cfg(name)
        _check_unsupported(name, model_cfg)
        if pretrained is not None:
            _check_tag(name, pretrained, model_cfg)
        preprocess = preprocess or _preprocess(name, pretrained, model_cfg)
        with _quiet_open_clip():
            tag_cfg = get_pretrained_cfg(name, pretrained) if pretrained else {}
            tokenizer = load_tokenizer(name, model_cfg, pretrained=pretrained if tag_cfg else None)
            weights = fetch_weights(name, pretrained, tag_cfg) if pretrained and tag_cfg else pretrained
        try:
            with _quiet_open_clip():
                clip = open_clip.create_model(name, pretrained=weights, load_weights=weights is not None)
        except Exception as error:
            raise ModelError(_failed_build(name, pretrained, error)) from error
        backbone = cls(clip, tokenizer=tokenizer, architecture=model_cfg, preprocess=preprocess)
        backbone.check_picture_size(preprocess)
        return backbone

    @classmethod
    def outline(cls, name: str, preprocess: Preprocess | None = None) -> "OpenClipBackbone":
        """Build an open_clip model of shapes alone, without weights and tokenizer, to check settings beforehand.

        Raises:
            ModelError: If the model is unknown or unsupported.
        """
        model_cfg = _model_cfg(name)
        _check_unsupported(name, model_cfg)
        preprocess = preprocess or _preprocess_from({}, model_cfg)
        return cls(_without_memory(name), tokenizer=None, architecture=model_cfg, preprocess=preprocess)

    @classmethod
    def from_folder(
        cls, folder: Path, preprocess: Preprocess, *, shapes: Mapping[str, Sequence[int]]
    ) -> "OpenClipBackbone":
        """Build the model described by a checkpoint's folder; its weights are to be loaded.

        Args:
            folder: The checkpoint, which may be a stranger's.
            preprocess: How its weights expect frames.
            shapes: Shape of each of its weights. A model that is larger is not built.

        Raises:
            ModelError: If the description is unusable, larger than the weights, or names other files or machines.
        """
        name = f"local-dir:{folder}"
        try:
            model_cfg = _read_model_cfg(folder)
            _check_unsupported(str(folder), model_cfg)
            clip = _build_stranger(name, model_cfg, shapes)
        except ModelError:
            raise
        except Exception as error:
            description = folder / CONFIG_FILE
            raise ModelError(
                f"{description} describes no model that open_clip can build: {in_one_line(error)}."
            ) from error
        tokenizer = (ClipTokenizer.find() if isinstance(clip, ClipTowers) else None) or _folder_tokenizer(name)
        try:
            backbone = cls(clip, tokenizer=tokenizer, architecture=model_cfg, preprocess=preprocess)
            backbone.check_picture_size(preprocess)
            return backbone
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from error

    def save(self, folder: Path) -> None:
        """Write `open_clip_config.json` and, if it is from Hugging Face, the tokenizer into a checkpoint's folder."""
        text = json.dumps({"model_cfg": self.architecture}, indent=2) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        if hasattr(self.tokenizer, "save_pretrained"):
            self.tokenizer.save_pretrained(str(folder))

    def _check_text_tower(self) -> None:
        text = self.text
        if not hasattr(text, "token_embedding") or getattr(text, "cls_emb", None) is not None:
            raise ModelError(
                f"the text tower {type(text).__name__} gives no token features. Supported families: {SUPPORTED_FAMILIES}."
            )

    def check_picture_size(self, preprocess: Preprocess) -> None:
        """Check that the image tower takes the preprocessing's pictures; a size that is not its own is tried.

        Raises:
            ModelError: If it does not.
        """
        size = (preprocess.height, preprocess.width)
        own = _picture_size(self.architecture)
        if size == own:
            return
        was_training, device = self.training, self.device
        try:
            with torch.no_grad(), own_torch():
                self.eval().frame_tokens(torch.zeros(1, 3, *size, device=device))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ModelError(
                f"preprocess has pictures of {size[0]}×{size[1]}, and the image tower does not take them; its own are "
                f"{own[0]}×{own[1]}."
            ) from error
        finally:
            self.train(was_training)

    def _freeze_unused(self) -> None:
        # The backbone's own logit scale and bias play no part in MeanMaxSim.
        for name in ("logit_scale", "logit_bias"):
            parameter = getattr(self.clip, name, None)
            if parameter is not None:
                parameter.requires_grad_(False)

    @property
    def text(self) -> Any:
        """The module that owns the text tower: the model itself for CLIP, its `.text` for the others."""
        return getattr(self.clip, "text", self.clip)

    @property
    def dim(self) -> int:
        """Dimensions of the space that text and frames share."""
        return int(self.architecture["embed_dim"])

    @property
    def context_length(self) -> int:
        """Most tokens a query can have."""
        return len(self.text.positional_embedding)

    @property
    def bidirectional(self) -> bool:
        """True if text tokens see later ones, so that the length of the padding changes every token (SigLIP)."""
        return self.text.attn_mask is None

    @property
    def pool_type(self) -> str:
        """Which text token open_clip pools: argmax (end of text), last, first or eos."""
        return self.clip.text_pool_type if self.text is self.clip else self.text.pool_type

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.text.positional_embedding.device

    def tokenize(self, texts: list[str], *, length: int, pad_id: int | None = None) -> TokenizedQueries:
        """Turn texts into ids of one length; longer texts are cut, the end-of-text token kept."""
        ids = self._ids(texts, length)  # (queries, query_tokens)
        content = self._content_mask(ids)
        if pad_id is not None:
            ids = ids.masked_fill(~content, pad_id)
        return TokenizedQueries(ids, content, content, self._pooled_positions(ids))

    def too_long(self, texts: list[str], *, length: int) -> list[bool]:
        """Return True for each text that loses words when it is cut to `length` tokens."""
        one_more = self._ids(texts, length + 1)  # (queries, length + 1)
        return self._content_mask(one_more)[:, length].tolist()

    def _ids(self, texts: list[str], length: int) -> Int[Tensor, "queries length"]:
        """Call the tokenizer; one thread at a time, as those of Hugging Face keep the length between calls."""
        with _TOKENIZING, own_torch():
            return self.tokenizer(texts, context_length=length)

    def _content_mask(self, ids: Int[Tensor, "queries query_tokens"]) -> Bool[Tensor, "queries query_tokens"]:
        """True up to the first end-of-text token. `ids != 0` would not do: id 0 is also a real word piece.

        BERT's vocabulary (CLIPA) has no end-of-text token, but there the padding id stands for nothing else.
        """
        if self.end_id is None:
            return ids != self.tokenizer.tokenizer.pad_token_id
        is_end = ids == self.end_id
        last = ids.shape[1] - 1
        end = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1), last)  # (queries,)
        return torch.arange(ids.shape[1], device="cpu") <= end[:, None]

    @property
    def start_id(self) -> int | None:
        """Token id that opens every query, if the tokenizer has one."""
        return self._special_id("bos_token_id", "sot_token_id")

    @property
    def end_id(self) -> int | None:
        """Token id that ends every query, if the tokenizer has one."""
        return self._special_id("eos_token_id", "eot_token_id")

    def _special_id(self, hugging_face: str, own: str) -> int | None:
        inner = getattr(self.tokenizer, "tokenizer", None)  # a Hugging Face tokenizer that open_clip wraps
        special: int | None = getattr(self.tokenizer, own, None) if inner is None else getattr(inner, hugging_face)
        return special

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return int(self.text.token_embedding.num_embeddings)

    def _pooled_positions(self, ids: Int[Tensor, "queries query_tokens"]) -> Int[Tensor, "queries"]:
        """Positions that open_clip's `text_global_pool` reads."""
        if self.pool_type == "argmax":
            return ids.argmax(dim=1)
        if self.pool_type == "eos":
            eos_id = self.clip.text_eos_id if self.text is self.clip else self.text.eos_id
            return (ids == eos_id).int().argmax(dim=1)
        position = 0 if self.pool_type == "first" else ids.shape[1] - 1
        return torch.full((len(ids),), position, device="cpu")

    def token_texts(self, ids: Int[Tensor, "query_tokens"], content: Bool[Tensor, "query_tokens"]) -> list[str]:
        """Return each token for people to read: words as they are, padding and control tokens in angle brackets."""
        tokenizer = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        words = [str(tokenizer.decode([token])).strip() for token in ids.tolist()]
        return [word if real else "<pad>" for word, real in zip(words, content.tolist(), strict=True)]

    def text_tokens(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return every text token in the shared space, before normalisation.

        The steps are those of open_clip's `encode_text`, with positions and causal mask sliced to the length at hand
        (`encode_text` itself accepts the full context only), and the projection applied to all tokens.
        """
        text, length = self.text, ids.shape[1]
        dtype = text.transformer.get_cast_dtype()
        positions = text.positional_embedding[:length].to(dtype)  # (tokens, width)
        x = text.token_embedding(ids).to(dtype) + positions  # (queries, tokens, width)
        mask = None if text.attn_mask is None else text.attn_mask[:length, :length]
        x = text.ln_final(text.transformer(x, attn_mask=mask))  # (queries, tokens, width)
        projection = text.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def frame_tokens(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Return what `encode_image` gives for each frame (CLS for CLIP, attention-pooled for SigLIP), not normalised."""
        return self.clip.encode_image(pixels.to(self.text.positional_embedding.dtype))

    def text_blocks(self, count: int) -> list[nn.Module]:
        """Return the text tower's first `count` transformer blocks.

        Raises:
            ModelError: If there are fewer.
        """
        blocks = list(self.text.transformer.resblocks)
        if count > len(blocks):
            raise ModelError(
                f"temporal_layers={count}, but the text tower has {len(blocks)} layers to copy from; use that "
                "many at most, or temporal_init='random'."
            )
        return blocks[:count]

    @property
    def text_positions(self) -> Float[Tensor, "context width"]:
        """Position embeddings of the text tower."""
        return self.text.positional_embedding.detach()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in both towers."""
        self.clip.set_grad_checkpointing(enable)


def _use_image_blocks(tower: Any) -> None:
    """Compute an image tower of open_clip's own by `TowerBlock`; those of timm have such blocks already."""
    from open_clip.transformer import VisionTransformer

    if type(tower) is VisionTransformer:
        use_tower_blocks(tower.transformer, first_only=tower.attn_pool is None and tower.pool_type == "tok")


def _model_cfg(name: str) -> dict[str, Any]:
    import open_clip

    if ":" in name:  # open_clip would take weights and preprocessing from there, past every check made here
        raise ModelError(
            f"backbone {shown(name)} must be one of open_clip's own model names; for weights of your own, pass their "
            "file as pretrained=."
        )
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models()."
        raise ModelError(f"open_clip has no model {shown(name)}; {hint}")
    return model_cfg


def _check_unsupported(name: str, model_cfg: dict[str, Any]) -> None:
    text_cfg = model_cfg.get("text_cfg", {})
    reason = None
    if "multimodal_cfg" in model_cfg or text_cfg.get("embed_cls"):
        reason = "CoCa's text tower appends a class token"
    elif text_cfg.get("hf_model_name"):
        reason = f"its text tower is the Hugging Face model {text_cfg['hf_model_name']}"
    elif text_cfg.get("pool_type") == "none" or text_cfg.get("tokenizer_mode"):
        reason = "its text tower pools in its own way"
    elif text_cfg.get("tokenizer_kwargs", {}).get("trust_remote_code"):
        raise ModelError(f"{name}: its tokenizer wants to run code of its own (trust_remote_code), which is refused.")
    if reason:
        raise ModelError(f"{name}: {reason}, which gives no token features. Supported families: {SUPPORTED_FAMILIES}.")


def _read_model_cfg(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    model_cfg: dict[str, Any] = content.get("model_cfg", content)
    return model_cfg


def _build_stranger(name: str, model_cfg: dict[str, Any], shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Build an architecture that stays on this machine and is no larger than its weights, which is checked first."""
    _check_stranger(name, model_cfg, shapes)
    towers = plain_towers(model_cfg)
    outline = _without_memory(name) if towers is None else towers
    check_no_larger(outline, shapes, name)
    if towers is not None:
        return give_memory(towers)
    import open_clip

    with _quiet_open_clip():
        return open_clip.create_model(name, load_weights=False)


def _check_stranger(name: str, model_cfg: dict[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Check that an architecture is all on this machine, and that it has no more layers than its weights."""
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    timm_name = vision.get("timm_model_name") or ""
    if any(mark in timm_name for mark in ":/\\") or vision.get("timm_model_pretrained"):
        raise ModelError(f"{name}: its image tower is loaded from elsewhere ({shown(timm_name)}), which is refused.")
    layers = [np.sum(part.get("layers", 0)) for part in (vision, text)]
    sizes = (*np.atleast_1d(vision.get("image_size", 0)), text.get("context_length", 0))
    if int(sum(layers)) > len(shapes) or max(sizes) > MAX_SIDE:
        raise larger_than_weights(name)


def _without_memory(name: str) -> nn.Module:
    """Build a model of shapes alone, on the device "meta"."""
    import open_clip

    with _quiet_open_clip(), shapes_alone():
        return open_clip.create_model(name, load_weights=False, device="meta")


def _check_tag(name: str, pretrained: str, model_cfg: dict[str, Any]) -> None:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tag_cfg = get_pretrained_cfg(name, pretrained)
    if not tag_cfg:
        if Path(pretrained).is_file():
            return
        tags = list_pretrained_tags_by_model(name)
        known = f"its tags are {', '.join(tags)}" if tags else "it has no tags: give the path of a weight file"
        raise ModelError(f"{name} has no pretrained weights {shown(pretrained)}; {known}.")
    wants, has = bool(tag_cfg.get("quick_gelu", False)), bool(model_cfg.get("quick_gelu", False))
    if wants != has:
        other = f"{name}-quickgelu" if wants else name.removesuffix("-quickgelu")
        raise ModelError(
            f"weights {shown(pretrained)} were trained with {'QuickGELU' if wants else 'GELU'}, but {name} computes "
            f"{'QuickGELU' if has else 'GELU'}: results would be silently worse. Use the model name {shown(other)}."
        )


def _preprocess(name: str, pretrained: str | None, model_cfg: dict[str, Any]) -> Preprocess:
    # Constants belong to the pretrained tag, not to the architecture; a weight file inherits those of the known tags.
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tag_cfg = get_pretrained_cfg(name, pretrained) if pretrained else {}
    if tag_cfg:
        return _preprocess_from(tag_cfg, model_cfg)
    candidates = {
        _preprocess_from(get_pretrained_cfg(name, tag), model_cfg) for tag in list_pretrained_tags_by_model(name)
    }
    if len(candidates) != 1 and pretrained is not None:
        raise ModelError(
            f"weight file {shown(pretrained)}: the published weights of {name} use {len(candidates)} kinds of "
            "preprocessing, so the right one is not known. Pass preprocess=Preprocess(...)."
        )
    return min(candidates, key=repr) if candidates else _preprocess_from({}, model_cfg)


def _picture_size(model_cfg: dict[str, Any]) -> tuple[int, int]:
    """Return height and width of the pictures that an architecture is made for."""
    size = model_cfg["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _preprocess_from(tag_cfg: dict[str, Any], model_cfg: dict[str, Any]) -> Preprocess:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    height, width = _picture_size(model_cfg)
    return Preprocess(
        height=height,
        width=width,
        mean=tuple(tag_cfg.get("mean") or OPENAI_DATASET_MEAN),
        std=tuple(tag_cfg.get("std") or OPENAI_DATASET_STD),
        interpolation=tag_cfg.get("interpolation") or "bicubic",
    )


def _folder_tokenizer(name: str) -> Any:
    import open_clip

    try:
        with _quiet_open_clip():
            return open_clip.get_tokenizer(name)
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {name} could not be loaded: {in_one_line(error)}. The checkpoint lacks its tokenizer "
            "files, or they are damaged: save or download it again."
        ) from error


def _failed_build(name: str, pretrained: str | None, error: Exception) -> str:
    if pretrained is None:
        return f"open_clip could not build {name}: {in_one_line(error)}."
    if Path(pretrained).is_file():
        return f"the weight file {shown(pretrained)} does not load into {name}: {in_one_line(error)}."
    what = f"the weights {shown(pretrained)} of {name} could not be loaded: {in_one_line(error)}"
    return f"{what}. {fetching_remedy(name, pretrained)}"


class _OtherThreads(logging.Filter):
    """Filter that drops the records of the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self._muted = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._muted


@contextmanager
def _quiet_open_clip() -> Iterator[None]:
    """Mute open_clip in this thread while a model is built; our own errors say what matters.

    open_clip logs through the root logger itself, and a filter of the root logger sees only such records: all other
    loggers stay as they are. Where the root logger has no handler, `logging.info` would configure it; the handler that
    logging falls back on prevents that. One thread at a time: of two overlapping `catch_warnings` the later one would
    restore the filters of the earlier, and warnings would stay muted.
    """
    with _BUILDING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = _OtherThreads()
        stand_ins = [] if logging.root.handlers else [logging.lastResort or logging.NullHandler()]
        logging.root.addFilter(others)
        for handler in stand_ins:
            logging.root.addHandler(handler)
        try:
            yield
        finally:
            for handler in stand_ins:
                logging.root.removeHandler(handler)
            logging.root.removeFilter(others)
