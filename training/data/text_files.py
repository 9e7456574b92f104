"""Tables as CSV or TSV in UTF-8, with errors that name file, line and remedy."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from colbert_video.base.user_files import read_text
from colbert_video.errors import SettingsError, shown

TABBED = (".tsv", ".tab")
"""Endings of files whose columns are separated by tabs."""


def read_csv(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number, from 1, and values by column of each row of a CSV or TSV file with a header.

    Args:
        path: The file; columns are separated by tabs if it ends in .tsv or .tab, else by commas.
        columns: Columns that the header must have.

    Raises:
        SettingsError: If the file cannot be read, a column is missing or comes twice, or a row has another number of
            columns.
    """
    return parse_csv(read_text(path), path, columns, tabbed=path.suffix.lower() in TABBED)


def parse_csv(
    text: str, path: Path, columns: Sequence[str] = (), *, tabbed: bool
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield what `read_csv` yields of the content of a file; `path` is what errors call it.

    Raises:
        SettingsError: As `read_csv`.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter="\t" if tabbed else ",")
    try:
        _check_header(path, reader.fieldnames or (), columns)
        for values in reader:
            if None in values or None in values.values():
                raise SettingsError(
                    f"{path}, line {reader.line_num}: the header has {len(reader.fieldnames or ())} columns and the "
                    f"row another number; quote texts that hold a {'tab' if tabbed else 'comma'}."
                )
            yield reader.line_num, values
    except csv.Error as error:
        raise SettingsError(
            f"{path}, line {reader.reader.line_num}: not {'TSV' if tabbed else 'CSV'}: {error}; write a quotation mark "
            "in a quoted text twice."
        ) from error


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise SettingsError(f"{path} has no column {shown(missing[0])}; its header is {shown(', '.join(header))}.")
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise SettingsError(f"{path} has several columns {shown(repeated[0])}; rename all but one.")
