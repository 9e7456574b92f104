"""A sharded corpus, as searches see it: each shard that may hold results is asked, and the best of all are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.base.threads import spread
from colbert_video.errors import ShardsUnavailableError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.model.interaction import best_first
from colbert_video.search.asking.encoded_question import AnyQuery, EncodedQuestion, Query
from colbert_video.search.asking.exclusions import PartScores, against_corpus, joined_samples, with_usual_scores
from colbert_video.search.asking.likeness import Time
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.confidence import perfect_score, with_confidence
from colbert_video.search.hit import Hit, Moment
from colbert_video.search.hits import Hits
from colbert_video.search.ranking import Ranking
from colbert_video.search.sharded.catalogs import CorpusCatalogs
from colbert_video.search.view import Similarities, prepared_query

Answers = tuple[dict[int, Any], tuple[str, ...]]
"""What the asked shards answered, by their numbers, and the names of those that did not answer."""
Scores = list[tuple[str, float]]
"""(video id, score), best first."""


@dataclass(frozen=True)
class CorpusView:
    """A sharded corpus; each shard answers by its own state when it is asked."""

    catalogs: CorpusCatalogs
    ask: Callable[[str, Mapping[int, tuple[Any, ...]]], Answers]
    """Calls a method of some shards, given with its arguments by the shards' numbers."""
    deadline: float | None
    """Seconds after which shards are given up, for errors."""

    @property
    def settings(self) -> IndexSettings:
        """Settings of the shards."""
        return self.catalogs.settings

    @property
    def version(self) -> int:
        """Sum of the shards' commit numbers."""
        return self.catalogs.version

    def hits(self, query: AnyQuery, wanted: SearchSettings) -> Hits:
        """Return the best hits of all shards.

        Shards that hold none of the wanted ids are asked only what their part of the corpus's sample scores.

        Raises:
            SettingsError: If the filter is not valid, or no shard holds one of the ids.
            ShardsUnavailableError: If not one shard answered in time.
        """
        settings, asked = self.settings, self._wanted_of_each(wanted)
        weights = settings.weights() if wanted.weights is None else wanted.weights
        known, samples = None, self.catalogs.samples()
        if isinstance(query, EncodedQuestion) and query.without:
            query, known = against_corpus(query, self._part_scores(query, weights))
            samples = [()] * len(samples)
        answers, failed = self._hits_and_samples(query, asked, weights, samples)
        best = merge_hits([hits for hits, _ in answers], wanted.k)
        found = Hits(best, failed, video_stream=settings.video_stream, bag_weights=weights)
        sample = [score for _, scores in answers for score in scores] if known is None else known
        return with_confidence(found, sample, perfect_score(query, weights), wanted.min_confidence)

    def _hits_and_samples(
        self,
        query: AnyQuery,
        asked: Mapping[int, SearchSettings],
        weights: Mapping[str, float],
        samples: Sequence[tuple[int, ...]],
    ) -> tuple[list[tuple[Hits, list[float]]], tuple[str, ...]]:
        """Return what the shards answered, in their order, and which of those that were asked for hits did not."""
        each = {number: (query, asked.get(number), weights, own) for number, own in enumerate(samples)}
        each = {number: given for number, given in each.items() if number in asked or given[-1]}
        answers, failed = self.ask("hits", each if asked else {})
        if asked and not asked.keys() & answers.keys():
            raise ShardsUnavailableError(failed, self.deadline)
        names = {self.catalogs.names[number] for number in asked}
        return [answers[number] for number in sorted(answers)], tuple(name for name in failed if name in names)

    def _part_scores(self, question: EncodedQuestion, weights: Mapping[str, float]) -> PartScores:
        """Return what the corpus's sample scores by a question and by what it excludes; shards that do not answer are left out.

        Raises:
            ShardsUnavailableError: If not one shard answered in time.
        """
        each = {number: own for number, own in enumerate(self.catalogs.samples()) if own}
        answers, failed = self.ask("part_scores", {number: (question, weights, own) for number, own in each.items()})
        if each and not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        return joined_samples([answers[number] for number in sorted(answers)], len(question.without))

    def ranking(self, queries: Mapping[str, Float[Tensor, "_ dim"] | AnyQuery], wanted: SearchSettings) -> Ranking:
        """Rank videos for query tokens by query id, without moments; several queries at a time. Raises as `hits`."""
        each = self._wanted_of_each(replace(wanted, threads=max(1, wanted.threads // len(queries))))

        weights = self.settings.weights() if wanted.weights is None else wanted.weights

        def scores(query: Float[Tensor, "_ dim"] | AnyQuery) -> tuple[Scores, tuple[str, ...]]:
            prepared = prepared_query(query)
            if isinstance(prepared, EncodedQuestion) and prepared.without:
                prepared = with_usual_scores(prepared, self._part_scores(prepared, weights))
            answers, failed = self._answers("scores", prepared, each)
            return merge_scores(answers, wanted.k), failed

        found = dict(zip(queries, spread(scores, queries.values(), threads=wanted.threads), strict=True))
        missing = {name: failed for name, (_, failed) in found.items() if failed}
        return Ranking.from_scored({name: scored for name, (scored, _) in found.items()}, shards_failed=missing)

    @property
    def has_lines(self) -> bool:
        """True if some video has lines of text."""
        return self.catalogs.has_lines

    def spoken(self, expression: str, wanted: SearchSettings) -> Hits:
        """Return the best hits of all shards by their lines of text; raises as `hits`.

        Each shard counts how rare a word is among its own lines.
        """
        answers, failed = self._answers("spoken", expression, self._wanted_of_each(wanted))
        return Hits(merge_hits(answers, wanted.k), failed, video_stream=self.settings.video_stream)

    def similarities(
        self, video_id: str, query: Query, weights: Mapping[str, float], time: float | None = None
    ) -> tuple[VideoEntry, Similarities]:
        """Ask the shard that holds a video.

        Raises:
            SettingsError: If no shard holds the video.
            ShardsUnavailableError: If its shard did not answer in time.
        """
        item, similarities = self._holder("similarities", video_id, query, weights, time)
        return item, {bag: np.array(own) for bag, own in similarities.items()}  # what travelled is read-only

    def likeness(
        self, video_id: str, weights: Mapping[str, float], time: Time | None = None
    ) -> tuple[str, dict[str, Float[np.ndarray, "_ dim"]]]:
        """Ask the shard that holds a video for its stored tokens; raises as `similarities`."""
        whole, tokens = self._holder("likeness", video_id, weights, time)
        return whole, {bag: np.array(own) for bag, own in tokens.items()}  # what travelled is read-only

    def occurrences(self, video_id: str, query: Query, weights: Mapping[str, float]) -> list[Moment]:
        """Ask the shard that holds a video where a query is met; raises as `similarities`."""
        found: list[Moment] = self._holder("occurrences", video_id, query, weights)
        return found

    def _holder(self, method: str, video_id: str, *arguments: Any) -> Any:
        """Return what the shard that holds a video answers."""
        holders = self.catalogs.holders([video_id])
        answers, failed = self.ask(method, dict.fromkeys(holders, (video_id, *arguments)))
        if not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        return next(iter(answers.values()))

    def _wanted_of_each(self, wanted: SearchSettings) -> dict[int, SearchSettings]:
        """Return what each shard that may hold results is asked for, by its number."""
        if wanted.where is not None:
            self.catalogs.check_fields(wanted.where)  # raises here, once
            wanted = replace(wanted, any_field=True)
        if wanted.ids is None:
            return dict.fromkeys(range(len(self.catalogs)), wanted)
        holders = self.catalogs.holders(wanted.ids)
        return {number: replace(wanted, ids=own) for number, own in holders.items()}

    def _answers(
        self, method: str, query: AnyQuery | str, each: Mapping[int, SearchSettings]
    ) -> tuple[list[Any], tuple[str, ...]]:
        """Ask the shards; return their answers in their order, and who did not answer."""
        answers, failed = self.ask(method, {number: (query, own) for number, own in each.items()})
        if each and not answers:
            raise ShardsUnavailableError(failed, self.deadline)
        return [answers[number] for number in sorted(answers)], failed


def merge_hits(answers: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Return the k best hits of all shards, ranked again.

    Tied scores stay in the order of the shards, and within one in its own: for shards that were split from one index,
    that is the order in which the index ranks them.

    Args:
        answers: Each shard's k best hits, best first; in the order of the shards.
        k: Hits wanted.
    """
    every = [hit for answer in answers for hit in answer]
    best = _best(every, [hit.score for hit in every], k)
    return [replace(hit, rank=rank) for rank, hit in enumerate(best, start=1)]


def merge_scores(answers: Sequence[Scores], k: int) -> Scores:
    """Return the k best ids and scores of all shards, as `merge_hits` does."""
    every = [pair for answer in answers for pair in answer]
    return _best(every, [score for _, score in every], k)


def _best(every: list[Any], scores: list[float], k: int) -> list[Any]:
    return [every[row] for row in best_first(torch.tensor(scores, dtype=torch.float64, device="cpu"), k).tolist()]
