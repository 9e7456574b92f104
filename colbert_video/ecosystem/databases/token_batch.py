"""What the formats exchange: some videos with their bags, and what is known of all of them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from colbert_video.base.json_values import plain_metadata
from colbert_video.errors import DependencyError, IndexFolderError, SettingsError, shown
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec

FORMAT = 1
ABOUT = "colbert_video"
"""Key under which a table keeps its `TableFacts`."""
FIELDS = ("path", "parent", "start", "end", "duration", "frame_times", "frame_tokens", "source_size", "source_mtime_ns")
"""Columns beside the id, the metadata and the bags."""
TABLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
PATH_FIELDS = ("path", "source_size", "source_mtime_ns")


@dataclass(frozen=True)
class TokenBatch:
    """Some videos or windows, in order."""

    entries: Sequence[VideoEntry]
    bags: Mapping[str, Sequence[np.ndarray]]
    """Decoded tokens of each video, (tokens, dim), by bag."""
    codes: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    """Number of the centroid of each token, (tokens,) int32, by bag; empty if only decoded tokens are known."""
    residuals: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    """Packed residuals, (tokens, dim * nbits / 8) uint8, by bag."""


@dataclass(frozen=True)
class TableFacts:
    """What a table says of all its rows."""

    settings: Mapping[str, Any] | None = None
    """Settings of the index that it was made of; None if another program made it."""
    codecs: Mapping[str, ResidualCodec] = field(default_factory=dict)
    """What decodes the codes, by bag; empty if only decoded tokens are stored."""
    columns: Sequence[tuple[str, str]] = ()
    """Keys of the metadata that are columns too, with their kinds: text, number or boolean."""
    half: bool = False
    """True to store tokens in float16."""

    def to_json(self) -> str:
        """Return all but the codecs as a JSON text."""
        return json.dumps({"format": FORMAT, "settings": self.settings})


@dataclass(frozen=True)
class TokenRows:
    """All that a new table is made of."""

    batches: Callable[[], Iterable[TokenBatch]]
    """Called once for each reading of all rows."""
    facts: TableFacts
    bags: Sequence[str]
    dim: int
    keep_paths: bool
    """True to keep where video files are."""


def read_facts(text: str | bytes | None, source: str) -> Mapping[str, Any] | None:
    """Return the settings in a text that `TableFacts.to_json` made; None for None.

    Raises:
        IndexFolderError: If it is of a newer version, or damaged.
    """
    if text is None:
        return None
    try:
        values = json.loads(text)
        number, settings = values["format"], values["settings"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexFolderError(f"{source} is damaged: its {shown(ABOUT)} is not a description of tokens.") from error
    if number != FORMAT:
        raise IndexFolderError(f"{source} has the format {shown(number)}; upgrade colbert_video to read it.")
    return settings


@runtime_checkable
class TokenTable(Protocol):
    """A table that is open for reading."""

    facts: TableFacts

    def batches(self) -> Iterator[TokenBatch]:
        """Yield all rows, in order; may be called again."""
        ...


def row_of(entry: VideoEntry, *, keep_paths: bool) -> dict[str, Any]:
    """Return the plain values of a video: id, `FIELDS`, and metadata as a dict."""
    values = {name: getattr(entry, name) for name in FIELDS if keep_paths or name not in PATH_FIELDS}
    lists = {name: list(values[name]) for name in ("frame_times", "frame_tokens")}
    return {"id": entry.id, **dict.fromkeys(FIELDS), **values, **lists, "metadata": dict(entry.metadata)}


def entry_of(row: Mapping[str, Any], source: str) -> VideoEntry:
    """Return a video of plain values; what `row_of` knows and the row lacks is left at its default.

    Raises:
        SettingsError: If a value is not one that a video may have.
    """
    known = {name: row[name] for name in FIELDS if row.get(name) is not None}
    known |= {name: tuple(known[name]) for name in ("frame_times", "frame_tokens") if name in known}
    if row.get("id") is None:
        raise SettingsError(f"{source} has a row without an id; give each video one in a column 'id'.")
    metadata = row.get("metadata") or {}
    if isinstance(metadata, str):
        metadata = _parsed(metadata, str(row["id"]))
    try:
        return VideoEntry(
            id=str(row["id"]), metadata=plain_metadata(metadata, f"the metadata of {shown(row['id'])}"), **known
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{source} has unusable values for video {shown(row['id'])}: {error}") from error


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the metadata of {shown(name)} is {shown(text)}; a JSON object is needed.") from error


def check_name(name: str) -> str:
    """Return the name of a table or collection if every system takes it.

    Raises:
        SettingsError: If not.
    """
    if not isinstance(name, str) or not TABLE_NAME.fullmatch(name):
        raise SettingsError(f"name={shown(name)}: use 1 to 100 of the letters a to z, digits, _, - and . for it.")
    return name


def optional_package(module: str, *, package: str, extra: str) -> Any:
    """Return a module of a package that one format needs.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DependencyError(
            f'{package} is not installed; install it with: pip install "colbert_video[{extra}]".'
        ) from error
