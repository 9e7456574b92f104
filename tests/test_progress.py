"""Progress bars: drawn in interactive sessions and where they are asked for, silent elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from rich.text import Text

from colbert_video import progress
from colbert_video.progress import Bar, RateColumn, TerminalBar, progress_bar, show_progress


@pytest.fixture
def shown() -> Iterator[None]:
    show_progress()
    yield
    show_progress(False)


@pytest.fixture
def automatic() -> Iterator[None]:
    show_progress(None)
    yield
    show_progress(False)


def count_to(total: int) -> None:
    with progress_bar("encoding videos", total) as bar:
        for number in range(total):
            bar.advance()
            bar.status(f"loss {number} [bold]")
            if number == 1:
                bar.note("broken.mp4: [bold] is no markup")


@pytest.mark.usefixtures("automatic")
def test_a_program_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    count_to(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("automatic")
def test_bars_are_drawn_at_the_prompt_unless_they_are_turned_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    count_to(3)
    assert "encoding videos" in capsys.readouterr().err
    show_progress(False)
    count_to(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("shown")
def test_bars_are_drawn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    count_to(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding videos" in err
    assert "3/3" in err
    assert "videos/s" in err
    assert "broken.mp4: [bold] is no markup" in err


@pytest.mark.usefixtures("shown")
def test_bars_may_be_nested(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("outer", 1) as bar:
        count_to(2)
        bar.advance()
    err = capsys.readouterr().err
    assert "encoding videos" in err
    assert "outer" in err


@pytest.mark.usefixtures("shown")
def test_an_unknown_total_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("listing", None) as bar:
        bar.advance(5)
    assert "5/?" in capsys.readouterr().err


@pytest.mark.usefixtures("shown")
def test_errors_pass_through() -> None:
    with pytest.raises(KeyError), progress_bar("failing", 2):
        raise KeyError


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(
    ("label", "unit", "rate"),
    [("encoding", None, "-/s"), ("encoding videos", None, "- videos/s"), ("training", "samples", "- samples/s")],
)
def test_the_rate_has_a_unit_and_is_a_dash_before_the_first_item(label: str, unit: str | None, rate: str) -> None:
    with progress_bar(label, 2, unit=unit) as bar:
        assert isinstance(bar, TerminalBar)
        assert RateColumn().render(bar.progress.tasks[0]) == Text(rate, style="progress.data.speed")


def test_a_bar_that_is_off_takes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.advance()
    bar.status("nothing")
    bar.note("nothing")
    assert capsys.readouterr() == ("", "")


class Notebook:
    """Stands in for IPython: what is displayed, and replaced later, is kept."""

    def __init__(self, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
        ipython.get_ipython = lambda: type(shell, (), {})()  # type: ignore[attr-defined]
        display.HTML, display.display = str, self.display  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, html: str, *, display_id: bool) -> Any:
        assert display_id
        self.update(html)
        return self

    def update(self, html: str) -> None:
        self.shown.append(html)


@pytest.mark.usefixtures("automatic")
def test_a_notebook_shows_one_bar_that_is_replaced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook("ZMQInteractiveShell", monkeypatch)
    with suppress(KeyError), progress_bar("encoding <videos>", 1200, unit="videos") as bar:
        bar.advance(400)
        bar.status("loss <1>")
        bar.note("broken.mp4")
        raise KeyError
    assert len(notebook.shown) == 2  # at the beginning and at the end: there was no time in between
    assert 'value="0" max="1200"' in notebook.shown[0]
    assert 'value="400" max="1200"' in notebook.shown[1]
    assert "400 of 1,200" in notebook.shown[1]
    assert "videos/s" in notebook.shown[1]
    assert "encoding &lt;videos&gt;" in notebook.shown[1]
    assert "loss &lt;1&gt;" in notebook.shown[1]
    assert capsys.readouterr() == ("", "broken.mp4\n")
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 0.0)
    with progress_bar("listing", None) as bar:
        bar.advance(5)
    assert "max" not in notebook.shown[-1]
    assert "/s" in notebook.shown[-1]
    assert len(notebook.shown) == 5


@pytest.mark.usefixtures("automatic")
def test_ipython_in_a_terminal_has_a_bar_of_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook("TerminalInteractiveShell", monkeypatch)
    count_to(2)
    assert "encoding videos" in capsys.readouterr().err
    assert notebook.shown == []
