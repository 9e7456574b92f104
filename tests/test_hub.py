"""Models and indexes travel through a Hub unchanged; a stranger's files are checked, and a token is never shown."""

import json
import logging
import shutil
import socket
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from hub_stand_in import READER, TOKEN, HubStandIn, running_hub
from huggingface_hub import constants, file_download
from operations import add_tokens, everything
from tiny_transformers import save_tiny

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video import hub as hub_module
from colbert_video.base import network
from colbert_video.errors import ColBERTVideoError, HubError, IndexFolderError, ModelError, SettingsError
from colbert_video.hub import HubRepository
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.index_hub import fetched_index, pull_index
from colbert_video.indexing.upkeep.verify import verify_index

CPU = torch.device("cpu")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub on this machine, the only one that can be reached, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # it moved between releases
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        yield hub


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "my.index"
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "be", seed=1)
    with Catalog.open(path, writable=True) as catalog:
        entry = catalog.entries(["a"])[0]
        catalog.update([type(entry)(**{**vars(entry), "path": "/secret/a.mp4"})])
    return path


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "my.index")


@pytest.fixture
def pushed(hub: HubStandIn, index: Path) -> HubStandIn:
    Indexer(index).push_to_hub("me/videos", token=TOKEN, endpoint=hub.url)
    return hub


def dataset(hub: HubStandIn, name: str = "me/videos", **settings: Any) -> HubRepository:
    return HubRepository(name, "dataset", **{"token": TOKEN, "endpoint": hub.url, **settings})


def put(hub: HubStandIn, path: str, content: bytes | None) -> None:
    """Change a file of the pushed index by the main door of any owner."""
    repository = hub.repositories["dataset", "me/videos"]
    files = {name: data for name, data in repository.files().items() if name != path}
    repository.commit("main", files if content is None else {**files, path: content}, f"change {path}")


# Models


def test_a_pushed_model_makes_the_same_tokens(hub: HubStandIn, tiny_trained_model: VideoColBERT) -> None:
    commit = tiny_trained_model.push_to_hub("me/model", token=TOKEN, endpoint=hub.url, message="first")
    assert commit.startswith(f"{hub.url}/me/model/commit/")
    assert tiny_trained_model.name is None  # only what is loaded from there has its name
    repository = hub.repositories["model", "me/model"]
    assert repository.private
    assert repository.messages == ["begin", "first"]
    assert set(repository.files()) == {
        ".gitattributes", "README.md", "config.json", "model.safetensors", "open_clip_config.json",
    }  # fmt: skip
    card = repository.files()["README.md"].decode()
    assert 'VideoColBERT.from_pretrained("me/model")' in card
    assert "No licence is stated yet" in card
    assert "is trained" in card
    loaded = VideoColBERT.from_hub("me/model", token=TOKEN, endpoint=hub.url, device="cpu")
    assert loaded.name == "me/model"
    assert loaded.fingerprint() == tiny_trained_model.fingerprint()
    assert torch.equal(loaded.encode_queries("a dog").tokens, tiny_trained_model.encode_queries("a dog").tokens)


def test_branches_and_an_owners_card_are_kept(hub: HubStandIn, tiny_model: VideoColBERT) -> None:
    repository = hub.add("model", "me/model", {"README.md": b"mine", "notes.txt": b"keep"})
    tiny_model.push_to_hub("me/model", token=TOKEN, endpoint=hub.url, revision="v/1")
    assert set(repository.branches) == {"main", "v/1"}
    assert repository.files() == {"README.md": b"mine", "notes.txt": b"keep"}
    assert repository.files("v/1")["README.md"] == b"mine"
    assert repository.files("v/1")["notes.txt"] == b"keep"
    named = VideoColBERT.from_pretrained("me/model@v/1", device=CPU)
    assert (named.name, named.fingerprint()) == ("me/model@v/1", tiny_model.fingerprint())
    with pytest.raises(ModelError, match="is not a checkpoint"):
        VideoColBERT.from_pretrained("me/model", device=CPU)


def test_nothing_but_a_checkpoints_files_is_downloaded(hub: HubStandIn, tiny_model: VideoColBERT) -> None:
    tiny_model.push_to_hub("me/model", token=TOKEN, endpoint=hub.url)
    repository = hub.repositories["model", "me/model"]
    tricks = {"model.bin": b"x", "modeling.py": b"import os", "a/config.json": b"{}", "pytorch_model.pt": b"x"}
    repository.commit("main", {**repository.files(), **tricks}, "tricks")
    VideoColBERT.from_hub("me/model", token=TOKEN, endpoint=hub.url, device="cpu")
    assert hub.downloaded() == {"config.json", "model.safetensors", "open_clip_config.json"}


def test_a_damaged_model_is_refused(hub: HubStandIn, tiny_model: VideoColBERT) -> None:
    tiny_model.push_to_hub("me/model", token=TOKEN, endpoint=hub.url)
    repository = hub.repositories["model", "me/model"]
    pickled = b"\x80\x04\x95cos\nsystem\n"
    repository.commit("main", {**repository.files(), "model.safetensors": pickled}, "evil")
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged, or does not fit its configuration"):
        VideoColBERT.from_hub("me/model", token=TOKEN, endpoint=hub.url, device="cpu")


def test_a_fetched_model_is_found_without_the_hub(hub: HubStandIn, tiny_model: VideoColBERT) -> None:
    tiny_model.push_to_hub("me/model", token=TOKEN, endpoint=hub.url)
    VideoColBERT.from_hub("me/model", token=TOKEN, endpoint=hub.url, device="cpu")
    nowhere = f"http://127.0.0.1:{free_port()}"
    loaded = VideoColBERT.from_hub("me/model", endpoint=nowhere, device="cpu")
    assert loaded.fingerprint() == tiny_model.fingerprint()


# Models of Hugging Face transformers


def publish(hub: HubStandIn, folder: Path, **more: bytes) -> None:
    """Put a tiny model of transformers, and what its owner has beside it, into a repository."""
    save_tiny("siglip", folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.add("model", "owner/siglip", {**files, **more})


def test_a_model_of_transformers_is_fetched_by_its_name(hub: HubStandIn, tmp_path: Path) -> None:
    publish(hub, tmp_path / "model", **{"pytorch_model.bin": b"x", "modeling.py": b"import os", "README.md": b"x"})
    model = VideoColBERT.from_pretrained("hf:owner/siglip", device="cpu")
    assert (model.name, model.config.backbone) == ("hf:owner/siglip", "hf:owner/siglip")
    assert model.fingerprint() == VideoColBERT.from_pretrained(f"hf:{tmp_path / 'model'}", device="cpu").fingerprint()
    assert hub.downloaded() == {
        "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_a_fetched_model_of_transformers_is_found_without_the_hub(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, tmp_path / "model")
    before = VideoColBERT.from_pretrained("hf:owner/siglip@main", device="cpu").fingerprint()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert VideoColBERT.from_pretrained("hf:owner/siglip@main", device="cpu").fingerprint() == before
    with pytest.raises(
        ModelError, match="the model repository 'owner/other' cannot be fetched: it is not in the cache"
    ):
        VideoColBERT.from_pretrained("hf:owner/other", device="cpu")


def test_a_model_of_another_type_is_refused_before_more_is_fetched(hub: HubStandIn) -> None:
    config = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x", "tokenizer.json": b"x"}
    hub.add("model", "owner/bert", config)
    with pytest.raises(ModelError, match="hf:owner/bert is a model of the type 'bert'"):
        VideoColBERT.from_pretrained("hf:owner/bert", device="cpu")
    assert hub.downloaded() == {"config.json"}


def test_settings_that_do_not_fit_are_refused_before_weights_are_fetched(hub: HubStandIn, tmp_path: Path) -> None:
    publish(hub, tmp_path / "model")
    with pytest.raises(ModelError, match="query_length=99"):
        VideoColBERT.from_backbone("hf:owner/siglip", device="cpu", query_length=99)
    assert hub.downloaded() == {"config.json", "preprocessor_config.json"}


def test_a_model_made_of_transformers_travels_through_the_hub(hub: HubStandIn, tmp_path: Path) -> None:
    publish(hub, tmp_path / "model")
    model = VideoColBERT.from_backbone("hf:owner/siglip", device="cpu", trained=True)
    model.push_to_hub("me/model", token=TOKEN, endpoint=hub.url)
    assert (
        "Hugging Face transformers model `owner/siglip`"
        in hub.repositories["model", "me/model"].files()["README.md"].decode()
    )
    loaded = VideoColBERT.from_hub("me/model", token=TOKEN, endpoint=hub.url, device="cpu")
    assert loaded.fingerprint() == model.fingerprint()
    assert torch.equal(loaded.encode_queries("a dog").tokens, model.encode_queries("a dog").tokens)


# Indexes


def test_a_pushed_index_opens_elsewhere(pushed: HubStandIn, index: Path, tmp_path: Path) -> None:
    files = pushed.repositories["dataset", "me/videos"].files()
    assert not any(b"secret" in content for content in files.values())
    assert b'Searcher.from_hub("me/videos")' in files["README.md"]
    assert b"An index of 5 videos" in files["README.md"]
    report = pull_index(dataset(pushed), tmp_path / "elsewhere")
    assert (report.videos, report.files) == (5, len(files) - 2)  # but the card and .gitattributes
    assert everything(tmp_path / "elsewhere") == everything(index)
    assert verify_index(tmp_path / "elsewhere").leftovers == ()
    with Searcher.from_hub("me/videos", token=TOKEN, endpoint=pushed.url) as searcher:
        assert len(searcher) == 5
        assert searcher.path.parent == tmp_path / "cache" / "colbert_video" / "me--videos"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "elsewhere", "my.index"]


def test_a_pulled_index_can_be_changed_and_the_cache_stays(pushed: HubStandIn, tmp_path: Path) -> None:
    pull_index(dataset(pushed), tmp_path / "one")
    before = everything(tmp_path / "one")
    add_tokens(tmp_path / "one", "z", seed=3)
    Indexer(tmp_path / "one").compact()
    pull_index(dataset(pushed), tmp_path / "two")
    assert everything(tmp_path / "two") == before
    assert verify_index(tmp_path / "two").intact


def test_pushing_again_sends_what_is_new_and_deletes_what_is_gone(pushed: HubStandIn, index: Path) -> None:
    repository = pushed.repositories["dataset", "me/videos"]
    put(pushed, "README.md", b"mine")
    sent = len(pushed.sent)
    add_tokens(index, "f", seed=2)
    Indexer(index).push_to_hub("me/videos", token=TOKEN, endpoint=pushed.url, keep_paths=True)
    segments = {name.split("/")[1] for name in repository.files() if name.startswith("segments/")}
    assert len(segments) == 3
    assert len(pushed.sent) - sent <= 8  # the new segment's codes, residuals and lists, and the catalog
    assert any(b"/secret/a.mp4" in content for content in repository.files().values())
    assert repository.files()["README.md"] == b"mine"
    Indexer(index).compact()
    Indexer(index).push_to_hub("me/videos", token=TOKEN, endpoint=pushed.url)
    assert {name.split("/")[1] for name in repository.files() if name.startswith("segments/")} == {
        path.name for path in (index / "segments").iterdir()
    }
    assert ".gitattributes" in repository.files()


def test_a_fetched_index_is_kept_by_commit_and_found_without_the_hub(pushed: HubStandIn, index: Path) -> None:
    first = fetched_index(dataset(pushed))
    asked = len(pushed.requests)
    assert fetched_index(dataset(pushed)) == first
    assert not any("resolve" in request for request in pushed.requests[asked:])
    assert fetched_index(dataset(pushed, endpoint=f"http://127.0.0.1:{free_port()}")) == first
    Indexer(index).remove("a")
    Indexer(index).push_to_hub("me/videos", token=TOKEN, endpoint=pushed.url)
    second = fetched_index(dataset(pushed))
    assert second != first
    assert len(everything(second)) == 4
    assert fetched_index(dataset(pushed, revision=first.name)) == first


@pytest.mark.parametrize("change", ["flipped", "shorter", "missing"])
def test_damaged_indexes_are_refused_and_leave_nothing(pushed: HubStandIn, tmp_path: Path, change: str) -> None:
    files = pushed.repositories["dataset", "me/videos"].files()
    name = min(name for name in files if name.endswith("0.residuals.pt"))
    content = files[name]
    damaged = {"flipped": content[:-1] + bytes([content[-1] ^ 1]), "shorter": content[:-1], "missing": None}
    put(pushed, name, damaged[change])
    match = r"0\.residuals\.pt is damaged" if change != "missing" else r"lacks .*0\.residuals\.pt"
    with pytest.raises(IndexFolderError, match=match):
        pull_index(dataset(pushed), tmp_path / "elsewhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "my.index"]


def forged(catalog: bytes, folder: Path, statement: str) -> bytes:
    path = folder / "forged"
    path.write_bytes(catalog)
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("INSERT INTO files VALUES ('../../evil', 1, '00')", "must be relative"),
        ("INSERT INTO files VALUES ('segments/*/evil', 1, '00')", "not part of an index"),
        ("INSERT INTO files VALUES ('evil.py', 1, '00')", "not part of an index"),
        ("CREATE TRIGGER evil AFTER INSERT ON videos BEGIN DELETE FROM videos; END", "is not a colbert_video catalog"),
        ("INSERT INTO files VALUES ('segments/a/b', 1, '00')", "lacks segments/a/b"),
    ],
)
def test_forged_catalogs_are_refused(pushed: HubStandIn, tmp_path: Path, statement: str, match: str) -> None:
    files = pushed.repositories["dataset", "me/videos"].files()
    put(pushed, "evil.py", b"import os")
    put(pushed, "catalog.sqlite", forged(files["catalog.sqlite"], tmp_path, statement))
    with pytest.raises(IndexFolderError, match=match):
        pull_index(dataset(pushed), tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    assert "evil.py" not in pushed.downloaded()


def test_targets_are_not_overwritten(pushed: HubStandIn, index: Path) -> None:
    with pytest.raises(IndexFolderError, match="exists; choose another path"):
        pull_index(dataset(pushed), index)


def test_an_unfinished_index_is_not_pushed(hub: HubStandIn, tmp_path: Path) -> None:
    Catalog.create(tmp_path / "i").close()
    with pytest.raises(IndexFolderError, match="is not finished"):
        Indexer(tmp_path / "i").push_to_hub("me/videos", token=TOKEN, endpoint=hub.url)
    assert hub.requests == []


def test_the_card_names_what_made_an_index() -> None:
    from colbert_video.indexing.upkeep.index_hub import index_card

    settings = IndexSettings(dim=64, bags=("frame", "video"), model="me/model")
    assert "frame tokens and video tokens (64 dimensions, 4 bits each), made by `me/model`" in " ".join(
        index_card(settings, "me/videos", videos=3).split()
    )


# Errors


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def refused(hub: HubStandIn, name: str, kind: str = "dataset", **settings: Any) -> str:
    with pytest.raises(HubError) as raised:
        HubRepository(name, kind, **{"token": TOKEN, "endpoint": hub.url, **settings}).fetch(["config.json"])  # type: ignore[arg-type]
    assert isinstance(raised.value, ColBERTVideoError)
    return str(raised.value)


def test_what_the_hub_refuses_has_a_remedy(hub: HubStandIn) -> None:
    hub.add("model", "me/model", {"config.json": b"{}"})
    hub.add("model", "me/secret", {"config.json": b"{}"}, private=True)
    hub.add("model", "me/gated", {"config.json": b"{}"}, gated=True)
    assert "there is no model repository 'me/nothing', or it is private: check the name, and log in" in refused(
        hub, "me/nothing", "model"
    )
    assert "or it is private" in refused(hub, "me/secret", "model", token=None)
    assert "is gated: accept its terms" in refused(hub, "me/gated", "model", token=READER)
    assert "'me/model' is a model repository, which holds no index" in refused(hub, "me/model")
    assert "has no branch, tag or commit 'v9'" in refused(hub, "me/model", "model", revision="v9")
    assert "log in again" in refused(hub, "me/model", "model", token="hf_wrong")
    hub.broken = (500, "the Hub has a cold")
    assert "cannot be fetched" in refused(hub, "me/model", "model")


def test_without_a_hub_or_an_index(hub: HubStandIn, tmp_path: Path) -> None:
    offline = refused(hub, "me/model", "model", endpoint=f"http://127.0.0.1:{free_port()}")
    assert "cannot be fetched" in offline
    assert "Check the network" in offline
    hub.add("dataset", "me/other", {"data.csv": b"1,2"})
    with pytest.raises(HubError, match=r"'me/other' holds no index: it has no catalog\.sqlite"):
        Searcher.from_hub("me/other", endpoint=hub.url)


def test_a_push_without_the_right_or_beside_another_is_refused(hub: HubStandIn, index: Path) -> None:
    hub.add("dataset", "me/videos", {})
    with pytest.raises(HubError, match=r"cannot be pushed to: .*may not write.*; the token may not do this"):
        Indexer(index).push_to_hub("me/videos", token=READER, endpoint=hub.url)
    original = HubStandIn._preupload

    def meanwhile(self: HubStandIn, *args: Any, **kwargs: Any) -> Any:
        put(self, "more", b"x")
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HubStandIn, "_preupload", meanwhile)
        with pytest.raises(HubError, match="somebody else pushed meanwhile; try again"):
            Indexer(index).push_to_hub("me/videos", token=TOKEN, endpoint=hub.url)
    assert set(hub.repositories["dataset", "me/videos"].files()) == {"more"}
    assert sorted(path.name for path in index.parent.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("name", ["videos", "a/b/c", "../x", "a/b c", "me/", "https://x/y"])
def test_names_that_cannot_be_repositories_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="must be of the form 'user/name'"):
        HubRepository(name, "model")


def test_a_token_is_never_shown(
    hub: HubStandIn, index: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    assert TOKEN not in repr(dataset(hub))
    with pytest.raises(SettingsError, match="characters that no token has") as raised:
        dataset(hub, token=f"{TOKEN}\n")
    assert TOKEN not in str(raised.value)
    Indexer(index).push_to_hub("me/videos", token=TOKEN, endpoint=hub.url)
    fetched_index(dataset(hub))
    assert len(caplog.records) > 0
    assert TOKEN not in caplog.text
    assert not any(TOKEN in str(vars(record)) for record in caplog.records)
    hub.broken = (400, "what is {token}?")
    for token, environment in ((TOKEN, ""), (None, TOKEN)):
        if environment:
            monkeypatch.setenv("HF_TOKEN", environment)
        with pytest.raises(HubError, match=r"what is \*\*\*\?") as error:
            Indexer(index).push_to_hub("me/videos", token=token, endpoint=hub.url)
        assert TOKEN not in "".join(traceback.format_exception(error.value))


# Command line


def test_push_and_pull(
    hub: HubStandIn,
    index: Path,
    tmp_path: Path,
    tiny_model: VideoColBERT,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    tiny_model.save_pretrained(tmp_path / "model")
    model, other = str(tmp_path / "model"), str(tmp_path / "other")
    code, out, _ = run(["push", "me/videos", "--index", str(index), "--public"], capsys)
    assert (code, out.startswith("pushed: http://")) == (0, True)
    assert not hub.repositories["dataset", "me/videos"].private
    code, out, _ = run(["push", "me/model", "--model", model, "--message", "hi", "--json"], capsys)
    assert (code, json.loads(out)["repository"]) == (0, "me/model")
    assert hub.repositories["model", "me/model"].messages == ["begin", "hi"]
    code, out, _ = run(["pull", "me/videos", "--index", str(tmp_path / "copy"), "--json"], capsys)
    assert (code, json.loads(out)["videos"]) == (0, 5)
    assert run(["pull", "me/model", "--model", other], capsys)[0] == 0
    assert VideoColBERT.from_pretrained(other, device=CPU).fingerprint() == tiny_model.fingerprint()
    code, _, err = run(["pull", "me/nothing", "--index", other], capsys)
    assert (code, "there is no dataset repository" in err, err.count("\n")) == (2, True, 1)
    code, _, err = run(["push", "me/videos"], capsys)
    assert (code, "give either --index or --model" in err) == (2, True)


def test_a_silent_hub_is_waited_for_once_for_all_files_that_are_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    patience: list[float] = []

    def silence(endpoint: str | None, *, patience: float, asked: list[float] = patience) -> str:
        asked.append(patience)
        return "it cannot be reached"

    cached = {"config.json"}
    monkeypatch.setattr(hub_module, "hub_problem", silence)
    monkeypatch.setattr(hub_module, "_SILENT", {})
    monkeypatch.setattr(HubRepository, "_snapshot", lambda self, names, cache_dir, local_files_only=False: tmp_path)
    repository = HubRepository("me/model", "model", endpoint="http://127.0.0.1:9")
    for _ in range(3):
        assert repository.fetch(sorted(cached)) == tmp_path
    assert patience == [network.CACHED_PATIENCE_SECONDS]
    with pytest.raises(HubError, match="it cannot be reached"):  # what is not cached asks again, for longer
        repository.fetch(["other.json"])
    assert patience == [network.CACHED_PATIENCE_SECONDS, network.PATIENCE_SECONDS]
    monkeypatch.setattr(hub_module, "SILENCE_SECONDS", -1.0)
    hub_module._SILENT.clear()
    for _ in range(2):  # a silence that is over is asked about again
        repository.fetch(sorted(cached))
    assert patience[2:] == [network.CACHED_PATIENCE_SECONDS] * 2
