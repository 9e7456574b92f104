"""Videos of a Hugging Face dataset as records to index, or to train on.

The column may hold the feature Video, bytes, or paths. Videos are taken as they are stored; nothing is decoded here.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from colbert_video.base.checks import id_text, text_list
from colbert_video.base.json_values import plain_metadata, warn_of_missing
from colbert_video.ecosystem.media import MediaFolder
from colbert_video.errors import DependencyError, SettingsError, shown
from colbert_video.video.sources import VideoRecord

logger = logging.getLogger(__name__)


def dataset_videos(
    dataset: Iterable[Mapping[str, Any]],
    *,
    media: str | Path,
    video: str = "video",
    id: str | None = None,  # noqa: A002 - what it is
    metadata: Sequence[str] | None = None,
    most_bytes: int | None = None,
) -> list[VideoRecord]:
    """List the videos of a dataset.

    Videos that are files on this machine stay where they are. Those that come as bytes, or from a URL, are written into
    a folder, named by their content: the index can then show them, and a repeated run finds them again.

    Args:
        dataset: A `datasets.Dataset`, a streamed `IterableDataset`, or any rows.
        media: Folder for videos that are not files; keep it for as long as the index shows them.
        video: Column of the videos: the feature Video, {"bytes", "path"}, bytes, or paths.
        id: Column of the ids; None for file names, or "row-000012" where a row names no file.
        metadata: Columns to store with the videos; None for all that JSON can hold.
        most_bytes: Limit of the total size of the files in `media` in bytes; None for no limit.

    Returns:
        One record per row. A row without a usable video is a record whose file is missing, so that indexing lists it.

    Raises:
        SettingsError: If there is no such column, an id is no text, a named column cannot be stored, or `media` is
            full.
    """
    dataset, plain = _undecoded(dataset, video)
    folder = MediaFolder(media, most_bytes=most_bytes)
    columns = None if metadata is None else text_list("metadata", metadata)
    records, missing = [], Counter[str]()
    for number, row in enumerate(dataset):
        _check_columns(row, [video, *([id] if id else []), *(columns or ())])
        if columns is None:
            kept = _jsonable(row, video, plain, missing)
        else:
            kept = plain_metadata({name: row[name] for name in columns}, f"row {number}", missing)
        path, name = _file_of(row[video], folder, number)
        name = id_text(row[id], f"the id of row {number}, {shown(id)},") if id else name
        records.append(VideoRecord(name, str(path.absolute()), kept))
    warn_of_missing(missing)
    return records


def _undecoded(dataset: Any, video: str) -> tuple[Any, Any]:
    """Return the dataset with undecoded media, and the names of its other columns, or None where these are unknown."""
    features = getattr(dataset, "features", None)
    if features is None:
        return dataset, None
    if video not in features:
        raise SettingsError(f"the dataset has no column {shown(video)}; it has {', '.join(features)}.")
    if getattr(features[video], "decode", False):
        dataset = dataset.cast_column(video, type(features[video])(decode=False))
    media = [name for name, feature in features.items() if hasattr(feature, "decode") and name != video]
    return (dataset.remove_columns(media) if media else dataset), [*features.keys() - {*media}]


def _check_columns(row: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in row]
    if missing:
        raise SettingsError(f"the dataset has no column {shown(missing[0])}; it has {', '.join(row)}.")


def _jsonable(row: Mapping[str, Any], video: str, plain: Any, missing: Counter[str]) -> dict[str, Any]:
    """Return the columns that can be stored with a video."""
    kept: dict[str, Any] = {}
    for name, value in row.items():
        if name == video or (plain is not None and name not in plain):
            continue
        with suppress(SettingsError):
            kept |= plain_metadata({name: value}, "the row", missing)
    return kept


def _file_of(value: Any, folder: MediaFolder, number: int) -> tuple[Path, str]:
    """Return the file of a row's video, and a name for it."""
    data: Any = value
    path: str | None = None
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
    elif isinstance(value, str | Path):
        data, path = None, str(value)
    name = path.split("::")[0].rsplit("/", 1)[-1] if path else f"row-{number:06d}"
    if path is not None and "://" not in path and (data is None or Path(path).is_file()):
        return Path(path), name
    if data is None and path is not None:
        data = _fetched(path)
    if isinstance(data, bytes | bytearray) and data:
        return folder.keep(bytes(data), name=name), name
    return folder.path / f"row-{number:06d}-without-video", name


def _fetched(url: str) -> bytes | None:
    """Return the content of a file that a dataset refers to; None, with a warning, if it cannot be fetched."""
    try:
        from datasets.utils.file_utils import xopen
    except ImportError as error:
        raise DependencyError(
            'a dataset of URLs needs the package datasets; install it with: pip install "colbert_video[datasets]".'
        ) from error
    try:
        with xopen(url, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be fetched: %s", url, error)
        return None
