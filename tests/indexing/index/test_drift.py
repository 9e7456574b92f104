"""Additions that the codec was not trained for are noticed, reported, and cured by retraining."""

from pathlib import Path

import pytest
import torch
from token_corpus import DIM
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Indexer
from colbert_video.cli.tables import report_text
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.build.arrays import ArraySource
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.drift import SAMPLE, Drift, SampledSource
from colbert_video.indexing.upkeep.contents import describe_index


def cone(videos: int, *, axis: int, seed: int) -> list[Tensor]:
    """Bags of 6 tokens near one axis."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 0.03 * torch.randn(videos, 6, DIM, generator=generator)
    tokens[:, :, axis] += 1
    return list(normalize(tokens, dim=-1))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    report = Indexer(tmp_path / "i", dim=DIM).index_tokens(names("a", 200), cone(200, axis=0, seed=1))
    assert report.drift is not None
    assert not report.drift.drifted
    return tmp_path / "i"


def test_more_of_the_same_is_no_drift(index: Path) -> None:
    report = Indexer(index).index_tokens(names("b", 50), cone(50, axis=0, seed=2), add=True)
    assert report.drift is not None
    assert not report.drift.drifted
    assert report.drift.added["frame"] < 0.01
    assert describe_index(index)["codec_drift"] is None
    assert "retrain" not in report_text(report)


def test_other_videos_are_reported_until_the_codec_is_retrained(index: Path) -> None:
    report = Indexer(index).index_tokens(names("c", 30), cone(30, axis=1, seed=3), add=True)
    assert report.drift is not None
    assert report.drift.videos == 30
    assert report.drift.added["frame"] > 0.1 > 10 * report.drift.trained["frame"]
    assert "30 added videos are stored less exactly" in report_text(report)
    assert "compact --retrain" in report_text(report)
    assert report.to_dict()["drift"]["videos"] == 30
    more = Indexer(index).index_tokens(names("d", 2), cone(2, axis=0, seed=4), add=True)
    assert not more.drift.drifted  # a report is about its own run
    assert "30 added videos" in describe_index(index)["codec_drift"]
    Indexer(index).compact()
    assert "30 added videos" in describe_index(index)["codec_drift"]  # the codec is the same
    Indexer(index).compact(retrain="stored")
    assert describe_index(index)["codec_drift"] is None
    assert describe_index(index)["codec_errors"]["videos"] == 0
    again = Indexer(index).index_tokens(names("e", 30), cone(30, axis=1, seed=5), add=True)
    assert again.drift.added["frame"] < report.drift.added["frame"]


def test_the_measured_error_is_the_codecs_own() -> None:
    bags = cone(40, axis=0, seed=6)
    source = SampledSource(ArraySource(names("v", 40), {"frame": bags}, dim=DIM))
    assert [len(chunk.entries) for chunk in source] == [40]
    tokens = torch.cat(bags)
    codec = ResidualCodec.train(tokens, nbits=2, centroids=8)
    assert source.errors({"frame": codec})["frame"] == pytest.approx(codec.reconstruction_error(tokens), rel=1e-5)
    assert len(source) == 40
    assert source.counts() == {"frame": 240}


def test_a_sample_is_small_and_never_empty() -> None:
    many = SampledSource(ArraySource(names("v", 3000), {"frame": torch.ones(3000, 10, 1)}, dim=1))
    list(many)
    kept = sum(len(tokens) for tokens in many._kept["frame"])
    assert 0.9 * SAMPLE < kept < 1.1 * SAMPLE
    one = SampledSource(ArraySource(["v"], {"frame": torch.ones(1, 1, 1)}, dim=1))
    list(one)
    assert len(one._kept["frame"][0]) == 1


def test_records_of_errors_are_checked() -> None:
    drift = Drift({"frame": 0.1}, {"frame": 0.5}, 3)
    assert Drift.from_dict(drift.to_dict()) == drift
    assert drift.merged(Drift({"frame": 0.1}, {"frame": 0.2}, 1)) == Drift({"frame": 0.1}, {"frame": 0.5}, 4)
    with pytest.raises(IndexFolderError, match="codec errors is damaged"):
        Drift.from_dict({"trained": 1})
