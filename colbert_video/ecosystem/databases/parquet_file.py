"""Tokens in a Parquet file, or read from a folder of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colbert_video.ecosystem.databases.arrow_rows import arrow_schema, facts_of, from_arrow, import_arrow, to_arrow
from colbert_video.ecosystem.databases.token_batch import TokenBatch, TokenRows
from colbert_video.errors import IndexFolderError, SettingsError

ROWS = 1024
"""Rows that are read at once."""


def write_parquet(path: Path, rows: TokenRows) -> None:
    """Write one file, a row group for each batch, compressed with Zstandard."""
    import_arrow()
    from pyarrow import parquet

    schema = arrow_schema(rows.facts, rows.bags, rows.dim)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in rows.batches():
            writer.write_batch(to_arrow(batch, schema, keep_paths=rows.keep_paths))


class ParquetTable:
    """A Parquet file that is open for reading, or all of a folder in the order of their names.

    Raises:
        IndexFolderError: If a file is damaged.
        SettingsError: If it holds no tokens.
    """

    def __init__(self, path: Path) -> None:
        import_arrow()
        self._paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not self._paths:
            raise SettingsError(f"{path} holds no .parquet files; give a file, or a folder of them.")
        self.facts = facts_of(self._open(self._paths[0]).schema_arrow, str(self._paths[0]))

    def _open(self, path: Path) -> Any:
        from pyarrow import ArrowException, parquet

        try:
            return parquet.ParquetFile(path)
        except (OSError, ArrowException) as error:
            raise IndexFolderError(f"{path} cannot be read as Parquet: {error}") from error

    def batches(self) -> Iterator[TokenBatch]:
        """Yield all rows, in order."""
        from pyarrow import ArrowException

        for path in self._paths:
            try:
                for part in self._open(path).iter_batches(ROWS):
                    yield from_arrow(part, self.facts, str(path))
            except (OSError, ArrowException) as error:
                raise IndexFolderError(f"{path} is damaged: {error}") from error
