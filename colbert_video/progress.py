"""Progress bars: off by default, turned on by the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from colbert_video.errors import printable

_enabled = False


def show_progress(enabled: bool = True) -> None:
    """Turn progress bars on or off for the whole process; they are drawn on stderr."""
    global _enabled
    _enabled = enabled


class RateColumn(ProgressColumn):
    """Finished items per second, over the last seconds."""

    def render(self, task: Task) -> Text:
        """Return the rate of `task`, or a dash before the first item."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="progress.data.speed")


@dataclass
class Bar:
    """A running progress bar; it does nothing while bars are off."""

    progress: Progress | None = None
    task: int | None = None

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more items as done."""
        if self.progress is not None and self.task is not None:
            self.progress.advance(self.task, steps)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        """Print one line above the bar, such as a file that failed."""
        if self.progress is not None:
            self.progress.console.print(printable(text), highlight=False, markup=False)


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Bar]:
    """Draw a bar with count, rate and time left while the block runs.

    Args:
        label: What is being counted, for instance "encoding videos".
        total: How many items will come; None if unknown.

    Yields:
        The bar; call its `advance` for each finished item.
    """
    if not _enabled:
        yield Bar()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        yield Bar(progress, progress.add_task(label, total=total))
