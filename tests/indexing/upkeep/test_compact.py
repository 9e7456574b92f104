"""Compaction copies what is stored, byte for byte, and a crash or damage leaves the index as it was."""

import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
from operations import QUERY, add_tokens, everything
from token_corpus import DIM, unit_tokens

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.build import commit
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index.folder import load_settings
from colbert_video.indexing.segments.segment import open_bag
from colbert_video.indexing.upkeep import compact as module
from colbert_video.indexing.upkeep.stored import open_segments


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments, with a replaced and two removed videos."""
    path = tmp_path_factory.mktemp("compact") / "i"
    add_tokens(path, "abcdefgh", seed=0, add=False)
    add_tokens(path, "ijkb", seed=1)
    add_tokens(path, "lm", seed=2)
    Indexer(path).remove(["c", "j"])
    return path


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "i")


def test_compacting_changes_no_score_and_frees_what_was_removed(index: Path) -> None:
    before = everything(index)
    size = sum(size for size, _ in Catalog.open(index).files().values())
    report = Indexer(index).compact()
    assert (report.compacted, report.videos, report.merged, report.dropped) == (True, 11, 3, 3)
    assert everything(index) == before
    assert report.bytes_before == size > report.bytes_after
    assert set(before) == set("abdefghiklm")
    assert before["b"][3] == {"name": "b", "seed": 1}
    (segment,) = (index / "segments").iterdir()
    assert len(open_bag(segment / "frame").doclens) == len(open_bag(segment / "video").doclens) == 11
    with Catalog.open(index) as catalog:
        assert [entry.row for entry in catalog.entries()] == list(range(11))
        assert set(catalog.files()) == {
            path.relative_to(index).as_posix()
            for room in ("codec", "segments")
            for path in (index / room).rglob("*")
            if path.is_file()
        }


def test_nothing_to_do_is_said_and_done(index: Path) -> None:
    Indexer(index).compact()
    names = [path.name for path in (index / "segments").iterdir()]
    report = Indexer(index).compact()
    assert (report.compacted, report.merged, report.dropped, report.videos) == (False, 0, 0, 11)
    assert [path.name for path in (index / "segments").iterdir()] == names
    Indexer(index).remove(list("abdefghiklm"))
    assert not Indexer(index).compact(retrain="stored").compacted  # no tokens to train on
    assert add_tokens(index, "a", seed=3).videos == 1


def test_a_compacted_index_can_be_changed_again(index: Path) -> None:
    Indexer(index).compact()
    add_tokens(index, "ax", seed=4)
    Indexer(index).remove("b")
    assert set(everything(index)) == set("adefghiklmx")
    assert Indexer(index).compact().merged == 2
    assert set(everything(index)) == set("adefghiklmx")


def test_a_retrained_codec_fits_the_corpus_as_it_is_now(index: Path) -> None:
    before, codec = everything(index), [path.name for path in (index / "codec").iterdir()]
    report = Indexer(index).compact(retrain="stored")
    after = everything(index)
    assert (report.compacted, report.retrained) == (True, True)
    assert [path.name for path in (index / "codec").iterdir()] != codec
    assert len(list((index / "codec").iterdir())) == 1
    assert after.keys() == before.keys()
    for name, (score, *_, metadata) in after.items():
        assert score == pytest.approx(before[name][0], abs=0.05)
        assert metadata == before[name][3]
    assert Indexer(index).compact(retrain="stored").compacted  # always possible


def test_segments_of_another_codec_are_encoded_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction after a retraining that covered some segments only."""
    before = everything(index)
    retrained = tmp_path / "r"
    add_tokens(retrained, "abcdefgh", seed=0, add=False)
    with Catalog.open(retrained) as other:
        (foreign,) = other.codecs()
    (retrained / "codec" / foreign).rename(index / "codec" / "zz-newest")
    with Catalog.open(index, writable=True) as catalog:
        catalog._connection.execute("INSERT INTO codecs VALUES ('zz-newest', 0)")
        segments = open_segments(catalog, load_settings(catalog))
        module._copy_all(catalog, load_settings(catalog), segments)
    after = everything(index)
    assert after.keys() == before.keys()
    assert [path.name for path in (index / "codec").iterdir()] == ["zz-newest"]
    for name, (score, *_) in after.items():
        assert score == pytest.approx(before[name][0], abs=0.05)


@pytest.mark.parametrize("retrain", [None, "stored"])
@pytest.mark.parametrize(("home", "step"), [(commit, "sync_tree"), (module, "open_segments")])
def test_an_interrupted_compaction_leaves_the_index_as_it_was(
    index: Path, monkeypatch: pytest.MonkeyPatch, retrain: Literal["stored"] | None, home: Any, step: str
) -> None:
    before = everything(index)
    monkeypatch.setattr(home, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Indexer(index).compact(retrain=retrain)
    monkeypatch.undo()
    assert everything(index) == before
    report = Indexer(index).compact(retrain=retrain)
    assert report.compacted
    assert len(list((index / "segments").iterdir())) == 1  # what was interrupted is swept


def test_damage_is_not_copied(index: Path) -> None:
    path = next((index / "segments").glob("*/video/0.residuals.pt"))
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"video/0\.residuals\.pt is damaged: its content has changed"):
        Indexer(index).compact()
    assert len(list((index / "segments").iterdir())) == 3


def test_an_open_searcher_goes_on_and_sees_the_new_segment_when_refreshed(index: Path) -> None:
    with Searcher(index) as searcher:
        before = searcher.search_tokens(QUERY, k=5)
        Indexer(index).compact()
        assert searcher.search_tokens(QUERY, k=5) == before
        assert searcher.refresh()
        assert searcher.search_tokens(QUERY, k=5) == before
        assert not searcher.refresh()


def test_what_compaction_decodes_is_what_was_indexed(tmp_path: Path) -> None:
    tokens = [unit_tokens(3, DIM, seed=number) for number in range(20)]
    Indexer(tmp_path / "i", dim=DIM, nbits=8).index_tokens([f"v{number}" for number in range(20)], tokens)
    with Catalog.open(tmp_path / "i") as catalog:
        (segment,) = open_segments(catalog, load_settings(catalog))
    decoded = segment.decoded(segment.live[[4, 7]])
    assert decoded.doclens["frame"].tolist() == [3, 3]
    assert (decoded.tokens["frame"][3:] - tokens[7]).abs().max() < 0.02
