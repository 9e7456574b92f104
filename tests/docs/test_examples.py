"""Every program in examples/ does what it says, on a few rendered clips."""

import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MAX_LINES = 60

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs an example as a script and gives what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def index(rendered_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from colbert_video import Indexer

    path = tmp_path_factory.mktemp("examples") / "my.index"
    Indexer(path, model="toy", workers=1).index(rendered_clips)
    return path


@pytest.fixture
def caption(rendered_clips: Path) -> str:
    """What the first clip shows."""
    return json.loads((rendered_clips / "captions.jsonl").read_text().splitlines()[0])["caption"]


def test_search_a_folder(run: Run, rendered_clips: Path, caption: str) -> None:
    first = run("search_a_folder.py", rendered_clips, caption).splitlines()
    assert first[0] == "6 new videos, 0 unchanged, 0 removed"
    assert len(first) == 6
    assert first[1].startswith("1. clip-000")
    assert run("search_a_folder.py", rendered_clips, caption).startswith("0 new videos, 6 unchanged")


def test_own_encoder(run: Run) -> None:
    lines = run("own_encoder.py", "--index", "tokens.index").splitlines()
    assert lines[0].startswith("1 video-500 ")
    assert len(lines) == 3
    assert all(line.endswith(" even") for line in lines)


def test_explain_a_hit(run: Run, index: Path, caption: str, tmp_path: Path) -> None:
    assert "why.png" in run("explain_a_hit.py", index, caption)
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_train_on_own_captions(run: Run, rendered_clips: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (rendered_clips / "captions.jsonl").read_text().splitlines()]
    splits = ("train", "train", "train", "train", "val", "test")
    manifest = tmp_path / "captions.jsonl"
    manifest.write_text(
        "".join(
            json.dumps({"video": str(rendered_clips / row["video"]), "caption": row["caption"], "split": split}) + "\n"
            for row, split in zip(rows, splits, strict=True)
        )
    )
    printed = run("train_on_own_captions.py", manifest, "--output", "run", "--batch-size", 2, "--device", "cpu")
    assert "R@1 after, both bags: 1.000" in printed  # one test clip


def test_serve_behind_an_app(index: Path, caption: str) -> None:
    build = runpy.run_path(str(EXAMPLES / "serve_behind_an_app.py"))["build"]
    with TestClient(build(str(index)), base_url="http://127.0.0.1:8000") as client:
        best = client.get("/best", params={"query": caption}).json()
        wait_until_ready(client)
        found = client.get("/videos/api/search", params={"query": caption, "k": 2})
        assert found.status_code == 200, found.text
        assert found.json()["topk"][0]["pid"] == best["video"]
        assert "<html" in client.get("/videos/").text


def wait_until_ready(client: TestClient) -> None:
    """The service loads its model beside its first answers."""
    deadline = time.monotonic() + 60
    while client.get("/videos/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_compare_interactions(run: Run) -> None:
    lines = run("compare_interactions.py", "--clips", 4).splitlines()
    assert {line.split()[0] for line in lines} == {"mms_fv", "mms_f", "mms_v", "mp_f", "mp_v", "rrf"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_tested(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MAX_LINES
    assert path.name in Path(__file__).read_text()
