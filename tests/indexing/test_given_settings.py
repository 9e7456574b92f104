"""Settings that are given for an existing index: its own are fine, others are refused, none are needed."""

import copy
from pathlib import Path
from typing import Any

import pytest
from token_corpus import DIM, random_bags
from video_writer import write_clip

from colbert_video import Indexer, VideoColBERT
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.index.index_settings import CODEC_SETTINGS
from colbert_video.indexing.upkeep.contents import describe_index

MADE_WITH: dict[str, Any] = {
    "nbits": 2,
    "buckets": "quantile",
    "rotate": False,
    "seed": 3,
    "num_frames": 4,
    "window": 2.0,
    "stride": 0.5,
    "pool_factor": 2.0,
    "pool_similarity": 0.5,
    "sample_bytes": 2**21,
    "bag_weights": {"frame": 0.5, "video": 1.0},
    "snap": 0.1,
}
OTHERS: dict[str, Any] = {
    "dim": 512,
    "nbits": 4,
    "buckets": "lloyd_max",
    "rotate": True,
    "seed": 0,
    "num_frames": 5,
    "window": "shots",
    "stride": 1.0,
    "pool_factor": 3.0,
    "pool_similarity": 0.6,
    "sample_bytes": 2**30,
    "bag_weights": {"frame": 1.0, "video": 1.0},
    "snap": 0.0,
}
"""Defaults among them: what is given counts, even if it is what a new index would have."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("settings") / "clip.mp4", 100)


@pytest.fixture(scope="module")
def index(clip: Path, tiny_trained_model: VideoColBERT) -> Path:
    path = clip.parent / "i"
    assert Indexer(path, model=tiny_trained_model, workers=1, **MADE_WITH).index(clip).complete
    return path


@pytest.mark.parametrize("way", ["add", "sync"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_contradicts_the_index_is_refused(
    index: Path, clip: Path, tiny_trained_model: VideoColBERT, name: str, way: str
) -> None:
    indexer = Indexer(index, model=tiny_trained_model, workers=1, **{name: OTHERS[name]})
    before = describe_index(index)
    known = tiny_trained_model.dim if name == "dim" else MADE_WITH[name]
    message = rf"^{name}={OTHERS[name]!r} was given, but .* was made with {name}={known!r}: leave {name} out, or"
    with pytest.raises(SettingsError, match=message):
        getattr(indexer, way)(clip)
    assert describe_index(index) == before


def test_the_settings_of_the_index_may_be_given_and_left_out(
    index: Path, clip: Path, tiny_trained_model: VideoColBERT
) -> None:
    given = Indexer(index, model=tiny_trained_model, workers=1, dim=tiny_trained_model.dim, **MADE_WITH)
    assert given.add(clip).unchanged == 1
    assert Indexer(index, model=tiny_trained_model, workers=1).add(clip).unchanged == 1


def test_half_a_window_is_the_stride_of_an_index_without_another(
    tmp_path: Path, clip: Path, tiny_trained_model: VideoColBERT
) -> None:
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, window=2.0).index(clip)
    halved = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, stride=1.0)
    assert halved.add(clip).unchanged == 1
    with pytest.raises(SettingsError, match=r"stride=2\.0 was given, but .* was made with stride=1\.0"):
        Indexer(tmp_path / "i", model=tiny_trained_model, stride=2.0).add(clip)


def test_another_model_is_refused(index: Path, clip: Path, tiny_model: VideoColBERT, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="was made by another model"):
        Indexer(index, model=tiny_model).add(clip)
    with pytest.raises(SettingsError, match="was made by another model"):
        Indexer(index, model=tiny_model).sync(clip)
    tokens = random_bags(1, seed=1)
    with pytest.raises(SettingsError, match="was made by another model"):
        Indexer(index, model=tiny_model).index_tokens(["x"], tokens, tokens, add=True)


def test_a_model_that_changed_under_its_name_is_the_folders_fault(
    tmp_path: Path, clip: Path, tiny_model: VideoColBERT, tiny_trained_model: VideoColBERT
) -> None:
    copy.deepcopy(tiny_trained_model).save_pretrained(tmp_path / "model")
    Indexer(tmp_path / "i", model=tmp_path / "model", workers=1).index(clip)
    (tmp_path / "model").rename(tmp_path / "old")
    copy.deepcopy(tiny_model).save_pretrained(tmp_path / "model")
    with pytest.raises(IndexFolderError, match="was made by another model"):
        Indexer(tmp_path / "i").add(clip)
    assert Indexer(tmp_path / "i", model=tmp_path / "old", workers=1).add(clip).unchanged == 1


@pytest.mark.parametrize("name", ["dim", *CODEC_SETTINGS])
def test_precomputed_tokens_are_added_with_the_settings_of_the_index(tmp_path: Path, name: str) -> None:
    own = {name: MADE_WITH[name] for name in CODEC_SETTINGS}
    first, tokens = random_bags(2, seed=0), random_bags(1, seed=1)
    Indexer(tmp_path / "i", dim=DIM, **own).index_tokens(["a", "b"], first, first)
    assert Indexer(tmp_path / "i").index_tokens(["c"], tokens, tokens, add=True).videos == 3
    assert Indexer(tmp_path / "i", dim=DIM, **own).index_tokens(["d"], tokens, tokens, add=True).videos == 4
    with pytest.raises(SettingsError, match=f"^{name}={OTHERS[name]!r} was given"):
        Indexer(tmp_path / "i", **{name: OTHERS[name]}).index_tokens(["e"], tokens, tokens, add=True)
    assert describe_index(tmp_path / "i")["videos"] == 4
