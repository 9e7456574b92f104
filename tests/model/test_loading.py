"""Encoders of other packages by their names: loaded where a user names them, never where an index does."""

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from serving import write_colour

from colbert_video import Indexer, Searcher
from colbert_video.errors import ColBERTVideoError, ModelError, SettingsError
from colbert_video.model import FunctionEncoder, loading
from colbert_video.model.loading import ModelChoice, load_encoder

WORDS = {"red": 0, "green": 1, "blue": 2}


def load(which: str, *, device: Any = None) -> Any:
    """What a package would register: words for colours, and the mean colour of each frame."""
    if which == "broken":
        raise RuntimeError("the weights are gone")
    if which == "nothing":
        return object()
    return FunctionEncoder(
        encode_queries=lambda texts: [np.eye(32)[[WORDS.get(word, 3) for word in text.split()]] for text in texts],
        encode_frames=lambda frames: np.pad(frames.reshape(len(frames), -1, 3).mean(axis=1) + 1e-3, ((0, 0), (0, 29))),
        dim=32,
        fingerprint=f"colours@{which}",
        num_frames=2,
        height=16,
        width=16,
        device=device or "cpu",
    )


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that registers `load` under the name "own"."""
    point = EntryPoint("own", f"{__name__}:load", loading.ENCODERS)
    monkeypatch.setattr(
        loading, "entry_points", lambda *, group, name: [point] if (group, name) == (point.group, "own") else []
    )


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name, colour in (("a", (200, 10, 10)), ("b", (10, 200, 10)), ("c", (10, 10, 200))):
        write_colour(tmp_path / "clips" / f"{name}.mp4", colour)
    return tmp_path / "clips"


def test_an_index_is_made_and_searched_by_name(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Indexer(tmp_path / "i", model="own:1").index(clips)
    for word, name in (("red", "a"), ("green", "b"), ("blue", "c")):
        assert Searcher(tmp_path / "i", model="own:1").search(word)[0].id == f"{name}.mp4"
    code, out, _ = run(["search", "green", "--index", str(tmp_path / "i"), "--model", "own:1", "--json"], capsys)
    assert code == 0
    assert '"b.mp4"' in out.split('"topk"')[-1][:200]
    with pytest.raises(ColBERTVideoError, match="another"):
        Searcher(tmp_path / "i", model="own:2").search("red")
    with pytest.raises(SettingsError, match="names no model"):
        Searcher(tmp_path / "i").search("red")


def test_an_index_never_names_one() -> None:
    with pytest.raises(ModelError, match="the index names the encoder 'own:1', which code of another package loads"):
        ModelChoice.from_given(None).load("own:1")


def test_what_cannot_be_loaded_is_said() -> None:
    with pytest.raises(ModelError, match=r"'broken' cannot be loaded by .*: the weights are gone"):
        load_encoder("own:broken")
    with pytest.raises(SettingsError, match="is not an encoder: a object has no name"):
        load_encoder("own:nothing")
    with pytest.raises(SettingsError, match="precision='bf16': a FunctionEncoder computes in fp32"):
        load_encoder("own:1", precision="bf16")
    with pytest.raises(SettingsError, match="compile=True is for models of this library"):
        load_encoder("own:1", compile=True)
    assert load_encoder("own:1", precision="auto").fingerprint() == "colours@1"


def test_a_folder_of_the_name_is_meant_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert loading.find_registered("own:1") is not None
    (tmp_path / "own:1").mkdir()
    assert loading.find_registered("own:1") is None
    for name in ("own", "toy", "ViT-B-32:openai", "hf:org/model", tmp_path / "own"):
        assert loading.find_registered(name) is None


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("m?tokens=4", "'tokens'='4' in the name of the encoder: options are tokens_per_frame, "),
        ("m?num_frames=x", "'num_frames'='x' in the name of the encoder"),
        ("m?num_frames=", "'num_frames'='' in the name"),
        ("?num_frames=4", "st: names no model"),
    ],
)
def test_options_in_the_name_of_a_multi_vector_encoder(which: str, message: str) -> None:
    from colbert_video.ecosystem.multi_vector import load_by_name

    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        load_by_name(which)
