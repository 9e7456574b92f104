"""Every value that a help text or a table of settings names as an example is taken."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
import torch
import yaml
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from paths import ROOT

from colbert_video.cli.index_verbs import WindowLength
from colbert_video.cli.program import VERBS
from colbert_video.device import resolve_device
from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.filters import parse_filter
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.model.checkpoint import find_checkpoint
from colbert_video.training.evaluation.gallery import applicable_interactions
from colbert_video.training.evaluation.seed_spread import parse_seeds
from colbert_video.training.reproduce.paper_rows import BACKBONES
from colbert_video.training.run.distributed import _single_device
from colbert_video.training.run.recipe import load_recipe, parse_override, parse_recipe, recipe_names

NAMED = [
    r"such as ('[^']*'|[\w:.-]*\w)",
    r"(?:^|: )((?:[\w.:-]+, )+[\w.:-]+ or [\w.:-]*\w)",
    r": (\d[\d.]* to \d[\d.]*\d)",
    r"^([a-z]\w*);",
]
"""How sentences name values: "such as X", "A, B or C" at the begin or after a colon, "0 to 1", "toy; ..."."""


def takes_setting(name: str, kind: Callable[[str], Any]) -> Callable[[Any, str], None]:
    return lambda model, value: IndexSettings(dim=64, bags=("frame",), **{name: kind(value)}) and None


def takes_model(model: Any, value: str) -> None:
    found = find_checkpoint(value)
    assert (found is None) == (":" in value)


def takes_device(model: Any, value: str) -> None:
    resolve_device(value)
    _single_device(value)  # of training


CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "--model": takes_model,
    "--nbits": takes_setting("nbits", int),
    "--snap": takes_setting("snap", float),
    "--device": takes_device,
    "--where": lambda model, value: parse_filter(value.strip("'")),
    "--backbone": lambda model, value: BACKBONES[value],
    "--tracker": lambda model, value: LOGGER_TYPE_TO_CLASS[value],
    "--split-name": lambda model, value: None,
    "--seeds": lambda model, value: parse_seeds("0,7,11" if value == "0" else value),  # 0 stands in a list
}
"""How an option's examples are tried, beside click's own check."""


def examples() -> Iterator[Any]:
    for verb in VERBS:
        for option in verb.params:
            for pattern in NAMED:
                for values in re.findall(pattern, (getattr(option, "help", None) or "").partition(" Default")[0]):
                    for value in [values] if values.startswith("'") else re.split(r", | or | to ", values):
                        yield pytest.param(verb, option, value, id=f"{verb.name} {option.opts[0]} {value}")


EXAMPLES = [*examples()]


@pytest.mark.parametrize(("verb", "option", "value"), EXAMPLES)
def test_examples_of_the_help_are_taken(
    verb: click.Command, option: click.Option, value: str, tiny_trained_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if option.opts[0] not in CHECKS:
        pytest.fail(f"{verb.name} {option.opts[0]} names {value!r}: say in CHECKS how to try it")
    option.type.convert(value, option, click.Context(verb))
    CHECKS[option.opts[0]](tiny_trained_model, value)


def test_examples_are_found() -> None:
    found = {(option.opts[0], value) for _, option, value in (case.values for case in EXAMPLES)}
    assert {("--device", "cuda:1"), ("--nbits", "8"), ("--model", "toy"), ("--snap", "0.25")} <= found
    assert {("--model", "PE-Core-B-16:meta"), ("--backbone", "siglip-b16"), ("--device", "auto")} <= found


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_defaults_and_choices_are_values(verb: click.Command) -> None:
    for option in verb.params:
        context = click.Context(verb)
        default = option.get_default(context)
        if isinstance(default, (str, int, float)) and not isinstance(default, bool):
            option.type.convert(default, option, context)
        for choice in getattr(option.type, "choices", ()):
            assert option.type.convert(choice, option, context) == choice


@pytest.mark.parametrize(("value", "seconds"), [("30", 30.0), ("0.5", 0.5), ("shots", "shots")])
def test_lengths_of_windows(value: str, seconds: Any) -> None:
    assert WindowLength().convert(value, None, None) == seconds


def test_the_baselines_that_evaluate_names(tiny_model: Any) -> None:
    evaluate = next(verb for verb in VERBS if verb.name == "evaluate")
    text = next(option.help for option in evaluate.params if option.name == "interactions")
    names = text.partition("baselines: ")[2].rstrip(".").split(", ")
    assert applicable_interactions(tiny_model, names) == tuple(names)


def table_rows(page: str) -> Iterator[tuple[str, str]]:
    """Section and name of each setting in the table of a page's recipe sections."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for section, settings in re.findall(r"^\| `(model|data|training|world)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE):
        yield from ((section, name) for name in re.findall(r"`([\w.]+)`", settings))


VALUES: dict[str, Any] = {
    "settings.num_frames": 3, "settings.query_length": 12, "manifest": "m.csv", "validation_split": "val", "cache": "c",
    "workers": 2, "missing": "report", "random_shift": 2, "batch_size": 128, "epochs": 3, "learning_rate": 1e-4,
    "pretrained_learning_rate": 1e-7, "chunk_size": 2, "freeze": [],
}  # fmt: skip


def at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize(("section", "name"), [*table_rows("training.md")])
def test_settings_are_set_by_the_names_of_the_table(section: str, name: str) -> None:
    written = f"{section}.{name}={yaml.safe_dump(VALUES[name], default_flow_style=True).removesuffix(chr(10) + '...' + chr(10))}"
    recipe = load_recipe("msrvtt-clip-b32", overrides=dict([parse_override(written)]))
    part = recipe.model if section == "model" else getattr(recipe.stages[0], section)
    assert at(part, name) == (tuple(VALUES[name]) if name == "freeze" else VALUES[name])


@pytest.mark.parametrize("name", recipe_names())
def test_what_the_shipped_recipes_set_can_be_overridden(name: str) -> None:
    import colbert_video.training.run.recipe as module

    values = yaml.safe_load((module.SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    flat = {
        f"{section}.{key}": value
        for section in ("model", "data", "training", "world")
        for key, value in (values.get(section) or {}).items()
        if not (section == "data" and "world" in values)
    }
    flat |= {f"model.settings.{key}": value for key, value in (values.get("model", {}).get("settings") or {}).items()}
    found = load_recipe(name, overrides=flat)
    assert found == load_recipe(name) or "stages" in values  # what is overridden holds for all stages


def test_settings_within_settings() -> None:
    values: dict[str, Any] = {
        "model": {"backbone": "x", "settings": {"num_frames": 4}}, "data": {"manifest": "m"}, "training": {},
    }  # fmt: skip
    recipe = parse_recipe(values, overrides={"model.settings.num_frames": 3, "model.settings.query_length": 8})
    assert recipe.model.settings == {"num_frames": 3, "query_length": 8}
    assert values["model"]["settings"] == {"num_frames": 4}  # the given values stay as they are
    for name, message in (
        ("model.settings.num_frame", "did you mean 'num_frames'"),
        ("model.backbone.name", "backbone is not a mapping"),
        ("world.train", "no world is rendered here"),
        ("settings.num_frames", "must start with 'model.', 'data.', 'training.' or 'world.'"),
    ):
        with pytest.raises(SettingsError, match=re.escape(message)):
            parse_recipe(values, overrides={name: 3})
    world = {**values, "data": {}, "world": {"train": 12, "validation": 4}}
    assert parse_recipe(world, overrides={"world.train": 20}).world.train == 20
