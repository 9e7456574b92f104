"""A training manifest out of videos that carry their captions: WebDataset archives, rows of a Hugging Face dataset."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_video.errors import SettingsError
from colbert_video.training.data.manifest import list_some
from colbert_video.training.datasets.prepare import check_output, relative_path, write_rows
from colbert_video.video.files import is_archive, read_archive
from colbert_video.video.sources import VideoRecord

MAX_LISTED = 50
"""Videos without captions that a report lists."""
VALIDATION = "val"
"""The split of videos that are held out."""


@dataclass(frozen=True)
class CaptionedVideos:
    """Videos with their captions, ready for a manifest."""

    captions: dict[VideoRecord, tuple[str, ...]]
    """The captions of each video, at least one."""
    without: dict[str, str]
    """Videos that cannot be trained on, by id, with the reason."""

    @property
    def rows(self) -> int:
        """Captions in all."""
        return sum(map(len, self.captions.values()))

    def report(self) -> str:
        """What there is and what is not, for people."""
        lines = [f"{len(self.captions)} videos with {self.rows} captions"]
        if self.without:
            lines.append(f"{len(self.without)} videos cannot be trained on:")
            lines += [f"  {name}: {reason}" for name, reason in [*self.without.items()][:MAX_LISTED]]
        if len(self.without) > MAX_LISTED:
            lines.append(f"  and {len(self.without) - MAX_LISTED} more; --json lists them all")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"videos": len(self.captions), "captions": self.rows, "without": dict(self.without)}


def captioned_videos(records: Sequence[VideoRecord], *, caption: str = "caption") -> CaptionedVideos:
    """Find the captions of videos in their metadata.

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
    videos: CaptionedVideos,
    output: str | Path,
    *,
    split: str = "train",
    hold_out: int = 0,
    allow_missing: bool = False,
) -> int:
    """Write the manifest of captioned videos, for `train` and `evaluate`.

    Args:
        videos: From `captioned_videos`.
        output: A .jsonl file; one that is there is replaced. Paths of videos are relative to its folder.
        split: What the rows are for.
        hold_out: Videos that make the split "val" instead; which ones depends on their ids alone.
        allow_missing: Write it although videos have no caption.

    Returns:
        The number of rows.

    Raises:
        SettingsError: If a video has no caption and that is not allowed, none has, `hold_out` leaves no video, or the file
            cannot be written.
    """
    output = Path(output)
    check_output(output)
    if videos.without and not allow_missing:
        listed = list_some([f"{name} ({reason})" for name, reason in videos.without.items()])
        raise SettingsError(
            f"{len(videos.without)} videos cannot be trained on: {listed}. Repair them, or pass allow_missing=True "
            "(--allow-missing) to write the others."
        )
    if not 0 <= hold_out < max(len(videos.captions), 1):
        raise SettingsError(
            f"hold_out is {hold_out}; give 0, or fewer than the {len(videos.captions)} captioned videos."
        )
    rows = [*_rows(videos, output.parent, split, hold_out)]
    if not rows:
        raise SettingsError("there is no captioned video; say which key holds the caption.")
    write_rows(rows, output)
    return len(rows)


def _rows(videos: CaptionedVideos, folder: Path, split: str, hold_out: int) -> Iterator[dict[str, Any]]:
    held_out = {record.id for record in sorted(videos.captions, key=_draw)[:hold_out]}
    for record, texts in videos.captions.items():
        shown = relative_path(Path(record.path), folder)
        for number, text in enumerate(texts):
            yield {
                "video": shown,
                "caption": text,
                "split": VALIDATION if record.id in held_out else split,
                "id": record.id,
                "caption_id": number,
            }


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list | tuple) else [value]
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _reason(record: VideoRecord, caption: str) -> str:
    path = Path(record.path)
    if is_archive(path) and path.is_file():
        return read_archive(path).damage or "an archive"
    return f"no caption in {caption!r}"


def _draw(record: VideoRecord) -> bytes:
    return hashlib.sha256(record.id.encode()).digest()
