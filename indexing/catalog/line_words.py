"""The words by which lines are found, the same of lines and of queries, in any script.

SQLite's own tokenizers take a Chinese sentence for one word, or cut vowel signs off Indic words. So words are made here, and
SQLite is given them with a space after each.
"""

import re
import unicodedata
from itertools import pairwise

MAX_PHRASES = 64
"""Different words or pairs of a query that are looked for; the first ones."""
REMOVED_MARKS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]"
)
"""Accents of Latin, Greek and Cyrillic letters, and the points of Hebrew and Arabic, which are written or left out. Marks of
other scripts make another letter, and stay."""
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Japanese, Chinese
    "\u1100-\u11ff\uac00-\ud7af"  # Korean, whose words have endings without a space
)
"""Scripts that do not put spaces between words; each letter is a word of its own, and two that follow each other are found
as a pair."""
LETTER = re.compile(f"[{UNSPACED}]")
MARKS = ("Mn", "Mc", "Me")


def words_of(text: str) -> list[str]:
    """Return the words of a text in their order, without case and accents; those of unspaced scripts are single letters."""
    return [word for run in _runs(text) for word in run]


def query_phrases(text: str) -> list[str]:
    """Return what a line may hold of a query, each once: words, and in unspaced scripts pairs of letters with a space."""
    phrases: dict[str, None] = {}
    for run in _runs(text):
        pairs = [f"{first} {second}" for first, second in pairwise(run)]
        phrases |= dict.fromkeys(pairs or run)
    return list(phrases)[:MAX_PHRASES]


def match_expression(phrases: list[str]) -> str:
    """Return what FTS5 looks for: lines with any of the phrases. They hold letters, digits and spaces, never a quote."""
    return " OR ".join(f'"{phrase}"' for phrase in phrases)


def _runs(text: str) -> list[list[str]]:
    """Return each word of spaced scripts as a list of one, and each run of unspaced letters as a list of these."""
    runs: list[list[str]] = []
    inside = False  # of a run of unspaced letters
    word = ""
    for letter in _folded(text):
        category = unicodedata.category(letter)
        if category in MARKS:
            if word:
                word += letter
            elif inside:
                runs[-1][-1] += letter
        elif LETTER.match(letter) and category[0] in "LN":
            _end(runs, word)
            runs[-1].append(letter) if inside and not word else runs.append([letter])
            inside, word = True, ""
        elif category[0] in "LN":
            word, inside = word + letter, False
        else:
            _end(runs, word)
            inside, word = False, ""
    _end(runs, word)
    return runs


def _end(runs: list[list[str]], word: str) -> None:
    if word:
        runs.append([word])


def _folded(text: str) -> str:
    """Return a text without case, accents, and other ways of writing the same letters."""
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", REMOVED_MARKS.sub("", apart))
