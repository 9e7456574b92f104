"""Searchers in threads, forked processes, new processes and copies: the same hits, or a sentence."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from operations import QUERY, add_tokens
from paths import ROOT
from thorough import cases

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.cluster.cluster_searcher import ClusterSearcher
from colbert_video.errors import ClusterError, ColBERTVideoError, FailureKind, NothingIndexedError, VideoError
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.hit import Hit
from colbert_video.search.hits import Hits
from colbert_video.search.ranking import Ranking
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

FRAMES = np.zeros((2, 32, 32, 3), dtype=np.uint8)
WORDS = "a red circle moves"
SECONDS = 120.0
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def checkpoint(tiny_trained_model: VideoColBERT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    tiny_trained_model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def index(checkpoint: Path, rendered_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes") / "i"
    Indexer(path, model=checkpoint, device="cpu", workers=1).index(rendered_clips)
    return path


@pytest.fixture(scope="module")
def corpus(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "c"
    shard_index(index, path, shards=2)
    return path


def opened(kind: str, index: Path, corpus: Path) -> Searcher:
    return Searcher(index, device="cpu") if kind == "index" else ShardedSearcher(corpus, device="cpu")


kinds = pytest.mark.parametrize("kind", ["index", "corpus"])


def found(searcher: Searcher) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in searcher.search(WORDS, k=3)]


def nearly(expected: list[tuple[str, float]]) -> list[Any]:
    """The same order; another number of threads may round scores otherwise."""
    return [(name, pytest.approx(score, abs=1e-5)) for name, score in expected]


@kinds
def test_eight_threads_load_the_model_once(
    kind: str, index: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, real, together = [], VideoColBERT.from_pretrained, threading.Barrier(8)
    monkeypatch.setattr(VideoColBERT, "from_pretrained", lambda *args, **kw: loads.append(1) or real(*args, **kw))
    with opened(kind, index, corpus) as searcher, ThreadPoolExecutor(8) as threads:

        def search(_: int) -> Any:
            together.wait()
            return found(searcher)

        every = list(threads.map(search, range(8)))
    assert len(loads) == 1
    assert all(one == every[0] for one in every)


def test_a_model_that_cannot_be_loaded_fails_in_every_thread_and_may_come_back(
    index: Path, checkpoint: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    with Searcher(index, device="cpu") as searcher, ThreadPoolExecutor(8) as threads:
        checkpoint.rename(moved)
        try:
            errors = [job.exception() for job in [threads.submit(found, searcher) for _ in range(8)]]
        finally:
            moved.rename(checkpoint)
        assert {type(error).__name__ for error in errors} == {"ModelError"}
        assert len(found(searcher)) == 3


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@kinds
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_finds_the_same(kind: str, how: str, index: Path, corpus: Path) -> None:
    with opened(kind, index, corpus) as searcher:
        small = len(pickle.dumps(searcher))
        expected = found(searcher)
        with COPIES[how](searcher) as twin:
            assert type(twin) is type(searcher)
            searcher.close()
            assert found(twin) == expected  # files of its own
        assert len(pickle.dumps(searcher)) == small < 5000  # no model, though one is loaded


def test_settings_and_a_model_in_memory_go_along(
    index: Path, tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(index.parent)
    with Searcher(index.name, model=tiny_trained_model, device="cpu", auto_refresh=True, preload=True) as searcher:
        sent, expected = pickle.dumps(searcher), found(searcher)
    monkeypatch.chdir(index.anchor)  # a relative path would lead nowhere
    with pickle.loads(sent) as twin:
        assert found(twin) == expected
        assert twin.path == index
        assert twin.model is not tiny_trained_model
        assert pickle.loads(pickle.dumps(twin))._settings == twin._settings == {
            "device": "cpu", "engine": "native", "plaid": None, "auto_refresh": True,
        }  # fmt: skip


def test_models_indexers_results_settings_and_errors_are_sent(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    hit = Hit(1, "a", 0.5, 0.5, None, 0.0, 1.0, "a.mp4", {"x": [1]})
    failure = Failure("a", "a.mp4", "missing", "gone", 0.0)
    for copied in COPIES.values():
        twin = copied(tiny_trained_model)
        assert (twin.name, twin.fingerprint()) == (tiny_trained_model.name, tiny_trained_model.fingerprint())
        hits = copied(Hits([hit], ("s",)))
        assert (list(hits), hits.shards_failed, type(hits)) == ([hit], ("s",), Hits)
        assert copied(Ranking({"q": [("a", 1, 0.5)]}, {"q": ("s",)})).todict() == {"q": [("a", 1, 0.5)]}
        assert copied(IndexSettings(dim=64, bags=("frame",))) == IndexSettings(dim=64, bags=("frame",))
        none = copied(NothingIndexedError([failure]))
        assert (none.failures, str(none)) == ((failure,), str(NothingIndexedError([failure])))
        video = copied(VideoError("a", FailureKind.EMPTY, "no bytes"))
        assert (video.path, video.kind, str(video)) == ("a", FailureKind.EMPTY, "a: empty: no bytes")
        indexer = copied(Indexer(tmp_path / "i", dim=32, nbits=2, device="cpu"))
        assert (indexer.path, indexer._given) == (tmp_path / "i", {"dim": 32, "nbits": 2})


@pytest.mark.parametrize("error", ColBERTVideoError.__subclasses__())
def test_every_error_is_sent(error: type[Exception]) -> None:
    made = {"NothingIndexedError": lambda: error([Failure("a", "a", "x", "y", 0.0)]),
            "VideoError": lambda: error("a", FailureKind.EMPTY, "x")}.get(error.__name__, lambda: error("words"))()  # fmt: skip
    assert str(pickle.loads(pickle.dumps(made))) == str(made)


def test_a_searcher_of_a_cluster_says_why_it_cannot_be_sent(index: Path) -> None:
    searcher = ClusterSearcher.__new__(ClusterSearcher)
    searcher.path = index
    for copied in COPIES.values():
        with pytest.raises(ClusterError, match=r"cannot be pickled or copied: its actors end .* ClusterSearcher\('"):
            copied(searcher)


def test_a_forked_process_leaves_the_actors_of_a_cluster_alone(index: Path) -> None:
    searcher = ClusterSearcher.__new__(ClusterSearcher)
    searcher._process, searcher.shards = os.getpid() + 1, []
    for use in (searcher.refresh, searcher.preload, lambda: searcher.search(WORDS)):
        with pytest.raises(ClusterError, match=r"forked from the one that opened the ClusterSearcher.*open one here"):
            use()
    ended: list[str] = []
    searcher._session = SimpleNamespace(close=lambda: ended.append("session"))  # type: ignore[assignment]
    searcher.catalogs = SimpleNamespace(close=lambda: ended.append("catalogs"))  # type: ignore[assignment]
    searcher.close()
    assert ended == ["catalogs"]


def start_threads() -> None:
    """Let torch start threads of its own, as a program does that searches or encodes."""
    values = torch.rand(1000, 1000)
    torch.nn.functional.normalize(values @ values)


def child_of_threads(index: str, corpus: str, expected: Any, method: str) -> None:
    """A program whose torch has threads, and which then starts processes; it runs by itself, as it may hang."""
    torch.set_num_threads(2)
    start_threads()
    searchers = [Searcher(index, device="cpu"), ShardedSearcher(corpus, device="cpu")]
    for searcher in searchers:
        assert [name for name, _ in found(searcher)] == [name for name, _ in expected]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        for searcher in searchers:
            for again in pool.map(found, [searcher] * 4):
                assert again == nearly(expected)
    if method == "fork":
        _fork_with(searchers, expected)


def _fork_with(searchers: list[Searcher], expected: Any) -> None:
    """Use what was opened before the fork: by text, by tokens, with a model in memory, and on a new index."""
    tokens = searchers[0].model.encode_queries(WORDS)[0]
    process = os.fork()
    if process == 0:
        code = 1
        try:
            for searcher in searchers:
                assert found(searcher) == nearly(expected)
                assert [hit.id for hit in searcher.search_tokens(tokens, k=3)] == [name for name, _ in expected]
                searcher.explain(WORDS, expected[0][0])
                searcher.refresh()
            start_threads()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0
    for searcher in searchers:
        assert found(searcher) == nearly(expected)  # the parent's files are as they were
        searcher.close()
    _load_in_workers(searchers[0], expected)


class Answers(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A dataset whose items are searches."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> Any:
        return found(self.searcher)


def _as_it_is(item: Any) -> Any:
    return item


def _load_in_workers(searcher: Searcher, expected: Any) -> None:
    with Searcher(searcher.path, device="cpu") as searcher:
        loader = torch.utils.data.DataLoader(
            Answers(searcher),
            batch_size=None,
            num_workers=2,
            collate_fn=_as_it_is,
            multiprocessing_context="fork",
            timeout=SECONDS,
        )
        assert [*loader] == [nearly(expected)] * 4


@forks
@pytest.mark.parametrize("method", cases(["fork"], thorough=["forkserver", "spawn"]))
def test_processes_find_the_same_whatever_torch_did_before(method: str, index: Path, corpus: Path) -> None:
    with Searcher(index, device="cpu") as searcher:
        expected = found(searcher)
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from test_processes import child_of_threads\n"
        f"if __name__ == '__main__': child_of_threads({str(index)!r}, {str(corpus)!r}, {expected!r}, {method!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@forks
def test_a_forked_process_sees_the_newest_commit(tmp_path: Path) -> None:
    add_tokens(tmp_path / "i", "abc", seed=0, add=False)
    with Searcher(tmp_path / "i") as searcher:
        add_tokens(tmp_path / "i", "d", seed=0)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                code = 0 if len(searcher) == 4 and len(searcher.search_tokens(QUERY, k=9)) == 4 else 2
                searcher.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        assert len(searcher) == 3
        assert searcher.refresh()
        assert len(searcher.search_tokens(QUERY, k=9)) == 4


def test_a_gpu_does_not_follow_into_a_forked_process(
    tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(type(tiny_trained_model), "device", torch.device("cuda:0"))
    for call in (lambda: tiny_trained_model.encode_queries(WORDS), lambda: tiny_trained_model.encode_videos([FRAMES])):
        with pytest.raises(ColBERTVideoError, match=r"forked from one that uses the GPU.*get_context\('spawn'\)"):
            call()
