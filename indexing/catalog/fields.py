"""The keys of the metadata that the videos of an index have, which filters name."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from colbert_video.errors import SettingsError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.filters import BUILT_IN, compared_fields

MAX_FIELDS = 500
"""Keys that are listed; those of most videos first."""
MAX_NAMED = 3
"""Keys that an error names as near."""
KINDS = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object", type(None): "null"}


@dataclass(frozen=True)
class MetadataField:
    """A key of the metadata."""

    name: str
    """As filters name it: "camera.make" for a key within an object."""
    kinds: Mapping[str, int] = field(hash=False)
    """How many videos have a value of each kind: text, number, boolean, null, list or object."""
    videos: int
    """How many videos have it."""


def list_fields(catalogs: Iterable[Catalog]) -> list[MetadataField]:
    """List the keys of the metadata of all live videos, those of most videos first, then by name."""
    counts: dict[str, Counter[str]] = {}
    for catalog in catalogs:
        for metadata in catalog.metadata():
            for name, value in _named(metadata):
                counts.setdefault(name, Counter())[KINDS.get(type(value), "text")] += 1
    found = [MetadataField(name, dict(kinds.most_common()), kinds.total()) for name, kinds in counts.items()]
    return sorted(found, key=lambda one: (-one.videos, one.name))[:MAX_FIELDS]


def check_fields(catalogs: Sequence[Catalog], where: Mapping[str, Any]) -> None:
    """Check that some video of an index or corpus has each key of the metadata that a filter compares.

    An index without videos has no keys, and is not checked.

    Raises:
        SettingsError: If no video has one, most likely because it is mistyped; the nearest keys are named.
    """
    for name, path in compared_fields(where).items():
        if not any(catalog.has_value(path) for catalog in catalogs) and any(catalog.count() for catalog in catalogs):
            raise SettingsError(_unknown(name, [one.name for one in list_fields(catalogs)]))


def _unknown(name: str, known: Sequence[str]) -> str:
    text = f"no video has {shown(name)}, which the filter compares"
    folded = {other.casefold(): other for other in [*known, *BUILT_IN]}
    near = [folded[other] for other in get_close_matches(name.casefold(), folded, n=MAX_NAMED, cutoff=0.6)]
    if near:
        return f"{text}; the nearest there are: {', '.join(map(shown, near))}."
    first = ", ".join(map(shown, known[:10])) or "no metadata at all"
    return f"{text}; there {'is' if not known else 'are'} {first}."


def _named(metadata: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of an object with its value, those of objects within it too."""
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        escaped = str(key).replace("\\", "\\\\").replace(".", "\\.")
        reserved = not prefix and (key in BUILT_IN or key in ("and", "or", "not"))
        name = f"{prefix}{'metadata.' if reserved else ''}{escaped}"
        yield name, value
        yield from _named(value, f"{name}.")
