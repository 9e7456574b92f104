"""Any sequence of operations gives the index that the surviving videos alone would give."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
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
from operations import QUERY, add_tokens, everything
from thorough import amount
from token_corpus import random_bags

from colbert_video import Indexer, Searcher
from colbert_video.indexing.build import commit
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.fit import FittedCodec
from colbert_video.indexing.upkeep.verify import verify_index

IDS = "abcdefg"
SOME_IDS = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)


@pytest.fixture
def one_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index is compressed by the same codecs, so that equal tokens give equal bytes."""
    codecs = {
        bag: FittedCodec(ResidualCodec.train(torch.cat(random_bags(30, seed=50 + kind)), centroids=8), 0.1)
        for kind, bag in enumerate(("frame", "video"))
    }
    monkeypatch.setattr(commit, "train_codecs", lambda *_, **__: codecs)


class IndexHistory(RuleBasedStateMachine):
    """Additions, updates, removals, compactions and reopenings against a dictionary and an index built at once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "i"
        self.live: dict[str, int] = {}
        self.steps = 0
        self.searcher: Searcher | None = None

    def teardown(self) -> None:
        if self.searcher is not None:
            self.searcher.close()
        shutil.rmtree(self.folder)

    @initialize(ids=SOME_IDS)
    def index(self, ids: list[str]) -> None:
        add_tokens(self.path, ids, seed=0, add=False)
        self.live = dict.fromkeys(ids, 0)
        self.searcher = Searcher(self.path, auto_refresh=True)

    @rule(ids=SOME_IDS)
    def add_or_update(self, ids: list[str]) -> None:
        self.steps += 1
        add_tokens(self.path, ids, seed=self.steps)
        self.live |= dict.fromkeys(ids, self.steps)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.live)), min_size=1, unique=True))
        Indexer(self.path).remove(ids)
        self.live = {name: seed for name, seed in self.live.items() if name not in ids}

    @rule()
    def compact(self) -> None:
        Indexer(self.path).compact()

    @rule(archive=st.booleans())
    def move(self, archive: bool) -> None:
        """Export, throw the original away, and go on with the copy."""
        from colbert_video.indexing.upkeep.export import import_index

        copy = Indexer(self.path).export(self.folder / ("copy.tar" if archive else "copy")).path
        if self.searcher is not None:
            self.searcher.close()
        shutil.rmtree(self.path)
        if archive:
            import_index(copy, self.path)
            copy.unlink()
        else:
            copy.rename(self.path)
        self.searcher = Searcher(self.path, auto_refresh=True)

    @invariant()
    def is_the_index_of_what_is_live(self) -> None:
        if self.searcher is None:
            return
        found = everything(self.path)
        assert {name: metadata["seed"] for name, (*_, metadata) in found.items()} == self.live
        hits = self.searcher.search_tokens(QUERY, k=99, exact=True)
        assert {hit.id: hit.score for hit in hits} == {name: scores[0] for name, scores in found.items()}
        fresh = self.folder / "fresh"
        for seed in sorted(set(self.live.values())):
            same = [name for name, made in self.live.items() if made == seed]
            add_tokens(fresh, same, seed=seed, add=fresh.exists())
        if self.live:
            assert found == everything(fresh)
            shutil.rmtree(fresh)

    @rule()
    def verify(self) -> None:
        report = verify_index(self.path)
        assert report.problems == ()
        assert report.leftovers == ()


@pytest.mark.slow
def test_any_history_is_the_index_of_what_is_live(one_codec: None) -> None:
    run_state_machine_as_test(
        IndexHistory, settings=settings(max_examples=amount(2, thorough=6), stateful_step_count=8, deadline=None)
    )
