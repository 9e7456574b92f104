"""Rankings of many queries, and the files that evaluation tools read."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from colbert_video.base.checks import id_text, score_of
from colbert_video.model.interaction import settle_ties
from colbert_video.search.trec import Run, read_run, write_run, write_tabbed

Row = tuple[str, int, float]
"""(video id, rank from 1, score)"""


class Ranking:
    """The results of `Searcher.search_all`: for each query id, its videos best first.

    Args:
        rows: (video id, rank, score) by query id.
        shards_failed: Names of the shards of a corpus that did not answer, by query id; empty if all answers are complete.

    Raises:
        SettingsError: If a score is NaN or no number; infinite ones are scores.
    """

    def __init__(
        self, rows: Mapping[str, list[Row]], shards_failed: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self._rows = {query: _checked(query, found) for query, found in rows.items()}
        self.shards_failed = dict(shards_failed or {})

    @classmethod
    def from_run(cls, run: Mapping[str, Mapping[str, float]]) -> "Ranking":
        """Rank what any system has scored.

        Args:
            run: Score by video id by query id. Of equal scores, the one that comes first ranks first. Ids that are
                whole numbers become text.

        Raises:
            SettingsError: If a score is NaN or no number, or an id is no text.
        """
        return cls.from_scored(
            {id_text(query, "the id of a query"): _ordered(query, found) for query, found in run.items()}
        )

    @classmethod
    def from_scored(
        cls,
        scored: Mapping[str, Sequence[tuple[str, float]]],
        *,
        shards_failed: Mapping[str, tuple[str, ...]] | None = None,
    ) -> "Ranking":
        """Number videos that are in order already: (video id, score) by query id, best first."""
        rows = {
            query: [(video, rank, score) for rank, (video, score) in enumerate(pairs, start=1)]
            for query, pairs in scored.items()
        }
        return cls(rows, shards_failed)

    def settled(self) -> "Ranking":
        """Return the same order with one score for videos that are tied.

        Scores closer than `SCORE_RESOLUTION` count as equal; evaluation tools that compare the scores of a file exactly
        then see these ties too.
        """
        settled = {}
        for query, rows in self._rows.items():
            scores = settle_ties(
                torch.tensor([score for _, _, score in rows], dtype=torch.float64, device="cpu")
            ).tolist()
            settled[query] = [(video, rank, score) for (video, rank, _), score in zip(rows, scores, strict=True)]
        return Ranking(settled, self.shards_failed)

    @classmethod
    def load_trec(cls, path: str | Path, *, escaped: bool = False) -> "Ranking":
        """Read a TREC run of any system; as in trec_eval, scores make the order and the column rank is not read.

        Of equal scores the one that stands first in the file ranks first; trec_eval takes the greater id.

        Args:
            path: The file.
            escaped: True if "%XX" in ids stands for a byte, as `save_trec(escape=True)` writes it.

        Raises:
            SettingsError: If the file is not a run; the text names the line.
        """
        return cls.from_run(read_run(path, escaped=escaped))

    def todict(self) -> dict[str, list[Row]]:
        """Return (video id, rank, score) by query id, as ColBERT's Ranking does."""
        return dict(self._rows)

    def torun(self) -> Run:
        """Return score by video id by query id, the form of trec_eval's bindings, ranx and ir_measures."""
        return {query: {video: score for video, _, score in rows} for query, rows in self._rows.items()}

    def save(self, path: str | Path) -> Path:
        """Write ColBERT's rows: query id, video id, rank and score, separated by tabs.

        Raises:
            SettingsError: If an id holds a tab or a line break, or the file cannot be written.
        """
        rows = (([query, video], f"{rank}\t{score}") for query, video, rank, score in self._flat())
        return write_tabbed(path, rows)

    def save_trec(self, path: str | Path, *, run_name: str = "colbert_video", escape: bool = False) -> Path:
        """Write a TREC run: query id, Q0, video id, rank, score and run name, separated by spaces.

        Args:
            path: The file; one that exists is replaced.
            run_name: Name of the run, in the last column.
            escape: True to write white space and "%" in ids as in URLs, "%20" for a space; see `colbert_video.search.trec`.

        Raises:
            SettingsError: If an id holds white space, which a TREC run cannot carry, and `escape` is not set.
        """
        return write_run(path, self._flat(), run_name=run_name, escape=escape)

    def _flat(self) -> Iterator[tuple[str, str, int, float]]:
        return ((query, *row) for query, results in self._rows.items() for row in results)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Ranking(queries={len(self)}, rows={sum(map(len, self._rows.values()))})"


def _ordered(query: object, scored: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return videos and their scores, best first."""
    pairs = [(id_text(video, "the id of a video"), score_of(query, video, score)) for video, score in scored.items()]
    return sorted(pairs, key=lambda pair: -pair[1])


def _checked(query: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a query, each with a number as score."""
    return [(video, rank, score_of(query, video, score)) for video, rank, score in rows]
