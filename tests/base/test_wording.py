"""Numbers of things in sentences."""

import pytest

from colbert_video.base.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "video", "0 videos"),
        (1, "query", "1 query"),
        (2, "query", "2 queries"),
        (12345, "unchanged video", "12,345 unchanged videos"),
    ],
)
def test_one_is_singular(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words
