"""Filters against a plain evaluator in Python, on metadata and filters of any shape."""

import datetime
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thorough import amount

from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog import database
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import NewSegment, VideoEntry
from colbert_video.indexing.catalog.filters import (
    BUILT_IN,
    MAX_CONDITIONS,
    MAX_DEPTH,
    ORDER,
    compile_filter,
    parse_filter,
)

MISSING = object()


def kind(value: Any) -> str:
    """Kinds never mix."""
    kinds = {bool: "boolean", type(None): "null", str: "text", int: "number", float: "number"}
    return kinds.get(type(value), "other")


def stored(entry: VideoEntry, name: str) -> Any:
    """The value that a name stands for; MISSING if there is none."""
    if name in BUILT_IN:
        value = getattr(entry, name)
        return MISSING if value is None else value
    value = entry.metadata
    for key in name.removeprefix("metadata.").split("."):
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


def plain(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def equal(value: Any, operand: Any) -> bool:
    return value is not MISSING and kind(value) == kind(operand) != "other" and value == operand


def holds(value: Any, operator: str, operand: Any) -> bool:
    if operator in ("=", "!="):
        return equal(value, operand) == (operator == "=")
    if operator == "exists":
        return (value is not MISSING) == operand
    if operator == "contains":
        if isinstance(value, str) and isinstance(operand, str):
            return operand != "" and plain(operand) in plain(value)
        return isinstance(value, list) and any(equal(element, operand) for element in value)
    if operator == "in":
        elements = [value, *value] if isinstance(value, list) else [value]
        return any(equal(element, one) for element in elements for one in operand)
    if value is MISSING or kind(value) != kind(operand):
        return False
    return {"<": value < operand, "<=": value <= operand, ">": value > operand, ">=": value >= operand}[operator]


def passes(entry: VideoEntry, where: Mapping[str, Any]) -> bool:
    """What a filter means."""
    for name, operand in where.items():
        if name == "and":
            ok = all(passes(entry, part) for part in operand)
        elif name == "or":
            ok = any(passes(entry, part) for part in operand)
        elif name == "not":
            ok = not passes(entry, operand)
        else:
            tests = operand if isinstance(operand, Mapping) else {"=": operand}
            ok = all(holds(stored(entry, name), operator, value) for operator, value in tests.items())
        if not ok:
            return False
    return True


KEYS = ["channel", "tags", "x", "ä", "😀", "a'b", "a b", "$", "[0]", "0", "", "sql); DROP TABLE videos--", "n\n"]
TEXT = st.sampled_from(["", "a", "news", "ä", "Z", "😀", "1", "true", "null", "' OR 1=1 --", '"', "\\", "%", "\n"])
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 1.0, 0.1, 1e300, -0.0, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join) | st.sampled_from(KEYS)
ORDERED = st.sampled_from(["<", "<=", ">", ">="])
TESTS = st.one_of(
    st.dictionaries(ORDERED, NUMBERS | TEXT, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["=", "!=", "contains"]), SCALARS, min_size=1, max_size=2),
    st.fixed_dictionaries({"in": st.lists(SCALARS, max_size=3)}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    SCALARS,
)
BUILT_IN_TESTS = st.one_of(
    st.tuples(st.sampled_from(["duration", "start"]), st.dictionaries(ORDERED, NUMBERS, min_size=1)),
    st.tuples(st.sampled_from(["id", "path"]), st.fixed_dictionaries({"!=": TEXT})),
    st.tuples(st.sampled_from(["id", "path"]), st.fixed_dictionaries({"in": st.lists(TEXT)})),
    st.tuples(st.sampled_from(["path", "start"]), st.fixed_dictionaries({"exists": st.booleans()})),
).map(lambda pair: dict([pair]))
LEAVES = st.dictionaries(NAMES, TESTS, max_size=2) | BUILT_IN_TESTS
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog.create(tmp_path_factory.mktemp("filters")) as catalog:
        catalog._connection.execute("PRAGMA synchronous = OFF")
        yield catalog


def found(catalog: Catalog, entries: list[VideoEntry], where: Mapping[str, Any]) -> set[str]:
    """Ids that the catalog lets pass."""
    catalog.replace_everything([NewSegment("s", "c", entries, {})])
    places = catalog.matching(compile_filter(where))
    assert all(segment == "s" for segment, _ in places)
    return {entries[ordinal].id for _, ordinal in places}


@settings(max_examples=amount(50, thorough=150))
@given(
    metadata=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), min_size=1, max_size=5), where=FILTERS
)
@example(metadata=[{"x": 1}, {"x": True}, {"x": 1.0}, {"x": "1"}, {"x": [1]}], where={"x": 1})
@example(metadata=[{"x": 0.1}, {"x": 0.30000000000000004}], where={"x": {"in": [0.1, 0.30000000000000004]}})
@example(metadata=[{"x": 2**53}, {"x": 2**53 + 1}, {"x": 2.0**53}], where={"x": {">": 2**53}})
@example(metadata=[{"x": None}, {}], where={"x": {"exists": True}})
@example(metadata=[{"x": None}, {}], where={"not": {"x": None}})
@example(metadata=[{"x": "\\u0000"}, {"x": "a"}], where={"x": {"in": ["\\u0000"]}})
def test_filters_mean_what_the_plain_evaluator_says(
    catalog: Catalog, metadata: list[dict[str, Any]], where: dict[str, Any]
) -> None:
    entries = [
        VideoEntry(f"v{number}", path="p" * number or None, start=number / 2, duration=None, metadata=values)
        for number, values in enumerate(metadata)
    ]
    assert found(catalog, entries, where) == {entry.id for entry in entries if passes(entry, where)}


ENTRIES = [
    VideoEntry("a", duration=90.0, start=0.0, end=90.0, metadata={"channel": "news", "tags": ["x", "y"]}),
    VideoEntry("b", duration=30.0, parent="film", metadata={"channel": "sport", "tags": "x", "x": {"y": None}}),
    VideoEntry("c", path="/clips/c.mp4", metadata={"channel": None, "duration": "long", "and": 1, "a.b": 2}),
]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, "abc"),
        ({"channel": "news"}, "a"),
        ({"channel": "news", "duration": {">": 60}}, "a"),
        ({"duration": {">": 20, "<=": 30}}, "b"),
        ({"tags": {"in": ["x", "z"]}}, "ab"),
        ({"tags": {"contains": "x"}}, "ab"),
        ({"tags": {"contains": "X"}}, "b"),
        ({"tags": {"contains": ""}}, ""),
        ({"channel": {"contains": "SPO"}}, "b"),
        ({"path": {"contains": "clips"}}, "c"),
        ({"tags": "x"}, "b"),
        ({"x.y": {"exists": True}}, "b"),
        ({"x.y": None}, "b"),
        ({"channel": {"!=": "news"}}, "bc"),
        ({"tags": {"!=": "x"}}, "ac"),
        ({"channel": None}, "c"),
        ({"not": {"channel": None}}, "ab"),
        ({"or": [{"channel": "news"}, {"parent": "film"}]}, "ab"),
        ({"and": [{"tags": {"exists": True}}, {"not": {"channel": "news"}}]}, "b"),
        ({"metadata.duration": "long"}, "c"),
        ({"metadata.and": 1}, "c"),
        ({"a\\.b": 2}, "c"),
        ({"a.b": 2}, ""),
        ({"path": {"exists": True}}, "c"),
        ({"id": {"in": ["a", "nowhere"]}}, "a"),
        ({"id": {">=": "b"}}, "bc"),
        ({"channel": {"in": []}}, ""),
    ],
)
def test_the_documented_meaning(catalog: Catalog, where: dict[str, Any], ids: str) -> None:
    assert found(catalog, ENTRIES, where) == set(ids)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"x": {"like": "a"}}, r"'like' for 'x' is not an operator; known ones are =, !=, <"),
        ({"x": {}}, "'x' has no operator"),
        ({"x": [1, 2]}, r"'x' cannot be compared with \[1, 2\]; .* write {'x': {'in': \[...\]}}"),
        ({"x": {"=": {"a": 1}}}, "'x' cannot be compared with"),
        ({"x": {"<": True}}, "'<' for 'x' takes a number or text; got True"),
        ({"x": {"<": None}}, "'<' for 'x' takes a number or text; got None"),
        ({"x": {"in": "news"}}, "'in' for 'x' takes a list; got 'news'"),
        ({"x": {"exists": 1}}, "'exists' for 'x' takes true or false; got 1"),
        ({"x": float("nan")}, "the filter holds NaN under 'x'"),
        ({"x": float("inf")}, "the filter holds inf under 'x', which JSON cannot hold"),
        ({"x": {1: 2}}, "'1' for 'x' is not an operator"),
        ({"not": {None: 2}}, "has the key None under 'not', which is not text"),
        ({"and": {}}, "'and' takes a list of filters, at least one"),
        ({"or": []}, "'or' takes a list of filters, at least one"),
        ({"not": [{}]}, "is not a filter"),
        ({"duration": "long"}, "'duration' holds a number and cannot be compared with 'long': give a number"),
        ({"path": None}, r"'path' holds a text and cannot be compared with None: give a text; use {'exists': false}"),
        ({"start": {"contains": "a"}}, "'contains' looks into text and stored lists; 'start' is number"),
        ({'x"': 1}, "cannot be a filter's key"),
        ({"x": "a\0"}, "holds a NUL character"),
        ({"x": {"in": list(range(3)), "zz": 1}}, "'zz' for 'x' is not an operator"),
        ({"or": [{"x": number} for number in range(MAX_CONDITIONS + 1)]}, "more than 256 conditions"),
    ],
)
def test_unusable_filters_are_refused(where: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        compile_filter(where)


def test_depth_is_limited_to_what_sqlite_parses(catalog: Catalog) -> None:
    where: dict[str, Any] = {"tags": {"in": ["x"]}}
    for depth in range(MAX_DEPTH):
        where = {"or": [where, {"x": 1}]} if depth % 2 else {"not": where}
    assert found(catalog, ENTRIES, where) == {entry.id for entry in ENTRIES if passes(entry, where)}
    with pytest.raises(SettingsError, match="nested more than 12 deep"):
        compile_filter({"not": where})


def test_as_many_conditions_as_are_allowed_run(catalog: Catalog) -> None:
    where = {"or": [{"tags": {"in": [str(number), "x"]}} for number in range((MAX_CONDITIONS - 1) // 2)]}
    assert found(catalog, ENTRIES, where) == set("ab")


@settings(max_examples=amount(50, thorough=150))
@given(name=st.text(), text=st.text(), operator=st.text(max_size=12))
@example(name="x') OR 1=1 --", text="'", operator="= 1 OR")
@example(name="x.' OR '", text="\\", operator=";")
def test_statements_depend_on_the_shape_of_a_filter_alone(name: str, text: str, operator: str) -> None:
    pairs: list[tuple[Any, Any]] = [
        ({f"metadata.{name}": {"in": [text, 1]}}, {"x": {"in": ["a", 1]}}),
        ({f"metadata.{name}": {"<": text, "exists": True}}, {"x": {"<": "a", "exists": True}}),
        ({"not": {"x": {"contains": text}}}, {"not": {"x": {"contains": "a"}}}),
        ({"id": text}, {"id": "a"}),
        ({"x": {operator: 1}}, {"x": {"=": 1}} if operator not in ORDER else {"x": {operator: 1}}),
    ]
    for hostile, plain in pairs:
        try:
            condition = compile_filter(hostile)
        except SettingsError:
            continue
        assert condition.sql.replace("NOT ", "") == compile_filter(plain).sql.replace("NOT ", "")
        assert condition.sql.count("?") == len(condition.values)


def test_hostile_filters_leave_the_catalog_alone(catalog: Catalog) -> None:
    hostile = "x'); DELETE FROM videos; --"
    catalog.replace_everything([NewSegment("s", "c", ENTRIES, {})])
    for where in ({hostile: hostile}, {"id": {"in": [hostile]}}, {f"x.{hostile}": {"<": hostile}}):
        assert catalog.matching(compile_filter(where)) == []
    assert len(catalog.matching(compile_filter({"id": {"!=": "' OR 1=1"}}))) == 3
    assert catalog.count() == 3


@pytest.mark.parametrize(
    ("where", "plain"),
    [
        ({"n": np.int64(2)}, {"n": 2}),
        ({"n": {"<": np.float32(2)}}, {"n": {"<": 2.0}}),
        ({"n": {"in": {1, 2}}}, {"n": {"in": [1, 2]}}),
        ({"n": {"in": np.array([1, 2])}}, {"n": {"in": [1, 2]}}),
        ({"n": {"in": range(1, 3)}}, {"n": {"in": [1, 2]}}),
        ({"or": ({"n": 1}, {"n": 2})}, {"or": [{"n": 1}, {"n": 2}]}),
        ({"day": datetime.date(2026, 1, 2)}, {"day": "2026-01-02"}),
    ],
)
def test_values_of_numpy_and_sets_stand_for_those_of_json(where: Any, plain: Any) -> None:
    assert compile_filter(where) == compile_filter(plain)


def test_filters_of_the_most_conditions_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of a statement is limited, by the size of the catalog, against forged ones."""
    monkeypatch.setattr(database, "MAX_STEPS", 0)
    monkeypatch.setattr(database, "STEPS_PER_CHECK", 1000)
    where = {"or": [*({"tags": {"contains": f"x{n}"}} for n in range(100)), {"n": {"<": 3}}]}
    entries = [VideoEntry(f"v{n}", metadata={"n": n, "tags": ["a", "b", "c"]}) for n in range(1000)]
    with Catalog.create(tmp_path / "i") as catalog:
        catalog.replace_everything([NewSegment("a", "c", entries, {})])
        assert catalog.matching(compile_filter(where)) == [("a", 0), ("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"channel": "news", "channel": "sport"}', "the key 'channel' comes twice"),
        ('{"a": {">": 1, ">": 2}}', "the key '>' comes twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "too large"),
        ('{"not":' * 200_000, "nested more than 100 deep"),
        (f'{{"a": {"9" * 4000}}}', "4000 digits"),
    ],
)
def test_a_filter_that_would_lose_a_condition_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as raised:
        parse_filter(text)
    assert len(str(raised.value)) < 500
