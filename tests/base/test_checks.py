"""One rule for each kind of value: whole numbers, numbers, ids, collections, fields of settings, scores."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.base import checks
from colbert_video.errors import SettingsError

NO_WHOLE_NUMBERS = [True, False, np.True_, 3.0, np.float64(3), "3", None, [3], np.array([3]), np.array(3.0), 3j, b"3",
                    torch.tensor(3.0), torch.empty((), device="meta", dtype=torch.int64)]  # fmt: skip


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3)])
def test_whole_numbers_of_all_kinds_become_int(value: Any) -> None:
    found = checks.whole_number("k", value)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=repr)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"k=.* must be a whole number, such as 10"):
        checks.whole_number("k", value)


@given(st.integers(), st.integers(), st.integers())
def test_bounds_of_whole_numbers(value: int, least: int, most: int) -> None:
    if least <= value <= most:
        assert checks.whole_number("k", value, least=least, most=most) == value
        return
    bound = f"at least {least}" if value < least else f"at most {most}"
    with pytest.raises(SettingsError, match=f"^k={value} must be {bound}.$"):
        checks.whole_number("k", value, least=least, most=most)


@pytest.mark.parametrize("value", [2, 2.0, np.float16(2), np.int32(2), np.array(2.0), torch.tensor(2.0)])
def test_numbers_of_all_kinds(value: Any) -> None:
    found = checks.real_number("scale", value)
    assert found == 2
    assert type(found) in (int, float)


@pytest.mark.parametrize(
    "value", [True, np.False_, "2", None, float("nan"), float("inf"), np.float32("-inf"), 10**400, [2.0], 2j, b"2"]
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"scale=.* must be a finite number"):
        checks.real_number("scale", value)


def test_an_id_is_text_and_digits_and_uuids_stand_for_theirs() -> None:
    found = [checks.id_text(value) for value in ("a", np.str_("a"), 7, np.int64(7), uuid.UUID(int=7))]
    assert found == ["a", "a", "7", "7", "00000000-0000-0000-0000-000000000007"]
    assert {type(name) for name in found} == {str}


@pytest.mark.parametrize("value", [None, True, 1.0, b"a", Path("a"), ("a",), float("nan"), object()])
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"is a value of type .*; an id is a text"):
        checks.id_text(value)


@pytest.mark.parametrize(
    "values", ["ab", ["ab"], ("ab",), {"ab"}, np.array(["ab"]), iter(["ab"]), {"ab": 1}.keys(), np.str_("ab")]
)
def test_a_text_alone_is_one_id(values: Any) -> None:
    assert checks.id_list("ids", values) == ["ab"]


def test_ranges_and_arrays_of_whole_numbers_are_ids() -> None:
    assert checks.id_list("ids", range(3)) == ["0", "1", "2"] == checks.id_list("ids", np.arange(3))


@pytest.mark.parametrize("values", [None, 3, b"ab", object(), np.array("ab", dtype=object)])
def test_what_is_no_collection_of_ids(values: Any) -> None:
    with pytest.raises(SettingsError, match=r"ids=.* must be a text or a list of texts"):
        checks.id_list("ids", values)


def test_names_are_texts() -> None:
    assert checks.text_list("columns", "title") == ["title"]
    with pytest.raises(SettingsError, match="columns holds 3, which is a value of type int"):
        checks.text_list("columns", ["a", 3])


@pytest.mark.parametrize(("value", "number"), [(1, 1), (np.float32(0.5), 0.5), (float("-inf"), float("-inf"))])
def test_infinite_scores_are_scores(value: Any, number: float) -> None:
    assert checks.score_of("q", "v", value) == number


@pytest.mark.parametrize(
    "value", [float("nan"), np.float32("nan"), "0.5", None, True, [0.5], torch.tensor(float("nan"))]
)
def test_a_score_that_is_none_names_query_and_video(value: Any) -> None:
    with pytest.raises(SettingsError, match="the score of video 'v' for query 'q' is "):
        checks.score_of("q", "v", value)


@dataclass(frozen=True)
class Settings:
    """Fields of every known annotation."""

    count: int = 1
    limit: int | None = None
    share: float = 0.5
    fast: bool = True
    name: str = "a"
    path: Path = Path()
    kind: Literal["one", "two"] = "one"
    length: float | Literal["shots"] | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    names: tuple[str, ...] = ()
    anything: Any = None

    def __post_init__(self) -> None:
        checks.check_fields(self)


def changed(**values: Any) -> Settings:
    """Settings with other values, past the test suite's own type checks."""
    settings = Settings()
    for name, value in values.items():
        object.__setattr__(settings, name, value)
    settings.__post_init__()
    return settings


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("count", np.int64(4), 4),
        ("limit", None, None),
        ("share", np.float32(0.25), 0.25),
        ("share", 2, 2),
        ("fast", np.False_, False),
        ("name", np.str_("b"), "b"),
        ("path", "a/b", Path("a/b")),
        ("kind", "two", "two"),
        ("length", "shots", "shots"),
        ("length", np.float64(3), 3.0),
        ("betas", [1, np.float64(0.5)], (1, 0.5)),
        ("names", "one", ("one",)),
        ("names", ["one", "two"], ("one", "two")),
    ],
)
def test_fields_take_the_types_of_their_annotations(name: str, value: Any, stored: Any) -> None:
    found = getattr(changed(**{name: value}), name)
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 3.0), ("count", "3"), ("count", None), ("count", True), ("limit", 2.0), ("share", "x"), ("share", None),
        ("share", float("nan")), ("fast", 1), ("fast", "yes"), ("name", 3), ("name", b"x"), ("path", 3), ("kind", "three"),
        ("kind", None), ("kind", 1), ("length", "scenes"), ("length", True), ("betas", (0.9,)), ("betas", 0.9),
        ("betas", ("a", "b")), ("names", (1,)), ("names", None),
    ],
)  # fmt: skip
def test_fields_of_another_type_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}="):
        changed(**{name: value})


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_text_is_no_path(value: str) -> None:
    """It would become the working folder."""
    with pytest.raises(SettingsError, match=r"^path is empty: give a path"):
        changed(path=value)


def _settings() -> list[Callable[[], Any]]:
    from colbert_video.indexing.index.index_settings import IndexSettings
    from colbert_video.indexing.scan.stock import PlaidSettings
    from colbert_video.model.pooling import Pooling
    from colbert_video.serve.service_settings import ServeSettings
    from colbert_video.training.evaluation.trec_folder import TrecFolder
    from colbert_video.training.run.training_config import DataConfig, TrainingConfig
    from colbert_video.training.world.rendered import WorldRecipe
    from colbert_video.video.frames import SamplingSettings

    return [
        SamplingSettings, PlaidSettings, ServeSettings, TrainingConfig, lambda: DataConfig(manifest="a.jsonl"),
        lambda: IndexSettings(dim=64, bags=("frame",)), lambda: Pooling(factor=2.0),
        lambda: WorldRecipe(train=4, validation=4), lambda: TrecFolder(Path("x")),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(9))
def test_all_settings_check_their_numbers(number: int) -> None:
    make = _settings()[number]
    for item in fields(make()):
        if item.type not in (int, float, int | None, float | None, bool):
            continue
        for value in ("4", [4], float("nan")):
            settings = make()
            object.__setattr__(settings, item.name, value)
            with pytest.raises(SettingsError, match=rf"^{item.name}="):
                settings.__post_init__()


@pytest.mark.parametrize("value", ["False", "no", 1, 0, None, "", []])
def test_a_flag_is_true_or_false_and_no_text(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"overwrite=.* must be True or False"):
        checks.check_flags(add=True, overwrite=value)
    checks.check_flags(add=np.False_, overwrite=True)


@pytest.mark.parametrize("take", [checks.id_list, checks.text_list])
@pytest.mark.parametrize(
    "values", [{"a", "b"}, frozenset("ab"), {"a": 1}.keys(), {"a": 1}], ids=lambda values: type(values).__name__
)
def test_where_the_order_counts_sets_and_keys_are_refused(take: Callable[..., list[str]], values: Any) -> None:
    assert sorted(take("ids", values)) == sorted(values)
    with pytest.raises(
        SettingsError, match=r"ids is a \w+, (which has no order|whose keys would be taken); give a list"
    ):
        take("ids", values, ordered=True)
