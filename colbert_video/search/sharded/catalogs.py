"""The catalogs of a sharded corpus, read where queries arrive: they say which shard holds a video."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import accumulate
from typing import Any

from colbert_video.base.once import Once, PerProcess
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.catalog.fields import check_fields
from colbert_video.indexing.index.folder import load_settings
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.sharding import ShardedCorpus
from colbert_video.search.confidence import sample_positions

SUMMED = ("videos", "windows", "lines", "removed", "staged", "segments", "bytes")


class CorpusCatalogs:
    """The catalogs of all shards, open for reading, each as of its last commit; safe to share between threads.

    Args:
        corpus: The corpus.

    Raises:
        IndexFolderError: If a shard is not finished or damaged, or shards do not belong together.
    """

    def __init__(self, corpus: ShardedCorpus) -> None:
        self._corpus = corpus
        self.names = corpus.names
        self.settings: IndexSettings
        self._opened = PerProcess(self._open)
        self._samples: Once[list[tuple[int, ...]]] = Once(most=1)

    def close(self) -> None:
        """Close all catalogs; in a forked process, those that it has opened itself."""
        if not self._opened.inherited:
            for catalog in self._catalogs:
                catalog.close()

    @property
    def _catalogs(self) -> list[Catalog]:
        return self._opened.value

    def _open(self) -> list[Catalog]:
        with ExitStack() as stack:
            catalogs = [stack.enter_context(Catalog.open(folder)) for folder in self._corpus.folders]
            every = [load_settings(catalog) for catalog in catalogs]
            _check_same_settings(self._corpus, every)
            self.settings = every[0]
            stack.pop_all()
        return catalogs

    def __len__(self) -> int:
        """Number of shards."""
        return len(self._catalogs)

    @property
    def version(self) -> int:
        """Sum of the shards' commit numbers, which grows with each commit in any of them."""
        return sum(catalog.version for catalog in self._catalogs)

    @property
    def videos(self) -> int:
        """Videos that can be found, all windows of one counted once."""
        return sum(catalog.count_videos() for catalog in self._catalogs)

    @property
    def has_lines(self) -> bool:
        """True if some video has lines of text."""
        return any(catalog.has_lines() for catalog in self._catalogs)

    def samples(self) -> list[tuple[int, ...]]:
        """Return which videos or windows of each shard are in the corpus's sample, as `sample_positions` chooses them."""
        return self._samples.get(self.version, self._sampled)

    def _sampled(self) -> list[tuple[int, ...]]:
        ends = list(accumulate(catalog.count() for catalog in self._catalogs))
        positions = sample_positions(ends[-1])
        return [
            tuple(position - begin for position in positions if begin <= position < end)
            for begin, end in zip([0, *ends], ends, strict=False)
        ]

    def check_fields(self, where: Mapping[str, Any]) -> None:
        """Check that some video of the corpus has each key that a filter compares; raises as `fields.check_fields`."""
        check_fields(self._catalogs, where)

    def rows_of(self, ids: Iterable[str]) -> dict[str, list[VideoEntry]]:
        """Return the catalog rows that ids stand for, as `Catalog.rows_of` gives them."""
        wanted = list(ids)
        return {name: rows for catalog in self._catalogs for name, rows in catalog.rows_of(wanted).items()}

    def holders(self, ids: Iterable[str]) -> dict[int, tuple[str, ...]]:
        """Return which of some ids each shard holds, by the shard's number; shards without any are left out.

        Raises:
            SettingsError: If no shard holds one of them.
        """
        wanted = list(dict.fromkeys(ids))
        held = {
            number: tuple(found) for number, catalog in enumerate(self._catalogs) if (found := catalog.rows_of(wanted))
        }
        missing = set(wanted).difference(*held.values())
        if missing:
            raise SettingsError(f"id {shown(min(missing))} is not in the corpus.")
        return held


def describe_corpus(corpus: ShardedCorpus) -> dict[str, Any]:
    """Describe a corpus as `describe_index` describes an index, with counts over all shards.

    Raises:
        IndexFolderError: If a shard is missing or its catalog is damaged.
    """
    shards = [describe_index(folder) for folder in corpus.folders]
    sums = {key: sum(shard[key] for shard in shards) for key in SUMMED}
    return {
        **shards[0],
        **sums,
        "path": str(corpus.path),
        "finished": all(shard["finished"] for shard in shards),
        "bytes_per_video": round(sums["bytes"] / sums["videos"]) if sums["videos"] else None,
        "failures": [failure for shard in shards for failure in shard["failures"]],
        "shards": len(shards),
    }


def _check_same_settings(corpus: ShardedCorpus, every: list[IndexSettings]) -> None:
    """Check that the scores of all shards mean the same, and that their pictures are of one stream."""
    first = every[0]
    for name, settings in zip(corpus.names, every, strict=True):
        for key in ("dim", "bags", "bag_weights", "model_fingerprint", "video_stream"):
            ours, theirs = getattr(first, key), getattr(settings, key)
            if ours != theirs:
                raise IndexFolderError(
                    f"{corpus.path / name} has {key} {shown(theirs)}, {corpus.names[0]} {shown(ours)}: their scores "
                    "cannot be compared; shard one index again."
                )
