"""What open_clip downloads for a model name: weights and tokenizers, taken from the cache without asking the network."""

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_video.base.network import address_problem, hub_problem
from colbert_video.errors import ModelError, in_one_line, shown

HUB_CACHE = "~/.cache/huggingface"
URL_CACHE = "~/.cache/clip"
"""Where open_clip keeps weights that are not from the Hugging Face Hub."""


def fetch_weights(name: str, pretrained: str, tag_cfg: Mapping[str, Any]) -> str:
    """Return the file of a tag's weights, which is downloaded if it is not in the cache.

    Args:
        name: The model, for errors.
        pretrained: The tag, for errors.
        tag_cfg: open_clip's `get_pretrained_cfg` of both.

    Raises:
        ModelError: If it is not in the cache and cannot be downloaded.
    """
    import open_clip

    cached = _cached_weights(tag_cfg)
    if cached is not None:
        return cached
    on_hub, address = bool(tag_cfg.get("hf_hub")), str(tag_cfg.get("url") or "")
    problem = hub_problem() if on_hub else _url_problem(address)
    remedy = fetching_remedy(name, pretrained, cache=HUB_CACHE if on_hub else URL_CACHE)
    if problem is not None:
        raise ModelError(f"the weights {shown(pretrained)} of {name} are not in the cache, and {problem}. {remedy}")
    try:
        return str(open_clip.download_pretrained(dict(tag_cfg)))
    except Exception as error:
        what = f"the weights {shown(pretrained)} of {name} could not be fetched: {in_one_line(error)}"
        raise ModelError(f"{what}. {remedy}") from error


def fetching_remedy(name: str, pretrained: str | None = None, *, words: bool = False, cache: str | None = None) -> str:
    """Return a sentence that says how to fetch what a model needs beforehand.

    Args:
        name: The model.
        pretrained: The tag of its weights; None if it needs none.
        words: True if it needs a tokenizer, too.
        cache: The folder of what is fetched; None for that of the Hub.
    """
    calls = [] if pretrained is None else [f"open_clip.create_model('{name}', pretrained='{pretrained}')"]
    calls += [f"open_clip.get_tokenizer('{name}')"] if words else []
    or_file = "" if pretrained is None or words else ", or pass the path of a weight file as pretrained="
    return (
        f'To fetch {"it" if pretrained is None else "them"} beforehand, run python -c "import open_clip; '
        f'{"; ".join(calls)}" on a machine with network and copy {cache or HUB_CACHE} here{or_file}.'
    )


def _cached_weights(tag_cfg: Mapping[str, Any]) -> str | None:
    """Return the file of weights in the Hub's cache, looked for by the names that open_clip tries, in its order."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, file = os.path.split(str(tag_cfg.get("hf_hub") or ""))
    if not repository:
        return None
    file = file or HF_WEIGHTS_NAME
    safe = [HF_SAFE_WEIGHTS_NAME] if file == HF_WEIGHTS_NAME else [str(Path(file).with_suffix(".safetensors"))]
    found = (try_to_load_from_cache(repository, candidate) for candidate in (*safe, file))
    return next((path for path in found if isinstance(path, str)), None)  # else None, or that the Hub lacks the file


def _url_problem(address: str) -> str | None:
    """Return why weights that are not from the Hub cannot be fetched; None also for those on this machine."""
    file = Path(URL_CACHE).expanduser() / address.rpartition("/")[2]
    return None if not address or file.is_file() else address_problem(address)


def load_tokenizer(name: str, model_cfg: Mapping[str, Any], *, pretrained: str | None = None) -> Any:
    """Return the tokenizer of one of open_clip's own models, which is downloaded if it is not in the cache.

    Args:
        name: The model.
        model_cfg: Its architecture.
        pretrained: The tag of the weights that will be fetched next, for errors.

    Raises:
        ModelError: If it is not in the cache and cannot be downloaded.
    """
    import open_clip

    source = model_cfg["text_cfg"].get("hf_tokenizer_name")
    if not source:
        return open_clip.get_tokenizer(name)
    remedy = fetching_remedy(name, pretrained, words=True)
    try:
        return _cached_tokenizer(name)
    except Exception as error:
        problem = hub_problem()
        if problem is not None:
            what = f"the tokenizer of {name}, {source}, is not in the cache, and {problem}"
            raise ModelError(f"{what}. {remedy}") from error
    try:
        return open_clip.get_tokenizer(name)
    except Exception as error:
        what = f"the tokenizer of {name} could not be loaded: {in_one_line(error)}"
        raise ModelError(f"{what}. {remedy}") from error


def _cached_tokenizer(name: str) -> Any:
    import open_clip

    tokenizer = open_clip.get_tokenizer(name, local_files_only=True)
    tokenizer.tokenizer.init_kwargs.pop("local_files_only", None)  # else it would be saved with the tokenizer
    return tokenizer
