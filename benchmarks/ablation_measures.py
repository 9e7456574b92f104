"""What is measured of a trained model: retrieval on the test split, motion pairs, and R@1 by the length of the query."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from ablation_training import Workshop, tuned_model
from ablation_variants import Settings
from jaxtyping import Float
from torch import Tensor

from colbert_video.model.interaction import Interaction
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.evaluation.evaluate import evaluate_model
from colbert_video.training.evaluation.gallery import encode_gallery, score_gallery
from colbert_video.training.evaluation.metrics import retrieval_metrics

METRICS = ("R@1", "R@5", "nDCG@10")
LENGTHS = {"short": (0, 14), "medium": (15, 16), "long": (17, 99)}
"""Least and most tokens of a caption, start and end of text included."""


@dataclass(frozen=True)
class Measurement:
    """A trained model's figures."""

    seed: int
    """Seed of new weights and of the order of clips."""
    settings: Settings
    """What it was trained with."""
    metrics: dict[str, dict[str, float]]
    """R@1, R@5, nDCG@10 and "motion pairs" by interaction; shares in [0, 1]."""
    by_length: dict[str, dict[str, float]]
    """R@1 of short, medium and long captions by interaction."""
    cpu_seconds: float
    """Time that processors worked on training and evaluation."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Measurement":
        """Rebuild from `to_dict`."""
        return cls(**{**values, "settings": Settings(**values["settings"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(shop: Workshop, settings: Settings, seed: int) -> Measurement:
    """Train the model of a run and measure it on the test split."""
    started = time.process_time()
    model = tuned_model(shop, settings, seed)
    names = interactions_of(settings)
    rows = read_manifest(shop.test_manifest)
    cache = FrameCache(shop.frames)
    evaluation = evaluate_model(model, rows, interactions=names, cache=cache, workers=0)
    metrics = {name: {metric: values[metric] for metric in METRICS} for name, values in evaluation.interactions.items()}
    if evaluation.groups is not None:
        for name, values in evaluation.groups.interactions.items():
            metrics[name]["motion pairs"] = values["R@1"]
    by_length = recall_by_length(model, rows, names, cache)
    return Measurement(seed, settings, metrics, by_length, round(time.process_time() - started, 1))


def interactions_of(settings: Settings) -> list[Interaction]:
    """How a run is scored: as trained, and the default's two levels also fused by their ranks."""
    return ["mms_fv", "rrf"] if settings.interaction == "mms_fv" else [settings.interaction]


def recall_by_length(
    model: VideoColBERT, rows: list[ManifestRow], names: list[Interaction], cache: FrameCache
) -> dict[str, dict[str, float]]:
    """R@1 of short, medium and long captions, each against the whole gallery."""
    gallery, _ = encode_gallery(model, {row.video: row.path for row in rows}, cache=cache, workers=0)
    captions = [row.caption for row in rows]
    scores = score_gallery(model, captions, list(gallery.values()), names)
    places = {video: place for place, video in enumerate(gallery)}
    relevant = torch.tensor([places[row.video] for row in rows])  # (queries,)
    lengths = torch.tensor(token_counts(model, captions))  # (queries,)
    return {name: _by_bucket(matrix, relevant, lengths) for name, matrix in scores.items()}


def token_counts(model: VideoColBERT, captions: list[str]) -> list[int]:
    """Tokens of each caption without padding, start and end of text included."""
    batch = model.backbone.tokenize(captions, length=model.config.query_length)
    return batch.content.sum(dim=1).tolist()


def _by_bucket(scores: Float[Tensor, "queries videos"], relevant: Tensor, lengths: Tensor) -> dict[str, float]:
    found = {}
    for name, (least, most) in LENGTHS.items():
        chosen = (lengths >= least) & (lengths <= most)  # (queries,)
        if chosen.any():
            found[name] = retrieval_metrics(scores[chosen], relevant[chosen])["R@1"]
    return found
