"""Code blocks of Markdown pages: found, and run in order as a reader would, in one folder a page.

A block is ```python or ```bash. `<!-- not run: REASON -->` on the line before its fence leaves it out; even then Python
must compile and every `colbert-video` line must parse. Nothing is installed: of `pip install` and `python3 -m venv` lines
only the extras are checked. What never ends or takes hours (`serve`, `train` by a shipped recipe) has its options
checked alone. A ```text block after `<!-- output -->` is what the block before it prints; `...` stands for anything.
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from paths import ROOT
from thorough import THOROUGH

from colbert_video.cli import main
from colbert_video.cli.program import app

LANGUAGES = ("python", "bash")
STAND_INS = {"PE-Core-B-16:meta": "toy", "--clips 60": "--clips 6"}
"""What takes long, and what stands in its place: for a model that would be downloaded the shipped one, for many clips a few."""
INSTALLERS = ("pip install", "python -m pip", "python3 -m venv")
SHELL = frozenset("|&;<>")
FENCE = re.compile(
    r"(?:^ *<!-- (?P<marker>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)``` *$",
    flags=re.MULTILINE | re.DOTALL,
)
SHIM = "import sys; from colbert_video.cli import main; main(['-q', *sys.argv[1:]])"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    marker: str | None

    @property
    def skipped(self) -> bool:
        return self.marker is not None and self.marker.startswith("not run")

    @property
    def expected(self) -> bool:
        return self.marker == "output"


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page in order, whatever their language."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page.relative_to(ROOT).as_posix(),
            line=text.count("\n", 0, match.start("language")) + 1,
            language=match["language"],
            text=dedent(match["text"]),
            marker=match["marker"],
        )
        for match in FENCE.finditer(text)
    ]


def commands(text: str) -> Iterator[str]:
    """The commands of a bash block, continued lines joined and here-documents whole; comments are left out."""
    lines = iter(text.splitlines())
    for first in lines:
        line = first
        while line.endswith("\\"):
            line = line[:-1] + next(lines).strip()
        here = re.search(r"<<-?\s*['\"]?(\w+)", line)
        if here:
            body = list(iter(lambda: next(lines), here[1]))
            yield "\n".join([line, *body, here[1]])
        elif line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


class Reader:
    """Runs the blocks of one page one after the other; Python blocks share their names.

    Args:
        folder: The working folder, which must be the current one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.printed = ""

    def read(self, block: Block) -> None:
        """Run, check or compare one block."""
        where = f"{block.page}:{block.line}"
        try:
            self._read(block)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error

    def _read(self, block: Block) -> None:
        if block.expected:
            _compare(block.text, self.printed)
        elif block.skipped:
            check(block)
        elif block.language == "python":
            self.printed = self._run_python(block)
        elif block.language == "bash":
            self.printed = "".join(self._run_command(command) for command in commands(_stand_in(block.text)))

    def _run_python(self, block: Block) -> str:
        lines = "\n" * block.line + _stand_in(block.text)  # so that tracebacks have the page's line numbers
        program = compile(lines, str(ROOT / block.page), "exec", dont_inherit=True)
        with redirect_stdout(StringIO()) as printed:
            exec(program, self.names)
        return printed.getvalue()

    def _run_command(self, command: str) -> str:
        if command.startswith(INSTALLERS):
            check_installation(command)
            return ""
        if not command.startswith("colbert-video "):
            return self._run_launcher(command) if command.startswith("torchrun ") else self._run_shell(command)
        arguments = shlex.split(command, comments=True)[1:]
        if SHELL & set("".join(_bare(command))):
            return self._run_shell(command)
        if _endless(arguments):
            check_arguments(arguments)
            return ""
        return _run_verb(arguments)

    def _run_launcher(self, command: str) -> str:
        """Several processes in the thorough run; otherwise the options of the verb that they would run."""
        if THOROUGH:
            return self._run_shell(command)
        check_arguments(shlex.split(command.partition("-m colbert_video ")[2], comments=True))
        return ""

    def _run_shell(self, command: str) -> str:
        shim = self.folder / ".bin" / "colbert-video"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{SHIM}" "$@"\n')
        shim.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(shim.parent), str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            capture_output=True, text=True, timeout=300, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout


def check(block: Block) -> None:
    """What can be said of a block without running it: Python compiles, `colbert-video` takes the options."""
    if block.language == "python":
        compile(block.text, block.page, "exec", dont_inherit=True)
    elif block.language == "bash":
        for command in commands(block.text):
            if command.startswith("colbert-video ") and not SHELL & set("".join(_bare(command))):
                check_arguments(shlex.split(command, comments=True)[1:])


def check_arguments(arguments: list[str]) -> None:
    """Parse the arguments of `colbert-video`, and do nothing."""
    group = app.make_context("colbert-video", list(arguments))
    verb, *rest = [*group._protected_args, *group.args]
    app.commands[verb].make_context(verb, rest, parent=group)


def check_installation(command: str) -> None:
    """The extras that a `pip install` names must exist."""
    packaging = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extras in re.findall(r"(?:\.|colbert_video)\[([\w,]+)\]", command):
        for extra in extras.split(","):
            assert f'"{extra}":' in packaging, f"there is no extra {extra!r}: {command}"


def _run_verb(arguments: list[str]) -> str:
    with redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit) as exit_:
        main(["-q", *arguments])
    assert not exit_.value.code, f"exit code {exit_.value.code}: colbert-video {shlex.join(arguments)}"
    return printed.getvalue()


def _endless(arguments: list[str]) -> bool:
    verb, first = arguments[0], arguments[1] if len(arguments) > 1 else ""
    shipped = (ROOT / "training" / "recipes" / f"{first}.yaml").is_file()
    return verb == "serve" or (verb == "train" and shipped)


def _bare(command: str) -> list[str]:
    """What a command has outside of quotes and comments."""
    return re.findall(r"[^\s'\"]+", re.sub(r"'[^']*'|\"[^\"]*\"|\s#.*", " ", command))


def _stand_in(text: str) -> str:
    for name, stand_in in STAND_INS.items():
        text = text.replace(name, stand_in)
    return text


def _compare(expected: str, printed: str) -> None:
    wanted, found = ("\n".join(map(str.rstrip, text.strip().splitlines())) for text in (expected, printed))
    checker = doctest.OutputChecker()
    assert checker.check_output(wanted + "\n", found + "\n", doctest.ELLIPSIS), f"\n{found}\nis not\n{wanted}"
