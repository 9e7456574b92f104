"""Windows, pictures and clips on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code, run
from PIL import Image

from colbert_video import Searcher
from colbert_video.training.world import render_moments, sample_scenes


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-windows") / "films"
    folder.mkdir()
    for number in range(2):
        scenes = sample_scenes(4, seed=number, split="test", paired_fraction=0.0)
        render_moments(scenes, folder / f"film-{number}.mp4", size=48)
    return folder


@pytest.fixture(scope="module")
def index(films: Path) -> str:
    path = str(films.parent / "my.index")
    cut = ["--window", "4", "--stride", "3"]
    assert exit_code(["index", str(films), "--index", path, "--model", "toy", *cut]) == 0
    return path


def test_info_counts_videos_and_windows(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    description = json.loads(run(["info", "--index", index, "--json"], capsys)[1])
    assert (description["videos"], description["windows"]) == (2, 8)
    assert (description["window"], description["stride"]) == (4.0, 3.0)


def test_a_hit_is_a_video_with_its_moments(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["search", "a red circle", "--index", index, "--json", "--explain"], capsys)
    found = json.loads(out)
    assert (code, {hit["id"] for hit in found["hits"]}) == (0, {"film-0.mp4", "film-1.mp4"})
    assert found["explanation"]["id"].startswith(found["hits"][0]["id"] + "#t=")
    assert all(moment.keys() == {"start", "end", "score", "window"} for moment in found["hits"][0]["moments"])
    first, *_ = run(["search", "a red circle", "--index", index], capsys)[1].splitlines()
    assert first.count("–") >= 2  # a further moment beside the best one


def test_windows_as_hits(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(["search", "a red circle", "--index", index, "--json", "--windows", "-k", "99"], capsys)[1]
    hits = json.loads(out)["hits"]
    assert len(hits) == 8
    assert all(hit["id"].startswith(hit["parent"] + "#t=") for hit in hits)


def test_shots(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["index", str(films), "--index", str(tmp_path / "i"), "--model", "toy", "--window", "shots"]
    code, out, _ = run([*arguments, "--json"], capsys)
    assert (code, json.loads(out)["videos"]) == (0, 2)
    assert json.loads(out)["windows"] >= 6


def test_a_clip_is_a_query(index: str, films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = films / "film-1.mp4"
    found = json.loads(run(["search", "--video", str(film), "--index", index, "--json"], capsys)[1])
    assert found["query"] == str(film)
    with Searcher(index) as searcher:
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in searcher.search_video(film)]


def test_a_picture_is_a_query(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.full((48, 48, 3), (225, 35, 35), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    found = json.loads(run(["search", "--image", str(tmp_path / "red.png"), "--index", index, "--json"], capsys)[1])
    with Searcher(index) as searcher:
        assert [hit["score"] for hit in found["hits"]] == pytest.approx(
            [hit.score for hit in searcher.search_image(pixels)]
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--image", "{tmp}/gone.png"], "there is no file"),
        (["search", "--video", "{tmp}/gone.mp4"], "gone.mp4"),
        (["index", "{films}", "--model", "toy", "--overwrite", "--window", "0"], "--window 0.0"),
        (["index", "{films}", "--model", "toy", "--overwrite", "--stride", "3"], "needs --window"),
        (
            ["index", "{films}", "--model", "toy", "--overwrite", "--window", "shots", "--stride", "3"],
            "contradicts --window shots",
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, index: str, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(tmp=tmp_path, films=films) for argument in arguments]
    code, _, err = run([*given, "--index", index], capsys)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert err.startswith("error: ")
