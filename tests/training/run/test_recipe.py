"""Recipes: YAML to settings, stages, overrides, and models of their own form."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TINY_CLIP

from colbert_video.errors import ColBERTVideoError, ModelError, SettingsError
from colbert_video.training.run.model_recipe import ModelRecipe, build_model, register_backbone
from colbert_video.training.run.recipe import load_recipe, parse_override, parse_recipe, recipe_names
from colbert_video.training.run.training_config import TrainingConfig

MINIMAL: dict[str, Any] = {"model": {"backbone": "ViT-B-32-quickgelu"}, "data": {"manifest": "captions.jsonl"}}
RECIPE = """
model:
  backbone: tiny-inline
  backbone_config: {embed_dim: 32, vision_cfg: {image_size: 32, layers: 1, width: 32, head_width: 32, patch_size: 16},
                    text_cfg: {context_length: 16, vocab_size: 49408, width: 32, heads: 1, layers: 2}}
  preprocess: {height: 32, width: 32, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], interpolation: bilinear}
  settings: {query_length: 12, num_frames: 4, temporal_layers: 2}
data: {manifest: captions.jsonl, validation_split: null, group_batches: true}
training:
  pretrained_learning_rate: 1e-4
  learning_rate: 2e-3
  freeze: []
  batch_size: 8
stages:
  - name: static warm-up
    data: {num_frames: 1}
    training: {interaction: mms_f, loss: dual_infonce, epochs: 1}
  - name: whole videos
"""


def test_a_recipe_with_stages(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "mine.yaml")
    static, whole = recipe.stages
    assert (static.name, whole.name) == ("static warm-up", "whole videos")
    assert (static.data.num_frames, whole.data.num_frames) == (1, None)
    assert static.training == TrainingConfig(
        interaction="mms_f",
        loss="dual_infonce",
        epochs=1,
        pretrained_learning_rate=1e-4,
        learning_rate=2e-3,
        freeze=(),
        batch_size=8,
    )
    assert (whole.training.interaction, whole.training.epochs) == ("mms_fv", 5)
    assert static.data.group_batches
    assert whole.data.validation_split is None


def test_a_backbone_of_its_own_form(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "mine.yaml").model
    before = torch.get_rng_state()
    model, again = (build_model(recipe, seed=3, device="cpu") for _ in range(2))
    other = build_model(recipe, seed=4, device="cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert (model.dim, model.config.query_length, model.config.num_frames) == (32, 12, 4)
    assert (model.config.preprocess.interpolation, model.config.preprocess.std) == ("bilinear", (0.25, 0.25, 0.25))
    weights, others = model.state_dict(), other.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items())
    assert not torch.equal(weights["temporal.expansion"], others["temporal.expansion"])
    model.mark_trained()
    model.save_pretrained(tmp_path / "saved")
    loaded = build_model(ModelRecipe(checkpoint=str(tmp_path / "saved")), device="cpu")
    assert loaded.fingerprint() == model.fingerprint()


def test_backbone_names_are_not_taken_over() -> None:
    register_backbone("tiny-registered", TINY_CLIP)
    register_backbone("tiny-registered", TINY_CLIP)
    with pytest.raises(SettingsError, match=r"'tiny-registered' is already the name of another model"):
        register_backbone("tiny-registered", {**TINY_CLIP, "embed_dim": 128})
    with pytest.raises(SettingsError, match=r"'ViT-B-32' is already the name of another model"):
        register_backbone("ViT-B-32", TINY_CLIP)
    with pytest.raises(SettingsError, match=r"backbone_config lacks vision_cfg, text_cfg"):
        register_backbone("new", {"embed_dim": 3})
    with pytest.raises(SettingsError, match=r"'../new' must consist of letters, digits"):
        register_backbone("../new", TINY_CLIP)


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**MINIMAL, section: {**MINIMAL.get(section, {}), **values}}


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ([], "no recipe is written here: it has sections such as model"),
        ({**MINIMAL, "trainig": {}}, "the recipe has no setting 'trainig'; did you mean 'training'"),
        (changed("training", epoch=3), "training has no setting 'epoch'; did you mean 'epochs'"),
        (changed("data", mainfest="x"), "data has no setting 'mainfest'; did you mean 'manifest'"),
        ({"model": MINIMAL["model"]}, "data lacks manifest"),
        (changed("training", epochs=2.5), "training.epochs=2.5 must be a whole number"),
        (changed("training", epochs=True), "training.epochs=True must be a whole number"),
        (changed("training", learning_rate="fast"), "training.learning_rate='fast' must be a number"),
        ({**MINIMAL, "data": 7, "world": {"train": 4, "validation": 2}}, "section .data. must be a mapping"),
        (changed("training", learning_rate=True), "training.learning_rate=True must be a number"),
        (changed("training", learning_rate=10**400), "training.learning_rate=1000.* must be a number"),
        (changed("training", freeze="class_token"), "training.freeze='class_token' must be a list"),
        (changed("training", grad_checkpointing="yes"), "training.grad_checkpointing='yes' must be true or false"),
        (changed("training", loss=3), "training.loss=3 must be text"),
        (changed("training", batch_size=1), "batch_size=1: a contrastive loss needs negatives"),
        ({**MINIMAL, "training": [1]}, r"section 'training' must be a mapping of settings, not \[1\]"),
        ({**MINIMAL, "stages": {"a": 1}}, "stages must be a list of mappings"),
        ({**MINIMAL, "stages": [{"model": {}}]}, "stage 1 has no setting 'model'"),
        ({**MINIMAL, "stages": [{"name": "a"}, {"name": "a"}]}, "stages are called a, a; give each its own name"),
        (changed("model", checkpoint="toy"), "model needs either a backbone or a checkpoint, and not both"),
        ({**MINIMAL, "model": {}}, "model needs either a backbone or a checkpoint"),
        ({**MINIMAL, "model": {"checkpoint": "toy", "settings": {"num_frames": 3}}}, "leave out settings"),
        (
            changed("model", settings={"num_frame": 3}),
            "model.settings has no setting 'num_frame'; did you mean 'num_frames'",
        ),
        (
            changed("model", settings={"num_frames": "three"}),
            "model.settings.num_frames='three' must be a whole number",
        ),
        (changed("model", settings={"interaction": "mms_f"}), "model.settings has no setting 'interaction'"),
        (
            changed("model", backbone_config=TINY_CLIP, pretrained="openai"),
            "a backbone of its own form has no published",
        ),
        (
            {**MINIMAL, "world": {"train": 4, "validation": 4}},
            "either data.manifest or a world to render, and not both",
        ),
        ({"model": MINIMAL["model"], "world": {"train": 4, "validation": 1}}, "world.validation=1 must be at least 2"),
    ],
)
def test_what_recipes_may_not_say(recipe: Any, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        parse_recipe(recipe)


def test_an_incomplete_preprocessing_is_refused() -> None:
    recipe = parse_recipe(changed("model", preprocess={"height": 32})).model
    with pytest.raises(SettingsError, match=r"model.preprocess lacks width, mean, std, interpolation"):
        build_model(recipe, device="cpu")
    with pytest.raises(ModelError, match="open_clip has no model 'ViT-B-3'"):
        build_model(ModelRecipe(backbone="ViT-B-3"), device="cpu")


def test_overrides_reach_every_stage() -> None:
    recipe = {**MINIMAL, "stages": [{"name": "a", "training": {"epochs": 3}}, {"name": "b"}]}
    overrides = dict(map(parse_override, ["training.epochs=7", "data.workers=0", "training.freeze=[class_token]"]))
    parsed = parse_recipe(recipe, overrides=overrides)
    assert [stage.training.epochs for stage in parsed.stages] == [7, 7]
    assert [stage.data.workers for stage in parsed.stages] == [0, 0]
    assert parsed.stages[0].training.freeze == ("class_token",)
    with pytest.raises(
        SettingsError, match=r"override 'epochs' must start with 'model.', 'data.', 'training.' or 'world.'"
    ):
        parse_recipe(recipe, overrides={"epochs": 7})
    with pytest.raises(SettingsError, match=r"override 'training.epochs' must have the form section.setting=value"):
        parse_override("training.epochs")
    with pytest.raises(SettingsError, match=r"override 'training.freeze=\[' is no YAML"):
        parse_override("training.freeze=[")


def test_a_manifest_takes_the_place_of_the_world() -> None:
    recipe = {"model": MINIMAL["model"], "world": {"train": 4, "validation": 4}}
    assert parse_recipe(recipe).world is not None
    own = parse_recipe(recipe, overrides={"data.manifest": "mine.csv"})
    assert (own.world, own.stages[0].data.manifest) == (None, "mine.csv")


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no recipe 'msrvtt-clip-b23', neither as a file nor by name"):
        load_recipe("msrvtt-clip-b23")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    with pytest.raises(SettingsError, match=r"broken.yaml is no YAML"):
        load_recipe(broken)
    broken.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match=r"broken.yaml cannot be read"):
        load_recipe(broken)
    broken.write_text("model: {backbone: x}\ndata: {manifest: a, splits: 3}")
    with pytest.raises(SettingsError, match=r"broken.yaml: data has no setting 'splits'"):
        load_recipe(broken)


def test_shipped_recipes_load() -> None:
    for name in recipe_names():
        assert load_recipe(name).stages, name


@pytest.mark.parametrize(
    "text",
    ["data: {manifest: a.jsonl}\ntraining: {epochs: 1, epochs: 2}\n", "data: {manifest: a}\ndata: {manifest: b}\n"],
)
def test_a_setting_that_comes_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text("model: {backbone: tiny}\n" + text)
    with pytest.raises(SettingsError, match="comes twice"):
        load_recipe(tmp_path / "r.yaml")


def test_yaml_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("[" * 20_000)
    with pytest.raises(SettingsError, match=r"r\.yaml is"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_recipe_comes_through_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, RECIPE.encode())
    os.close(write)
    recipe = load_recipe(f"/dev/fd/{read}", overrides={"training.epochs": 3})
    os.close(read)
    assert [stage.name for stage in recipe.stages] == ["static warm-up", "whole videos"]
    assert recipe.stages[1].training.epochs == 3


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no recipe"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"query_length": 100}}, r"^model\.settings\.query_length=100, but tiny-clip reads at most 32"),
        ({"settings": {"query_length": 2}}, r"^model\.settings\.query_length=2 must be at least 3"),
        ({"settings": {"expansion_tokens": 5000}}, r"^model\.settings\.expansion_tokens=5000 must be at most 1024"),
        (
            {
                "preprocess": {
                    "height": 64,
                    "width": 64,
                    "mean": [0.5] * 3,
                    "std": [0.5] * 3,
                    "interpolation": "bicubic",
                }
            },
            r"^model\.preprocess has pictures of 64×64",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_named_as_the_recipe_writes_it(
    change: dict[str, Any], message: str, tiny_names: Any, tmp_path: Path
) -> None:
    with pytest.raises(ColBERTVideoError, match=message):
        build_model(ModelRecipe(backbone=tiny_names.clip, **change))
    saved = build_model(ModelRecipe(backbone=tiny_names.clip))
    saved.save_pretrained(tmp_path / "m")
    with pytest.raises(ColBERTVideoError, match=message):
        build_model(ModelRecipe(backbone=tiny_names.clip, pretrained=str(tmp_path / "m"), **change))
