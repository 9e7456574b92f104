"""Words of lines and queries, in any script."""

import sqlite3

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from thorough import amount

from colbert_video.indexing.catalog.line_words import MAX_PHRASES, match_expression, query_phrases, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, R2-D2!", ["don", "t", "stop", "r2", "d2"]),
        ("Über die GRÖSSE der Straße", ["uber", "die", "grosse", "der", "strasse"]),
        ("naïve café Ångström Çağrı", ["naive", "cafe", "angstrom", "cagrı"]),
        ("Ёлка Йод", ["елка", "иод"]),
        ("مَرْحَبًا بِكُم", ["مرحبا", "بكم"]),
        ("أحمد إلى آخر", ["احمد", "الى", "اخر"]),
        ("שָׁלוֹם", ["שלום"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("我喜欢企鹅", ["我", "喜", "欢", "企", "鹅"]),
        ("犬が走る。ペンギン", ["犬", "が", "走", "る", "ペ", "ン", "ギ", "ン"]),
        ("ペンギン", ["ペ", "ン", "ギ", "ン"]),  # half-width letters
        ("ที่นี่", ["ที่", "นี่"]),
        ("사과를", ["사", "과", "를"]),
        ("GPU狗4K", ["gpu", "狗", "4k"]),
        ("ﬁne ① ½", ["fine", "1", "1", "2"]),
        ("!?… \0 \u200b —", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_query_asks_for_words_and_pairs_of_letters() -> None:
    assert query_phrases("the Dog, the dog 狗在跑 鹅") == ["the", "dog", "狗 在", "在 跑", "鹅"]
    assert len(query_phrases(" ".join(map(str, range(1000))))) == MAX_PHRASES


@given(st.text(max_size=80))
@settings(max_examples=amount(200, thorough=5000))
def test_fts5_takes_any_query_and_finds_the_text_itself(text: str) -> None:
    phrases = query_phrases(text)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE lines USING fts5(words, tokenize = 'ascii')")
    connection.execute("INSERT INTO lines VALUES (?)", [" ".join(words_of(text))])
    if phrases:
        found = connection.execute(
            "SELECT COUNT(*) FROM lines WHERE lines MATCH ?", [match_expression(phrases)]
        ).fetchone()
        assert found == (1,)
    assert not any(letter in phrase for phrase in phrases for letter in "\"'*():^-+\\\0\n")
    connection.close()


@given(st.text(max_size=40))
@settings(max_examples=amount(200, thorough=5000))
def test_words_of_words_are_the_same(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words
    assert words_of(text.upper()) == words_of(text.upper().lower()) or "ı" in text
