"""JSON from people is read by one reader; Python's values become JSON in one way."""

import datetime
import decimal
import enum
import json
import logging
import pathlib
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.base.json_values import MAX_DEPTH, parse_json, plain_condition, plain_metadata
from colbert_video.errors import SettingsError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Colour(str, enum.Enum):
    RED = "red"


@given(JSON_VALUES)
def test_json_is_read_and_written_as_it_is(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert plain_metadata({"key": value}, "metadata") == {"key": value}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ('{"x": [{"a": 1, "\\u0061": 1}]}', "the key 'a' comes twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e999]", "the number 1e999 is too large"),
        (f"[-{'9' * 400}]", "a whole number has 400 digits, more than 308"),
        (f"[{'9' * 5000}]", "a whole number has 5000 digits"),
        ("[" * 100_000, "nested more than 100 deep"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested more than 100 deep"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than 100 deep"),
        ("", "Expecting value at column 1"),
        ('{"a":', "Expecting value"),
        ("[] x", "Extra data"),
        ('{\n"a":}', "Expecting value at line 2, column 5"),
    ],
)
def test_what_is_not_read(text: str, reason: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match=reason):
            parse_json(form)


def test_bytes_are_utf_8_with_or_without_a_mark() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": "\xc3\xa4"}') == {"a": "ä"} == parse_json('\ufeff{"a": "ä"}')
    with pytest.raises(ValueError, match="not UTF-8 at byte 2"):
        parse_json(b'["\xff"]')
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(1.5), 1.5), (np.int64(3), 3), (np.bool_(True), True), (np.str_("a"), "a"), (np.array(3), 3),
        (np.arange(3), [0, 1, 2]), (np.array([[1.0, 2.0]])[:, ::-1], [[2.0, 1.0]]), (np.ones(2, ">f4"), [1.0, 1.0]),
        (np.array(["a", "b"]), ["a", "b"]), (np.array([], dtype=float), []), (torch.arange(2), [0, 1]),
        (torch.nn.Parameter(torch.ones(1)), [1.0]), (torch.tensor(2.5), 2.5), ((1, (2,)), [1, [2]]), ({"b", "a"}, ["a", "b"]),
        (frozenset({3, 1}), [1, 3]), (range(2), [0, 1]), (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc), "2026-01-02T03:04:00+00:00"),
        (datetime.time(3, 4), "03:04:00"), (np.datetime64("2026-01-02T03:04"), "2026-01-02T03:04"),
        (np.array(["2026-01-02"], dtype="datetime64[D]"), ["2026-01-02"]), (decimal.Decimal("1.5"), 1.5),
        (decimal.Decimal("7"), 7), (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"), (Colour.RED, "red"), ({1: "x"}, {"1": "x"}), ({np.int64(1): "x"}, {"1": "x"}),
    ],
)  # fmt: skip
def test_values_with_an_obvious_form_take_it(value: Any, plain: Any) -> None:
    found = plain_metadata({"key": value}, "metadata")["key"]
    assert json.dumps(found) == json.dumps(plain)
    assert plain_condition({"key": value}, "the filter") == {"key": plain}


@pytest.mark.parametrize(
    "value",
    [b"x", float("inf"), np.float16("-inf"), 10**400, object(), 1j, np.array([1j]), np.array([b"x"]), np.array([np.inf]),
     torch.empty(2, device="meta"), torch.empty((), device="meta"), datetime.timedelta(1), {None: 1}, {True: 1},
     {1.5: 1}, {1: "a", "1": "b"}, (n for n in "a"), decimal.Decimal("Infinity")],
)  # fmt: skip
def test_values_without_a_form_are_refused_by_name(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^the metadata of video 'v'"):
        plain_metadata({"outer": {"inner": value}}, "the metadata of video 'v'")


def test_an_error_names_the_key_and_cuts_the_value() -> None:
    with pytest.raises(SettingsError) as raised:
        plain_metadata({"outer": [{"inner": b"x" * 10_000}]}, "the metadata of video 'v'")
    assert "under 'outer.inner'" in str(raised.value)
    assert len(str(raised.value)) < 400


def test_metadata_that_hold_themselves_are_refused() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = loop
    with pytest.raises(SettingsError, match="nested more than 100 deep"):
        plain_metadata(loop, "metadata")


def test_missing_values_become_null_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    values = {
        "a": float("nan"),
        "b": np.float32("nan"),
        "c": np.datetime64("NaT"),
        "d": decimal.Decimal("NaN"),
        "e": [1, np.nan],
    }
    with caplog.at_level(logging.WARNING):
        found = plain_metadata(values, "metadata")
    assert found == {"a": None, "b": None, "c": None, "d": None, "e": [1, None]}
    assert len(caplog.records) == 1
    assert "a (1), b (1), c (1), d (1), e (1)" in caplog.text


def test_missing_values_of_pandas_become_null() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"n": pandas.array([1, None], dtype="Int64"), "at": [pandas.Timestamp("2026-01-02"), None]}
    )
    rows = [plain_metadata(row, "row") for row in frame.to_dict("records")]
    assert rows == [{"n": 1, "at": "2026-01-02T00:00:00"}, {"n": None, "at": None}]


def test_a_filter_holds_no_missing_values() -> None:
    with pytest.raises(SettingsError, match="the filter holds NaN under 'x'; use null"):
        plain_condition({"x": np.nan}, "the filter")


@pytest.mark.parametrize("convert", [plain_metadata, plain_condition])
@pytest.mark.parametrize(
    "value",
    [
        {"x": "y" * 1000},
        {"x": ["y" * 100] * 11},
        {"y" * 1001: 1},
        {"x": {"y" * 100 + str(number): 1 for number in range(11)}},
        {"x": range(1001)},
        {"x": np.zeros(1001)},
    ],
    ids=["text", "texts", "key", "keys", "numbers", "array"],
)
def test_objects_have_a_largest_size(monkeypatch: pytest.MonkeyPatch, convert: Any, value: Any) -> None:
    monkeypatch.setattr("colbert_video.base.json_values.MAX_CHARACTERS", 1000)
    with pytest.raises(SettingsError, match="the thing holds more than 1000 characters and values") as refused:
        convert(value, "the thing")
    assert len(str(refused.value)) < 300


def test_metadata_of_megabytes_are_kept() -> None:
    value = {"x": "y" * 2**23}
    assert plain_metadata(value, "the thing") == value
