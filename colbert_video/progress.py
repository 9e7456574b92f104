"""Progress bars, turned on or off by one switch: on in interactive sessions and on the command line, else off."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from colbert_video.errors import printable

NOTEBOOK_SECONDS = 0.2
"""Time between two pictures of a bar in a notebook."""
_enabled: bool | None = None


def show_progress(enabled: bool | None = True) -> None:
    """Turn progress bars on or off for the whole process.

    They are drawn on stderr, in notebooks below the cell.

    Args:
        enabled: None to draw them in interactive sessions alone: notebooks, IPython and the Python prompt. So it is at first.
    """
    global _enabled
    _enabled = enabled


def is_interactive() -> bool:
    """Return True if somebody types the commands: at the prompt of Python or IPython, or in a notebook."""
    return hasattr(sys, "ps1") or _shell() is not None


def _shell() -> Any:
    """Return IPython's shell; None outside of it."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if find is None else find()


def _in_notebook() -> bool:
    """Return True if IPython's shell shows HTML: Jupyter's, Colab's and others do, that of a terminal does not."""
    shell = _shell()
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"


class RateColumn(ProgressColumn):
    """Finished items per second, over the last seconds."""

    def render(self, task: Task) -> Text:
        """Return the rate of `task` with its unit, or a dash before the first item."""
        speed, unit = task.finished_speed or task.speed, task.fields.get("unit")
        rate = f"{speed:.1f}" if speed else "-"
        return Text(f"{rate} {unit}/s" if unit else f"{rate}/s", style="progress.data.speed")


class Bar:
    """A running progress bar; this one shows nothing, for sessions without bars."""

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more items as done."""

    def status(self, text: str) -> None:
        """Say behind the bar how things are, in place of what was said before."""

    def note(self, text: str) -> None:
        """Print one line above the bar, such as a file that failed."""


class TerminalBar(Bar):
    """A bar on a terminal, drawn by rich."""

    def __init__(self, progress: Progress, label: str, total: int | None, unit: str) -> None:
        self.progress = progress
        self._task = progress.add_task(label, total=total, unit=unit, status="")

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more items as done."""
        self.progress.advance(self._task, steps)

    def status(self, text: str) -> None:
        """Say behind the bar how things are."""
        self.progress.update(self._task, status=printable(text))

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self.progress.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


class NotebookBar(Bar):
    """A bar below a cell of a notebook, as HTML that is shown again; it needs no widgets."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        from IPython.display import HTML, display

        self._html, self._label, self._total, self._unit = HTML, label, total, unit
        self._done, self._status, self._begun = 0, "", time.monotonic()
        self._shown = self._begun
        self._handle = display(HTML(self._picture()), display_id=True)

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more items as done."""
        self._done += steps
        self._show()

    def status(self, text: str) -> None:
        """Say behind the bar how things are."""
        self._status = text
        self._show()

    def note(self, text: str) -> None:
        """Print one line beside the bar."""
        sys.stderr.write(printable(text) + "\n")

    def close(self) -> None:
        """Show how far it came."""
        self._shown = 0.0
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= NOTEBOOK_SECONDS:
            self._shown = now
            self._handle.update(self._html(self._picture()))

    def _picture(self) -> str:
        seconds = time.monotonic() - self._begun
        rate = self._done / seconds if seconds else 0.0
        extent = f'value="{self._done}" max="{self._total}"' if self._total else ""
        texts = [f"{self._done:,} of {self._total:,}" if self._total is not None else f"{self._done:,}"]
        texts += [f"{rate:.1f} {self._unit}/s".replace(" /", "/"), f"{seconds:.0f} s", self._status]
        words = " · ".join(filter(None, texts))
        return (
            f'<div style="font-family:sans-serif;font-size:13px">{escape(self._label)} '
            f'<progress {extent} style="vertical-align:middle"></progress> {escape(printable(words))}</div>'
        )


@contextmanager
def progress_bar(label: str, total: int | None, *, unit: str | None = None) -> Iterator[Bar]:
    """Draw a bar with count, rate and time left while the block runs.

    Args:
        label: What is being done, for instance "encoding videos".
        total: How many items will come; None if unknown.
        unit: What is counted; None for the last of several words of the label.

    Yields:
        The bar; call its `advance` for each finished item.
    """
    unit = label.rpartition(" ")[2] if unit is None and " " in label else unit or ""
    if not (is_interactive() if _enabled is None else _enabled):
        yield Bar()
    elif _in_notebook():
        bar = NotebookBar(label, total, unit)
        try:
            yield bar
        finally:
            bar.close()
    else:
        with Progress(*_columns(), console=Console(stderr=True), transient=False) as progress:
            yield TerminalBar(progress, label, total, unit)


def _columns() -> list[ProgressColumn]:
    rate, status = RateColumn(table_column=Column(no_wrap=True)), TextColumn("{task.fields[status]}", markup=False)
    return [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), status]
