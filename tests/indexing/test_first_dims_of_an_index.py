"""An index that keeps the first dimensions of tokens: built, searched, added to, compacted, and what it refuses."""

from pathlib import Path

import pytest
import torch
from video_writer import write_clip

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.model.encoders.first_dims import FirstDims
from colbert_video.training.world import write_world

QUERY = "a red circle"
KEPT = 32


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first-dims") / "clips"
    write_world(folder, count=5, seed=5, split="test", frames=12)
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, clips: Path, tiny_trained_model: VideoColBERT) -> Path:
    path = tmp_path_factory.mktemp("first-dims") / "cut.index"
    Indexer(path, model=tiny_trained_model, workers=1, nbits=2, dim=KEPT).index(clips)
    return path


def test_scores_are_those_of_cut_tokens(index: Path, clips: Path, tiny_trained_model: VideoColBERT) -> None:
    assert describe_index(index)["dim"] == KEPT
    from colbert_video.video.decode.read import read_frames

    with Searcher(index, model=tiny_trained_model) as searcher:
        hits = searcher.search(QUERY, k=5, exact=True)
        assert searcher.model.dim == KEPT
    query = tiny_trained_model.encode_queries(QUERY).first_dims(KEPT)
    for hit in hits:
        pixels = read_frames(str(clips / hit.id), tiny_trained_model.sampling()).pixels
        frame, video = tiny_trained_model.encode_videos([pixels])
        score = 0.0
        for bag in (frame.first_dims(KEPT), video.first_dims(KEPT)):
            score += float((query[0] @ bag[0].T).amax(dim=1).mean())
        assert hit.score == pytest.approx(score, abs=0.15)  # 2 bits
    assert len(hits) == 5


def test_all_dimensions_are_no_cut(tmp_path: Path, clips: Path, tiny_trained_model: VideoColBERT) -> None:
    for name, settings in (("whole", {}), ("same", {"dim": tiny_trained_model.dim})):
        Indexer(tmp_path / name, model=tiny_trained_model, workers=1, **settings).index(clips)
    found = []
    for name in ("whole", "same"):
        with Searcher(tmp_path / name, model=tiny_trained_model) as searcher:
            assert searcher.model is tiny_trained_model
            found.append([(hit.id, hit.score) for hit in searcher.search(QUERY, k=5)])
    assert found[0] == found[1]


def test_all_that_encodes_a_query_cuts_it(index: Path, clips: Path, tiny_trained_model: VideoColBERT) -> None:
    with Searcher(index, model=tiny_trained_model) as searcher:
        assert len(searcher.search(QUERY)) == 5
        assert len(searcher.search_all({"a": QUERY}, k=3).todict()["a"]) == 3
        best = searcher.search(QUERY)[0]
        assert sum(searcher.explain(QUERY, best.id).scores.values()) == pytest.approx(best.score, abs=1e-4)
        picture = torch.zeros(32, 32, 3, dtype=torch.uint8)
        assert len(searcher.search_image(picture, k=2)) == 2
        assert len(searcher.search_video(clips / best.id, k=2)) == 2
        tokens = tiny_trained_model.encode_queries(QUERY)[0]
        with pytest.raises(SettingsError, match=rf"\(query_tokens, {KEPT}\) is needed"):
            searcher.search_tokens(tokens)
    with Searcher(
        index, model=FirstDims(tiny_trained_model, 16)
    ) as searcher:  # cut for the index, whatever it was cut to
        assert searcher.search(QUERY)[0].score == pytest.approx(best.score, abs=1e-6)


def test_what_is_added_is_cut_as_the_index_is(tmp_path: Path, clips: Path, tiny_trained_model: VideoColBERT) -> None:
    own = tmp_path / "own.index"
    Indexer(own, model=tiny_trained_model, workers=1, dim=KEPT).index(clips)
    more = write_clip(tmp_path / "more.mp4", 30)
    Indexer(own, model=tiny_trained_model, workers=1).add([("more", more)])
    Indexer(own, model=tiny_trained_model, workers=1, dim=KEPT).add([("more", more)])
    with pytest.raises(SettingsError, match=rf"dim=16 was given, but .* was made with dim={KEPT}: leave dim out"):
        Indexer(own, model=tiny_trained_model, workers=1, dim=16).add([("more", more)])
    with Searcher(own, model=tiny_trained_model) as searcher:
        before = {hit.id: hit.score for hit in searcher.search(QUERY, k=10, exact=True)}
    assert len(before) == 6
    Indexer(own, model=tiny_trained_model, workers=1).compact(retrain="paths")
    with Searcher(own, model=tiny_trained_model) as searcher:
        after = {hit.id: hit.score for hit in searcher.search(QUERY, k=10, exact=True)}
    assert after == pytest.approx(before, abs=0.05)
    assert describe_index(own)["dim"] == KEPT


def test_tokens_of_the_model_are_given_cut(tmp_path: Path, tiny_trained_model: VideoColBERT) -> None:
    videos = [torch.zeros(3, 32, 32, 3, dtype=torch.uint8).numpy()]
    frame, video = tiny_trained_model.encode_videos(videos)
    indexer = Indexer(tmp_path / "tokens.index", model=tiny_trained_model, dim=KEPT)
    indexer.index_tokens(["a"], frame.first_dims(KEPT).unpadded(), video.first_dims(KEPT).unpadded())
    with Searcher(tmp_path / "tokens.index", model=tiny_trained_model) as searcher:
        assert [hit.id for hit in searcher.search(QUERY)] == ["a"]


def test_what_does_not_fit_is_refused(
    index: Path, clips: Path, tmp_path: Path, tiny_trained_model: VideoColBERT, tiny_model: VideoColBERT
) -> None:
    with pytest.raises(
        SettingsError, match="dim=65 was given, but the model makes tokens of 64 dimensions: give fewer"
    ):
        Indexer(tmp_path / "i", model=tiny_trained_model, dim=65).index(clips)
    with pytest.raises(SettingsError, match="dim"):
        Indexer(tmp_path / "i", model=tiny_trained_model, dim=20).index(clips)  # no multiple of what bits need
    assert not (tmp_path / "i").exists()
    with (
        Searcher(index, model=tiny_model) as searcher,
        pytest.raises(IndexFolderError, match=rf"holds tokens of {KEPT} dimensions, the model makes 64"),
    ):
        searcher.search(QUERY)
