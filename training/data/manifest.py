"""Captioned videos as a JSONL, JSON, CSV or TSV file: one row per caption, with the columns video, caption and split.

In JSONL and JSON a row may have several captions: `captions`, a list, in place of `caption`.

The column `group` names rows that belong in one batch as hard negatives of each other; `pair`, as the synthetic world
writes it, does the same for two videos. All other columns are kept as metadata. The column `caption_id` separates rows
in which two people wrote the same caption of a video; without it, such a row counts as a mistake.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from colbert_video.base.access import reason_of
from colbert_video.base.json_values import parse_json
from colbert_video.base.user_files import expand_path, read_text, user_path
from colbert_video.durable import check_file_writable, check_folder_writable, is_stream, write_text
from colbert_video.errors import SettingsError, printable, shown
from colbert_video.training.data.text_files import TABBED, parse_csv
from colbert_video.video.files import ADDRESS, exists, file_identity, readable_name

logger = logging.getLogger(__name__)

COLUMNS = ("video", "caption", "split")
MAX_LISTED = 5
"""Names that an error lists; it counts the others."""

SEVERAL = "captions"
"""Column that holds a list of captions instead of one."""
NumberedRow = tuple[int, dict[str, Any]]
"""Number of a line or record, from 1, and the values by column."""

Identity = tuple[Any, ...]
"""What `file_identity` returns."""


@dataclass(frozen=True)
class ManifestRow:
    """One caption of one video."""

    video: str
    """The video as the manifest writes it, which is its id; of several spellings of one file, the first."""
    path: Path
    """The file: `video` seen from the manifest's folder, absolute."""
    caption: str
    split: str
    """Purpose of the row, such as "train" or "test"."""
    group: str | None = None
    """Rows of one group are hard negatives of each other; None for no group."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """All other columns."""


def read_manifest(path: str | Path, *, train_split: str = "train") -> list[ManifestRow]:
    """Read a manifest.

    Args:
        path: A .jsonl, .json, .csv or .tsv file in UTF-8, or a pipe such as /dev/stdin, whose form is found by its
            content. A .json file holds a list of rows, or a list for each column. Paths of videos are relative to the
            file's folder, those of a pipe to the working folder. A row's `group`, where it has one, is kept; else
            `pair`, the id (file name without ending) of the video's partner, makes a group of two.
        train_split: The split that models are trained on. A file of it must not be in another split; one in two of the
            others, such as val and test, is a warning.

    Returns:
        Its rows, in order.

    Raises:
        SettingsError: If the file cannot be read, has no rows, a row is incomplete or repeats another one of its split,
            or a file is in the training split and in another, however it is spelled; the text names the line.
    """
    path = user_path(path, "the manifest")
    places, rows = [], []
    for place, values in _read_rows(path):
        for caption in _one_by_one(values):
            places.append(place)
            rows.append(_parse_row(path, place, caption))
    if not rows:
        raise SettingsError(f"{path} holds no rows; write one row per caption, with {_listing(COLUMNS)}.")
    identities = _identities(rows)
    _check_leaks(path, places, rows, identities, train_split)
    rows = _merged(rows, identities)
    _check_repeats(path, places, rows)
    return rows


def merge_spellings(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Return rows in which each file has one id, the first of its spellings: a link or "./a.mp4" is no other video."""
    return _merged(rows, _identities(rows))


def _merged(rows: Sequence[ManifestRow], identities: Mapping[str, Identity]) -> list[ManifestRow]:
    first: dict[Identity, ManifestRow] = {}
    for row in rows:
        first.setdefault(identities[row.video], row)
    named = ((row, first[identities[row.video]]) for row in rows)
    return [row if row.video == same.video else replace(row, video=same.video, path=same.path) for row, same in named]


def _identities(rows: Iterable[ManifestRow]) -> dict[str, Identity]:
    """Return the file of each video; each spelling is looked at once, as that takes a while on some disks."""
    paths = {row.video: row.path for row in rows}
    return {video: file_identity(video if ADDRESS.match(video) else path) for video, path in paths.items()}


def select_split(rows: Sequence[ManifestRow], split: str) -> list[ManifestRow]:
    """Return the rows of one split, in order.

    Raises:
        SettingsError: If the split has no rows.
    """
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        known = sorted({row.split for row in rows})
        raise SettingsError(
            f"split {shown(split)} has no rows; the manifest has {_listing(known) or 'no rows at all'}."
        )
    return chosen


def missing_videos(rows: Iterable[ManifestRow]) -> list[str]:
    """Return the videos, as the manifest writes them, whose files do not exist; each once, in order."""
    paths = {row.video: row.path for row in rows}
    return [video for video, path in paths.items() if not exists(path)]


def check_output(output: Path) -> None:
    """Check the name of a manifest to write.

    Raises:
        SettingsError: If it does not end in .jsonl, or no file can be written there.
    """
    if output.suffix.lower() != ".jsonl":
        raise SettingsError(f"{output} does not end in .jsonl, as the manifest does.")
    check_folder_writable(output.parent)
    if output.parent.is_dir():
        check_file_writable(output)


def write_rows(rows: Iterable[Mapping[str, Any]], output: Path) -> None:
    """Write a manifest; an older one is replaced when the new one is complete.

    Raises:
        SettingsError: If the file cannot be written.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {reason_of(error)}.") from error
    write_text(output, text)


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
        video = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # Windows: another drive
        video = path.absolute().as_posix()
    for number, caption in enumerate(captions):
        columns = {
            "video": readable_name(video, folder=folder),
            "caption": caption,
            "split": split,
            "id": identifier,
            "caption_id": number,
        }
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
    lines = [printable(f"  {video}: {reason}") for video, reason in reasons.items()]
    more = len(lines) - limit
    return lines[:limit] + ([f"  and {more} more; --json lists them all"] if more > 0 else [])


def _read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row with its place, "line 3" or "record 3"."""
    ending = path.suffix.lower()
    if ending not in _READERS and not is_stream(path):
        raise SettingsError(f"{path} is neither .jsonl nor .csv, .tsv or .json; a manifest is one of these.")
    text = read_text(path)
    ending = ending if ending in _READERS else _form_of(text)
    for number, values in _READERS[ending](text, path):
        yield f"{'record' if ending == '.json' else 'line'} {number}", values


def _form_of(text: str) -> str:
    """Return the ending that a manifest with this content would have."""
    first = text.strip().partition("\n")[0]
    if first.startswith("["):
        return ".json"
    if not first.startswith("{"):
        return ".tsv" if "\t" in first else ".csv"
    try:
        row = parse_json(first)
    except ValueError:
        return ".json" if first.strip() == "{" else ".jsonl"
    return ".json" if any(isinstance(row.get(column), list | dict) for column in ("video", "split")) else ".jsonl"


def _parse_jsonl(content: str, path: Path) -> Iterator[NumberedRow]:
    for line, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            values = parse_json(text)
        except ValueError as error:
            raise SettingsError(f"{path}, line {line}: not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{path}, line {line}: {shown(text.strip())} is not a JSON object; write {{...}}.")
        yield line, values


def _parse_json(text: str, path: Path) -> Iterator[NumberedRow]:
    try:
        records = parse_json(text)
    except ValueError as error:
        raise SettingsError(f"{path}: not JSON: {error}.") from error
    for number, values in enumerate(_records(path, records), start=1):
        if not isinstance(values, dict):
            raise SettingsError(f"{path}, record {number}: {shown(values)} is not a JSON object; write {{...}}.")
        yield number, values


_READERS: Mapping[str, Callable[[str, Path], Iterator[NumberedRow]]] = {
    ".jsonl": _parse_jsonl,
    ".json": _parse_json,
    ".csv": partial(parse_csv, tabbed=False),
    **dict.fromkeys(TABBED, partial(parse_csv, tabbed=True)),
}


def _records(path: Path, content: Any) -> Iterable[Any]:
    """Return the rows of a JSON file: a list of them, or of columns that are lists or, as pandas writes, objects."""
    if isinstance(content, list):
        return content
    if not isinstance(content, dict) or not {"video", "split"} <= content.keys():
        raise SettingsError(
            f"{path} is neither a list of rows nor an object of columns, each a list; a row has {_listing(COLUMNS)}. "
            "`colbert-video prepare` makes manifests of the field's datasets."
        )
    lists = {name: list(column.values()) if isinstance(column, dict) else column for name, column in content.items()}
    if not all(isinstance(column, list) for column in lists.values()) or len(set(map(len, lists.values()))) != 1:
        raise SettingsError(f"{path}: the columns must be lists of one length, an entry for each row.")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _one_by_one(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each of the captions of a row, numbered as `caption_id`; other rows as they are."""
    captions = values.get(SEVERAL, values.get("caption"))
    if not isinstance(captions, list) or not captions or (SEVERAL in values and "caption" in values):
        yield values
        return
    others = {name: value for name, value in values.items() if name not in (SEVERAL, "caption")}
    for number, caption in enumerate(captions):
        own = f"{values['caption_id']}-{number}" if "caption_id" in values else number
        yield {**others, "caption": caption, "caption_id": own}


def _parse_row(path: Path, place: str, values: dict[str, Any]) -> ManifestRow:
    if SEVERAL in values and "caption" not in values:
        raise SettingsError(
            f"{path}, {place}: {SEVERAL} is {shown(values[SEVERAL])}; give a list of at least one text."
        )
    for column in COLUMNS:
        if column not in values:
            raise SettingsError(f"{path}, {place}: column {shown(column)} is missing; a row needs {_listing(COLUMNS)}.")
        if not isinstance(values[column], str) or not values[column].strip():
            raise SettingsError(f"{path}, {place}: {column} is {shown(values[column])}; give a text that is not empty.")
    if SEVERAL in values:
        raise SettingsError(f"{path}, {place}: both caption and {SEVERAL} are given; a row has one of the two.")
    video = values["video"]
    own = (*COLUMNS, "group", "pair")
    return ManifestRow(
        video=video,
        path=_folder_of(path) / (video if ADDRESS.match(video) else expand_path(video, f"{path}, {place}: video")),
        caption=values["caption"].strip(),
        split=values["split"].strip(),
        group=_group(video, values),
        metadata={name: value for name, value in values.items() if name not in own},
    )


def _folder_of(path: Path) -> Path:
    """Return the folder that paths in a manifest start from."""
    return Path.cwd() if path.suffix.lower() not in _READERS else path.parent


def _group(video: str, values: dict[str, Any]) -> str | None:
    """Return the named group, or both ids of a pair in one order, so that the partners share it."""
    if values.get("group"):
        return str(values["group"])
    if not values.get("pair"):
        return None
    return " ".join(sorted((Path(video).stem, str(values["pair"]))))


def _check_repeats(path: Path, places: Sequence[str], rows: Sequence[ManifestRow]) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for place, row in zip(places, rows, strict=True):
        key = (row.video, row.caption, row.split, str(row.metadata.get("caption_id", "")))
        if key in seen:
            raise SettingsError(
                f"{path}, {place}: repeats {seen[key]} (video {shown(row.video)}, caption {shown(row.caption)}); "
                "remove one."
            )
        seen[key] = place


def _check_leaks(
    path: Path, places: Sequence[str], rows: Sequence[ManifestRow], identities: Mapping[str, Identity], train_split: str
) -> None:
    """A model must not be chosen or evaluated by files that it was trained on, whatever they and the splits are called.

    Rows are about whole files: columns such as start and end are only metadata, so parts of a file are no two videos.
    """
    splits: dict[Identity, dict[str, tuple[str, ManifestRow]]] = {}
    for place, row in zip(places, rows, strict=True):
        found = splits.setdefault(identities[row.video], {})
        found.setdefault(row.split, (place, row))
        if train_split in found and len(found) > 1:
            raise SettingsError(f"{path}, {_in_both(found)}; a video of the training split must not be in another.")
    shared = [found for found in splits.values() if len(found) > 1]
    if shared:
        logger.warning(
            "%s, %s, and so are %d other videos of two splits: a model that is chosen on one of them was chosen by the "
            "videos of the other, so its figures there are too high; hold videos of %r out to choose by",
            path,
            _in_both(shared[0]),
            len(shared) - 1,
            train_split,
        )


def _in_both(found: Mapping[str, tuple[str, ManifestRow]]) -> str:
    """Say where a file is in two splits; `found` holds its first line and row of each, in order."""
    (first, other), (place, row), *_ = found.values()
    spelled = "" if other.video == row.video else f" as {shown(other.video)}"
    return (
        f"{place}: video {shown(row.video)} is in split {shown(row.split)} and, on {first}{spelled}, in "
        f"{shown(other.split)}"
    )


def _listing(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
