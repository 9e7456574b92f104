"""Adding videos over HTTP and from the page: only where it is allowed, only from there, each with its fate."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from page_browser import expect, running, watched
from serving import build_index, error_of, serving, wait_until, write_colour

from colbert_video.errors import SettingsError
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.serve.service_settings import ServeSettings

FILE, FOLDER, LISTED = "/api/additions/file", "/api/additions/folder", "/api/additions"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder beneath which videos may be added, beside one with a secret film."""
    write_colour(tmp_path / "secret" / "film.mp4", (9, 9, 9))
    (tmp_path / "root" / "new").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("built")
    return build_index(folder / "my.index", tiny_trained_model, folder / "clips")


@pytest.fixture
def client(root: Path, tiny_trained_model: Any, built: Path) -> Iterator[Any]:
    index = shutil.copytree(built, root.parent / "my.index")
    with serving(index, model=tiny_trained_model, add_roots=(root,), most_added_bytes=200_000) as client:
        yield client


def add_folder(client: Any, path: str) -> Any:
    return client.post(FOLDER, json={"path": path})


def add_file(client: Any, name: str, content: bytes) -> Any:
    return client.post(FILE, params={"name": name}, content=content)


def settled(client: Any) -> dict[str, tuple[str, str | None]]:
    """State and reason of everything that was added, once nothing is left to do."""

    def idle() -> bool:
        answer = client.get(LISTED).json()
        return answer["waiting"] + answer["indexing"] == 0

    wait_until(idle)
    return {one["id"]: (one["state"], one["reason"]) for one in client.get(LISTED).json()["additions"]}


def found(client: Any) -> set[str]:
    return {result["id"] for result in client.get("/api/search", params={"query": "a circle", "k": 100}).json()["topk"]}


def test_a_folder_is_indexed_while_the_index_is_searched(client: Any, root: Path) -> None:
    for number in range(6):
        write_colour(root / "new" / f"{number}.mp4", (40 * number, 20, 90))
    (root / "new" / "broken.mp4").write_bytes(b"no video at all")
    (root / "new" / "notes.txt").write_text("not looked at")
    before = found(client)
    answer = add_folder(client, "new")
    assert answer.status_code == 202
    assert {one["id"] for one in answer.json()["additions"]} == {f"new/{number}.mp4" for number in range(6)} | {
        "new/broken.mp4"
    }
    while client.get(LISTED).json()["waiting"]:
        assert before <= found(client)
    states = settled(client)
    assert states.pop("new/broken.mp4") == ("failed", "it is not a video file that can be read")
    assert states == {f"new/{number}.mp4": ("done", None) for number in range(6)}
    wait_until(lambda: found(client) == before | {f"new/{number}.mp4" for number in range(6)})
    shown = client.get("/api/video", params={"id": "new/3.mp4"}).json()
    assert shown["playable"]
    assert "root" not in str(client.get(LISTED).json()["additions"])  # nothing says where files are


def test_a_sent_file_is_kept_and_found_and_one_that_is_no_video_goes_again(client: Any, root: Path) -> None:
    content = (root.parent / "secret" / "film.mp4").read_bytes()
    assert add_file(client, "holiday é.mp4", content).status_code == 202
    assert add_file(client, "broken.mp4", b"no video").status_code == 202
    assert settled(client) == {
        "holiday é.mp4": ("done", None),
        "broken.mp4": ("failed", "it is not a video file that can be read"),
    }
    wait_until(lambda: "holiday é.mp4" in found(client))
    assert sorted(path.name for path in root.iterdir()) == ["holiday é.mp4", "new"]
    assert (root / "holiday é.mp4").read_bytes() == content


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("../secret", 403, "outside"),
        ("new/../../secret", 403, "outside"),
        ("../secret/film.mp4", 403, "outside"),
        ("/etc", 403, "outside"),
        ("link", 403, "outside"),
        ("link/film.mp4", 403, "outside"),
        ("none", 404, "no_such_folder"),
        ("empty", 404, "no_videos"),
        ("notes.txt", 415, "not_a_video"),
        ("", 422, "bad_parameter"),
        ("a\0b", 422, "bad_parameter"),
        ("https://example.org/a.mp4", 404, "no_such_folder"),
    ],
)
def test_paths_lead_nowhere_else(client: Any, root: Path, path: str, status: int, code: str) -> None:
    (root / "link").symlink_to(root.parent / "secret")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("x")
    answer = add_folder(client, path)
    assert error_of(answer) == (status, code)
    assert str(root) not in answer.text
    assert client.get(LISTED).json()["additions"] == []


def test_links_in_a_folder_are_followed_within_the_root_alone(client: Any, root: Path) -> None:
    write_colour(root / "new" / "own.mp4", (20, 200, 20))
    write_colour(root / "other" / "near.mp4", (20, 20, 200))
    (root / "new" / "far.mp4").symlink_to(root.parent / "secret" / "film.mp4")
    (root / "new" / "near.mp4").symlink_to(root / "other" / "near.mp4")
    add_folder(client, str(root / "new"))
    states = settled(client)
    assert states["new/far.mp4"] == ("failed", "it lies outside the folders that the service may add from")
    assert states["new/own.mp4"] == states["new/near.mp4"] == ("done", None)
    assert "new/far.mp4" not in found(client)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("../film.mp4", 422, "bad_name"),
        ("a/b.mp4", 422, "bad_name"),
        ("a\\b.mp4", 422, "bad_name"),
        (".hidden.mp4", 422, "bad_name"),
        ("..", 422, "bad_name"),
        ("", 422, "bad_name"),
        ("a\nb.mp4", 422, "bad_name"),
        ("é" * 150 + ".mp4", 422, "bad_name"),
        ("page.html", 415, "not_a_video"),
        ("film", 415, "not_a_video"),
        ("film.mp4.exe", 415, "not_a_video"),
    ],
)
def test_names_of_files_are_names_of_videos(client: Any, root: Path, name: str, status: int, code: str) -> None:
    assert error_of(add_file(client, name, b"x")) == (status, code)
    assert [path.name for path in root.iterdir()] == ["new"]


def test_large_and_empty_files_leave_nothing(client: Any, root: Path) -> None:
    assert error_of(add_file(client, "a.mp4", b"x" * 200_001)) == (413, "body_too_large")
    assert error_of(client.post(FILE, params={"name": "a.mp4"}, content=iter([b"x" * 150_000] * 2))) == (
        413,
        "body_too_large",
    )
    assert error_of(add_file(client, "a.mp4", b"")) == (422, "empty_file")
    assert [path.name for path in root.iterdir()] == ["new"]


def test_files_of_one_name_never_replace_each_other_nor_follow_links(client: Any, root: Path) -> None:
    secret = root.parent / "secret" / "film.mp4"
    before = secret.read_bytes()
    (root / "a.mp4").symlink_to(secret)
    (root / "a (2).mp4").symlink_to(root.parent / "secret" / "made.mp4")  # leads nowhere yet
    contents = [write_colour(root.parent / "sent" / f"{n}.mp4", (60 * n, 0, 0)).read_bytes() for n in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda content: add_file(client, "a.mp4", content), contents))
    assert [answer.status_code for answer in answers] == [202] * 4
    names = {answer.json()["additions"][0]["id"] for answer in answers}
    assert names == {f"a ({number}).mp4" for number in range(3, 7)}
    assert {(root / name).read_bytes() for name in names} == set(contents)
    assert set(settled(client).values()) == {("done", None)}
    assert secret.read_bytes() == before
    assert not (root.parent / "secret" / "made.mp4").exists()


def test_a_folder_that_is_waiting_is_not_queued_again(client: Any, root: Path) -> None:
    for number in range(8):
        write_colour(root / "new" / f"{number}.mp4", (20 * number, 20, 90))
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: add_folder(client, "new"), range(3)))
    assert {answer.status_code for answer in answers} == {202}
    settled(client)
    counts = client.get(LISTED).json()
    assert counts["failed"] == 0
    wait_until(lambda: len(found(client)) == 3 + 8)


def test_an_index_that_is_being_written_is_waited_for(
    client: Any, root: Path, monkeypatch: pytest.MonkeyPatch, tiny_trained_model: Any
) -> None:
    from colbert_video.indexing.catalog.catalog import Catalog

    write_colour(root / "new" / "a.mp4", (20, 20, 90))
    monkeypatch.setattr("colbert_video.serve.additions.RETRY_SECONDS", 0.05)
    with Catalog.open(root.parent / "my.index", writable=True):
        add_folder(client, "new")
        wait_until(lambda: client.get(LISTED).json()["indexing"] == 1)
    assert settled(client) == {"new/a.mp4": ("done", None)}


def test_a_file_that_finds_no_place_in_the_queue_is_not_kept(
    client: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_colour(root.parent / "sent.mp4", (20, 20, 90)).read_bytes()
    monkeypatch.setattr("colbert_video.serve.additions.RETRY_SECONDS", 0.05)
    monkeypatch.setattr(client.app.app.state.service.additions, "_most_waiting", 0)
    answer = add_file(client, "sent.mp4", content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
    assert not list(root.glob("*.mp4"))


def test_nothing_is_added_unless_it_is_allowed(tmp_path: Path, tiny_trained_model: Any) -> None:
    index = build_index(tmp_path / "my.index", tiny_trained_model, tmp_path / "clips")
    with serving(index, model=tiny_trained_model) as client:
        assert client.get(LISTED).json()["allowed"] is False
        assert error_of(add_folder(client, "clips")) == (403, "adding_not_allowed")
        assert error_of(add_file(client, "a.mp4", b"x")) == (403, "adding_not_allowed")
        headers = {"sec-fetch-site": "cross-site"}
        assert error_of(client.post(FOLDER, json={"path": "x"}, headers=headers)) == (403, "cross_site")


def test_shards_and_indexes_without_a_model_take_no_videos(tmp_path: Path, tiny_trained_model: Any) -> None:
    index = build_index(tmp_path / "my.index", tiny_trained_model, tmp_path / "clips")
    shard_index(index, tmp_path / "shards", shards=2)
    with serving(tmp_path / "shards", model=tiny_trained_model, add_roots=(tmp_path / "clips",)) as client:
        assert error_of(add_folder(client, "red.mp4")) == (422, "takes_no_videos")


def test_a_folder_to_add_from_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        ServeSettings(add_roots=(tmp_path / "none",))
    code, _, err = run(["serve", str(tmp_path), "--allow-add", str(tmp_path / "none")], capsys)
    assert (code, "is not a folder" in err) == (2, True)


def test_the_page_adds_dropped_files_and_folders(browser: Any, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "index", tmp_path / "index")
    (tmp_path / "root" / "holiday").mkdir(parents=True)
    write_colour(tmp_path / "root" / "holiday" / "blue.mp4", (20, 20, 220))
    with (
        running([tmp_path / "index"], add_roots=(tmp_path / "root",), refresh_seconds=0.2) as address,
        watched(browser, address, allowed=["403", "415"]) as page,
    ):
        page.goto("./")
        expect(page.locator(".tile")).to_have_count(8)
        page.get_by_label("Or a folder beneath root").fill("../index")
        page.get_by_role("button", name="Add the folder").click()
        expect(page.locator("#adding-problem")).to_contain_text("Name a folder below root.")
        page.get_by_label("Or a folder beneath root").fill("holiday")
        page.keyboard.press("Enter")
        expect(page.locator(".addition.done")).to_contain_text("holiday/blue.mp4")
        expect(page.locator(".tile")).to_have_count(9)
        expect(page.locator(".tile .title").first).to_have_text("holiday/blue.mp4")
        drop(page, {"red.mp4": write_colour(tmp_path / "red.mp4", (220, 20, 20)).read_bytes(), "notes.txt": b"x"})
        expect(page.locator(".addition.done")).to_have_count(2)
        expect(page.locator(".addition.failed")).to_contain_text("notes.txt")
        expect(page.locator(".addition.failed")).to_contain_text("not a video file by its name")
        expect(page.locator(".tile")).to_have_count(10)
        assert (tmp_path / "root" / "red.mp4").is_file()


def drop(page: Any, files: dict[str, bytes]) -> None:
    """Drop files on the page."""
    page.evaluate(
        """files => {
          const dataTransfer = new DataTransfer();
          for (const [name, bytes] of Object.entries(files))
            dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type: name.endsWith("mp4") ? "video/mp4" : "" }));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        {name: list(content) for name, content in files.items()},
    )
