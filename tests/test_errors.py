"""Values in error messages: what came is shown, and never more than a line of it."""

import ast
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import house
import numpy as np
import pytest

from colbert_video.errors import MAX_SHOWN, shown


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Wide:
    def __repr__(self) -> str:
        return "wide\n" * 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a dog", "'a dog'"),
        ("line\nbreak", r"'line\nbreak'"),
        (b"\x89PNG", r"b'\x89PNG'"),
        (3.5, "3.5"),
        (None, "None"),
        (["a", 1], "['a', 1]"),
        ({"a": (1,)}, "{'a': (1,)}"),
        ("x" * 200, f"'{'x' * 200}'"),
        (np.zeros((2, 3)), "ndarray of shape (2, 3)"),
        (np.float32(1.5), repr(np.float32(1.5))),
        (datetime(2026, 1, 2), "datetime.datetime(2026, 1, 2, 0, 0)"),
        (np.ndarray, "<class 'numpy.ndarray'>"),
        (Path("my clips/a.mp4"), "'my clips/a.mp4'"),
    ],
)
def test_a_value_is_shown(value: object, text: str) -> None:
    assert shown(value) == text


LONG = {
    "text": "x" * 10_000,
    "bytes": b"\x00" * 10_000,
    "bytearray": bytearray(9_000),
    "list": ["abc"] * 10_000,
    "dict": dict.fromkeys(range(99), "x" * 999),
    "digits": 10**5000,
    "repr": Wide(),
    "surrogates": "\udc80" * 500,
    "set": {"x" * 5000},
    "nested": [[["y" * 300] * 30] * 30] * 30,
}


@pytest.mark.parametrize("name", LONG)
def test_long_values_are_cut(name: str) -> None:
    value = LONG[name]
    assert len(shown(value)) <= MAX_SHOWN + len("b'' ...")
    assert "\n" not in shown(value)


def _unbounded(tree: ast.AST) -> Iterator[ast.FormattedValue]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
            yield node


def test_values_in_messages_are_bounded() -> None:
    """Values are formatted by `shown`; an f-string's own `!r` would write out all of a picture or a manifest."""
    found = [
        f"{path}:{node.lineno}"
        for path, text in house.source_tree().items()
        if path != "base/lazy.py"  # names of Python's own
        for node in _unbounded(ast.parse(text))
    ]
    assert found == []


def test_a_repr_that_fails_does_not_hide_the_error() -> None:
    assert "Broken" in shown(Broken())
