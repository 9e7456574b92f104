"""Any sequence of operations on videos that are cut differently each time: never a window too many, nor one too few."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from thorough import amount
from token_corpus import DIM, unit_tokens
from window_corpus import commit_windows, window_entries

from colbert_video import Indexer, Searcher
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.verify import verify_index

QUERY = unit_tokens(3, DIM, seed=9)
VIDEOS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([0, 1, 2, 9]), min_size=1, max_size=4)


class WindowHistory(RuleBasedStateMachine):
    """Additions, replacements, removals, compactions and moves against a dictionary of window counts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "i"
        self.live: dict[str, int] = {}
        self.steps = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(videos=VIDEOS)
    def index(self, videos: dict[str, int]) -> None:
        commit_windows(self.path, videos, seed=1, add=False)
        self.live = videos

    @rule(videos=VIDEOS)
    def add_or_replace(self, videos: dict[str, int]) -> None:
        self.steps += 1
        commit_windows(self.path, videos, seed=1 + self.steps, add=True)
        self.live = self.live | videos

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.live)), min_size=1, unique=True))
        assert Indexer(self.path).remove(ids) == ids
        self.live = {name: windows for name, windows in self.live.items() if name not in ids}

    @rule()
    def compact(self) -> None:
        assert Indexer(self.path).compact().videos == len(self.live)

    @rule()
    def move(self) -> None:
        copy = Indexer(self.path).export(self.folder / "copy").path
        shutil.rmtree(self.path)
        copy.rename(self.path)

    @invariant()
    def holds_exactly_the_windows_of_what_is_live(self) -> None:
        if not self.path.exists():
            return
        expected = {(entry.id, entry.parent) for entry in window_entries(self.live)}
        with Catalog.open(self.path) as catalog:
            assert {(entry.id, entry.parent) for entry in catalog.entries()} == expected
        description = describe_index(self.path)
        windows = sum(parent is not None for _, parent in expected)
        assert (description["videos"], description["windows"]) == (len(self.live), windows)
        with Searcher(self.path) as searcher:
            hits = searcher.search_tokens(QUERY, k=99)
            rows = searcher.search_tokens(QUERY, k=99, group=False)
            assert len(searcher) == len(self.live)
        assert {(row.id, row.parent) for row in rows} == expected
        best = {}
        for row in rows:
            best.setdefault(row.parent or row.id, row.score)
        assert {hit.id: hit.score for hit in hits} == pytest.approx(best, abs=1e-6)
        assert best.keys() == self.live.keys()

    @rule()
    def verify(self) -> None:
        report = verify_index(self.path)
        assert (report.problems, report.leftovers, report.videos) == ((), (), len(self.live))


@pytest.mark.slow
def test_any_history_of_windows() -> None:
    run_state_machine_as_test(
        WindowHistory, settings=settings(max_examples=amount(2, thorough=8), stateful_step_count=8, deadline=None)
    )
