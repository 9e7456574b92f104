"""Rows that people read as a table on a terminal, and other programs line by line from a pipe."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from colbert_video.errors import printable

NOTHING = "-"


@dataclass(frozen=True)
class Column:
    """A column of a listing."""

    title: str
    right: bool = False
    """True for numbers."""
    fold: bool = False
    """True for names of any length, which a narrow terminal continues on the next line; others stay on one."""


@dataclass(frozen=True)
class Listing:
    """Rows of text; nothing of a cell is ever cut off."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    empty: str
    """What to say where there are no rows."""

    def show(self, console: Console) -> None:
        """Print a table on a terminal that is wide enough, else a line for each row, its cells separated by tabs."""
        if not self.rows:
            console.print(self.empty, highlight=False, markup=False, soft_wrap=True)
        elif console.is_terminal and self._least_width() <= console.width:
            console.print(self.table(), highlight=False)
        else:
            lines = "\n".join("\t".join(map(printable, row)) for row in self.rows)
            console.file.write(f"{lines}\n")  # rich would make spaces of tabs

    def table(self) -> Table:
        """Return the rows as a table."""
        table = Table()
        for number, column in enumerate(self.columns):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                overflow="fold",
                min_width=None if column.fold else self._width(number),
            )
        for row in self.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        return table

    def _width(self, number: int) -> int:
        return max(len(printable(text)) for text in (self.columns[number].title, *(row[number] for row in self.rows)))

    def _least_width(self) -> int:
        """Return the characters that the table needs, columns that may be folded having a dozen."""
        widths = [12 if column.fold else self._width(number) for number, column in enumerate(self.columns)]
        return sum(widths) + 3 * len(widths) + 1
