"""The verbs that show what there is: info and list."""

import io
import json
import logging
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
from command_line import run
from rich.console import Console

from colbert_video.cli import installation, program


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
    assert extras.keys() <= installation.PURPOSES.keys()
    code, out, _ = run(["info"], capsys)
    assert code == 0
    assert "models run on" in out


def test_info_names_what_does_not_fit_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu", "torchvision": "0.28.0", "nvidia-cublas-cu12": "12.9"}
    versions |= dict.fromkeys(set(installation.NEEDED) - {"av"} - versions.keys(), "1")
    monkeypatch.setattr(installation, "_version", versions.get)
    monkeypatch.setattr(installation, "_has_nvidia_device", lambda: False)
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    needed, torchvision, faiss, unused = installation._packages_advice("cpu")
    assert needed.endswith("pip install av")
    assert "torchvision 0.28.0 does not work with torch 2.13.0+cpu" in torchvision
    assert "--index-url https://download.pytorch.org/whl/cpu" in torchvision
    assert faiss.endswith("pip install faiss-cpu")
    assert "pip uninstall -y faiss-gpu nvidia-cublas-cu12" in unused
    monkeypatch.setattr(installation, "_has_nvidia_device", lambda: True)
    assert any("there is an NVIDIA GPU" in advice for advice in installation._packages_advice("cpu"))
    assert not any("GPU" in advice for advice in installation._packages_advice("cuda:0"))


def test_every_missing_extra_has_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_extras", lambda: {"serve": ["fastapi"], "qdrant": ["no-such-package"]})
    found = installation.describe_installation()
    assert found["missing_by_extra"] == {"serve": [], "qdrant": ["no-such-package"]}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(installation.installation_table(found))
    assert 'qdrant, for export to Qdrant: pip install "colbert_video[qdrant]"' in console.export_text()
