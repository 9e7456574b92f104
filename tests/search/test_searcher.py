"""Index and search from precomputed tokens: no model, no video, every number checked against the naive score."""

import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from real_gpu import needs_cuda
from token_corpus import DIM, naive_scores, random_bags, unit_tokens

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.search.opened import OpenIndex

VIDEOS = 30


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[torch.Tensor], list[torch.Tensor]]:
    ids = [f"clip {number}/ä.mp4" for number in range(VIDEOS)]
    return ids, random_bags(VIDEOS, seed=1), random_bags(VIDEOS, seed=2)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, corpus: tuple) -> Path:
    path = tmp_path_factory.mktemp("search") / "tokens.index"
    ids, frame, video = corpus
    metadata = [{"number": number, "tags": ["x", None]} for number in range(VIDEOS)]
    report = Indexer(path, dim=DIM, nbits=8).index_tokens(ids, frame, video, metadata=metadata)
    assert (report.indexed, report.videos, report.complete) == (VIDEOS, VIDEOS, True)
    return path


def test_hits_are_the_naive_ranking(index: Path, corpus: tuple) -> None:
    ids, frame, video = corpus
    query = unit_tokens(4, DIM, seed=9)
    naive = naive_scores(query, frame, video)
    hits = Searcher(index).search_tokens(query, k=VIDEOS)
    assert {hit.id for hit in hits} == set(ids)
    for hit in hits:
        number = ids.index(hit.id)
        assert hit.score == pytest.approx(naive[number], abs=0.01)  # what 8 bits lose
        assert hit.frame_score + hit.video_score == pytest.approx(hit.score, abs=1e-6)
        assert hit.metadata == {"number": number, "tags": ["x", None]}
    assert [hit.rank for hit in hits] == list(range(1, VIDEOS + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_numpy_queries_work_and_padding_is_the_callers_business(index: Path) -> None:
    query = unit_tokens(4, DIM, seed=9)
    searcher = Searcher(index)
    assert searcher.search_tokens(query.numpy(), k=3) == searcher.search_tokens(query, k=3)


def test_a_videos_own_tokens_find_it(index: Path, corpus: tuple) -> None:
    ids, frame, _ = corpus
    searcher = Searcher(index)
    for number in range(VIDEOS):
        assert searcher.search_tokens(torch.cat([frame[number]]), k=3, exact=True)[0].id == ids[number]


def test_ids_restrict_the_search_before_scoring(index: Path, corpus: tuple) -> None:
    ids, _, _ = corpus
    hits = Searcher(index).search_tokens(unit_tokens(2, DIM, seed=3), k=10, ids=[ids[3], ids[17]])
    assert {hit.id for hit in hits} == {ids[3], ids[17]}


def test_precomputed_tokens_have_no_times(index: Path) -> None:
    hit = Searcher(index).search_tokens(unit_tokens(2, DIM, seed=3), k=1)[0]
    assert (hit.start, hit.end, hit.path) == (None, None, None)


@pytest.mark.parametrize("k", [0, -3])
def test_k_must_be_positive(index: Path, k: int) -> None:
    with pytest.raises(SettingsError, match=f"k={k} must be at least 1"):
        Searcher(index).search_tokens(unit_tokens(2, DIM, seed=3), k=k)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.ones((2, 32), dtype=np.float32), r"shape \(2, 32\); \(query_tokens, 64\)"),
        (np.zeros((0, 64), dtype=np.float32), r"shape \(0, 64\)"),
        (
            np.zeros((2, 64), dtype=np.float32),
            r"the longest of query tokens has length 0: a token of length w counts w",
        ),
        (np.full((2, 64), 1e6, dtype=np.float32), r"has length 8e\+06.*at most 1e\+06"),
        (np.full((2, 64), np.nan, dtype=np.float32), "query tokens hold NaN or infinity"),
        (np.full((2, 64), -np.inf, dtype=np.float32), "query tokens hold NaN or infinity"),
    ],
)
def test_unusable_queries_are_refused(index: Path, query: np.ndarray, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Searcher(index).search_tokens(query)


def test_an_unknown_id_is_refused(index: Path) -> None:
    with pytest.raises(SettingsError, match="'nowhere' is not in the index"):
        Searcher(index).search_tokens(unit_tokens(1, DIM, seed=0), ids=["nowhere"])


def test_text_needs_a_model(index: Path) -> None:
    with pytest.raises(SettingsError, match=r"names no model: pass Searcher\(path, model=...\)"):
        Searcher(index).search("a dog")


def test_one_bag_alone(tmp_path: Path) -> None:
    frame = random_bags(5, seed=4)
    Indexer(tmp_path / "i", dim=DIM).index_tokens(list("abcde"), frame)
    hit = Searcher(tmp_path / "i").search_tokens(frame[2], k=1)[0]
    assert hit.id == "c"
    assert hit.video_score is None
    assert hit.score == hit.frame_score


def test_one_video_works(tmp_path: Path) -> None:
    Indexer(tmp_path / "i", dim=DIM).index_tokens(["only"], random_bags(1, seed=4), random_bags(1, seed=5))
    assert [hit.id for hit in Searcher(tmp_path / "i").search_tokens(unit_tokens(2, DIM, seed=0))] == ["only"]


def test_added_removed_and_replaced_videos(tmp_path: Path) -> None:
    path, frame, video = tmp_path / "i", random_bags(6, seed=6), random_bags(6, seed=7)
    indexer = Indexer(path, dim=DIM)
    indexer.index_tokens(list("abcd"), frame[:4], video[:4])
    assert indexer.index_tokens(["e", "a"], frame[4:], video[4:], add=True).videos == 5
    assert indexer.remove("b") == ["b"]
    with pytest.raises(SettingsError, match="'b' is not in"):
        indexer.remove(["c", "b"])
    searcher = Searcher(path)
    assert {hit.id for hit in searcher.search_tokens(unit_tokens(2, DIM, seed=0), k=99)} == set("acde")
    assert len(searcher) == 4
    assert searcher.search_tokens(frame[5], k=1, exact=True)[0].id == "a"  # the new tokens of "a"


def test_an_existing_index_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    path, frame = tmp_path / "i", random_bags(3, seed=6)
    Indexer(path, dim=DIM).index_tokens(list("abc"), frame)
    with pytest.raises(IndexFolderError, match=r"is an index already.*overwrite=True"):
        Indexer(path, dim=DIM).index_tokens(list("xyz"), frame)
    Indexer(path, dim=DIM, nbits=2).index_tokens(list("xyz"), frame, overwrite=True)
    assert {hit.id for hit in Searcher(path).search_tokens(frame[0])} == set("xyz")
    assert len(list((path / "segments").iterdir())) == len(list((path / "codec").iterdir())) == 1


def test_a_failed_first_run_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "i"
    with pytest.raises(SettingsError, match="not unit vectors"):
        Indexer(path, dim=DIM).index_tokens(["a"], [torch.ones(2, DIM)])
    assert not path.exists()


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("expensive")
    with pytest.raises(IndexFolderError, match="exists and is not an index"):
        Indexer(tmp_path, dim=DIM).index_tokens(["a"], random_bags(1, seed=0), overwrite=True)
    assert (tmp_path / "letters.txt").read_text() == "expensive"
    with pytest.raises(IndexFolderError, match="no index in"):
        Searcher(tmp_path)


def test_search_all_gives_what_search_gives(index: Path, tiny_trained_model: object) -> None:
    searcher = Searcher(index, model=tiny_trained_model)
    queries = {"q1": "a red circle", "q2": "two squares"}
    ranking = searcher.search_all(queries, k=4).todict()
    for name, text in queries.items():
        assert ranking[name] == [
            (hit.id, hit.rank, pytest.approx(hit.score, abs=1e-5)) for hit in searcher.search(text, k=4)
        ]


def test_a_model_of_other_dimensions_is_refused(tmp_path: Path, tiny_trained_model: object) -> None:
    tokens = [unit_tokens(2, 128, seed=0)]
    Indexer(tmp_path / "i", dim=128).index_tokens(["a"], tokens)
    with pytest.raises(IndexFolderError, match="holds tokens of 128 dimensions, the model makes 64"):
        Searcher(tmp_path / "i", model=tiny_trained_model).search("x")


@pytest.mark.parametrize(("named", "kept"), [(None, None), ("cpu", None), ("cuda:0", torch.device("cuda:0"))])
def test_a_named_gpu_keeps_the_index(
    index: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, kept: torch.device | None
) -> None:
    asked: list[torch.device | None] = []
    opened = IndexReader.open

    def recorded(path: Path, *, device: torch.device | None = None) -> IndexReader:
        asked.append(device)
        return opened(path)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(IndexReader, "open", recorded)
    Searcher(index, device=named).close()
    assert asked == [kept]


def test_a_gpu_that_is_not_there_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match="torch sees no CUDA device here"):
        Searcher(index, device="cuda")


@needs_cuda
def test_an_index_on_a_gpu_finds_the_same(index: Path, corpus: tuple) -> None:
    query = corpus[1][7]
    here, there = (Searcher(index, device=device).search_tokens(query, k=10) for device in ("cpu", "cuda"))
    assert [hit.id for hit in there] == [hit.id for hit in here]
    assert [hit.score for hit in there] == pytest.approx([hit.score for hit in here], abs=1e-4)


@pytest.mark.parametrize("method", ["search", "explain"])
@pytest.mark.parametrize(
    ("query", "given"),
    [
        (["a dog", "a cat"], "a list of 2 was given: use search_all for several."),
        (("a dog",), "a tuple of 1 was given: use search_all for several."),
        ({"q": "a dog"}, "a dict of 1 was given: use search_all for several."),
        (b"a dog", "a value of type bytes was given: give it as str; search_all takes several."),
        (7, "a value of type int was given: give it as str; search_all takes several."),
        (None, "a value of type NoneType was given: give it as str; search_all takes several."),
    ],
)
def test_one_query_is_one_text(index: Path, tiny_trained_model: object, method: str, query: object, given: str) -> None:
    plain = inspect.unwrap(getattr(Searcher, method))  # past the test suite's own type checks
    with Searcher(index, model=tiny_trained_model) as searcher, pytest.raises(SettingsError) as raised:
        plain(searcher, query, *([] if method == "search" else ["clip 0/ä.mp4"]))
    assert str(raised.value) == f"{method} takes one query as text, and {given}"


def test_a_list_of_queries_is_numbered_as_colbert_does(index: Path, tiny_trained_model: object) -> None:
    texts = ["a red circle", "two squares", "a red circle"]
    with Searcher(index, model=tiny_trained_model) as searcher:
        ranking = searcher.search_all(texts, k=4).todict()
        assert list(ranking) == ["0", "1", "2"]
        assert ranking["0"] == ranking["2"] != ranking["1"]
        named = searcher.search_all({"0": texts[0], "1": texts[1], "2": texts[2]}, k=4).todict()
        assert ranking == named == searcher.search_all(tuple(texts), k=4).todict()
        assert list(inspect.unwrap(Searcher.search_all)(searcher, {7: "a red circle"}).todict()) == ["7"]
        assert searcher.search_all(texts, k=4).shards_failed == {}
        plain = inspect.unwrap(Searcher.search_all)
        assert plain(searcher, pd.Series(texts, index=["x", "y", "z"]), k=4).todict() == dict(
            zip("xyz", ranking.values(), strict=True)
        )


@pytest.mark.parametrize(("kind", "flag"), [(OpenIndex, "auto_refresh"), (Searcher, "preload")])
def test_flags_are_true_or_false(index: Path, kind: type, flag: str) -> None:
    with pytest.raises(SettingsError, match=f"{flag}='False' must be True or False"):
        inspect.unwrap(kind.__init__)(object.__new__(kind), index, **{flag: "False"})


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ("a dog", "a value of type str was given: use search for one query"),
        (b"a dog", "a value of type bytes was given"),
        (3, "a value of type int was given"),
        ([], "no queries were given"),
        ({}, "no queries were given"),
        (["a dog", b"a cat"], "query '1' is a value of type bytes: give the text of each query as str"),
        ({"q": None}, "query 'q' is a value of type NoneType"),
        ({"a dog", "a cat"}, "a value of type set was given: .* a list where a set has no order"),
        (pd.DataFrame({"q": ["a dog"]}), "query 'q' is a value of type Series"),
        ({1: "a dog", "1": "a cat"}, "two query ids are the same text"),
    ],
)
def test_what_search_all_does_not_take(index: Path, tiny_trained_model: object, queries: object, message: str) -> None:
    with Searcher(index, model=tiny_trained_model) as searcher, pytest.raises(SettingsError, match=message):
        inspect.unwrap(Searcher.search_all)(searcher, queries)
