"""Scores of videos that must meet several parts of a question, in order or not, and must not meet others.

    score = Σ w_p S_p / Σ w_p − lost

S_p is the video's score by part p: that of its best window, or of its windows and frames in the best order for steps. What it
loses for showing what must not be shown is said in `exclusions`: the most that one of its windows loses.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from colbert_video.indexing.scan.index_reader import Masks
from colbert_video.model.interaction import SCORE_RESOLUTION, best_first
from colbert_video.search.asking.encoded_question import EncodedQuestion, Query, padding_by_bag
from colbert_video.search.asking.exclusions import lost_scores
from colbert_video.search.asking.match import Match
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.asking.step_order import Run, best_order, run_scores
from colbert_video.search.hit import Hit, Moment
from colbert_video.search.moments import best_moment, frame_relevance, frame_spans

MIN_CANDIDATES, CANDIDATES_PER_RESULT = 300, 20
"""Videos that each part proposes at least, and for each wanted result; all are scored by every part."""


@runtime_checkable
class ItemScorer(Protocol):
    """What scores the items of an index: a `SearchView`."""

    def weights(self, wanted: SearchSettings) -> Mapping[str, float]:
        """Return how much each bag counts."""

    def best_videos(self, query: Query, wanted: SearchSettings, allowed: Masks | None) -> list[list[Match]]:
        """Return the best videos, of each the windows that were fetched, best first."""

    def eligible(self, allowed: Masks | None) -> list[Match]:
        """Return every item that may be found, not scored, in the order of the index."""

    def items_of(self, ids: Collection[str], allowed: Masks | None) -> list[Match]:
        """Return the items of some videos that may be found, not scored, in the order of the index."""

    def matches(self, query: Query, items: Sequence[Match], wanted: SearchSettings) -> list[Match]:
        """Return items with their scores by a query."""

    def frame_similarities(
        self, match: Match, query: Query, weights: Mapping[str, float]
    ) -> Mapping[str, Float[np.ndarray, "_ _"]]:
        """Compare a query with all tokens of an item, frame by frame, by bag."""

    def moment(self, match: Match, query: Query, weights: Mapping[str, float]) -> tuple[float | None, float | None]:
        """Return the best moment of an item."""


@dataclass(frozen=True)
class Placed:
    """Where one part of a question is met."""

    match: Match
    """The window, with the part's score; in a run of frames, that of the run."""
    query: Query
    frames: tuple[int, int] | None = None
    """First and last frame of the run; None for the whole window."""


@dataclass(frozen=True)
class Met:
    """A video, or a window of one, and how well it answers a question of several parts."""

    score: float
    parts: tuple[Placed, ...]
    """Of each part where it is met; first those at any time, then the steps."""

    @property
    def video(self) -> str:
        """The video's id."""
        return self.parts[0].match.item.video


def num_candidates(k: int) -> int:
    """Return how many videos each part proposes for k wanted results."""
    return max(MIN_CANDIDATES, CANDIDATES_PER_RESULT * k)


def excluding(
    view: ItemScorer, question: EncodedQuestion, matches: Sequence[Match], wanted: SearchSettings
) -> list[Match]:
    """Return items, scored by the question's only part, less what they lose for what must not be shown; best first."""
    taken = _taken(view, question, matches, wanted, np.array([match.score for match in matches]))  # (items,)
    changed = [replace(match, score=match.score - float(less)) for match, less in zip(matches, taken, strict=True)]
    return [changed[row] for row in _order([match.score for match in changed], len(changed))]


def best_met(view: ItemScorer, question: EncodedQuestion, wanted: SearchSettings, allowed: Masks | None) -> list[Met]:
    """Return the k best videos, best first; or windows, where hits are not grouped by video."""
    items = _candidates(view, question, wanted, allowed)
    scored = [view.matches(query, items, wanted) for query, _ in question.parts]  # by part, each in the order of items
    units: defaultdict[str, list[int]] = defaultdict(list)
    for number, match in enumerate(items):
        units[match.item.video if wanted.group else match.item.id].append(number)
    weights = [weight for _, weight in question.parts]
    of_items = np.array([[match.score for match in own] for own in scored])  # (parts, items)
    taken = _taken(view, question, items, wanted, np.array(weights) @ of_items / question.total_weight)
    found = _Units(view, question, wanted, scored, taken)
    return found.best(list(units.values()))


def composed_hit(view: ItemScorer, question: EncodedQuestion, met: Met, wanted: SearchSettings, *, rank: int) -> Hit:
    """Return a hit whose moments are those of the parts, in their order.

    Its own moment is that of the first part; for steps, it is all from the first step's moment to the last one's.
    """
    moments = [_moment(view, part, wanted) for part in met.parts]
    chosen = moments[-len(question.steps) :] if question.steps else moments[:1]
    first = met.parts[-len(question.steps) if question.steps else 0].match
    bags = _mean_bags(met.parts, [weight for _, weight in question.parts])
    return Hit(
        rank=rank,
        id=first.item.video if wanted.group else first.item.id,
        score=met.score,
        frame_score=bags.get("frame"),
        video_score=bags.get("video"),
        start=chosen[0][0],
        end=chosen[-1][1],
        path=first.item.path,
        metadata=first.item.metadata,
        parent=first.item.parent,
        window=None if first.item.parent is None else first.item.id,
        moments=tuple(
            Moment(start, end, part.match.score, part.match.item.id)
            for part, (start, end) in zip(met.parts, moments, strict=True)
            if start is not None and end is not None
        ),
        bag_scores=bags,
    )


def _mean_bags(parts: Sequence[Placed], weights: Sequence[float]) -> dict[str, float]:
    """Return the weighted means of the parts' scores in each bag."""
    bags = dict.fromkeys(bag for part in parts for bag in part.match.bags)
    return {
        bag: sum(weight * part.match.bags.get(bag, 0.0) for part, weight in zip(parts, weights, strict=True))
        / sum(weights)
        for bag in bags
    }


def _moment(view: ItemScorer, part: Placed, wanted: SearchSettings) -> tuple[float | None, float | None]:
    """Return the moment of a part: within its run of frames, or its window."""
    item, weights = part.match.item, view.weights(wanted)
    if part.frames is None or not item.frame_times or item.end is None:
        return view.moment(part.match, part.query, weights)
    similarities = view.frame_similarities(part.match, part.query, weights)
    relevance = frame_relevance(similarities, len(item.frame_times), weights, padding_by_bag(part.query))
    begins, ends = frame_spans(np.asarray(item.frame_times), item.start or 0.0, item.end)
    first, last = part.frames
    if relevance is None:
        return float(begins[first]), float(ends[last])
    times = np.asarray(item.frame_times)[first : last + 1]
    return best_moment(relevance[first : last + 1], times, float(begins[first]), float(ends[last]))


def _candidates(
    view: ItemScorer, question: EncodedQuestion, wanted: SearchSettings, allowed: Masks | None
) -> list[Match]:
    """Return the items that are scored by all parts, in the order of the index; those of a video are all there."""
    if wanted.exact:
        return view.eligible(allowed)
    more = replace(wanted, k=num_candidates(wanted.k))
    proposed = [matches[0].item for query, _ in question.parts for matches in view.best_videos(query, more, allowed)]
    return view.items_of({item.video if wanted.group else item.id for item in proposed}, allowed)


def _taken(
    view: ItemScorer,
    question: EncodedQuestion,
    items: Sequence[Match],
    wanted: SearchSettings,
    scores: Float[np.ndarray, "items"],
) -> Float[np.ndarray, "items"]:
    """Return what is taken off the score of each item for what must not be shown, given its scores by the question."""
    excluded = [[match.score for match in view.matches(query, items, wanted)] for query, _ in question.without]
    return lost_scores(question, np.array([scores, *excluded]))


def _order(scores: Iterable[float], k: int) -> list[int]:
    return best_first(torch.tensor(list(scores), dtype=torch.float64, device="cpu"), k).tolist()


@dataclass(frozen=True)
class _Units:
    """Videos, or windows, whose parts are scored in all their items."""

    view: ItemScorer
    question: EncodedQuestion
    wanted: SearchSettings
    scored: Sequence[Sequence[Match]]
    """By part, every item with that part's score."""
    taken: Float[np.ndarray, "items"]
    """What is taken off each item's score; of a unit, the most counts."""

    def best(self, units: Sequence[Sequence[int]]) -> list[Met]:
        """Return the k best units, each given by its items.

        A run of frames scores no more than its window: so units are put in order for the steps only while they may be
        among the best.
        """
        most = [self._most(unit) for unit in units]
        if not self.question.steps:
            return [self._met(units[row]) for row in _order(most, self.wanted.k)]
        found: dict[int, Met] = {}
        for row in _order(most, len(units)):
            best = sorted((met.score for met in found.values()), reverse=True)[: self.wanted.k]
            if len(best) == self.wanted.k and most[row] < best[-1] - 2 * SCORE_RESOLUTION:
                break
            found[row] = self._met(units[row])
        rows = sorted(found)
        return [found[rows[row]] for row in _order((found[row].score for row in rows), self.wanted.k)]

    def _most(self, unit: Sequence[int]) -> float:
        """Return a unit's score if every part may be met in any of its items."""
        sums = [weight * max(own[item].score for item in unit) for (_, weight), own in self._weighted]
        return sum(sums) / self.question.total_weight - self._taken(unit)

    def _met(self, unit: Sequence[int]) -> Met:
        together = len(self.question.together)
        parts = [
            Placed(max((own[item] for item in unit), key=lambda match: match.score), query)
            for (query, _), own in self._weighted[:together]
        ]
        parts += self._in_order(unit) if self.question.steps else []
        sums = [weight * part.match.score for part, (_, weight) in zip(parts, self.question.parts, strict=True)]
        return Met(sum(sums) / self.question.total_weight - self._taken(unit), tuple(parts))

    def _in_order(self, unit: Sequence[int]) -> list[Placed]:
        """Return where each step is met in the best order."""
        scored = self.scored[len(self.question.together) :]
        items = [scored[0][item].item for item in unit]
        by_window: dict[int, dict[str, Float[np.ndarray, "steps frames frames"]]] = {}
        weights = self.view.weights(self.wanted)

        def runs(window: int) -> Float[np.ndarray, "steps frames frames"]:
            own = [
                self.view.frame_similarities(matches[unit[window]], query, weights)
                for matches, (query, _) in zip(scored, self.question.steps, strict=True)
            ]
            by_window[window] = run_scores(own, len(items[window].frame_times), weights)
            return sum(weights[bag] * scores for bag, scores in by_window[window].items())  # type: ignore[return-value]

        _, places = best_order(
            np.array([[matches[item].score for item in unit] for matches in scored]),
            [(item.start or 0.0, np.inf if item.end is None else item.end) for item in items],
            [weight for _, weight in self.question.steps],
            runs,
        )
        return [
            self._placed(step, scored[step][unit[run.window]], run, by_window.get(run.window, {}), weights)
            for step, run in enumerate(places)
        ]

    def _placed(
        self,
        step: int,
        match: Match,
        run: Run,
        scores: Mapping[str, Float[np.ndarray, "steps frames frames"]],
        weights: Mapping[str, float],
    ) -> Placed:
        query = self.question.steps[step][0]
        if run.frames is None:
            return Placed(match, query)
        bags = {bag: float(scores[bag][step][run.frames]) for bag in match.bags}
        score = sum(weights[bag] * own for bag, own in bags.items())
        return Placed(replace(match, score=score, bags=bags), query, run.frames)

    @property
    def _weighted(self) -> list[tuple[tuple[Query, float], Sequence[Match]]]:
        return list(zip(self.question.parts, self.scored, strict=True))

    def _taken(self, unit: Sequence[int]) -> float:
        return float(self.taken[list(unit)].max())
