"""The verbs of an index that is kept: exit codes, JSON, one-line errors."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import run
from operations import add_tokens


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upkeep") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "be", seed=1)
    return path


@pytest.fixture
def index(made: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(made, tmp_path / "i"))


def test_compact(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["compact", "--index", index, "--json"], capsys)
    assert (code, json.loads(out)["merged"], json.loads(out)["dropped"]) == (0, 2, 1)
    code, out, _ = run(["compact", "--index", index], capsys)
    assert (code, "nothing to do: 5 videos in one segment" in out) == (0, True)
    for retrain in (["--retrain"], ["--retrain", "stored"]):
        code, out, _ = run(["compact", *retrain, "--index", index], capsys)
        assert (code, "with a new codec" in out) == (0, True)
    code, _, err = run(["compact", "--retrain", "paths", "--index", index], capsys)
    assert (code, "made from precomputed tokens" in err) == (2, True)


def test_verify(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["verify", "--index", index], capsys)
    assert (code, "intact: 5 videos" in out) == (0, True)
    path = next(Path(index).glob("segments/*/frame/plan.json"))
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    (Path(index) / "stray").touch()
    code, out, _ = run(["verify", "--index", index], capsys)
    assert code == 1
    assert "DAMAGED" in out
    assert f"{path.relative_to(index).as_posix()}: its content has changed" in out
    assert "stray" in out
    code, out, _ = run(["verify", "--index", index, "--json"], capsys)
    assert (code, json.loads(out)["intact"], json.loads(out)["leftovers"]) == (1, False, ["stray"])


def test_export_and_import(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, copy = str(tmp_path / "i.tar"), str(tmp_path / "copy")
    assert run(["export", archive, "--index", index, "--drop-paths"], capsys)[0] == 0
    code, out, _ = run(["import", archive, "--index", copy, "--json"], capsys)
    assert (code, json.loads(out)["videos"]) == (0, 5)
    assert run(["verify", "--index", copy], capsys)[0] == 0


def test_info_shows_the_codecs_errors(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(["info", "--index", index, "--json"], capsys)
    assert json.loads(out)["codec_errors"]["trained"].keys() == {"frame", "video"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compact", "--index", "{tmp}/nowhere"], "holds no index"),
        (["verify", "--index", "{tmp}/nowhere"], "there is no index in"),
        (["export", "{index}", "--index", "{index}"], "exists; choose another path"),
        (["import", "{tmp}/none.tar", "--index", "{tmp}/new"], "cannot be unpacked"),
        (["search", "x", "--index", "{index}", "--where", "{{"], "is not JSON"),
        (["search", "x", "--index", "{index}", "--where", "[1]"], "is not a JSON object"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run([part.format(index=index, tmp=tmp_path) for part in arguments], capsys)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()
