"""Errors that users see: each says what came, which rule it breaks and what to do about it.

ColBERTVideoError
├── SettingsError (also a ValueError)
├── DependencyError (also an ImportError)
├── ModelError
├── VideoError                one file, with a countable FailureKind
├── NothingIndexedError
├── IndexFolderError
├── ClosedError
├── HubError
├── TrainingError
└── ClusterError
    └── ShardsUnavailableError
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import PurePath
from reprlib import Repr
from typing import Any

MAX_SHOWN = 200
"""Characters of a value that an error message shows."""
MISLEADING = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Characters that command a terminal, break or turn a line, or are none: controls, bidirectional marks, halves of
surrogate pairs."""


class ColBERTVideoError(Exception):
    """Base of every error that this library raises on purpose."""


class SettingsError(ColBERTVideoError, ValueError):
    """An argument or a setting is out of range or contradicts another."""


class ModelError(ColBERTVideoError):
    """A backbone or a checkpoint cannot be used."""


class DependencyError(ColBERTVideoError, ImportError):
    """An optional package is needed and missing."""


class IndexFolderError(ColBERTVideoError):
    """An index folder is missing, unfinished, damaged, or made by another model."""


class ClosedError(ColBERTVideoError):
    """A searcher, an index or a pool of decoders was used after it was closed."""


class FailureKind(str, Enum):
    """Why a video file was refused; reports count these."""

    MISSING = "missing"
    """No such file, or it cannot be read."""
    EMPTY = "empty"
    """The file holds no bytes."""
    UNREADABLE = "unreadable"
    """No known container format, or its header is damaged."""
    NO_VIDEO = "no_video"
    """The container holds no video stream (audio only, cover art only)."""
    UNDECODABLE = "undecodable"
    """There is a video stream, but no frame of it decodes."""
    ENCRYPTED = "encrypted"
    """The stream is protected by DRM."""
    TOO_LARGE = "too_large"
    """A frame has more pixels than the limit."""
    TIMEOUT = "timeout"
    """Decoding took longer than the time limit."""
    CRASHED = "crashed"
    """The decoder killed its process."""
    UNSUPPORTED = "unsupported"
    """The chosen decoder cannot read this kind of file."""
    BAD_RECORD = "bad_record"
    """The id, path or metadata that were given with it cannot be stored."""


class NothingIndexedError(ColBERTVideoError):
    """Not one of the given videos could be indexed.

    Attributes:
        failures: What failed, each with id, path, kind and detail.
    """

    def __init__(self, failures: Sequence[Any]) -> None:
        first = failures[0]
        more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        super().__init__(
            f"no video could be indexed: {first.path}: {first.kind}: {first.detail}{more}. Check that the files are "
            "videos that play."
        )
        self.failures = tuple(failures)

    def __reduce__(self) -> "tuple[type[NothingIndexedError], tuple[tuple[Any, ...]]]":
        """Rebuild from the failures: exceptions otherwise unpickle from the message alone."""
        return NothingIndexedError, (self.failures,)


class VideoError(ColBERTVideoError):
    """One video file cannot be used.

    Attributes:
        path: The file.
        kind: The reason, countable.
        detail: The reason in words.
    """

    def __init__(self, path: str, kind: FailureKind, detail: str) -> None:
        super().__init__(f"{path}: {kind.value}: {detail}")
        self.path = path
        self.kind = kind
        self.detail = detail

    def __reduce__(self) -> "tuple[type[VideoError], tuple[str, FailureKind, str]]":
        """Rebuild from the three parts: exceptions otherwise unpickle from the message alone."""
        return VideoError, (self.path, self.kind, self.detail)


class HubError(ColBERTVideoError):
    """A repository of the Hugging Face Hub cannot be reached, read or written."""


class TrainingError(ColBERTVideoError):
    """Training cannot go on, or a run cannot be resumed."""


class ClusterError(ColBERTVideoError):
    """A Ray cluster cannot be reached or joined, or it lost what a run needs."""


class ShardsUnavailableError(ClusterError):
    """None of the shards that were asked answered in time.

    Attributes:
        shards_failed: Names of the shards.
        deadline: Seconds they had; None for no limit.
    """

    def __init__(self, shards_failed: Sequence[str], deadline: float | None) -> None:
        within = "" if deadline is None else f" within {deadline:g} s"
        names = ", ".join(shards_failed[:5]) + (", ..." if len(shards_failed) > 5 else "")
        super().__init__(
            f"no shard answered{within} ({names}); look into the log, and try again when shards are back, or with a longer "
            "deadline."
        )
        self.shards_failed = tuple(shards_failed)
        self.deadline = deadline

    def __reduce__(self) -> "tuple[type[ShardsUnavailableError], tuple[tuple[str, ...], float | None]]":
        """Rebuild from the parts: exceptions otherwise unpickle from the message alone."""
        return ShardsUnavailableError, (self.shards_failed, self.deadline)


@contextmanager
def callers_code() -> Iterator[None]:
    """Mark what the caller's own objects raise in the block, so that it is passed on as it is.

    Token sources, models and backbones are the caller's code: an `OSError` of theirs says nothing of the index's disk.
    """
    try:
        yield
    except Exception as error:
        error.__dict__["callers_own"] = True
        raise


def is_callers(error: BaseException) -> bool:
    """Return whether an error was raised by the caller's own code, see `callers_code`."""
    return bool(error.__dict__.get("callers_own"))


def in_one_line(error: Exception, *, secrets: Iterable[str | None] = (), limit: int = 300) -> str:
    """Return an error's text without line breaks, its class where it has no text.

    Args:
        error: Any error.
        secrets: Strings that must not be shown, such as tokens; None is skipped.
        limit: Characters after which the text is cut.
    """
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return text if len(text) <= limit else text[:limit] + " ..."


def shown(value: object, *, limit: int = MAX_SHOWN) -> str:
    """Return a value as error messages show it: its `repr` in one line, cut after `limit` characters.

    Arrays and tensors are shown by type and shape, paths as texts. Of long texts and lists no more is written out than is shown.
    """
    value = str(value) if isinstance(value, PurePath) else value
    is_text = isinstance(value, (str, bytes, bytearray))
    try:
        text = _written(value[:limit] if is_text else value)  # type: ignore[index]
    except Exception:  # a __repr__ that fails, or a number with too many digits
        return f"a value of type {type(value).__name__}"
    whole = len(text) <= limit + len("b''") and not (is_text and len(value) > limit)  # type: ignore[arg-type]
    return text if whole else f"{text[:limit]} ..."


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text for a terminal or a log: what would command it or mislead a reader is escaped, as `\x1b`.

    Names of files, ids and metadata may hold anything. Bytes of a name that are not UTF-8 become `\xNN`.

    Args:
        text: Any text.
        lines: True to keep line breaks and tabs, for a text that is laid out in lines.
    """
    return MISLEADING.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escaped(match[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def _written(value: object) -> str:
    if isinstance(value, (str, bytes, bytearray)):
        return repr(value)
    if isinstance(getattr(value, "shape", None), tuple) and len(value.shape):  # type: ignore[attr-defined]
        return f"{type(value).__name__} of shape {tuple(value.shape)}"  # type: ignore[attr-defined]
    return " ".join(_SHORTENED.repr(value).split())


def _shortened() -> Repr:
    """Return what writes containers: the first few items of each."""
    writer = Repr()
    writer.maxlevel = 4
    writer.maxdict = writer.maxlist = writer.maxtuple = writer.maxset = writer.maxfrozenset = writer.maxdeque = 20
    writer.maxstring = writer.maxlong = writer.maxother = MAX_SHOWN
    return writer


_SHORTENED = _shortened()
