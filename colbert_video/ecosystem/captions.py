"""A training manifest of videos that come with captions: WebDataset archives, rows of a Hugging Face dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_video.base.checks import whole_number
from colbert_video.base.user_files import user_path
from colbert_video.base.wording import counted
from colbert_video.errors import SettingsError, shown
from colbert_video.training.data.manifest import (
    caption_rows,
    check_output,
    held_out,
    list_some,
    reason_lines,
    write_rows,
)
from colbert_video.video.files import is_archive, read_archive
from colbert_video.video.sources import VideoRecord

MAX_LISTED = 50
"""Videos without captions that a report lists."""
VALIDATION = "val"
"""Split of the videos that are held out."""


@dataclass(frozen=True)
class CaptionedVideos:
    """Videos with captions, and those without."""

    captions: dict[VideoRecord, tuple[str, ...]]
    """The captions of each video, at least one."""
    without: dict[str, str]
    """Videos that cannot be trained on, by id, with the reason."""

    @property
    def rows(self) -> int:
        """Number of captions."""
        return sum(map(len, self.captions.values()))

    def report(self) -> str:
        """Return a summary for people, with the videos that cannot be trained on."""
        lines = [f"{counted(len(self.captions), 'video')} with {counted(self.rows, 'caption')}"]
        if self.without:
            lines.append(f"{counted(len(self.without), 'video')} that cannot be trained on:")
        return "\n".join(lines + reason_lines(self.without, MAX_LISTED))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"videos": len(self.captions), "captions": self.rows, "without": dict(self.without)}


def captioned_videos(records: Sequence[VideoRecord], *, caption: str = "caption") -> CaptionedVideos:
    """Collect the captions of videos from their metadata.

    Args:
        records: From `find_videos` of WebDataset archives, or from `dataset_videos`.
        caption: The key of the metadata that holds the caption, or a list of several.
    """
    captions: dict[VideoRecord, tuple[str, ...]] = {}
    without: dict[str, str] = {}
    for record in records:
        texts = _texts(record.metadata.get(caption))
        if texts:
            captions[record] = texts
        else:
            without[record.id] = _reason(record, caption)
    return CaptionedVideos(captions, without)


def write_captions(
    videos: CaptionedVideos, output: str | Path, *, split: str = "train", hold_out: int = 0, allow_missing: bool = False
) -> int:
    """Write the manifest of captioned videos, for `train` and `evaluate`.

    Args:
        videos: From `captioned_videos`.
        output: A .jsonl file; an older one is replaced. Paths of videos are relative to its folder.
        split: Split of the rows.
        hold_out: Number of videos that make the split "val" instead, chosen by their ids.
        allow_missing: True to write it although videos have no caption.

    Returns:
        The number of rows.

    Raises:
        SettingsError: If a video has no caption and that is not allowed, no video has one, `hold_out` leaves no video, or
            the file cannot be written.
    """
    output, hold_out = user_path(output, "output"), whole_number("hold_out", hold_out)
    check_output(output)
    if videos.without and not allow_missing:
        listed = list_some([f"{name} ({reason})" for name, reason in videos.without.items()])
        raise SettingsError(
            f"{counted(len(videos.without), 'video')} cannot be trained on: {listed}. Repair them, or pass allow_missing=True "
            "(--allow-missing) to write the others."
        )
    if not 0 <= hold_out < max(len(videos.captions), 1):
        raise SettingsError(
            f"hold_out is {hold_out}; give 0, or fewer than the {len(videos.captions)} captioned videos."
        )
    rows = [*_rows(videos, output.parent, split, hold_out)]
    if not rows:
        raise SettingsError("no video has a caption; name the key with the captions.")
    write_rows(rows, output)
    return len(rows)


def _rows(videos: CaptionedVideos, folder: Path, split: str, hold_out: int) -> Iterator[dict[str, Any]]:
    validation = held_out([record.id for record in videos.captions], hold_out)
    for record, texts in videos.captions.items():
        own = VALIDATION if record.id in validation else split
        yield from caption_rows(Path(record.path), folder, texts, split=own, identifier=record.id)


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list | tuple) else [value]
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _reason(record: VideoRecord, caption: str) -> str:
    path = Path(record.path)
    if is_archive(path) and not path.exists():
        return "there is no such archive; check the name"
    if is_archive(path) and path.is_file():
        return read_archive(path).damage or "an archive"
    return f"no caption in {shown(caption)}"
