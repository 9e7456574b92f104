"""Rankings of many queries, and the files that evaluation tools read."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from colbert_video.errors import SettingsError

Row = tuple[str, int, float]
"""(video id, rank from 1, score)"""


class Ranking:
    """The results of `Searcher.search_all`: for each query id, its videos best first.

    Args:
        rows: (video id, rank, score) by query id.
    """

    def __init__(self, rows: Mapping[str, list[Row]]) -> None:
        self._rows = dict(rows)

    def todict(self) -> dict[str, list[Row]]:
        """(video id, rank, score) by query id, as ColBERT's Ranking gives it."""
        return dict(self._rows)

    def torun(self) -> dict[str, dict[str, float]]:
        """Score by video id by query id: a run in the form of trec_eval's bindings, ranx and ir_measures."""
        return {query: {video: score for video, _, score in rows} for query, rows in self._rows.items()}

    def save(self, path: str | Path) -> Path:
        """Write ColBERT's rows: query id, video id, rank and score, separated by tabs."""
        lines = (f"{query}\t{video}\t{rank}\t{score}" for query, video, rank, score in self._flat("\t"))
        return _write_lines(Path(path), lines)

    def save_trec(self, path: str | Path, *, run_name: str = "colbert_video") -> Path:
        """Write a TREC run: query id, Q0, video id, rank, score and run name, separated by spaces.

        Raises:
            SettingsError: If an id holds white space, which a TREC run cannot carry.
        """
        lines = (
            f"{query} Q0 {video} {rank} {score} {run_name}" for query, video, rank, score in self._flat()
        )
        return _write_lines(Path(path), lines)

    def _flat(self, forbidden: str | None = None) -> list[tuple[str, str, int, float]]:
        rows = [(query, *row) for query, results in self._rows.items() for row in results]
        for query, video, _, _ in rows:
            for name in (query, video):
                if len(name.split(forbidden)) != 1 or name != name.strip() or "\n" in name:
                    raise SettingsError(
                        f"id {name!r} holds the character that separates columns of the file; rename it or use todict()."
                    )
        return rows

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Ranking(queries={len(self)}, rows={sum(map(len, self._rows.values()))})"


def _write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
