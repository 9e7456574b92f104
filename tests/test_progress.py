"""Progress bars: silent by default, on stderr when asked for."""

from collections.abc import Iterator

import pytest
from rich.text import Text

from colbert_video.progress import Bar, RateColumn, progress_bar, show_progress


@pytest.fixture
def shown() -> Iterator[None]:
    show_progress()
    yield
    show_progress(False)


def count_to(total: int) -> None:
    with progress_bar("encoding videos", total) as bar:
        for number in range(total):
            bar.advance()
            if number == 1:
                bar.note("broken.mp4: [bold] is no markup")


def test_a_library_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    count_to(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("shown")
def test_bars_are_drawn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    count_to(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding videos" in err
    assert "3/3" in err
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
def test_the_rate_is_a_dash_before_the_first_item() -> None:
    with progress_bar("encoding", 2) as bar:
        assert bar.progress is not None
        assert RateColumn().render(bar.progress.tasks[0]) == Text("-/s", style="progress.data.speed")


def test_a_bar_that_is_off_takes_everything() -> None:
    bar = Bar()
    bar.advance()
    bar.note("nothing")
    assert bar.progress is None
