"""Whether weights that a user brings along are those that a row of the paper starts from."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from colbert_video.durable import checksum
from colbert_video.errors import shown


def doubt_about(weights: Path, model_name: str) -> str | None:
    """Return why weights may not be those of a model, as a departure from the published run; None if they are.

    A saved model says which weights it was made of; a file of published weights has the digest that open_clip knows.
    Anything else may hold any numbers, random ones too.

    Args:
        weights: A weight file, or the folder of a saved model.
        model_name: open_clip's name of the model, a colon, and the tag of its weights.
    """
    if weights.is_dir():
        found = _saved_name(weights)
        made = "does not say what it was made of" if found is None else f"was made of {shown(found)}"
        return None if found == model_name else f"the model in {weights} {made}, not of {shown(model_name)}"
    _, digest = checksum(weights)
    if digest == _published_digest(model_name):
        return None
    return f"the weights {weights} (SHA-256 {digest[:16]}…) are not known to be {shown(model_name)}"


def _saved_name(folder: Path) -> str | None:
    """Return the name and tag of the weights that a saved model was made of; None for random ones and if it is unknown."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name, tag = config["backbone"], config["pretrained"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"{name}:{tag}" if name and tag else None


def _published_digest(model_name: str) -> str | None:
    """Return the digest of the file that a tag was published as, which is part of its address; None if there is none."""
    import open_clip

    name, _, tag = model_name.partition(":")
    path = urlsplit((open_clip.get_pretrained_cfg(name, tag) or {}).get("url", "")).path
    digests = [part for part in path.split("/") if len(part) == 64]
    return digests[0] if digests else None
