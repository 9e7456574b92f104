"""A question as the scan takes it: query tokens whose lengths say how much they count."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.search.asking.word_weights import WeightedText
from colbert_video.search.explain import PADDING
from colbert_video.search.question import Question

Query = PreparedQuery | Mapping[str, PreparedQuery]
"""The same query tokens for all bags, or those of each bag that is to be scored."""
TokenTexts = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class ExcludedScore:
    """What a usual video scores by an excluded text, if it scores S by the question: level + slope · S."""

    slope: float
    level: float


@dataclass(frozen=True)
class EncodedQuestion:
    """What one video must meet and must not meet: queries with weights."""

    together: tuple[tuple[Query, float], ...]
    """Met at any time."""
    steps: tuple[tuple[Query, float], ...] = ()
    """Met one after the other."""
    without: tuple[tuple[Query, float], ...] = ()
    """Not met."""
    usual: tuple[ExcludedScore, ...] = ()
    """What usual videos of the corpus score by each of `without`; empty until they were looked at."""

    @property
    def parts(self) -> tuple[tuple[Query, float], ...]:
        """All queries that must be met."""
        return (*self.together, *self.steps)

    @property
    def total_weight(self) -> float:
        """What the weights of all parts add up to."""
        return sum(weight for _, weight in self.parts)


AnyQuery = Query | EncodedQuestion


@dataclass(frozen=True)
class QuestionEncoder:
    """Makes query tokens of a question whose texts are encoded already."""

    tokens: Mapping[str, Float[Tensor, "_ dim"]]
    """The scored tokens of each of `Question.plain_texts`."""
    token_texts: TokenTexts
    """What the tokens of a text stand for."""
    picture: Callable[[Any], Mapping[str, PreparedQuery]]
    """Encodes a picture."""
    bags: Collection[str]
    """The bags that count."""

    def encode(self, question: Question) -> AnyQuery:
        """Return what is searched for: one query if nothing but words and pictures is asked for.

        Raises:
            SettingsError: If a word's weight cannot be applied, or the picture is not valid.
        """
        if question.is_single:
            return self.parts(question)
        together, steps = (
            tuple((self.parts(part), weight) for part, weight in parts) for parts in (question.together, question.steps)
        )
        without = tuple((self.words(text), weight) for text, weight in question.excluded)
        return EncodedQuestion(together, steps, without)

    def parts(self, question: Question) -> Query:
        """Return a question's own texts and picture as one query."""
        queries: list[Query] = [self.words(text) for text, _ in question.texts]
        if question.image is not None:
            queries.append(self.picture(question.image))
        return joined(list(zip(queries, question.part_weights, strict=True)), self.bags)

    def words(self, text: WeightedText) -> PreparedQuery:
        """Return a text's tokens, each as long as its weight says; their lengths have the mean 1."""
        tokens, labels = self.tokens[text.text], self.token_texts(text.text)
        padding = tuple(label == PADDING for label in labels) if len(labels) == len(tokens) else ()
        if text.words:
            weights = tokens.new_tensor(text.token_weights(self.token_texts))  # (query_tokens,)
            tokens = tokens * (weights * len(weights) / weights.sum())[:, None]
        return PreparedQuery(tokens, padding)


def joined(parts: Sequence[tuple[Query, float]], bags: Collection[str]) -> Query:
    """Return one query whose score is the weighted mean of the scores of several.

    A query's tokens are averaged over their number. So those of part p are scaled by w_p / Σw * n / n_p, where n_p of the
    n tokens are its own: in each bag for itself, as pictures have tokens for one bag alone.

    Args:
        parts: Queries with weights, at least one more than 0.
        bags: The bags that count.
    """
    counting = [(query, weight) for query, weight in parts if weight]
    if len(counting) == 1:
        return counting[0][0]
    total = sum(weight for _, weight in counting)
    shares = [(query, weight / total) for query, weight in counting]
    if all(isinstance(query, PreparedQuery) for query, _ in shares):
        return _concatenated(shares)  # type: ignore[arg-type]
    every = {bag: [(own, share) for query, share in shares if (own := of_bag(query, bag)) is not None] for bag in bags}
    return {bag: _concatenated(own) for bag, own in every.items() if own}


def of_bag(query: Query, bag: str) -> PreparedQuery | None:
    """Return the tokens of a query for a bag; None if it has none."""
    return query if isinstance(query, PreparedQuery) else query.get(bag)


def padding_by_bag(query: Query) -> dict[str, Sequence[bool]] | Sequence[bool]:
    """Return which tokens of a query are padding, in each bag if it differs from bag to bag."""
    return query.padding if isinstance(query, PreparedQuery) else {bag: own.padding for bag, own in query.items()}


def _concatenated(parts: Sequence[tuple[PreparedQuery, float]]) -> PreparedQuery:
    count = sum(len(query.tokens) for query, _ in parts)
    tokens = [query.tokens * (share * count / len(query.tokens)) for query, share in parts]
    padding = [query.padding or (False,) * len(query.tokens) for query, _ in parts]
    return PreparedQuery(torch.cat(tokens), [own for part in padding for own in part])
