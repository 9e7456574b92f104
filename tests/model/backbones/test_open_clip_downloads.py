"""Names that need the network: without one they fail at once in one line, and what is in the cache needs none."""

import copy
import json
import socket
import time
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from command_line import run
from huggingface_hub import constants
from tiny_models import TINY_CLIP, TINY_SIGLIP, save_word_tokenizer

from colbert_video.base import network
from colbert_video.errors import ModelError
from colbert_video.model.backbones import open_clip_downloads
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.backbones.open_clip_downloads import fetch_weights
from colbert_video.model.video_colbert import VideoColBERT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, also of open_clip's own downloads."""
    import transformers.utils.hub

    path = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(path), raising=False)
    monkeypatch.setattr(open_clip_downloads, "URL_CACHE", str(tmp_path / "clip"))
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that are looked up, of which none exists."""
    asked: list[str] = []

    def unknown(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(str(host))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return asked


@pytest.fixture
def tokenizer_name(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a tiny open_clip model whose tokenizer is "me/words" of the Hub."""
    model_cfg: Any = copy.deepcopy(TINY_SIGLIP)
    model_cfg["text_cfg"]["hf_tokenizer_name"] = "me/words"
    (tmp_path / "tiny-words.json").write_text(json.dumps(model_cfg))
    open_clip.add_model_config(tmp_path / "tiny-words.json")
    return "tiny-words"


def put_into(cache: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Write files where huggingface_hub keeps what it has downloaded; return their folder."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    return snapshot


AWAY = r"huggingface\.co cannot be reached \(.*not known\)\."
MESSAGES = {
    "ViT-B-16-SigLIP:webli": (
        rf"the tokenizer of ViT-B-16-SigLIP, timm/ViT-B-16-SigLIP, is not in the cache, and {AWAY} To fetch them beforehand, "
        r"run python .*create_model\('ViT-B-16-SigLIP', pretrained='webli'\); "
        r"open_clip.get_tokenizer\('ViT-B-16-SigLIP'\).* and copy ~/\.cache/huggingface here\."
    ),
    "ViT-B-32-quickgelu:openai": (
        rf"the weights 'openai' of ViT-B-32-quickgelu are not in the cache, and {AWAY} .*"
        r"create_model\('ViT-B-32-quickgelu', pretrained='openai'\)\" on a machine with network and copy "
        r"~/\.cache/huggingface here, or pass the path of a weight file"
    ),
    "PE-Core-B-16:meta": rf"the weights 'meta' of PE-Core-B-16 are not in the cache, and {AWAY}",
    "user/model": (
        r"there is no folder 'user/model', and the model repository 'user/model' cannot be fetched: it is not in the cache, "
        rf"and {AWAY} .*`hf download user/model`"
    ),
    "user/model@v2": rf"'user/model' cannot be fetched: it is not in the cache, and {AWAY}",
}


@pytest.mark.parametrize(("name", "match"), MESSAGES.items())
def test_without_a_network_a_name_fails_at_once_in_one_line(
    name: str, match: str, cache: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_clip, "create_model", None)  # nothing is built
    begin = time.monotonic()
    with pytest.raises(ModelError, match=match) as raised:
        VideoColBERT.from_pretrained(name, device="cpu")
    assert time.monotonic() - begin < network.PATIENCE_SECONDS
    assert "\n" not in str(raised.value)
    assert len(no_network) <= 2  # IPv4 and IPv6 of one attempt


def test_the_command_line_prints_nothing_else(
    cache: Path, no_network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    arguments = [
        "index",
        str(tmp_path / "clip.mp4"),
        "--index",
        str(tmp_path / "i"),
        "--model",
        "ViT-B-16-SigLIP:webli",
    ]
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is not in the cache, and huggingface.co cannot be reached" in err


@pytest.mark.parametrize(
    "files", [["open_clip_model.safetensors", "open_clip_pytorch_model.bin"], ["open_clip_pytorch_model.bin"]]
)
def test_weights_in_the_cache_need_no_network(files: list[str], cache: Path, no_network: list[str]) -> None:
    snapshot = put_into(cache, "timm/words", dict.fromkeys(files, b"weights"))
    assert fetch_weights("ViT", "tag", {"hf_hub": "timm/words/"}) == str(snapshot / files[0])
    assert no_network == []


def test_weights_of_a_named_file_in_the_cache(cache: Path, no_network: list[str]) -> None:
    snapshot = put_into(cache, "timm/words", {"large.pth": b"weights"})
    assert fetch_weights("ViT", "tag", {"hf_hub": "timm/words/large.pth"}) == str(snapshot / "large.pth")
    put_into(cache, "timm/words", {"large.safetensors": b"weights"})
    assert fetch_weights("ViT", "tag", {"hf_hub": "timm/words/large.pth"}) == str(snapshot / "large.safetensors")
    assert no_network == []


def test_weights_of_an_address(cache: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tag_cfg = {"url": "https://weights.invalid/clip/large.pt"}
    with pytest.raises(
        ModelError, match=r"not in the cache, and weights\.invalid cannot .* copy .*/clip here, or pass"
    ):
        fetch_weights("ViT", "tag", tag_cfg)
    assert no_network
    no_network.clear()
    folder = Path(open_clip_downloads.URL_CACHE)
    folder.mkdir()
    (folder / "large.pt").write_bytes(b"weights")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda cfg: folder / cfg["url"].rpartition("/")[2])
    assert fetch_weights("ViT", "tag", tag_cfg) == str(folder / "large.pt")
    assert no_network == []


def test_weights_that_are_downloaded_are_loaded(
    cache: Path, tmp_path: Path, tiny_names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = open_clip.create_model(tiny_names.clip, load_weights=False).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    monkeypatch.setattr(open_clip_downloads, "hub_problem", lambda: None)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda cfg: tmp_path / "weights.pt")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, tiny_names.clip, {"tag": {"hf_hub": "me/tiny/", "url": ""}})
    backbone = OpenClipBackbone.from_name(tiny_names.clip, "tag")
    assert torch.equal(backbone.clip.state_dict()["text_projection"], weights["text_projection"])
    assert backbone.architecture == TINY_CLIP


def test_a_tokenizer_in_the_cache_needs_no_network(
    tokenizer_name: str, cache: Path, no_network: list[str], tmp_path: Path
) -> None:
    save_word_tokenizer(put_into(cache, "me/words", {"config.json": b"{}"}))
    backbone = OpenClipBackbone.from_name(tokenizer_name)
    assert backbone.tokenizer(["a dog"], context_length=4).tolist() == [[3, 4, 1, 1]]
    assert no_network == []
    (tmp_path / "saved").mkdir()
    backbone.save(tmp_path / "saved")
    assert "local_files_only" not in (tmp_path / "saved" / "tokenizer_config.json").read_text()


def test_a_tokenizer_that_is_missing_is_fetched_where_there_is_a_network(
    tokenizer_name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetching(name: str, **options: Any) -> Any:
        if options:
            raise OSError("not in the cache")
        return "fetched"

    monkeypatch.setattr(open_clip_downloads, "hub_problem", lambda: None)
    monkeypatch.setattr(open_clip, "get_tokenizer", fetching)
    assert OpenClipBackbone.from_name(tokenizer_name).tokenizer == "fetched"


def test_a_tokenizer_without_weights_is_missing(tokenizer_name: str, cache: Path, no_network: list[str]) -> None:
    with pytest.raises(
        ModelError,
        match=r"of tiny-words, me/words, is not in .*\. To fetch it beforehand, .*\"import open_clip; open_clip.get_tokenizer\('tiny-words'\)\" on",
    ):
        OpenClipBackbone.from_name(tokenizer_name)
