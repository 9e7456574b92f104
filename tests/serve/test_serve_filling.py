"""A service without an index yet: it says so everywhere, and the first videos that are added make the index."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import run
from page_browser import expect, running, watched
from serving import build_index, error_of, serving, wait_until, write_colour
from thorough import thorough_only

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.index.folder import is_finished
from colbert_video.serve.additions import MAX_STARTS
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.waiting_videos import WaitingVideos
from colbert_video.video.sources import VideoRecord

FILE, FOLDER, LISTED = "/api/additions/file", "/api/additions/folder", "/api/additions"
SEARCHES: dict[str, dict[str, Any]] = {
    "/api/search": {"query": "a circle"},
    "/api/more_like": {"id": "red.mp4"},
    "/api/occurrences": {"query": "a circle", "id": "red.mp4"},
    "/api/explain": {"query": "a circle", "id": "red.mp4"},
    "/api/relevance": {"query": "a circle", "id": "red.mp4"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@contextmanager
def empty(root: Path, model: Any) -> Iterator[Any]:
    """A client of a service whose index does not exist yet."""
    with serving(root.parent / "new.index", model=model, add_roots=(root,)) as client:
        yield client


def states(client: Any) -> dict[str, tuple[str, str | None]]:
    """State and reason of everything that was added, once nothing is left to do."""

    def idle() -> bool:
        answer = client.get(LISTED).json()
        return answer["waiting"] + answer["indexing"] == 0

    wait_until(idle)
    return {one["id"]: (one["state"], one["reason"]) for one in client.get(LISTED).json()["additions"]}


def found(client: Any) -> list[str]:
    answer = client.get("/api/search", params={"query": "a circle", "k": 100})
    return sorted(result["id"] for result in answer.json()["topk"])


def colours(folder: Path, count: int) -> list[str]:
    return [write_colour(folder / f"{n}.mp4", (37 * n % 256, 91 * n % 256, 200 - 20 * n)).name for n in range(count)]


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_indexed_yet_is_said_at_every_address(root: Path, tiny_trained_model: Any, exists: bool) -> None:
    if exists:
        (root.parent / "new.index").mkdir()
    with empty(root, tiny_trained_model) as client:
        answers = [client.get(address, params=fields) for address, fields in SEARCHES.items()]
        answers.append(client.post("/api/search/image", content=b"x"))
        for answer in answers:
            assert error_of(answer) == (409, "nothing_indexed")
            assert "nothing is indexed yet in 'new.index'" in answer.json()["error"]["message"]
            assert "/api/additions/file" in answer.json()["error"]["remedy"]
        (index,) = client.get("/api/indexes").json()["indexes"]
        assert (index["state"], index["videos"], index["note"]) == ("empty", 0, "nothing is indexed yet")
        assert client.get("/api/indexes/new.index").json()["bytes"] == 0
        for order in ("id", "newest"):
            assert client.get("/api/videos", params={"order": order}).json()["videos"] == []
        assert client.get("/api/start").json() == {"index": "new.index", "examples": [], "facets": []}
        assert error_of(client.get("/api/video", params={"id": "a"})) == (404, "no_such_video")
        assert error_of(client.get("/api/video/thumbnail", params={"id": "a"}))[0] == 404
        assert [client.get(address).status_code for address in ("/healthz", "/readyz")] == [200, 200]
        metrics = client.get("/metrics").text
        assert 'colbert_video_index_videos{index="new.index"} 0.0' in metrics
        assert 'colbert_video_index_ready{index="new.index"} 0.0' in metrics
    assert (root.parent / "new.index").exists() is exists  # looking makes nothing


def test_the_first_video_makes_the_index_and_later_ones_are_added(root: Path, tiny_trained_model: Any) -> None:
    content = write_colour(root.parent / "sent.mp4", (220, 20, 20)).read_bytes()
    with empty(root, tiny_trained_model) as client:
        assert client.post(FILE, params={"name": "first.mp4"}, content=content).status_code == 202
        assert states(client) == {"first.mp4": ("done", None)}
        assert found(client) == ["first.mp4"]  # at once: done means that it can be found
        assert client.get("/api/indexes").json()["indexes"][0]["state"] == "ready"
        assert 'colbert_video_index_ready{index="new.index"} 1.0' in client.get("/metrics").text
        names = colours(root / "more", 2)
        client.post(FOLDER, json={"path": "more"})
        assert set(states(client).values()) == {("done", None)}
        assert found(client) == ["first.mp4", *(f"more/{name}" for name in names)]
        assert client.get("/api/explain", params={"query": "a circle", "id": "first.mp4"}).status_code == 200


def test_a_codec_of_one_video_is_trained_again_for_those_that_follow(root: Path, tiny_trained_model: Any) -> None:
    write_colour(root / "0.mp4", (10, 10, 10))
    colours(root / "more", 3)
    with empty(root, tiny_trained_model) as client:
        for path in ("0.mp4", "more"):
            client.post(FOLDER, json={"path": path})
            states(client)
        client.app.app.state.service.additions.close(30)
    whole = root.parent / "whole.index"
    Indexer(whole, model=tiny_trained_model).index(
        [(path.relative_to(root).as_posix(), str(path)) for path in sorted(root.rglob("*.mp4"))]
    )
    ours, exact = (scores(path, tiny_trained_model) for path in (root.parent / "new.index", whole))
    assert ours == pytest.approx(exact, abs=0.02)


def scores(index: Path, model: Any) -> dict[str, float]:
    with Searcher(index, model=model) as searcher:
        return {hit.id: hit.score for hit in searcher.search("a circle", k=100, exact=True)}


def test_a_broken_first_file_leaves_the_service_as_it_was(root: Path, tiny_trained_model: Any) -> None:
    with empty(root, tiny_trained_model) as client:
        assert client.post(FILE, params={"name": "broken.mp4"}, content=b"no video").status_code == 202
        assert states(client) == {"broken.mp4": ("failed", "it is not a video file that can be read")}
        assert not (root.parent / "new.index").exists()
        assert list(root.iterdir()) == []
        assert error_of(client.get("/api/search", params={"query": "a circle"})) == (409, "nothing_indexed")
        (root / "broken.mp4").write_bytes(b"no video")
        write_colour(root / "good.mp4", (20, 200, 20))
        client.post(FOLDER, json={"path": "."})
        assert states(client)["good.mp4"] == ("done", None)
        assert found(client) == ["good.mp4"]


def test_two_first_adds_at_once_make_one_index(root: Path, tiny_trained_model: Any) -> None:
    colours(root / "a", 2)
    colours(root / "b", 2)
    with empty(root, tiny_trained_model) as client:
        for path in ("a", "b"):
            client.post(FOLDER, json={"path": path})
        assert set(states(client).values()) == {("done", None)}
        assert found(client) == [f"{folder}/{n}.mp4" for folder in "ab" for n in range(2)]


def test_an_index_that_another_process_makes_is_seen(root: Path, tiny_trained_model: Any) -> None:
    with empty(root, tiny_trained_model) as client:
        build_index(root.parent / "new.index", tiny_trained_model, root.parent / "clips")
        wait_until(lambda: client.get("/api/search", params={"query": "red"}).status_code == 200)
        assert len(found(client)) == 3


def test_the_refusal_names_the_remedy(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root.parent / "new.index"
    code, _, err = run(["serve", str(path), "--port", "0", "--model", "toy"], capsys)
    assert code == 2
    assert f"{path} holds no finished index" in err
    assert "--allow-add FOLDER --model NAME" in err
    code, _, err = run(["serve", str(path), "--port", "0", "--allow-add", str(root)], capsys)
    assert code == 2
    assert f"{path} holds no index yet, and there is no model to make it; add --model NAME." in err
    code, _, err = run(["mcp", str(path)], capsys)
    assert (code, "holds no finished index" in err) == (2, True)
    (root / "notes.txt").write_text("x")
    code, _, err = run(["serve", str(root), "--port", "0", "--allow-add", str(root), "--model", "toy"], capsys)
    assert (code, "exists and is not an index; choose another path" in err) == (2, True)
    assert not path.exists()


@pytest.mark.parametrize("method", ["add", "sync"])
def test_python_makes_an_index_of_first_videos_too(tmp_path: Path, tiny_trained_model: Any, method: str) -> None:
    clip = write_colour(tmp_path / "red.mp4", (220, 20, 20))
    indexer = Indexer(tmp_path / "my.index", model=tiny_trained_model, workers=1)
    report = getattr(indexer, method)([str(clip)])
    assert (report.indexed, report.videos) == (1, 1)
    other = write_colour(tmp_path / "blue.mp4", (20, 20, 220))
    assert getattr(indexer, method)([str(other)]).videos == 2
    with Searcher(tmp_path / "my.index", model=tiny_trained_model) as searcher:
        assert {hit.id for hit in searcher.search("a circle")} == {"red.mp4", "blue.mp4"}


def test_adding_without_a_model_still_needs_an_index(tmp_path: Path) -> None:
    clip = write_colour(tmp_path / "red.mp4", (220, 20, 20))
    with pytest.raises(IndexFolderError, match="holds no index; make one"):
        Indexer(tmp_path / "my.index").add([str(clip)])
    with pytest.raises(SettingsError, match="there is no model"):
        IndexRegistry.open([str(tmp_path / "my.index")], fillable=True)


@thorough_only
def test_a_killed_service_goes_on_where_it_stopped(root: Path) -> None:
    names = colours(root / "clips", 3)
    with process(root) as ask:
        ask("post", FOLDER, json={"path": "clips"})
        wait_until(lambda: ask("get", LISTED)["indexing"] > 0)
    with process(root) as ask:
        wait_until(lambda: ask("get", LISTED)["done"] == 3)
        results = ask("get", "/api/search", params={"query": "red", "k": 100})["topk"]
        assert sorted(result["id"] for result in results) == [f"clips/{name}" for name in names]
    assert not WaitingVideos(root.parent / "new.index").path.exists()


@contextmanager
def process(root: Path) -> Iterator[Callable[..., Any]]:
    """The service as a process, which is killed at the end; what asks it."""
    words = ["serve", str(root.parent / "new.index"), "--port", "0", "--model", "toy", "--allow-add", str(root)]
    running = subprocess.Popen([sys.executable, "-m", "colbert_video", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        address = running.stdout.readline().split()[-1].rstrip("/")

        def ask(method: str, path: str, **options: Any) -> Any:
            return json.loads(httpx.request(method, address + path, timeout=60, **options).content)

        wait_until(lambda: ask("get", "/readyz").get("status") == "ready")
        yield ask
    finally:
        running.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        running.wait()


def test_what_waited_is_checked_again_when_the_service_starts(root: Path, tiny_trained_model: Any) -> None:
    index = build_index(root.parent / "my.index", tiny_trained_model, root.parent / "clips")
    waiting = WaitingVideos(index)
    inside, outside = write_colour(root / "in.mp4", (9, 9, 9)), write_colour(root.parent / "out.mp4", (9, 9, 9))
    crashing = write_colour(root / "crashing.mp4", (9, 99, 9))
    waiting.add([VideoRecord("in.mp4", str(inside)), VideoRecord("out.mp4", str(outside))], uploaded=False)
    waiting.add([VideoRecord("crashing.mp4", str(crashing))], uploaded=True)
    for _ in range(MAX_STARTS):
        waiting.begin(["crashing.mp4"])
    with serving(index, model=tiny_trained_model, add_roots=(root,)) as client:
        assert states(client) == {
            "in.mp4": ("done", None),
            "out.mp4": ("failed", "it lies outside the folders that the service may add from"),
            "crashing.mp4": ("failed", "the service ended 3 times while it was being indexed"),
        }
    assert outside.is_file()
    assert not crashing.exists()
    assert not waiting.path.exists()


def test_a_file_sent_is_kept_where_the_service_stops_while_it_waits(
    root: Path, tiny_trained_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from colbert_video.indexing.catalog.catalog import Catalog

    monkeypatch.setattr("colbert_video.serve.additions.RETRY_SECONDS", 0.05)
    index = build_index(root.parent / "my.index", tiny_trained_model, root.parent / "clips")
    content = write_colour(root.parent / "sent.mp4", (220, 20, 20)).read_bytes()
    with Catalog.open(index, writable=True), serving(index, model=tiny_trained_model, add_roots=(root,)) as client:
        client.post(FILE, params={"name": "sent.mp4"}, content=content)
        wait_until(lambda: client.get(LISTED).json()["indexing"] == 1)
    assert (root / "sent.mp4").read_bytes() == content
    with serving(index, model=tiny_trained_model, add_roots=(root,)) as client:
        assert states(client) == {"sent.mp4": ("done", None)}


def test_a_list_that_cannot_be_used_stops_nothing(root: Path, tiny_trained_model: Any) -> None:
    write_colour(root / "red.mp4", (220, 20, 20))
    waiting = WaitingVideos(root.parent / "new.index")
    waiting.path.write_bytes(b"no database " * 100)
    with pytest.raises(sqlite3.Error):
        sqlite3.connect(waiting.path).execute("SELECT * FROM waiting")
    with empty(root, tiny_trained_model) as client:
        client.post(FOLDER, json={"path": "red.mp4"})
        assert states(client) == {"red.mp4": ("done", None)}


def test_the_page_fills_an_index_that_does_not_exist(browser: Any, tmp_path: Path) -> None:
    clip = write_colour(tmp_path / "red.mp4", (220, 20, 20))
    (tmp_path / "root").mkdir()
    with (
        running([tmp_path / "new.index"], model="toy", add_roots=(tmp_path / "root",)) as address,
        watched(browser, address, allowed=["409"]) as page,
    ):
        page.goto("./")
        expect(page.locator("#welcome")).to_contain_text("Nothing is indexed yet.")
        page.locator("#query").fill("a red picture")
        expect(page.locator("#welcome")).to_contain_text("Drop video files anywhere on this page")
        expect(page.locator("#problem")).to_be_hidden()
        shutil.copy(clip, tmp_path / "root")
        page.get_by_label("Or a folder beneath root").fill("red.mp4")
        page.get_by_role("button", name="Add the folder").click()
        expect(page.locator("#status")).to_contain_text("1 result")
        expect(page.locator(".card")).to_have_count(1)
    assert is_finished(tmp_path / "new.index")
