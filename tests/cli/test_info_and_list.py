"""The verbs that show what there is: info and list."""

import json
import logging
from importlib.metadata import PackageNotFoundError, version

import pytest
from command_line import run

from colbert_video.cli import program


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "x", "--index", "missing"], "make one with `colbert-video index`"),
        (["info", "missing"], "make one with `colbert-video index`"),
        (["info", "i", "--index", "i"], "give the index once"),
        (["list"], "colbert-video list INDEX"),
        (["list", "missing"], "make one with `colbert-video index`"),
    ],
)
def test_what_is_missing_is_said_in_words_of_the_command_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("arguments", [["-v", "info", "missing"], ["info", "missing", "-v"], ["info", "-q", "missing"]])
def test_verbose_and_quiet_stand_before_or_after_the_verb(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    monkeypatch.setattr(program, "log_to_stderr", lambda level: said.append(level))
    monkeypatch.setattr(program, "show_progress", said.append)
    root = logging.getLogger()
    before = root.level
    try:
        assert run(arguments, capsys)[0] == 2
    finally:
        root.setLevel(before)
    assert (logging.INFO in said) == ("-v" in arguments)
    assert said.count(False) == 1 + ("-q" in arguments)  # every run of these tests is quiet


def installed(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def test_without_an_index_info_describes_the_installation(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["info", "--json"], capsys)
    found = json.loads(out)
    assert code == 0
    assert found["packages"]["torch"] == version("torch")
    extras = found["missing_by_extra"]
    assert extras.keys() >= {"serve", "train", "cluster", "onnx", "openvino"}
    assert not extras.keys() & {"test", "docs"}
    assert extras["train"] == []
    assert all(installed(name) is None for lacking in extras.values() for name in lacking)
    code, out, _ = run(["info"], capsys)
    assert code == 0
    assert "models run on" in out
