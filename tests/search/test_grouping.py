"""One hit a video, however many windows it has: the ranking that brute force over all windows gives."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount
from token_corpus import DIM, naive_scores, unit_tokens
from window_corpus import SECONDS, commit_windows

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.model import FunctionEncoder
from colbert_video.search.hit import Hit
from colbert_video.search.moments import MAX_FURTHER_MOMENTS

FIRST = {"film": 60, "short": 0, "talk": 7, "one": 1}
SECOND = {"series": 40, "clip": 0, "walk": 2}
ALL = [*FIRST, *SECOND]
WINDOWS = sum(max(1, count) for count in (FIRST | SECOND).values())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("grouping") / "i"
    sources = [commit_windows(path, FIRST, seed=1, add=False), commit_windows(path, SECOND, seed=2, add=True)]
    return {"path": path, "sources": sources}


@pytest.fixture(scope="module")
def searcher(corpus: dict) -> Iterator[Searcher]:
    with Searcher(corpus["path"]) as opened:
        yield opened


def brute_force(searcher: Searcher, seed: int, allowed: set[str]) -> dict[str, tuple[float, str]]:
    """Score and id of each video's best window, over all windows."""
    best: dict[str, tuple[float, str]] = {}
    for hit in searcher.search_tokens(unit_tokens(3, DIM, seed=seed), k=WINDOWS, exact=True, group=False):
        video = hit.parent or hit.id
        if video in allowed and video not in best:
            best[video] = hit.score, hit.id
    return best


@given(
    seed=st.integers(100, 10**6),
    k=st.integers(1, 9),
    exact=st.booleans(),
    chosen=st.none() | st.sets(st.sampled_from(ALL), min_size=1),
    by_filter=st.booleans(),
)
@settings(max_examples=amount(20, thorough=60), deadline=None)
def test_the_k_best_videos_are_those_of_brute_force(
    searcher: Searcher, seed: int, k: int, exact: bool, chosen: set[str] | None, by_filter: bool
) -> None:
    query = unit_tokens(3, DIM, seed=seed)
    restrict: dict = {}
    if chosen is not None:
        restrict = {"where": {"name": {"in": sorted(chosen)}}} if by_filter else {"ids": sorted(chosen)}
    hits = searcher.search_tokens(query, k=k, exact=exact, **restrict)
    best = brute_force(searcher, seed, chosen or set(ALL))
    expected = sorted(best, key=lambda name: -best[name][0])[:k]
    assert [hit.id for hit in hits] == expected
    assert [hit.score for hit in hits] == pytest.approx([best[name][0] for name in expected], abs=1e-6)
    for hit in hits:
        start, end = hit.start, hit.end
        window = best[hit.id][1]
        assert window == (f"{hit.id}#t={start:g},{end:g}" if hit.parent else hit.id)


def test_windows_score_what_their_tokens_score(corpus: dict, searcher: Searcher) -> None:
    query = unit_tokens(3, DIM, seed=9)
    naive = {}
    for source in corpus["sources"]:
        scores = naive_scores(query, source.bags["frame"], source.bags["video"])
        naive |= {entry.id: score for entry, score in zip(source.entries, scores, strict=True)}
    hits = searcher.search_tokens(query, k=WINDOWS, exact=True, group=False)
    assert {hit.id for hit in hits} == naive.keys()
    for hit in hits:
        assert hit.score == pytest.approx(naive[hit.id], abs=0.01)


def test_few_videos_of_many_windows_are_all_found(searcher: Searcher) -> None:
    """The windows of one video crowd out the others until more are fetched."""
    hits = searcher.search_tokens(unit_tokens(3, DIM, seed=5), k=50)
    assert sorted(hit.id for hit in hits) == sorted(ALL)
    assert len(searcher) == len(ALL)


def overlapping(hit: Hit) -> bool:
    spans = sorted([(hit.start, hit.end), *((moment.start, moment.end) for moment in hit.moments)])
    return any(start < end for (_, end), (start, _) in pairwise(spans))


def test_further_moments_are_other_windows_best_first(searcher: Searcher) -> None:
    query = unit_tokens(3, DIM, seed=6)
    rows = searcher.search_tokens(query, k=WINDOWS, group=False)
    for hit in searcher.search_tokens(query, k=7):
        spans = {(row.start, row.end): row.score for row in rows if row.parent == hit.id}
        scores = [moment.score for moment in hit.moments]
        assert scores == sorted(scores, reverse=True)
        assert all(score <= hit.score for score in scores)
        assert all(spans[moment.start, moment.end] == pytest.approx(moment.score, abs=1e-6) for moment in hit.moments)
        assert not overlapping(hit)
        assert len(hit.moments) <= max(0, len(spans) - 1)
    film = next(hit for hit in searcher.search_tokens(query, k=7) if hit.id == "film")
    assert 5 < len(film.moments) <= MAX_FURTHER_MOMENTS
    (alone,) = searcher.search_tokens(query, k=7, ids=["film"])
    assert len(alone.moments) == MAX_FURTHER_MOMENTS  # of 59 other windows


def test_hits_of_windows_name_their_video(searcher: Searcher) -> None:
    hits = searcher.search_tokens(unit_tokens(3, DIM, seed=6), k=20, group=False)
    assert [hit.rank for hit in hits] == list(range(1, 21))
    assert len({hit.id for hit in hits}) == 20
    for hit in hits:
        assert hit.moments == ()
        assert hit.parent == (hit.id.partition("#")[0] if "#" in hit.id else None)


def test_a_single_window_can_be_asked_for(searcher: Searcher) -> None:
    query = unit_tokens(3, DIM, seed=6)
    (hit,) = searcher.search_tokens(query, ids=["film#t=30,40"])
    assert (hit.id, hit.parent, hit.start, hit.end) == ("film", "film", 30.0, 40.0)
    (hit,) = searcher.search_tokens(query, where={"start": {">=": 590}})
    assert (hit.id, hit.start) == ("film", 590.0)
    names = ["film#t=30,40", "short", "talk"]
    assert {hit.id for hit in searcher.search_tokens(query, ids=names)} == {"film", "short", "talk"}
    with pytest.raises(SettingsError, match="'film#t=31,41' is not in the index"):
        searcher.search_tokens(query, ids=["film#t=31,41"])


def test_a_video_with_one_window_left_is_still_that_video(tmp_path: Path) -> None:
    commit_windows(tmp_path / "i", {"film": 2}, seed=3, add=False)
    Indexer(tmp_path / "i").remove("film#t=0,10")
    with Searcher(tmp_path / "i") as opened:
        (hit,) = opened.search_tokens(unit_tokens(3, DIM, seed=6))
        assert (hit.id, hit.start, hit.end) == ("film", SECONDS, 2 * SECONDS)


@pytest.fixture(scope="module")
def worded(corpus: dict) -> Iterator[Searcher]:
    """A searcher whose words are numbers of random query tokens."""
    encoder = FunctionEncoder(
        encode_queries=lambda texts: [unit_tokens(3, DIM, seed=int(text)) for text in texts],
        encode_frames=lambda frames: frames,
        fingerprint="random-words",
        dim=DIM,
    )
    with Searcher(corpus["path"], model=encoder) as opened:
        yield opened


@pytest.mark.parametrize("word", ["201", "202", "203"])
def test_each_moment_is_explained_by_the_window_that_scored_it(worded: Searcher, word: str) -> None:
    moments = 0
    for hit in worded.search(word, k=len(ALL)):
        explained = worded.explain(word, hit.window or hit.id)
        assert explained.scores["frame"] == pytest.approx(hit.frame_score, abs=1e-5)
        assert explained.scores["video"] == pytest.approx(hit.video_score, abs=1e-5)
        assert worded.explain(word, hit.id).scores == pytest.approx(explained.scores)
        for moment in hit.moments:
            assert sum(worded.explain(word, moment.window).scores.values()) == pytest.approx(moment.score, abs=1e-5)
            moments += 1
    assert moments >= 10  # as many chances to be wrong


def test_without_a_result_the_best_window_that_holds_a_time_is_explained(worded: Searcher, searcher: Searcher) -> None:
    windows = {hit.id: hit for hit in worded.search("201", k=WINDOWS, exact=True, group=False) if hit.parent == "film"}
    spans = {entry.id: (entry.start, entry.end) for entry in entries_of(worded, "film")}
    for time in (0.0, 1.5 * SECONDS, 20.25 * SECONDS):
        holding = [name for name, (start, end) in spans.items() if start <= time < end]
        best = max(holding, key=lambda name: windows[name].score)
        assert worded.explain("201", "film", time=time).id == best
    last = max(spans, key=lambda name: spans[name][1])
    assert worded.explain("201", "film", time=1e9).id == last
    assert worded.explain("201", "clip", time=1e9).id == "clip"
    with pytest.raises(SettingsError, match="time=nan must be a finite number"):
        worded.explain("201", "film", time=float("nan"))


def entries_of(searcher: Searcher, video: str) -> list[VideoEntry]:
    """The windows of a video."""
    with searcher._view() as view:
        return view.reader.known([video])  # type: ignore[attr-defined]
