"""Training Video-ColBERT (Reddy et al., CVPR 2025): losses, data, evaluation and a synthetic world.

`run` trains, `evaluation` measures, `datasets` makes manifests, `world` renders clips, `reproduce` repeats the paper's rows.
This room uses the model, `indexing` and `search`; the command line uses it.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.training.data.frame_cache import FrameCache as FrameCache
    from colbert_video.training.data.manifest import ManifestRow as ManifestRow
    from colbert_video.training.data.manifest import read_manifest as read_manifest
    from colbert_video.training.evaluation.evaluate import caption_queries as caption_queries
    from colbert_video.training.evaluation.evaluate import evaluate as evaluate
    from colbert_video.training.evaluation.evaluate import evaluate_index as evaluate_index
    from colbert_video.training.evaluation.evaluate import evaluate_model as evaluate_model
    from colbert_video.training.evaluation.evaluate import evaluate_run as evaluate_run
    from colbert_video.training.evaluation.evaluate import evaluate_toy as evaluate_toy
    from colbert_video.training.evaluation.evaluation import Evaluation as Evaluation
    from colbert_video.training.evaluation.metrics import retrieval_metrics as retrieval_metrics
    from colbert_video.training.evaluation.trec_folder import TrecFolder as TrecFolder
    from colbert_video.training.run.losses import CombinedInfoNCELoss as CombinedInfoNCELoss
    from colbert_video.training.run.losses import CombinedSigmoidLoss as CombinedSigmoidLoss
    from colbert_video.training.run.losses import DualInfoNCELoss as DualInfoNCELoss
    from colbert_video.training.run.losses import DualSigmoidLoss as DualSigmoidLoss
    from colbert_video.training.run.recipe import load_recipe as load_recipe
    from colbert_video.training.run.recipe_run import train_recipe as train_recipe
    from colbert_video.training.run.source import ManifestData as ManifestData
    from colbert_video.training.run.source import TrainingData as TrainingData
    from colbert_video.training.run.trainer import Trainer as Trainer
    from colbert_video.training.run.trainer import TrainingResult as TrainingResult
    from colbert_video.training.run.training_config import DataConfig as DataConfig
    from colbert_video.training.run.training_config import TrainingConfig as TrainingConfig

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.training.data.frame_cache": ["FrameCache"],
        "colbert_video.training.data.manifest": ["ManifestRow", "read_manifest"],
        "colbert_video.training.evaluation.evaluate": [
            "caption_queries",
            "evaluate",
            "evaluate_index",
            "evaluate_model",
            "evaluate_run",
            "evaluate_toy",
        ],
        "colbert_video.training.evaluation.evaluation": ["Evaluation"],
        "colbert_video.training.evaluation.metrics": ["retrieval_metrics"],
        "colbert_video.training.evaluation.trec_folder": ["TrecFolder"],
        "colbert_video.training.run.losses": [
            "CombinedInfoNCELoss",
            "CombinedSigmoidLoss",
            "DualInfoNCELoss",
            "DualSigmoidLoss",
        ],
        "colbert_video.training.run.recipe": ["load_recipe"],
        "colbert_video.training.run.recipe_run": ["train_recipe"],
        "colbert_video.training.run.source": ["ManifestData", "TrainingData"],
        "colbert_video.training.run.trainer": ["Trainer", "TrainingResult"],
        "colbert_video.training.run.training_config": ["DataConfig", "TrainingConfig"],
    },
)
