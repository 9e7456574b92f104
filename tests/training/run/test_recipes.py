"""The recipes that ship in the package: each loads against the real settings and trains two steps on a tiny model."""

import copy
import json
from pathlib import Path

import pytest
from thorough import cases

from colbert_video import VideoColBERT
from colbert_video.training.run.recipe import StageRecipe, load_recipe, recipe_names
from colbert_video.training.run.recipe_run import run_recipe
from colbert_video.training.run.source import ManifestData
from colbert_video.training.run.trainer import Trainer
from colbert_video.training.world import write_world

DATASETS = ("msrvtt", "msvd", "vatex", "didemo", "activitynet")
BACKBONES = ("clip-b32", "clip-b16", "siglip-b16")
PAPER = [f"{dataset}-{backbone}" for dataset in DATASETS for backbone in BACKBONES]
EVERY_PART = [f"{dataset}-{BACKBONES[number % len(BACKBONES)]}" for number, dataset in enumerate(DATASETS)]
"""Each dataset and each backbone at least once."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training clips and two for validation."""
    folder = tmp_path_factory.mktemp("recipes")
    clips = write_world(folder / "clips", count=6, seed=2, split="train", frames=12)
    rows = [
        {"video": f"clips/{clip.path.name}", "caption": clip.caption, "split": "train" if number < 4 else "val"}
        for number, clip in enumerate(clips)
    ]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_row_of_the_paper_has_a_recipe() -> None:
    assert set(recipe_names()) == {*PAPER, "toy"}


def load_small(name: str, manifest: Path) -> StageRecipe:
    """The one stage of a recipe, for few steps on the clips of the manifest."""
    small = {
        "data.manifest": str(manifest),
        "data.num_frames": 2,
        "data.workers": 0,
        "training.batch_size": 4,
        "training.max_steps": 2,
    }
    (stage,) = load_recipe(name, overrides=small).stages
    return stage


@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_is_read(name: str, manifest: Path) -> None:
    stage = load_small(name, manifest)
    assert (stage.data.manifest, stage.training.max_steps) == (str(manifest), 2)


@pytest.mark.parametrize("name", cases(EVERY_PART, thorough=[name for name in PAPER if name not in EVERY_PART]))
def test_two_steps(name: str, manifest: Path, tmp_path: Path, tiny_model: VideoColBERT) -> None:
    stage = load_small(name, manifest)
    trainer = Trainer(
        copy.deepcopy(tiny_model), stage.training, ManifestData(stage.data), output=tmp_path / "run", device="cpu"
    )
    result = trainer.train()
    assert result.steps == 2
    assert VideoColBERT.from_pretrained(result.model, device="cpu").config.trained


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "frames", "length"),
    [
        ("msrvtt-clip-b32", 5, 256, 12, 32),
        ("msrvtt-clip-b16", 5, 128, 12, 32),
        ("vatex-siglip-b16", 10, 128, 12, 64),
        ("didemo-clip-b32", 20, 64, 64, 64),
        ("activitynet-siglip-b16", 20, 64, 64, 64),
    ],
)
def test_the_papers_settings(name: str, epochs: int, batch: int, frames: int, length: int) -> None:
    recipe = load_recipe(name)
    training = recipe.stages[0].training
    assert (training.epochs, training.batch_size) == (epochs, batch)
    assert (recipe.model.settings["num_frames"], recipe.model.settings["query_length"]) == (frames, length)
    assert (training.learning_rate, training.pretrained_learning_rate) == (1e-4, 1e-7)
    assert (training.loss, training.learnable_loss) == ("dual_sigmoid", False)


def test_the_toy_recipe_trains_its_own_backbone(manifest: Path, tmp_path: Path) -> None:
    small = {"data.workers": 0, "training.batch_size": 4, "training.max_steps": 1, "data.validation_split": "val"}
    recipe = load_recipe("toy", overrides={"data.manifest": str(manifest), **small})
    results = run_recipe(recipe, tmp_path / "run", device="cpu")
    assert list(results) == ["contrast", "sigmoid"]
    model = VideoColBERT.from_pretrained(results["sigmoid"].model, device="cpu")
    assert (model.dim, model.config.backbone, model.config.trained) == (64, "toy", True)
