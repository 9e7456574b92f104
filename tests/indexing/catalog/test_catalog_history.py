"""Any history of a catalog leaves what a dictionary says."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import NewSegment, VideoEntry


class CatalogHistory(RuleBasedStateMachine):
    """Any sequence of commits, replacements and removals against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.catalog = Catalog.create(self.folder)
        self.live: dict[str, tuple[str, int]] = {}
        self.segments: dict[str, int] = {}
        self.made = 0

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    def new_segment(self, ids: list[str]) -> NewSegment:
        self.made += 1
        return NewSegment(f"s{self.made}", "c", [VideoEntry(identity) for identity in ids], {})

    @rule(ids=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    def add(self, ids: list[str]) -> None:
        segment = self.new_segment(ids)
        self.catalog.commit_segment(segment.name, "c", segment.entries, {}, replace=True)
        self.segments[segment.name] = len(ids)
        self.live.update({identity: (segment.name, ordinal) for ordinal, identity in enumerate(ids)})

    @rule(ids=st.lists(st.sampled_from("abcdef")))
    def remove(self, ids: list[str]) -> None:
        assert set(self.catalog.remove(ids)) == set(ids) & set(self.live)
        self.live = {identity: place for identity, place in self.live.items() if identity not in ids}

    @precondition(lambda self: self.live)
    @rule()
    def compact(self) -> None:
        ids = [e.id for e in self.catalog.entries()]
        segment = self.new_segment(ids)
        self.catalog.replace_everything([segment])
        self.segments = {segment.name: len(ids)}
        self.live = {identity: (segment.name, ordinal) for ordinal, identity in enumerate(ids)}

    @rule()
    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = Catalog.open(self.folder, writable=True)

    @invariant()
    def matches(self) -> None:
        view = self.catalog.snapshot()
        assert {s.name: s.count for s in view.segments} == self.segments
        assert {e.id: (e.segment, e.row) for e in self.catalog.entries()} == self.live
        dead = {
            name: sorted(set(range(count)) - {place[1] for place in self.live.values() if place[0] == name})
            for name, count in self.segments.items()
        }
        assert view.removed == {name: ordinals for name, ordinals in dead.items() if ordinals}
        assert view.count == len(self.live)


def test_any_history_matches_a_dictionary() -> None:
    run_state_machine_as_test(CatalogHistory, settings=settings(max_examples=15, stateful_step_count=12, deadline=None))
