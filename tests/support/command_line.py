"""Runs the command line in the process of a test."""

import pytest

from colbert_video.cli import main


def exit_code(arguments: list[str]) -> int:
    """Run a command; return its exit code."""
    with pytest.raises(SystemExit) as left:
        main(["--quiet", *arguments])
    return int(left.value.code or 0)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command; return exit code, stdout and stderr."""
    code = exit_code(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
