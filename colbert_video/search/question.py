"""What may be asked beside a plain text: several parts with weights, a picture, and what must or must not be shown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from colbert_video.base.checks import real_number
from colbert_video.errors import SettingsError, shown
from colbert_video.search.asking.word_weights import MAX_WEIGHT, WeightedText

MAX_TEXTS = 32
"""Texts of one question, which are all encoded."""
Texts = str | tuple[str, float] | Iterable[str | tuple[str, float]]
"""One text, one with a weight, or several of these."""


@dataclass(frozen=True)
class Question:
    r"""A question to a `Searcher`; its formulas are in docs/questions.md.

    In each text, "dog^2" gives a word a weight and "(a dog)^2" several; a caret that is text is written "\\^".

    Raises:
        SettingsError: If nothing is asked for, a text is empty, or a weight is not valid.
    """

    text: Texts = ()
    """What is shown: a text, or several with weights, [("a dog", 2), ("a beach", 1)], whose scores are averaged."""
    _: KW_ONLY
    image: Any = None
    """A picture of what is shown, as `Searcher.search_image` takes it; it is one more part, beside the texts."""
    image_weight: float = 1.0
    without: Texts = ()
    """What must not be shown: a text, or several, any of which must not be shown."""
    all_of: "Texts | Question | Iterable[Texts | Question]" = ()
    """What must be shown in the same video too, at any time: texts or questions, each with a weight if wanted."""
    then: "Texts | Question | Iterable[Texts | Question]" = ()
    """What must be shown after it in the same video, one after the other."""

    def __post_init__(self) -> None:
        weight = _weight("image_weight", self.image_weight)
        values: dict[str, Any] = {
            "text": _parts("text", self.text),
            "without": _parts("without", self.without),
            "all_of": _parts("all_of", self.all_of, questions=True),
            "then": _parts("then", self.then, questions=True),
            "image_weight": weight,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if not (self.text or self.image is not None or self.all_of or self.then):
            raise SettingsError("the question is empty: give a text or a picture of what is shown.")
        for weights in (self.part_weights, [weight for _, weight in (*self.together, *self.steps)]):
            if weights and not any(weights):
                raise SettingsError("all parts of the question have weight 0; give one more.")
        if len(list(self.plain_texts())) > MAX_TEXTS:
            raise SettingsError(f"the question has more than {MAX_TEXTS} texts; ask for less.")

    @classmethod
    def from_query(cls, query: Any, **more: Any) -> "str | Question":
        """Return a query of `Searcher.search`: a plain text as it is, if nothing else is asked for.

        Args:
            query: A text, a question, or texts with weights; None if `more` says all.
            **more: Fields of a question; None or empty for those that are not asked for.

        Raises:
            SettingsError: As for a question, or if a question is given beside `more`.
        """
        given = {name: value for name, value in more.items() if value is not None and not _is_nothing(value)}
        if isinstance(query, Question):
            if given:
                names = ", ".join(given)
                raise SettingsError(
                    f"{names} cannot be given together with a Question: give it to the question, Question({names}=...)."
                )
            return query
        if isinstance(query, str) and not given and "^" not in query:
            return query
        return cls(() if query is None else query, **given)

    @property
    def has_parts(self) -> bool:
        """True if it says itself what is shown, beside `all_of` and `then`."""
        return bool(self.text) or self.image is not None

    @property
    def is_single(self) -> bool:
        """True if only words and pictures are asked for, and nothing else must or must not be shown."""
        return not (self.without or self.all_of or self.then)

    @property
    def texts(self) -> tuple[tuple[WeightedText, float], ...]:
        """The texts of its own parts, with their weights."""
        return _parsed(self.text)

    @property
    def excluded(self) -> tuple[tuple[WeightedText, float], ...]:
        """The texts of `without`, with their weights."""
        return _parsed(self.without)

    @property
    def part_weights(self) -> tuple[float, ...]:
        """The weights of its own parts: of the texts, then of the picture."""
        own: Sequence[tuple[str, float]] = self.text  # type: ignore[assignment]
        return (*(weight for _, weight in own), *([] if self.image is None else [self.image_weight]))

    @property
    def together(self) -> "tuple[tuple[Question, float], ...]":
        """The questions that one video must meet at any time, with their weights, the own parts first."""
        own = ((self, 1.0),) if self.has_parts and not self.then else ()
        return (*own, *_questions(self.all_of))

    @property
    def steps(self) -> "tuple[tuple[Question, float], ...]":
        """The questions that one video must meet one after the other, with their weights, the own parts first."""
        own = ((self, 1.0),) if self.has_parts and self.then else ()
        return (*own, *_questions(self.then))

    def plain_texts(self) -> Iterator[str]:
        """Yield all texts that must be encoded, as models read them; some may be there twice."""
        for text, _ in (*self.texts, *self.excluded):
            yield text.text
        for question, _ in (*_questions(self.all_of), *_questions(self.then)):
            yield from question.plain_texts()

    def __str__(self) -> str:
        """Return the question in one line, for people and answers."""
        shown_parts = [_in_words(self.text)] if self.text else []
        shown_parts += ["a picture"] if self.image is not None else []
        named = (("all of", self.all_of), ("then", self.then), ("without", self.without))
        return ", ".join([*shown_parts, *(f"{name} {_in_words(parts)}" for name, parts in named if parts)])


def are_weighted_texts(value: object) -> bool:
    """Return True for pairs of a text and its weight, one or several."""
    several = isinstance(value, list | tuple) and len(value) > 0 and all(_is_pair(part) for part in value)
    return _is_pair(value) or several


def _is_nothing(value: Any) -> bool:
    return isinstance(value, str | bytes | tuple | list) and not len(value)


def _parsed(parts: Any) -> tuple[tuple[WeightedText, float], ...]:
    return tuple((WeightedText.parse(text), weight) for text, weight in parts)


def _questions(parts: Any) -> tuple[tuple[Question, float], ...]:
    return tuple((part if isinstance(part, Question) else Question(part), weight) for part, weight in parts)


def _in_words(parts: Any) -> str:
    return ", ".join(str(part) if weight == 1 else f"({part})^{weight:g}" for part, weight in parts)


def _parts(name: str, given: Any, *, questions: bool = False) -> tuple[tuple[Any, float], ...]:
    """Return texts, or questions, each with its weight."""
    if isinstance(given, str | Question) or _is_pair(given):
        given = [given]
    if isinstance(given, bytes | dict | set | frozenset) or not isinstance(given, Iterable):
        raise SettingsError(f"{name} is {shown(given)}: give a text, or a list of texts, each with a weight if wanted.")
    return tuple(_part(name, part, questions=questions) for part in given)


def _is_pair(value: Any) -> bool:
    """Return True for a text or question with a number."""
    pair = isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], str | Question)
    return pair and not isinstance(value[1], str | Question | tuple | list)


def _part(name: str, given: Any, *, questions: bool) -> tuple[Any, float]:
    part, weight = given if _is_pair(given) else (given, 1.0)
    if isinstance(part, Question) and questions:
        if not part.is_single:
            raise SettingsError(f"a question in {name} has without, all_of or then: give these to the outer question.")
    elif not isinstance(part, str):
        raise SettingsError(f"{name} holds {shown(part)}: give a text, or a pair of a text and its weight.")
    elif not WeightedText.parse(part).text.strip():
        raise SettingsError(f"{name} holds an empty text: give it at least one word.")
    return part, _weight(f"the weight of {shown(str(part))} in {name}", weight)


def _weight(name: str, value: Any) -> float:
    number = real_number(name, value, most=MAX_WEIGHT)
    if number < 0:
        raise SettingsError(f"{name}={shown(value)} is negative: for what must not be shown, use without=.")
    return float(number)
