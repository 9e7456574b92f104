"""Tokens in a table of LanceDB, each bag a column of multivectors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colbert_video.ecosystem.databases.arrow_rows import arrow_schema, facts_of, from_arrow, to_arrow
from colbert_video.ecosystem.databases.token_batch import TokenBatch, TokenRows, optional_package
from colbert_video.errors import IndexFolderError, in_one_line, shown

ROWS = 1024
"""Rows that are read at once."""


def import_lancedb() -> Any:
    """Return the module `lancedb`; raises as `optional_package`."""
    return optional_package("lancedb", package="lancedb", extra="lance")


def write_lance(folder: Path, rows: TokenRows, name: str) -> None:
    """Write a database with one table."""
    lancedb = import_lancedb()
    schema = arrow_schema(rows.facts, rows.bags, rows.dim)
    parts = (to_arrow(batch, schema, keep_paths=rows.keep_paths) for batch in rows.batches())
    lancedb.connect(folder).create_table(name, data=parts, schema=schema)


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
