"""Building open_clip models by name, with every trap of that road turned into an error that says what to do."""

import difflib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colbert_video.errors import ModelError
from colbert_video.model.backbone import SUPPORTED_FAMILIES, Backbone, Preprocess


def build_backbone(
    name: str, pretrained: str | None = None, *, preprocess: Preprocess | None = None
) -> Backbone:
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

    model_cfg = _model_cfg(name)
    _check_unsupported(name, model_cfg)
    if pretrained is not None:
        _check_tag(name, pretrained, model_cfg)
    preprocess = preprocess or _preprocess(name, pretrained, model_cfg)
    tokenizer = _tokenizer(name)
    try:
        with _quiet_open_clip():
            clip = open_clip.create_model(name, pretrained=pretrained, load_weights=pretrained is not None)
    except Exception as error:
        raise ModelError(_failed_build(name, pretrained, error)) from error
    return Backbone(clip, tokenizer=tokenizer, model_cfg=model_cfg, preprocess=preprocess)


def rebuild_backbone(folder: Path, preprocess: Preprocess) -> Backbone:
    """Build the model described by `open_clip_config.json` in a checkpoint folder, with random weights.

    Raises:
        ModelError: If the description is unusable.
    """
    import open_clip

    name = f"local-dir:{folder}"
    try:
        model_cfg = open_clip.get_model_config(name)
        _check_unsupported(str(folder), model_cfg)
        with _quiet_open_clip():
            clip = open_clip.create_model(name, load_weights=False)
    except ModelError:
        raise
    except Exception as error:
        description = folder / "open_clip_config.json"
        raise ModelError(
            f"{description} describes no model that open_clip can build: {in_one_line(error)}."
        ) from error
    return Backbone(clip, tokenizer=_tokenizer(name), model_cfg=model_cfg, preprocess=preprocess)


def _model_cfg(name: str) -> dict[str, Any]:
    import open_clip

    if ":" in name:  # open_clip would take weights and preprocessing from there, past every check made here
        raise ModelError(
            f"backbone {name!r} must be one of open_clip's own model names; for weights of your own, pass their file as "
            "pretrained=."
        )
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models()."
        raise ModelError(f"open_clip has no model {name!r}; {hint}")
    return model_cfg


def _check_unsupported(name: str, model_cfg: dict[str, Any]) -> None:
    """Text towers without plain token outputs cannot take part in late interaction."""
    text_cfg = model_cfg.get("text_cfg", {})
    reason = None
    if "multimodal_cfg" in model_cfg or text_cfg.get("embed_cls"):
        reason = "CoCa's text tower appends a class token"
    elif text_cfg.get("hf_model_name"):
        reason = f"its text tower is the Hugging Face model {text_cfg['hf_model_name']}"
    elif text_cfg.get("pool_type") == "none" or text_cfg.get("tokenizer_mode"):
        reason = "its text tower pools in its own way"
    elif text_cfg.get("tokenizer_kwargs", {}).get("trust_remote_code"):
        raise ModelError(
            f"{name}: its tokenizer wants to run code of its own (trust_remote_code), which is refused."
        )
    if reason:
        raise ModelError(
            f"{name}: {reason}, which gives no token features. Supported families: {SUPPORTED_FAMILIES}."
        )


def _check_tag(name: str, pretrained: str, model_cfg: dict[str, Any]) -> None:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tag_cfg = get_pretrained_cfg(name, pretrained)
    if not tag_cfg:
        if Path(pretrained).is_file():
            return
        tags = list_pretrained_tags_by_model(name)
        known = (
            f"its tags are {', '.join(tags)}" if tags else "it has no tags: give the path of a weight file"
        )
        raise ModelError(f"{name} has no pretrained weights {pretrained!r}; {known}.")
    wants, has = bool(tag_cfg.get("quick_gelu", False)), bool(model_cfg.get("quick_gelu", False))
    if wants != has:
        other = f"{name}-quickgelu" if wants else name.removesuffix("-quickgelu")
        raise ModelError(
            f"weights {pretrained!r} were trained with {'QuickGELU' if wants else 'GELU'}, but {name} computes "
            f"{'QuickGELU' if has else 'GELU'}: results would be silently worse. Use the model name {other!r}."
        )


def _preprocess(name: str, pretrained: str | None, model_cfg: dict[str, Any]) -> Preprocess:
    """Constants belong to the pretrained tag, not to the architecture; a weight file inherits those of the known tags.

    Raises:
        ModelError: If there are no known tags or they disagree, so that a weight file's constants cannot be told.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tag_cfg = get_pretrained_cfg(name, pretrained) if pretrained else {}
    if tag_cfg:
        return _preprocess_from(tag_cfg, model_cfg)
    candidates = {
        _preprocess_from(get_pretrained_cfg(name, tag), model_cfg)
        for tag in list_pretrained_tags_by_model(name)
    }
    if len(candidates) != 1 and pretrained is not None:
        raise ModelError(
            f"weight file {pretrained!r}: the published weights of {name} use {len(candidates)} kinds of preprocessing, "
            "so the right one cannot be told. Pass preprocess=Preprocess(...)."
        )
    return min(candidates, key=repr) if candidates else _preprocess_from({}, model_cfg)


def _preprocess_from(tag_cfg: dict[str, Any], model_cfg: dict[str, Any]) -> Preprocess:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    size = model_cfg["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return Preprocess(
        height=int(height),
        width=int(width),
        mean=tuple(tag_cfg.get("mean") or OPENAI_DATASET_MEAN),
        std=tuple(tag_cfg.get("std") or OPENAI_DATASET_STD),
        interpolation=tag_cfg.get("interpolation") or "bicubic",
    )


def _tokenizer(name: str) -> Any:
    import open_clip

    try:
        with _quiet_open_clip():
            return open_clip.get_tokenizer(name)
    except Exception as error:
        if name.startswith("local-dir:"):
            remedy = (
                "The checkpoint lacks its tokenizer files, or they are damaged: save or download it again."
            )
        else:
            remedy = (
                'It is a Hugging Face download: fetch it on a machine with network (python -c "import open_clip; '
                f"open_clip.get_tokenizer('{name}')\") and copy ~/.cache/huggingface here."
            )
        raise ModelError(
            f"the tokenizer of {name} could not be loaded: {in_one_line(error)}. {remedy}"
        ) from error


def _failed_build(name: str, pretrained: str | None, error: Exception) -> str:
    if pretrained is None:
        return f"open_clip could not build {name}: {in_one_line(error)}."
    if Path(pretrained).is_file():
        return f"the weight file {pretrained!r} does not load into {name}: {in_one_line(error)}."
    return (
        f"the weights {pretrained!r} of {name} could not be loaded: {in_one_line(error)}. To fetch them beforehand, run "
        f"python -c \"import open_clip; open_clip.create_model('{name}', pretrained='{pretrained}')\" on a machine with "
        "network and copy ~/.cache/huggingface here, or pass the path of a weight file as pretrained=."
    )


def in_one_line(error: Exception, *, limit: int = 300) -> str:
    """An error's text without line breaks, cut to `limit` characters; its kind where it has no text."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= limit else text[:limit] + " ..."


class _OtherThreads(logging.Filter):
    """Lets a logger's records through but those of the thread that made this filter."""

    def __init__(self) -> None:
        super().__init__()
        self._muted = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._muted


_BUILDING = threading.Lock()


@contextmanager
def _quiet_open_clip() -> Iterator[None]:
    """Mute open_clip's chatter in this thread while a model is built; our own errors say what matters.

    A filter of the root logger sees what is logged by the root logger itself, as open_clip does: all other loggers are
    heard as before, here and in other threads. Where the root logger has no handler, `logging.info` would configure it and
    undo the program's own set-up; the handler that logging falls back on keeps it from that. One thread at a time: of
    two overlapping `catch_warnings` the later one would restore the filters of the earlier, and warnings would stay muted.
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
