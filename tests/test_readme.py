"""The README's commands and code, run as written; only the model that needs a download is swapped for the shipped one."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from colbert_video.cli import main
from colbert_video.cli.serve_verbs import serve
from colbert_video.cli.training_verbs import train
from colbert_video.training.world import write_world

ROOT = Path(__file__).resolve().parent.parent
ENDLESS = {"train": train, "serve": serve}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _commands() -> list[str]:
    lines = (line.strip() for block in _blocks("bash") for line in block.splitlines())
    return [line for line in lines if line.startswith("colbert-video ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a few clips in `clips/`, as the README assumes."""
    folder = tmp_path_factory.mktemp("readme")
    write_world(folder / "clips", count=6, seed=3, split="test")
    return folder


def test_the_first_screen_has_the_two_commands() -> None:
    first, second = _blocks("bash")[:2]
    assert "pip install . && colbert-video demo" in first
    assert 'pip install -e ".[test]" && python -m pytest' in second
    assert len(README[: README.index(second)].splitlines()) < 30


def test_commands_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert len(_commands()) >= 4
    for command in _commands():
        arguments = shlex.split(command.replace("PE-Core-B-16:meta", "toy"))[1:]
        if arguments[0] in ENDLESS:  # hours of work: only the options are checked
            ENDLESS[arguments[0]].make_context(arguments[0], arguments[1:])
            continue
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0, (command, capsys.readouterr())


def test_python_blocks_run(folder: Path) -> None:
    program = "\n".join(_blocks("python")).replace('"my.index"', '"python.index"')
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # for a checkout that is not installed
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "6 []"
    assert lines[-1] == "video-42"
