"""Indexes that the first release wrote open, answer as they did then, and can be kept up.

`tests/frozen/format-1.tar.gz` holds two of them. `tokens.index` has the tokens of another encoder: 24 videos in two
segments, of which video-18 and video-19 were replaced and video-03 was removed. `clips.index` has six rendered clips
and a joined one, cut into windows of three seconds, under the toy model. `tests/frozen/format-1.json` holds what searches
answered.
"""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import FROZEN

from colbert_video import Indexer, Searcher
from colbert_video.model.interaction import SCORE_RESOLUTION

EXPECTED: dict[str, Any] = json.loads((FROZEN / "format-1.json").read_text(encoding="utf-8"))
QUERIES = torch.tensor(EXPECTED["queries"])  # (queries, query_tokens, dim)
FILTER = {"channel": "sport", "length": {">": 10}}
KINDS: dict[str, dict[str, Any]] = {
    "hits": {"k": 5},
    "exact": {"k": 5, "exact": True},
    "where": {"k": 3, "where": FILTER},
}
LIVE_TOKENS, LIVE_CLIPS = 23, 7


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both indexes as they were written; to be read only."""
    folder = tmp_path_factory.mktemp("format-1")
    with tarfile.open(FROZEN / "format-1.tar.gz") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    """A copy of both that a test may change."""
    return shutil.copytree(release, tmp_path / "copy")


def answers(searcher: Searcher, kind: str) -> list[list[tuple[str, float, float, float]]]:
    found = [searcher.search_tokens(query, **KINDS[kind]) for query in QUERIES]
    return [[(hit.id, hit.score, hit.frame_score, hit.video_score) for hit in hits] for hits in found]


def check_answers(path: Path, kind: str) -> None:
    with Searcher(path) as searcher:
        found = answers(searcher, kind)
    for hits, expected in zip(found, EXPECTED[kind], strict=True):
        assert [hit[0] for hit in hits] == [hit[0] for hit in expected]
        for hit, scores in zip(hits, expected, strict=True):
            assert list(hit[1:]) == pytest.approx(scores[1:], abs=SCORE_RESOLUTION)


def check_captions(path: Path) -> None:
    with Searcher(path, device="cpu") as searcher:
        for caption, expected in EXPECTED["captions"].items():
            hits = searcher.search(caption, k=len(expected))
            found = [[hit.id, hit.start, hit.end, hit.path] for hit in hits]
            assert found == [[hit_id, start, end, video] for hit_id, _, start, end, video in expected]
            scores = [hit[1] for hit in expected]
            assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_queries_find_what_they_found(release: Path, kind: str) -> None:
    check_answers(release / "tokens.index", kind)


def test_metadata_comes_back(release: Path) -> None:
    with Searcher(release / "tokens.index") as searcher:
        (hit,) = searcher.search_tokens(QUERIES[0], k=1)
        assert hit.metadata == EXPECTED["metadata"]


def test_removed_videos_stay_removed(release: Path) -> None:
    with Searcher(release / "tokens.index") as searcher:
        ids = [hit.id for hit in searcher.search_tokens(QUERIES[0], k=100)]
    assert sorted(ids) == [f"video-{number:02}" for number in range(24) if number != 3]


def test_captions_find_their_moments(release: Path) -> None:
    check_captions(release / "clips.index")


def test_the_model_is_found_by_its_name(release: Path) -> None:
    with Searcher(release / "clips.index", device="cpu") as searcher:
        assert searcher.model is not None
        assert searcher.model.fingerprint() == EXPECTED["fingerprint"]


@pytest.mark.parametrize(("name", "videos"), [("tokens.index", LIVE_TOKENS), ("clips.index", LIVE_CLIPS)])
def test_every_byte_is_as_the_catalog_says(copy: Path, name: str, videos: int) -> None:
    report = Indexer(copy / name).verify()
    assert (report.intact, report.videos, report.problems) == (True, videos, ())


def test_compacting_keeps_the_answers(copy: Path) -> None:
    Indexer(copy / "tokens.index").compact()
    assert len(list((copy / "tokens.index" / "segments").iterdir())) == 1
    for kind in KINDS:
        check_answers(copy / "tokens.index", kind)
    Indexer(copy / "clips.index").compact()
    check_captions(copy / "clips.index")


def test_tokens_are_added(copy: Path) -> None:
    added = torch.nn.functional.normalize(QUERIES, dim=-1)
    report = Indexer(copy / "tokens.index").index_tokens(["new-0", "new-1", "new-2"], added, added, add=True)
    assert report.indexed == 3
    with Searcher(copy / "tokens.index") as searcher:
        for number, query in enumerate(QUERIES):
            best, second = searcher.search_tokens(query, k=2)
            assert best.id == f"new-{number}"
            assert second.id == EXPECTED["hits"][number][0][0]


def test_a_clip_is_added_in_windows(copy: Path, rendered_clips: Path) -> None:
    clip = min(rendered_clips.glob("*.mp4"))
    report = Indexer(copy / "clips.index", workers=1).add([("new", clip)])
    assert (report.indexed, report.failures) == (1, ())
    with Searcher(copy / "clips.index", device="cpu") as searcher:
        hits = searcher.search_video(clip, k=3)
    (new,) = (hit for hit in hits if hit.id == "new")
    assert (new.path, new.score) == (str(clip), hits[0].score)  # clip-0005.mp4 happens to show the same scene
    check = Indexer(copy / "clips.index").verify()
    assert (check.intact, check.videos) == (True, LIVE_CLIPS + 1)
