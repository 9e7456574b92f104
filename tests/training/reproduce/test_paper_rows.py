"""The published figures: complete, plausible, and each with a recipe and settings that exist."""

from dataclasses import fields
from pathlib import Path

import pytest

from colbert_video.errors import SettingsError
from colbert_video.model.config import ModelConfig
from colbert_video.training.datasets.prepare import DATASETS
from colbert_video.training.reproduce.paper_rows import (
    BACKBONES,
    MAIN,
    PAPER_ROWS,
    ZERO_SHOT_ROWS,
    find_row,
    zero_shot_rows,
)
from colbert_video.training.reproduce.reproduce_report import rows_dict
from colbert_video.training.run.recipe import load_recipe, recipe_names
from colbert_video.training.run.training_config import TrainingConfig


def test_the_main_results_are_all_datasets_with_all_backbones() -> None:
    main = [row for row in PAPER_ROWS if row.variant is None]
    assert [(row.dataset, row.backbone) for row in main] == [(d, b) for d in DATASETS for b in BACKBONES]
    for row in main:
        assert list(row.figures) == ["R@1", "R@5", "R@10", "nDCG@10"]
        assert row.source == MAIN
        assert row.figures["R@1"] < row.figures["R@5"] < row.figures["R@10"] < 100
        # One relevant video: each query's nDCG lies between its hit at 1 and its hit at 10.
        assert row.figures["R@1"] < 100 * row.figures["nDCG@10"] < row.figures["R@10"]


def test_figures_are_those_of_the_paper() -> None:
    assert find_row("msrvtt", "clip-b32").figures == {"R@1": 48.1, "R@5": 74.9, "R@10": 83.9, "nDCG@10": 0.652}
    assert find_row("activitynet", "siglip-b16").figures["nDCG@10"] == 0.656
    assert find_row("msrvtt", "clip-b32", "mms_v").source == "Table 3"
    assert zero_shot_rows("msrvtt", "ViT-B-32-quickgelu:openai")[0].figures["MnR"] == 41.6


def test_names_are_unique_and_recipes_exist() -> None:
    names = [row.name for row in PAPER_ROWS]
    assert len(set(names)) == len(names)
    assert {row.recipe for row in PAPER_ROWS} == {*recipe_names()} - {"toy"}


def test_recipes_are_of_the_backbones_that_rows_name() -> None:
    for row in PAPER_ROWS:
        model = load_recipe(row.recipe).model
        assert f"{model.backbone}:{model.pretrained}" == BACKBONES[row.backbone]


def test_ablations_change_settings_that_exist() -> None:
    training, model = ({field.name for field in fields(kind)} for kind in (TrainingConfig, ModelConfig))
    for row in PAPER_ROWS:
        assert row.training.keys() <= training
        assert row.model.keys() <= model
        assert (row.variant is None) == (row.source == MAIN)
        assert row.ran is None, "docs/reproduce.md must then say so too"


def test_zero_shot_rows_are_of_splits_and_models_that_exist() -> None:
    import open_clip

    known = {":".join(pair) for pair in open_clip.list_pretrained()}
    for row in ZERO_SHOT_ROWS:
        assert row.split_name in DATASETS[row.dataset].protocols
        assert row.model in known


def test_the_list_says_what_was_run() -> None:
    listed = rows_dict()
    assert len(listed["paper"]) == len(PAPER_ROWS)
    assert {row["ran"] for row in listed["paper"]} == {None}
    assert len(listed["zero_shot"]) == len(ZERO_SHOT_ROWS)


def test_the_page_has_every_row_with_its_command() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    for row in PAPER_ROWS:
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `{row.name}` |"))
        variant = "" if row.variant is None else f" --variant {row.variant}"
        assert f"`reproduce {row.dataset} --backbone {row.backbone}{variant}`" in line
        assert all(f"| {value} |" in line for value in row.figures.values())
        assert f"| {row.ran or 'no'} |" in line
    for one in ZERO_SHOT_ROWS:
        lines = [line for line in page.splitlines() if f"| `{one.model}` | {one.figures['R@1']} |" in line]
        assert any(one.source in line and one.note in line for line in lines)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("lsmdc", "clip-b32"), "no row for the dataset 'lsmdc'; choose msrvtt, msvd, vatex, didemo, activit"),
        (("msvd", "vit-g"), "no backbone 'vit-g'; choose clip-b32, clip-b16, siglip-b16"),
        (("msrvtt", "clip-b32", "mms"), "no variant 'mms'; choose mp_f, mp_v, mms_f"),
        (("msvd", "clip-b32", "mms_f"), "has no variant 'mms_f'; the paper's ablations are on msrvtt"),
    ],
)
def test_unknown_rows_are_refused(wanted: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_row(*wanted)
