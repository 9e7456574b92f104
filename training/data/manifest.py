"""Captioned videos as a JSONL or CSV file: one row per caption, with the columns video, caption and split.

The column `group` names rows that belong in one batch as hard negatives of each other; `pair`, as the synthetic world
writes it, does the same for two videos. All other columns are kept as metadata. The column `caption_id` separates rows
in which two people wrote the same caption of a video; without it, such a row counts as a mistake.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colbert_video.durable import write_bytes_durably
from colbert_video.errors import SettingsError
from colbert_video.training.data.text_files import read_csv, read_text
from colbert_video.video.files import exists

COLUMNS = ("video", "caption", "split")
MAX_LISTED = 5
"""Names that an error lists; it counts the others."""

NumberedRow = tuple[int, dict[str, Any]]
"""Line number from 1, and the values by column."""


@dataclass(frozen=True)
class ManifestRow:
    """One caption of one video."""

    video: str
    """The video as the manifest writes it, which is its id."""
    path: Path
    """The file: `video` seen from the manifest's folder."""
    caption: str
    split: str
    """Purpose of the row, such as "train" or "test"."""
    group: str | None = None
    """Rows of one group are hard negatives of each other; None for no group."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """All other columns."""


def read_manifest(path: str | Path) -> list[ManifestRow]:
    """Read a manifest.

    Args:
        path: A .jsonl or .csv file in UTF-8. Paths of videos are relative to its folder. A row's `group`, where it has
            one, is kept; else `pair`, the id (file name without ending) of the video's partner, makes a group of two.

    Returns:
        Its rows, in order.

    Raises:
        SettingsError: If the file cannot be read, has no rows, a row is incomplete or repeats another one, or a video
            of the split "train" is in another split too; the text names the line.
    """
    path = Path(path)
    numbered = [(line, _parse_row(path, line, values)) for line, values in _read_rows(path)]
    if not numbered:
        raise SettingsError(f"{path} holds no rows; write one row per caption, with {_listing(COLUMNS)}.")
    _check_repeats(path, numbered)
    _check_leaks(path, numbered)
    return [row for _, row in numbered]


def select_split(rows: Sequence[ManifestRow], split: str) -> list[ManifestRow]:
    """Return the rows of one split, in order.

    Raises:
        SettingsError: If the split has no rows.
    """
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        known = sorted({row.split for row in rows})
        raise SettingsError(f"split {split!r} has no rows; the manifest has {_listing(known) or 'no rows at all'}.")
    return chosen


def missing_videos(rows: Iterable[ManifestRow]) -> list[str]:
    """Return the videos, as the manifest writes them, whose files do not exist; each once, in order."""
    paths = {row.video: row.path for row in rows}
    return [video for video, path in paths.items() if not exists(path)]


def check_output(output: Path) -> None:
    """Check the name of a manifest to write.

    Raises:
        SettingsError: If it does not end in .jsonl.
    """
    if output.suffix.lower() != ".jsonl":
        raise SettingsError(f"{output} does not end in .jsonl, as the manifest does.")


def write_rows(rows: Iterable[Mapping[str, Any]], output: Path) -> None:
    """Write a manifest; an older one is replaced when the new one is complete.

    Raises:
        SettingsError: If the file cannot be written.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_durably(output, text.encode())
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}.") from error


def caption_rows(
    path: Path,
    folder: Path,
    captions: Sequence[str],
    *,
    split: str,
    identifier: str,
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one video, as `read_manifest` reads them, with the path relative to the manifest's folder.

    `caption_id` numbers the captions from 0.
    """
    try:
        shown = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # Windows: another drive
        shown = path.absolute().as_posix()
    for number, caption in enumerate(captions):
        columns = {"video": shown, "caption": caption, "split": split, "id": identifier, "caption_id": number}
        yield {**columns, **(metadata or {})}


def held_out(ids: Iterable[str], count: int) -> set[str]:
    """Choose ids for validation by their hashes, so that the choice does not depend on their order."""
    return set(sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def list_some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def reason_lines(reasons: Mapping[str, str], limit: int) -> list[str]:
    """Return a line for each of the first videos and its reason, and one that counts the others."""
    lines = [f"  {video}: {reason}" for video, reason in reasons.items()]
    more = len(lines) - limit
    return lines[:limit] + ([f"  and {more} more; --json lists them all"] if more > 0 else [])


def _read_rows(path: Path) -> Iterator[NumberedRow]:
    readers = {".jsonl": _read_jsonl, ".csv": read_csv}
    if path.suffix.lower() not in readers:
        raise SettingsError(f"{path} is neither .jsonl nor .csv; a manifest is one of the two.")
    return readers[path.suffix.lower()](path)


def _read_jsonl(path: Path) -> Iterator[NumberedRow]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingsError(f"{path}, line {line}: not JSON: {error.msg} at column {error.colno}.") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{path}, line {line}: {text.strip()[:40]!r} is not a JSON object; write {{...}}.")
        yield line, values


def _parse_row(path: Path, line: int, values: dict[str, Any]) -> ManifestRow:
    for column in COLUMNS:
        if column not in values:
            raise SettingsError(f"{path}, line {line}: column {column!r} is missing; a row needs {_listing(COLUMNS)}.")
        if not isinstance(values[column], str) or not values[column].strip():
            raise SettingsError(f"{path}, line {line}: {column} is {values[column]!r}; give a text that is not empty.")
    video = values["video"]
    return ManifestRow(
        video=video,
        path=path.parent / video,
        caption=values["caption"].strip(),
        split=values["split"].strip(),
        group=_group(video, values),
        metadata={name: value for name, value in values.items() if name not in (*COLUMNS, "group", "pair")},
    )


def _group(video: str, values: dict[str, Any]) -> str | None:
    """Return the named group, or both ids of a pair in one order, so that the partners share it."""
    if values.get("group"):
        return str(values["group"])
    if not values.get("pair"):
        return None
    return " ".join(sorted((Path(video).stem, str(values["pair"]))))


def _check_repeats(path: Path, numbered: Iterable[tuple[int, ManifestRow]]) -> None:
    lines: dict[tuple[str, str, str], int] = {}
    for line, row in numbered:
        first = lines.setdefault((row.video, row.caption, str(row.metadata.get("caption_id", ""))), line)
        if first != line:
            raise SettingsError(
                f"{path}, line {line}: repeats line {first} (video {row.video!r}, caption {row.caption!r}); remove one."
            )


def _check_leaks(path: Path, numbered: Iterable[tuple[int, ManifestRow]]) -> None:
    """A model must not be evaluated on videos that it was trained on."""
    training = {row.video: line for line, row in numbered if row.split == "train"}
    for line, row in numbered:
        if row.split != "train" and row.video in training:
            raise SettingsError(
                f"{path}, line {line}: video {row.video!r} is in split {row.split!r} and, on line {training[row.video]}, "
                "in 'train'; a video belongs to one of them."
            )


def _listing(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
