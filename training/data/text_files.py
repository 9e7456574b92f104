"""Text and CSV files in UTF-8, with errors that name file, line and remedy."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from colbert_video.errors import SettingsError


def read_text(path: Path) -> str:
    """Read a file whose encoding is UTF-8, with or without a byte order mark.

    Raises:
        SettingsError: If it cannot be read or is not UTF-8.
    """
    with _readable(path):
        return path.read_text(encoding="utf-8-sig")


def read_csv(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number, from 1, and values by column of each row of a CSV file with a header.

    Args:
        path: The file.
        columns: Columns that the header must have.

    Raises:
        SettingsError: If the file cannot be read, a column is missing, or a row has another number of columns.
    """
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            header = reader.fieldnames or ()
            missing = [name for name in columns if name not in header]
            if missing:
                raise SettingsError(f"{path} has no column {missing[0]!r}; its header is {', '.join(header)!r}.")
            for values in reader:
                if None in values or None in values.values():
                    raise SettingsError(
                        f"{path}, line {reader.line_num}: the header has {len(header)} columns and the row another number; "
                        "quote texts that hold a comma."
                    )
                yield reader.line_num, values
        except csv.Error as error:
            raise SettingsError(f"{path}, line {reader.reader.line_num}: not CSV: {error}.") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8, or download it again."
        ) from error
