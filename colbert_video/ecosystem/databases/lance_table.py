"""Tokens in a table of LanceDB, each bag a column of multivectors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from colbert_video.ecosystem.databases.arrow_rows import arrow_schema, facts_of, from_arrow, to_arrow
from colbert_video.ecosystem.databases.token_batch import TableFacts, TokenBatch, missing_package
from colbert_video.errors import IndexFolderError, in_one_line, shown

ROWS = 1024
"""Rows that are read at once."""


def import_lancedb() -> Any:
    """Return the module `lancedb`.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import lancedb
    except ImportError as error:
        raise missing_package("lancedb", "lance") from error
    return lancedb


def write_lance(
    folder: Path,
    batches: Callable[[], Iterable[TokenBatch]],
    facts: TableFacts,
    bags: Sequence[str],
    dim: int,
    *,
    keep_paths: bool,
    name: str,
) -> None:
    """Write a database with one table."""
    lancedb = import_lancedb()
    schema = arrow_schema(facts, bags, dim)
    rows = (to_arrow(batch, schema, keep_paths=keep_paths) for batch in batches())
    lancedb.connect(folder).create_table(name, data=rows, schema=schema)


class LanceTable:
    """A table that is open for reading.

    Raises:
        IndexFolderError: If there is no such table.
        SettingsError: If it holds no tokens.
    """

    def __init__(self, folder: Path, name: str) -> None:
        lancedb = import_lancedb()
        self._source = f"{folder}, table {name}"
        try:
            self._table = lancedb.connect(folder).open_table(name)
        except (ValueError, OSError, RuntimeError) as error:
            raise IndexFolderError(f"{folder} has no table {shown(name)}: {error}") from error
        self.facts = facts_of(self._table.schema, self._source)

    def batches(self) -> Iterator[TokenBatch]:
        """Yield all rows, in the order of the table."""
        try:
            for part in self._table.search().limit(None).to_batches(batch_size=ROWS):
                yield from_arrow(part, self.facts, self._source)
        except (OSError, RuntimeError) as error:
            raise IndexFolderError(f"{self._source} is damaged: {in_one_line(error)}") from error
