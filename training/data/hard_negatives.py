"""Hard negatives from an index of the training videos: which videos a model takes for each other, as groups of a manifest.

Rows of one group come into one batch (`DataConfig.group_batches`), where each video is a negative of the others' captions. A video
that scores nearly as well as a caption's own one may answer the caption too; it is left out by a margin, as in TopK-MarginPos
(Moreira et al., 2024, NV-Retriever), and never comes into a group with that caption's video.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_video.base.checks import check_fields
from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError
from colbert_video.search.searcher import Searcher
from colbert_video.training.data.manifest import (
    ManifestRow,
    check_output,
    list_some,
    read_manifest,
    select_split,
    write_rows,
)
from colbert_video.video.files import ADDRESS

Pair = tuple[str, str]
"""Ids of two videos, in order."""


@dataclass(frozen=True)
class MiningSettings:
    """Which videos become negatives of each other."""

    k: int = 20
    """Best videos of each caption that are looked at."""
    margin: float = 0.05
    """How much less than a caption's own video another one must score to be its negative, in units of scores. One that
    comes nearer may answer the caption too. Below 0, videos that score better are negatives as well."""
    group_size: int = 4
    """Most videos of a group."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.k < 2:
            raise SettingsError(
                f"k={self.k}: beside a caption's own video at least one more is needed; give 2 or more."
            )
        if self.group_size < 2:
            raise SettingsError(f"group_size={self.group_size}: a group needs at least 2 videos.")


@dataclass(frozen=True)
class Confusions:
    """Which videos score how near to the own ones of captions."""

    gaps: Mapping[Pair, float]
    """The least distance below an own video's score, by pair; hard pairs have small ones."""
    too_near: frozenset[Pair]
    """Pairs that may answer the same caption."""


@dataclass(frozen=True)
class Mined:
    """Groups of videos that a model takes for each other."""

    groups: Mapping[str, int]
    """Number of the group, by video; videos of no group are left out."""
    captions: int
    """Captions that were searched."""
    too_near: int
    """Pairs of videos that were left out because they may answer the same caption."""

    def to_dict(self) -> dict[str, int]:
        """Return counts for JSON."""
        return {
            "captions": self.captions,
            "groups": len({*self.groups.values()}),
            "videos": len(self.groups),
            "too_near": self.too_near,
        }


def mine_hard_negatives(searcher: Searcher, rows: Sequence[ManifestRow], settings: MiningSettings) -> Mined:
    """Search the training captions, and group videos that come near to being taken for each other.

    Args:
        searcher: An index of the training videos, whose ids are the manifest's `video`.
        rows: Captions to train on.
        settings: Which videos become negatives.

    Raises:
        SettingsError: If there is no caption, or a video is not in the index.
    """
    if not rows:
        raise SettingsError("there are no captions to search with; choose a split that has some.")
    found = searcher.search_all({str(number): row.caption for number, row in enumerate(rows)}, k=settings.k).todict()
    scores = [dict(_scores(found[str(number)])) for number in range(len(rows))]
    for row, scored in zip(rows, scores, strict=True):
        if row.video not in scored:
            scored[row.video] = _own_score(searcher, row)
    confusions = find_confusions(rows, scores, settings.margin)
    groups = group_videos(confusions, settings.group_size)
    return Mined(groups, len(rows), len(confusions.too_near))


def _scores(ranked: Sequence[tuple[str, int, float]]) -> Iterator[tuple[str, float]]:
    return ((video, score) for video, _, score in ranked)


def _own_score(searcher: Searcher, row: ManifestRow) -> float:
    hits = searcher.search(row.caption, k=1, ids=[row.video])  # raises if the index does not have it
    if not hits:
        raise SettingsError(f"the index has no video {list_some([row.video])}; index the videos of the manifest.")
    return hits[0].score


def find_confusions(rows: Sequence[ManifestRow], scores: Sequence[Mapping[str, float]], margin: float) -> Confusions:
    """Return which videos are near to the own ones of captions, and which are too near.

    Args:
        rows: Captions.
        scores: Of each caption, the scores of its best videos and of its own one, by id.
        margin: As in `MiningSettings`.
    """
    known = {row.video for row in rows}  # an index may hold others, which no caption trains
    gaps: dict[Pair, float] = {}
    too_near = {pair for videos in _same_captions(rows) for pair in _pairs(videos)}
    for row, scored in zip(rows, scores, strict=True):
        own = scored[row.video]
        for video, score in scored.items():
            if video == row.video or video not in known:
                continue
            pair = _pair(row.video, video)
            if score > own - margin:
                too_near.add(pair)
            gaps[pair] = min(gaps.get(pair, own - score), own - score)
    return Confusions({pair: gap for pair, gap in gaps.items() if pair not in too_near}, frozenset(too_near))


def _same_captions(rows: Sequence[ManifestRow]) -> list[list[str]]:
    """Videos that share a caption, whatever its case."""
    videos: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        videos[row.caption.casefold().strip()][row.video] = None
    return [[*names] for names in videos.values() if len(names) > 1]


def _pairs(videos: Sequence[str]) -> Iterator[Pair]:
    return (_pair(one, other) for number, one in enumerate(videos) for other in videos[:number])


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def group_videos(confusions: Confusions, group_size: int) -> dict[str, int]:
    """Join videos into groups, the nearest pairs first; no group holds a pair that is too near.

    Returns:
        Number of the group, by video.
    """
    members: dict[str, list[str]] = {}
    for (one, other), _ in sorted(confusions.gaps.items(), key=lambda item: (item[1], item[0])):
        left, right = members.get(one, [one]), members.get(other, [other])
        if left is right or len(left) + len(right) > group_size:
            continue
        if any(_pair(first, second) in confusions.too_near for first in left for second in right):
            continue
        joined = left + right
        members |= dict.fromkeys(joined, joined)
    order = {id(group): None for group in members.values()}
    numbers = {group: number for number, group in enumerate(order)}
    return {video: numbers[id(group)] for video, group in members.items()}


def mine_manifest(
    searcher: Searcher, manifest: Path, output: Path, settings: MiningSettings, *, split: str = "train"
) -> Mined:
    """Mine the captions of one split, and write the manifest again with the groups that were found.

    Args:
        searcher: As for `mine_hard_negatives`.
        manifest: Captions and videos.
        output: The new manifest, a .jsonl file; an older one is replaced.
        settings: Which videos become negatives.
        split: Rows that are mined; others are copied.

    Raises:
        SettingsError: If a manifest cannot be read or written, the split has no row, or a video is not in the index.
    """
    manifest, output = user_path(manifest, "the manifest"), user_path(output, "output")
    check_output(output)
    if output.resolve() == manifest.resolve():
        raise SettingsError(f"{output} is the manifest itself; write the groups to another file.")
    rows = read_manifest(manifest)
    mined = mine_hard_negatives(searcher, select_split(rows, split), settings)
    kept = output.parent if output.parent.resolve() != manifest.parent.resolve() else None
    write_rows(grouped_rows(rows, mined, split, kept), output)
    return mined


def grouped_rows(
    rows: Sequence[ManifestRow], mined: Mined, split: str, folder: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a manifest with their groups: of each video in a group, one caption after the other meets its negatives.

    Args:
        rows: All rows of the manifest.
        mined: From `mine_hard_negatives`.
        split: The split that was mined; groups that its rows had are replaced, those of others stay.
        folder: Of the new manifest, which paths are relative to; None where they stay as they are.
    """
    seen: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        group = row.group
        if row.split == split:
            number = mined.groups.get(row.video)
            group = None if number is None else f"mined-{number}-{seen[row.video]}"
            seen[row.video] += 1
        columns = {
            "video": row.video if folder is None else _relative(row, folder),
            "caption": row.caption,
            "split": row.split,
        }
        yield {**row.metadata, **columns, **({} if group is None else {"group": group})}


def _relative(row: ManifestRow, folder: Path) -> str:
    if ADDRESS.match(row.video):
        return row.video
    try:
        return Path(os.path.relpath(row.path, folder)).as_posix()
    except ValueError:  # Windows: another drive
        return row.path.as_posix()
