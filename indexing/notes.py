"""What is noted of staged videos: damage that decoding made up for, and windows that could not be read.

Notes lie in the chunk with the tokens they belong to, so that a run that goes on tells what the interrupted one saw.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.entries import Failure

NOTES = "notes"
"""Key of the notes in a chunk's metadata."""


@dataclass(frozen=True)
class Note:
    """What is noted of one staged row."""

    damage: tuple[str, ...] = ()
    """What was damaged in its file and how decoding handled it, in words."""
    failures: tuple[Failure, ...] = ()
    """Windows of the same video that could not be read; with its first row."""


def pack_notes(notes: Mapping[int, Note]) -> dict[str, str] | None:
    """Text of the notes on some rows, by row; None if there is nothing to note."""
    told = {
        row: {
            "damage": note.damage,
            "failures": [
                (failure.id, failure.path, failure.kind, failure.detail) for failure in note.failures
            ],
        }
        for row, note in notes.items()
        if note.damage or note.failures
    }
    return {NOTES: json.dumps(told)} if told else None


def unpack_notes(metadata: Mapping[str, str] | None) -> dict[int, Note]:
    """Undo `pack_notes`.

    Raises:
        IndexFolderError: If the text is something else.
    """
    text = (metadata or {}).get(NOTES, "{}")
    try:
        return {int(row): _note(told) for row, told in json.loads(text).items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise IndexFolderError(f"its notes are damaged ({error!r})") from error


def _note(told: Any) -> Note:
    failures = []
    for failure in told["failures"]:
        identity, path, kind, detail = map(str, failure)
        failures.append(Failure(identity, path, kind, detail))
    return Note(tuple(map(str, told["damage"])), tuple(failures))
