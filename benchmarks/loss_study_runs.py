"""What the study of losses trains and measures: a loss with its scale and bias, for a number of steps, from one seed.

Each run is that of the ablations (`ablation_training`) with the image tower frozen, whose features are then computed once
for all runs. This is near to the paper, whose towers learn a thousand times slower than the new layers.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ablation_training import ENDLESS, Budget, Workshop, towers, toy_model, train, write_rows
from ablation_variants import Settings
from frozen_features import FrozenFeatures

from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.evaluation.evaluate import evaluate_model
from colbert_video.training.evaluation.gallery import encode_gallery, score_gallery
from colbert_video.training.evaluation.metrics import rank_relevant
from colbert_video.training.run.run_log import read_log
from colbert_video.training.run.source import ManifestData
from colbert_video.training.run.training_config import DataConfig, LossName, TrainingConfig
from colbert_video.training.world import write_world

VALIDATION_CLIPS = {"quick": 16, "full": 500}
"""Clips of the validation split by budget."""


@dataclass(frozen=True)
class LossRun:
    """One training."""

    loss: LossName
    scale: float
    """Factor on scores."""
    bias: float | Literal["calibrate"] | None
    """Added to them by sigmoid losses."""
    steps: int
    seed: int
    """Seed of new weights and of the order of clips."""

    @property
    def point(self) -> float | None:
        """Score at which a pair is as likely a match as not; None for InfoNCE and calibrated losses."""
        return -self.bias / self.scale if isinstance(self.bias, float) else None

    @property
    def name(self) -> str:
        """A folder's name."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    def config(self, budget: Budget) -> TrainingConfig:
        """The settings of its training."""
        frozen = TrainingConfig.__dataclass_fields__["freeze"].default
        return TrainingConfig(
            loss=self.loss,
            loss_scale=self.scale,
            loss_bias=self.bias,
            batch_size=budget.batch,
            max_steps=self.steps,
            epochs=ENDLESS,
            learning_rate=budget.learning_rate,
            pretrained_learning_rate=budget.pretrained_learning_rate,
            precision="fp32",
            freeze=(*frozen, "vision_tower"),
            seed=self.seed,
        )


@dataclass(frozen=True)
class LossFigures:
    """What a run was measured at."""

    run: LossRun
    validation: dict[str, float]
    """R@1 on validation clips by step, along the training."""
    points: dict[str, float]
    """Decision point by step, of sigmoid losses."""
    metrics: dict[str, float]
    """R@1, R@5, nDCG@10 and "motion pairs" on test clips; empty for runs that tune."""
    hits: str
    """"1" for every test caption whose clip comes first, "0" for others, in the manifest's order; "" for runs that tune."""
    cpu_seconds: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LossFigures":
        """Rebuild from `to_dict`."""
        return cls(**{**values, "run": LossRun(**values["run"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def last(self) -> float:
        """R@1 on validation clips at the end."""
        return self.validation[max(self.validation, key=int)]


@dataclass(frozen=True)
class LossShop:
    """The ablations' workshop and a validation split beside it."""

    shop: Workshop
    clips: int
    """Clips of the validation split."""
    features: FrozenFeatures = field(default_factory=FrozenFeatures)
    """Of the image tower that all runs have."""

    @property
    def manifest(self) -> Path:
        """Captions of training and validation clips."""
        return self.shop.folder / "loss-study.jsonl"

    def render(self) -> None:
        """Render what is missing."""
        self.shop.render()
        validation = self.shop.folder / "validation"
        if not validation.exists():
            staging = validation.with_suffix(".unfinished")
            shutil.rmtree(staging, ignore_errors=True)
            write_world(staging, count=self.clips, seed=0, split="validation", paired_fraction=0.5)
            staging.rename(validation)
        files = {"train": "captions-1.jsonl", "validation": "captions.jsonl"}
        write_rows(self.manifest, (row for split, name in files.items() for row in self._rows(split, name)))

    def _rows(self, split: str, name: str) -> list[dict[str, Any]]:
        lines = (self.shop.folder / split / name).read_text(encoding="utf-8").splitlines()
        return [{**row, "video": f"{split}/{row['video']}"} for row in map(json.loads, lines)]

    def test_pairs(self) -> str:
        """Numbers of the clips' pairs in the order of test captions, with spaces; clips of one pair show the same frames."""
        rows = read_manifest(self.shop.test_manifest)
        names = [row.group or row.video for row in rows]
        numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(names))}
        return " ".join(numbers[name] for name in names)

    def data(self) -> ManifestData:
        """Training and validation clips, in batches of clips that look alike."""
        return ManifestData(
            DataConfig(
                manifest=str(self.manifest),
                validation_split="validation",
                group_batches=True,
                workers=0,
                cache=str(self.shop.frames),
            )
        )


def measure_loss(shop: LossShop, run: LossRun, *, test: bool) -> LossFigures:
    """Train a run, and measure it on test clips if asked for; a run that tunes sees none of them."""
    started = time.process_time()
    chosen = {"num_frames": Settings().num_frames, "temporal_layers": Settings().temporal_layers}
    model = toy_model(chosen, seed=run.seed, weights=towers(shop.shop))
    backbone: Any = model.backbone
    backbone.frame_tokens = shop.features.around(backbone.frame_tokens)
    folder = shop.shop.folder / "loss-runs" / run.name
    train(model, run.config(shop.shop.budget), shop.data(), folder, shop.shop.device)
    validation, points = _curves(folder / "log.jsonl")
    shutil.rmtree(folder)
    metrics, hits = measure_test(model, shop.shop) if test else ({}, "")
    return LossFigures(run, validation, points, metrics, hits, round(time.process_time() - started, 1))


def _curves(log: Path) -> tuple[dict[str, float], dict[str, float]]:
    entries = read_log(log)
    validation = {str(entry["step"]): entry["metrics"]["R@1"] for entry in entries if "metrics" in entry}
    points = {
        str(entry["step"]): round(entry["decision_point"], 4)
        for entry in entries
        if "decision_point" in entry and str(entry["step"]) in validation
    }
    return validation, points


def measure_test(model: VideoColBERT, shop: Workshop) -> tuple[dict[str, float], str]:
    """Figures on test clips, and which captions find their clip first (a tie counts as found by none)."""
    rows, cache = read_manifest(shop.test_manifest), FrameCache(shop.frames)
    evaluation = evaluate_model(model, rows, interactions=["mms_fv"], cache=cache, workers=0)
    metrics = {name: evaluation.interactions["mms_fv"][name] for name in ("R@1", "R@5", "nDCG@10")}
    if evaluation.groups is not None:
        metrics["motion pairs"] = evaluation.groups.interactions["mms_fv"]["R@1"]
    return metrics, "".join("1" if hit else "0" for hit in first_hits(model, rows, cache))


def first_hits(model: VideoColBERT, rows: list[ManifestRow], cache: FrameCache) -> np.ndarray:
    """True for every caption whose clip comes first alone."""
    gallery, _ = encode_gallery(model, {row.video: row.path for row in rows}, cache=cache, workers=0)
    scores = score_gallery(model, [row.caption for row in rows], list(gallery.values()), ["mms_fv"])["mms_fv"]
    places = {video: place for place, video in enumerate(gallery)}
    ranks = rank_relevant(scores, torch.tensor([places[row.video] for row in rows]), resolution=0.0)
    return (ranks.better == 0) & (ranks.tied == 1)
