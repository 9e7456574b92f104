"""Training Video-ColBERT (Reddy et al., CVPR 2025): dual sigmoid loss, data, evaluation and a synthetic world."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colbert_video.training.run.source import ManifestData as ManifestData
    from colbert_video.training.run.trainer import Trainer as Trainer
    from colbert_video.training.run.trainer import TrainingResult as TrainingResult
    from colbert_video.training.run.training_config import DataConfig as DataConfig
    from colbert_video.training.run.training_config import TrainingConfig as TrainingConfig

_HOMES = {
    "DataConfig": "colbert_video.training.run.training_config",
    "ManifestData": "colbert_video.training.run.source",
    "Trainer": "colbert_video.training.run.trainer",
    "TrainingConfig": "colbert_video.training.run.training_config",
    "TrainingResult": "colbert_video.training.run.trainer",
}
__all__ = ["DataConfig", "ManifestData", "Trainer", "TrainingConfig", "TrainingResult"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the synthetic world alone needs no torch."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'colbert_video.training' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(import_module(_HOMES[name]), name)
