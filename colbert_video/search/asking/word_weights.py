"""Weights of words within a text: "a dog^2 on a (sandy beach)^0.5"."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from colbert_video.errors import SettingsError, shown

MAX_WEIGHT = 100.0
NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")
WORD_ENDS = ")\"'"
"""What a weighted word may end with, beside letters and digits: a caret after anything else is text."""
CONTROL = re.compile(r"<.*>")
"""What models call tokens that stand for no word: "<pad>", "<start_of_text>"."""


@dataclass(frozen=True)
class WordWeight:
    """A weight of the characters [start, end) of a text."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class WeightedText:
    """A text as it is encoded, and the weights of some of its words; those of the others are 1."""

    text: str
    words: tuple[WordWeight, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "WeightedText":
        r"""Read a text in which WORD^NUMBER or (SEVERAL WORDS)^NUMBER gives a weight, and \\^ is a caret.

        Weights within weighted parentheses are multiplied. A caret that does not follow a word is text, as in "^_^".

        Raises:
            SettingsError: If what follows a caret is no number from 0 to 100.
        """
        return cls(text) if "^" not in text else _parsed(text)

    def token_weights(self, token_texts: Callable[[str], Sequence[str]]) -> list[float]:
        """Return the weight of each query token.

        A word's tokens are those that the text up to its end has more than the text up to its beginning.

        Args:
            token_texts: Says what the tokens of a text stand for, as `VideoEncoder.query_token_texts`.

        Raises:
            SettingsError: If the model does not say which tokens are words, a weighted word was cut off, or all have weight 0.
        """
        labels = token_texts(self.text)
        weights = [1.0] * len(labels)
        content = [row for row, label in enumerate(labels) if not CONTROL.fullmatch(label)]
        for word in self.words:
            first, last = (_count_words(self.text[:end], token_texts) for end in (word.start, word.end))
            own = content[first:last]
            if not own or len(own) < last - first:
                raise SettingsError(self._unknown(word, len(content)))
            for row in own:
                weights[row] *= word.weight
        if content and not any(weights[row] for row in content):
            raise SettingsError(f"all words of {shown(self.text)} have weight 0: give one of them more.")
        return weights

    def _unknown(self, word: WordWeight, words: int) -> str:
        return (
            f"the weight of {shown(self.text[word.start : word.end])} cannot be applied: the model reads {words} tokens of "
            "this text, and none that is this word alone. Shorten the text, or give weights to whole texts: "
            "Question([(text, weight), ...])."
        )


def _count_words(text: str, token_texts: Callable[[str], Sequence[str]]) -> int:
    """Return how many tokens of a text stand for words."""
    return sum(not CONTROL.fullmatch(label) for label in token_texts(text)) if text.strip() else 0


def _parsed(text: str) -> WeightedText:
    words: list[WordWeight] = []
    out, position = "", 0
    while position < len(text):
        if text.startswith(r"\^", position):
            out, position = out + "^", position + 2
        elif text[position] == "^" and out and (out[-1].isalnum() or out[-1] in WORD_ENDS):
            weight, position = _number(text, position)
            out, words = _weighed(out, words, weight)
        else:
            out, position = out + text[position], position + 1
    return WeightedText(out, tuple(words))


def _number(text: str, caret: int) -> tuple[float, int]:
    """Return the weight after a caret, and where the text goes on."""
    found = NUMBER.match(text, caret + 1)
    end = caret + 1 if found is None else found.end()
    follows = text[end : end + 1]
    if found is None or (follows.isascii() and (follows.isalnum() or follows in ("_", "^"))) or text[end:][:2] == "\\^":
        raise SettingsError(
            f"the weight in {shown(text)} is not a number: write WORD^NUMBER, such as dog^2, and \\^ for a caret that is text."
        )
    weight = float(found[0])
    if weight > MAX_WEIGHT:
        raise SettingsError(f"the weight in {shown(text)} is {found[0][:20]}: give one from 0 to {MAX_WEIGHT:g}.")
    return weight, end


def _weighed(out: str, words: list[WordWeight], weight: float) -> tuple[str, list[WordWeight]]:
    """Return the text without the parentheses that end it, if any, and the weights with that of its last word."""
    start = _opening(out) if out.endswith(")") else None
    if start is None:
        start = len(out) - len(re.split(r"\s", out)[-1])
        return out, [*words, WordWeight(start, len(out), weight)]
    inside = [WordWeight(word.start - 1, word.end - 1, word.weight) if word.start > start else word for word in words]
    out = out[:start] + out[start + 1 : -1]
    return out, [*inside, WordWeight(start, len(out), weight)]


def _opening(text: str) -> int | None:
    """Return where the parenthesis opens that the last character closes; None if nowhere."""
    depth = 0
    for position in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return None
