"""Subtitles on the command line: read by `index` and `add`, searched with --text."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import run
from subtitled_clips import srt

from colbert_video.training.world import write_world


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: object) -> Path:
    path = tmp_path_factory.mktemp("cli-model") / "model"
    tiny_trained_model.save_pretrained(path)  # type: ignore[attr-defined]
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken") / "clips"
    write_world(folder, count=3, seed=1, split="test")
    return folder


def test_subtitles_are_indexed_and_searched(
    clips: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, index = shutil.copytree(clips, tmp_path / "clips"), str(tmp_path / "my.index")
    first, second, _ = sorted(path.stem for path in folder.glob("*.mp4"))
    (folder / f"{first}.srt").write_text(srt([(0.5, 1.0, "good morning, penguin")]))
    code, _, _ = run(["index", str(folder), "--index", index, "--model", str(checkpoint), "--subtitles", "off"], capsys)
    assert code == 0
    code, _, err = run(["search", "penguin", "--text", "speech", "--index", index], capsys)
    assert (code, "no lines of text" in err, "colbert-video add" in err) == (2, True, True)
    (folder / f"{second}.en.vtt").write_text("no subtitles")
    code, out, _ = run(["add", str(folder), "--index", index], capsys)
    assert code == 0
    assert f"{second}.mp4: {second}.en.vtt: no line with times is in it" in out
    code, out, _ = run(["search", "penguin", "--text", "speech", "--index", index, "--json"], capsys)
    (hit,) = json.loads(out)["hits"]
    line = {"start": 0.5, "end": 1.0, "text": "good morning, penguin"}
    assert (code, hit["id"], hit["start"], hit["line"]) == (0, f"{first}.mp4", 0.5, line)
    code, out, _ = run(["search", "penguin", "--text", "both", "--speech-weight", "3", "--index", index], capsys)
    rows = [row.split("\t") for row in out.splitlines()]
    assert (code, len(rows)) == (0, 3)
    assert (rows[0][1], rows[0][2], rows[0][-1]) == (f"{first}.mp4", "0:00.5–0:01.0", "good morning, penguin")
    assert rows[1][-1] == "-"
    code, out, _ = run(["info", index, "--json"], capsys)
    assert json.loads(out)["lines"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--image", "x.png", "--text", "speech"], "--text speech looks for words: give a QUERY"),
        (["penguin", "--speech-weight", "2"], "give --text both too"),
        (["penguin", "--text", "sound"], "'sound' is not one of 'picture', 'speech', 'both'"),
        (["--queries", "q.tsv", "--trec", "run.trec", "--text", "both"], "--text both looks for words"),
    ],
)
def test_usage(given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["search", *given, "--index", str(tmp_path)], capsys)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())
