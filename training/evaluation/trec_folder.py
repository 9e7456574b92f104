"""What an evaluation was made of, as files for trec_eval, ir_measures, ranx, and for fusion with other retrievers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from colbert_video.base.checks import check_fields, whole_number
from colbert_video.base.user_files import encode_text, user_path
from colbert_video.durable import check_folder_writable
from colbert_video.errors import SettingsError
from colbert_video.search.ranking import Ranking
from colbert_video.search.trec import Qrels, check_columns, write_qrels, write_queries

QUERIES = "queries.tsv"
QRELS = "qrels.txt"
RUN_ENDING = ".trec"


@dataclass(frozen=True)
class TrecFolder:
    """A folder to leave queries, qrels and runs in.

    Raises:
        SettingsError: If k is below 1, or the path is none.
    """

    path: Path
    """The folder; it is made if it is missing, and files in it are replaced."""
    k: int = 100
    """Videos that a run holds for each query."""
    escape: bool = False
    """True to write white space and "%" in ids as in URLs; see `colbert_video.search.trec`."""

    def __post_init__(self) -> None:
        check_fields(self)
        whole_number("k", self.k, least=1)
        object.__setattr__(self, "path", user_path(self.path, "the folder for runs (trec)"))

    def check(self, ids: Iterable[str] = (), words: Iterable[str] = ()) -> None:
        """Check before long work that the folder can be written, and that its files can hold the ids and the words.

        Raises:
            SettingsError: If not.
        """
        check_columns(ids, escape=self.escape)
        encode_text("\n".join(words), self.path / QUERIES)
        check_folder_writable(self.path)

    def write(self, queries: Mapping[str, str], qrels: Qrels, rankings: Mapping[str, Ranking]) -> None:
        """Write `queries.tsv` (id, tab, words), `qrels.txt`, and a run `NAME.trec` for each ranking.

        Args:
            queries: Words by query id.
            qrels: Relevance by video id by query id.
            rankings: By the name of what made it.

        Raises:
            SettingsError: If an id holds white space and is not escaped, or a file cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{self.path} cannot be made: {error.strerror or error}; choose another folder."
            ) from error
        write_queries(self.path / QUERIES, queries)
        write_qrels(self.path / QRELS, qrels, escape=self.escape)
        for name, ranking in rankings.items():
            ranking.save_trec(self.path / f"{name}{RUN_ENDING}", run_name=name, escape=self.escape)


def rank_scores(
    scores: Float[Tensor, "queries videos"], queries: Sequence[str], videos: Sequence[str], k: int
) -> Ranking:
    """The k best videos of each row of a score matrix.

    Args:
        scores: Higher is better; equal scores stay in the order of the columns.
        queries: Id of each row.
        videos: Id of each column.
        k: Most videos for each query.

    Raises:
        SettingsError: If a score is NaN, or k is no whole number of at least 1.
    """
    k = whole_number("k", k, least=1)
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    best = zip(order[:, :k].tolist(), ordered[:, :k].tolist(), strict=True)  # (queries, k) each
    return Ranking.from_scored(
        {
            query: [(videos[column], score) for column, score in zip(*row, strict=True)]
            for query, row in zip(queries, best, strict=True)
        }
    )
