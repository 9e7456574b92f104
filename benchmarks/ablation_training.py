"""How a run of the ablations is trained: the rendered world, the towers to start from, and fine-tuning.

The paper starts from CLIP, which knows still pictures. In its place stand the image and text towers of the shipped toy
checkpoint. Each run puts a temporal transformer on them that is copied from the text tower, as in the paper, and is
trained briefly on whole videos. Everything is trained by `Trainer`, as any recipe is.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ablation_variants import Settings
from reports import arguments

from colbert_video.device import resolve_device
from colbert_video.errors import SettingsError
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.model_recipe import build_model
from colbert_video.training.run.recipe import load_recipe
from colbert_video.training.run.source import ManifestData
from colbert_video.training.run.trainer import Trainer
from colbert_video.training.run.training_config import DataConfig, TrainingConfig
from colbert_video.training.world import Scene, WorldClip, write_world

ENDLESS = 10**6
"""Epochs; `max_steps` ends a run."""
SIGMOID: dict[str, Any] = {"loss_scale": 30.0, "loss_bias": -20.0}
"""Scale and bias: a pair is as likely a match as not at a score of 2/3."""
INFONCE: dict[str, Any] = {"loss_scale": 20.0}
"""Scale."""


@dataclass(frozen=True)
class Budget:
    """How much is rendered and trained."""

    train_clips: int
    """Clips to train on."""
    test_clips: int
    """Clips of the test split, half of them in motion pairs."""
    steps: int
    """Steps of each run."""
    batch: int
    """Captions of each of them."""
    learning_rate: float = 1e-3
    """Peak learning rate of the temporal transformer."""
    pretrained_learning_rate: float = 6e-4
    """Peak learning rate of the towers."""


BUDGETS = {
    "quick": Budget(train_clips=48, test_clips=16, steps=2, batch=16),
    "full": Budget(train_clips=4000, test_clips=500, steps=120, batch=64),
}


@dataclass(frozen=True)
class Workshop:
    """Where everything that can be made again is kept, for one budget."""

    folder: Path
    """World, decoded frames, towers, and the run under way."""
    budget: Budget
    """How much is rendered and trained."""
    device: str | None = None
    """"cpu", or None for a GPU if there is one."""

    @property
    def test_manifest(self) -> Path:
        """Captions of the test split."""
        return self.folder / "test" / "captions.jsonl"

    @property
    def frames(self) -> Path:
        """The cache of decoded frames."""
        return self.folder / "frames"

    def render(self) -> None:
        """Render the world, unless that was done before; each split appears when it is complete.

        Raises:
            SettingsError: If the folder belongs to another budget.
        """
        self._claim()
        for split, count in (("test", self.budget.test_clips), ("train", self.budget.train_clips)):
            if (self.folder / split).exists():
                continue
            staging = self.folder / f"{split}.unfinished"
            shutil.rmtree(staging, ignore_errors=True)
            paired = 0.6 if split == "train" else 0.5
            clips = write_world(staging, count=count, seed=0, split=split, paired_fraction=paired)
            if split == "train":
                for captions in (1, 2):
                    write_rows(staging / f"captions-{captions}.jsonl", training_rows(clips, captions))
            staging.rename(self.folder / split)

    def _claim(self) -> None:
        """What is kept fits one budget alone."""
        described = self.folder / "budget.json"
        budget = asdict(self.budget)
        if not described.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            described.write_text(json.dumps(budget), encoding="utf-8")
        if json.loads(described.read_text(encoding="utf-8")) != budget:
            raise SettingsError(f"{self.folder} holds what another budget left; remove it or choose another --cache.")

    def data(self, captions: int = 1) -> ManifestData:
        """Training data, in batches of clips that look alike, so that motion has to be learnt."""
        return ManifestData(
            DataConfig(
                manifest=str(self.folder / "train" / f"captions-{captions}.jsonl"),
                validation_split=None,
                group_batches=True,
                workers=0,
                cache=str(self.frames),
            )
        )


def training_rows(clips: Iterable[WorldClip], captions: int) -> Iterator[dict[str, str | None]]:
    """Manifest rows with one or two wordings of each clip; clips of one look form a group."""
    for clip in clips:
        for caption in wordings(clip.scene)[:captions]:
            yield {**clip.row, "caption": caption, "group": clip.scene.look}


def wordings(scene: Scene) -> list[str]:
    """Two captions of one scene in different words; both are true of the clip."""
    return [scene.caption, replace(scene, variation=scene.variation + 1).caption]


def write_rows(path: Path, rows: Iterable[dict[str, str | None]]) -> None:
    """Write a manifest."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def towers(shop: Workshop) -> Path:
    """The weights that all runs start from.

    Returns:
        The file of the shipped checkpoint's image and text towers.
    """
    weights = shop.folder / "towers.pt"
    if not weights.is_file():
        toy = VideoColBERT.from_pretrained("toy", device="cpu")
        torch.save(toy.backbone.clip.state_dict(), weights.with_suffix(".unfinished"))
        weights.with_suffix(".unfinished").rename(weights)
    return weights


def tuned_model(shop: Workshop, settings: Settings, seed: int) -> VideoColBERT:
    """The model of one run: the towers with a new temporal transformer, trained as the settings say."""
    fields = ("query_augmentation", "pad_id", "num_frames", "temporal_layers")
    chosen = {name: getattr(settings, name) for name in fields}
    model = toy_model(chosen, seed=seed, weights=towers(shop))
    if not settings.tuned:
        model.mark_trained()
        return model.to(resolve_device(shop.device))
    folder = shop.folder / "runs" / run_name(settings, seed)
    train(model, training_config(shop.budget, settings, seed), shop.data(settings.captions), folder, shop.device)
    shutil.rmtree(folder)
    return model


def training_arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all studies that train toy models."""
    parser = arguments(description)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", choices=BUDGETS, default="full")
    parser.add_argument("--output", type=Path, help="JSON file of the figures")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "colbert-video-ablations",
        help="folder of clips and decoded frames",
    )
    parser.add_argument("--threads", type=int, default=1, help="1 is fastest for models this small")
    parser.add_argument("--device", help="cpu; by default a GPU if there is one")
    return parser


def training_config(budget: Budget, settings: Settings, seed: int) -> TrainingConfig:
    """How a run is trained: the paper's schedule, frozen embeddings included, at learning rates that suit the toy."""
    return TrainingConfig(
        interaction=settings.interaction,
        loss=settings.loss,
        labels=settings.labels,  # type: ignore[arg-type]
        **loss_settings(settings),
        batch_size=budget.batch,
        max_steps=budget.steps,
        epochs=ENDLESS,
        learning_rate=budget.learning_rate,
        pretrained_learning_rate=budget.pretrained_learning_rate,
        precision="fp32",
        seed=seed,
    )


def loss_settings(settings: Settings) -> dict[str, Any]:
    """Scale and bias; a combined loss sees the sum of two scores, so half the scale keeps its point of decision."""
    values = {**(SIGMOID if settings.loss.endswith("sigmoid") else INFONCE)}
    if settings.loss.startswith("combined"):
        values["loss_scale"] /= 2
    if settings.calibrated:
        values["loss_bias"] = "calibrate"
    return values


def toy_model(settings: dict[str, Any], *, seed: int, weights: Path) -> VideoColBERT:
    """The toy recipe's model with the weights of a file and other settings."""
    recipe = load_recipe("toy").model
    settings = {**recipe.settings, **settings}
    return build_model(replace(recipe, pretrained=str(weights), settings=settings), seed=seed, device="cpu")


def train(model: VideoColBERT, config: TrainingConfig, data: ManifestData, folder: Path, device: str | None) -> None:
    """Train to the end, going on with what an interrupted command left in the folder."""
    Trainer(model, config, data, output=folder, resume=True, device=device).train()


def run_name(settings: Settings, seed: int) -> str:
    """A folder's name for a run."""
    text = json.dumps(asdict(settings), sort_keys=True)
    return f"seed-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
