"""Committing a segment: its files are written and synced, then one transaction makes it visible."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from colbert_video.durable import check_files, checksum, fsync_folder, link_or_copy, new_name, sync_tree
from colbert_video.indexing.build.segment_builder import Compress, compress, train_codecs, write_segment
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, NewSegment, VideoEntry
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenSource
from colbert_video.indexing.index.drift import DRIFT_KEY, Drift, SampledSource, measure_drift
from colbert_video.indexing.index.folder import (
    CODECS,
    SEGMENTS,
    SETTINGS_KEY,
    files_below,
    load_codecs,
    stored_drift,
    sweep,
)
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.segments.segment import ROTATION_FILE
from colbert_video.progress import progress_bar


@dataclass(frozen=True)
class Committed:
    """What a commit made searchable."""

    videos: int
    drift: Drift | None
    """How well the codec stores them, compared to its training; None if that is not known."""


def commit_segment(
    catalog: Catalog,
    source: TokenSource,
    settings: IndexSettings,
    *,
    replace_all: bool,
    failures: Sequence[Failure] = (),
    compress: Compress = compress,
    query_direction: Float[Tensor, "dim"] | None = None,
) -> Committed:
    """Compress a source into a new segment and make it visible in one transaction.

    Files are written and synced first, so that a crash at any moment leaves the index as it was or as it will be.

    Args:
        catalog: The index's catalog, open for writing.
        source: The videos with their tokens.
        settings: The settings of the index.
        replace_all: Train a new codec, and replace all other segments by the new one; otherwise it is added, and
            replaces only videos of the same id.
        failures: What could not be indexed with it, to be remembered.
        compress: Compresses the tokens.
        query_direction: Unit vector along which a new codec's rounding errors cancel; None for plain rounding.
    """
    folder, name = catalog.folder, new_name()
    if replace_all:
        codec_name = new_name()
        codecs, drift = save_new_codecs(folder, codec_name, source, settings, query_direction)
        entries, files = write_durably(folder, name, source, codecs, codec_name, compress)
        values = {SETTINGS_KEY: settings.to_dict(), DRIFT_KEY: drift.to_dict()}
        segment = NewSegment(name, codec_name, entries, files)
        catalog.replace_everything([segment], settings=values, forget_failures=True, failures=failures)
        sweep(catalog)
        return Committed(len({entry.video for entry in entries}), drift)
    codec_name = catalog.codecs()[-1]
    check_files(folder, files_below(catalog, f"{CODECS}/{codec_name}"))
    codecs, sampled = load_codecs(folder, codec_name, settings), SampledSource(source)
    entries, files = write_durably(folder, name, sampled, codecs, codec_name, compress)
    added, values = _drift_of_addition(catalog, sampled, codecs)
    catalog.commit_segment(name, codec_name, entries, files, replace=True, settings=values, failures=failures)
    sweep(catalog)
    return Committed(len({entry.video for entry in entries}), added)


def write_durably(
    folder: Path,
    name: str,
    source: TokenSource,
    codecs: Mapping[str, ResidualCodec],
    codec_name: str,
    compress: Compress = compress,
) -> tuple[list[VideoEntry], dict[str, tuple[int, str]]]:
    """Write a segment and make it durable with its codec; return its videos, and size and SHA-256 of all files."""
    segment, codec = folder / SEGMENTS / name, folder / CODECS / codec_name
    with progress_bar("compressing videos", total=len(source)) as bar:
        entries = write_segment(segment, compress(source, codecs), codecs, codec_folder=codec, bar=bar)
    return entries, sync_and_describe(folder, [codec, segment])


def _drift_of_addition(
    catalog: Catalog, sampled: SampledSource, codecs: Mapping[str, ResidualCodec]
) -> tuple[Drift | None, dict[str, Any]]:
    """Return how well added videos are stored, and the settings to remember it by."""
    before = stored_drift(catalog)
    if before is None:
        return None, {}
    drift = measure_drift(before, sampled, codecs)
    return drift, {DRIFT_KEY: before.merged(drift).to_dict()}


def save_new_codecs(
    folder: Path, name: str, source: TokenSource, settings: IndexSettings, query_direction: Float[Tensor, "dim"] | None
) -> tuple[dict[str, ResidualCodec], Drift]:
    """Train the codec of each bag and write it to disk; return them, and how exactly they will store more videos."""
    fitted = train_codecs(
        source,
        nbits=settings.nbits,
        buckets=settings.buckets,
        rotate=settings.rotate,
        seed=settings.seed,
        sample_bytes=settings.sample_bytes,
        query_direction=query_direction,
    )
    for bag, known in fitted.items():
        known.codec.save(folder / CODECS / name / bag)
    _share_rotation([folder / CODECS / name / bag / ROTATION_FILE for bag in fitted])
    expected = Drift({bag: known.unseen_error for bag, known in fitted.items()}, {})
    return {bag: known.codec for bag, known in fitted.items()}, expected


def _share_rotation(paths: list[Path]) -> None:
    """Store the rotation of all bags once, if it is the same."""
    first, *others = paths
    for path in others:
        if path.read_bytes() == first.read_bytes():
            path.unlink()
            link_or_copy(first, path)


def sync_and_describe(folder: Path, written: list[Path]) -> dict[str, tuple[int, str]]:
    """Make files durable, then their folders up to the index folder; return size and SHA-256 of each file."""
    files: dict[str, tuple[int, str]] = {}
    for tree in written:
        sync_tree(tree)
        files |= describe_files(folder, tree)
    fsync_folder(folder)
    return files


def describe_files(folder: Path, tree: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of each file below `tree`, by path relative to `folder`."""
    paths = (path for path in sorted(tree.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): checksum(path) for path in paths}
