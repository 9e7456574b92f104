"""A model in the Massive Text Embedding Benchmark (https://github.com/embeddings-benchmark/mteb): text-to-video retrieval.

MTEB's encoders return one vector for each input, ours return bags of tokens that MeanMaxSim compares. So this is one of
MTEB's search models, which get the whole corpus and return scores. Frames are read by this library's own sampling,
the centres of TSN segments, from the files that the dataset stores; the scores are those of `evaluate_model`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from colbert_video.base.checks import whole_number
from colbert_video.ecosystem.huggingface import dataset_videos
from colbert_video.errors import DependencyError, SettingsError
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.interaction import best_first
from colbert_video.model.loading import Model, ModelChoice
from colbert_video.model.precision import Precision
from colbert_video.model.tokens import VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.evaluation.gallery import (
    Scoring,
    applicable_interactions,
    encode_gallery,
    own_interaction,
    score_gallery,
)

logger = logging.getLogger(__name__)

VIDEOS_AT_ONCE = 256
"""Rows of a corpus whose videos are in a temporary folder at the same time."""


class VideoColBERTEncoder:
    """A Video-ColBERT model for `mteb.evaluate(encoder, tasks)`; implements MTEB's SearchProtocol.

    Supports tasks that retrieve videos by text (category t2v, and reranking); others end with an error of MTEB or this
    class. Instructions are not read, and no prompt is added.

    Args:
        model: The encoder, or a name for `load_encoder`.
        name: "organisation/model" for MTEB's results; None for the model's own name.
        interaction: Score of the bags; None for the model's own.
        num_frames: Frames of a video; None for the model's own number.
        workers: Decoding processes; None for one per core, 0 to decode in this process.
        precision: Precision in which the model computes; None for "auto", and for that of an encoder in memory.

    Raises:
        DependencyError: If mteb is not installed.
        SettingsError: If the model cannot score by the interaction.

    Attributes:
        mteb_model_meta: Description that MTEB stores with results.
        refused: Reasons why videos of the last corpus could not be read, by id. They are never found, so their queries
            count as failed.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str | None = None,
        interaction: Scoring | None = None,
        num_frames: int | None = None,
        workers: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.model = cast("VideoEncoder", ModelChoice.from_given(model, precision=precision).load(None))
        (self.interaction,) = applicable_interactions(self.model, [interaction or own_interaction(self.model)])
        self.num_frames = num_frames
        self.workers = workers
        self.mteb_model_meta = _describe(self.model, name, self.interaction)
        self.refused: dict[str, str] = {}
        self._gallery: dict[str, VideoTokens] = {}

    def index(self, corpus: Any, **task: Any) -> None:
        """Encode the videos of a corpus.

        Args:
            corpus: A dataset with the columns "id" and "video".
            **task: Description of the task; not read.

        Raises:
            SettingsError: If the corpus holds no videos.
        """
        if "video" not in corpus.column_names:
            raise SettingsError(
                f"the corpus has the columns {', '.join(corpus.column_names)} and no 'video'; this model retrieves videos."
            )
        self._gallery, self.refused = {}, {}
        for start in range(0, len(corpus), VIDEOS_AT_ONCE):
            part = corpus.select(range(start, min(start + VIDEOS_AT_ONCE, len(corpus))))
            self._encode(part.select_columns(["id", "video"]))
        if self.refused:
            listed = "; ".join(f"{video}: {reason}" for video, reason in [*self.refused.items()][:5])
            logger.warning("%d videos of the corpus cannot be read: %s", len(self.refused), listed)

    def _encode(self, rows: Any) -> None:
        with TemporaryDirectory(prefix="colbert-video-mteb-") as folder:
            records = dataset_videos(rows, media=folder, id="id", metadata=[])
            files = {record.id: Path(record.path) for record in records}
            encoded, refused = encode_gallery(self.model, files, num_frames=self.num_frames, workers=self.workers)
        self._gallery |= encoded
        self.refused |= {video: f"{error.kind.value}: {error.detail}" for video, error in refused.items()}

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, list[str]] | None = None, **task: Any
    ) -> dict[str, dict[str, float]]:
        """Score queries against the corpus.

        Args:
            queries: A dataset with the columns "id" and "text".
            top_k: Limit of videos for each query.
            top_ranked: Videos that each query may find, by query id; None for all.
            **task: Description of the task; not read.

        Returns:
            Score by video id by query id.

        Raises:
            SettingsError: If the queries are not texts, or no corpus was indexed.
        """
        texts = [*queries["text"]] if "text" in queries.column_names else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise SettingsError("the queries have no text; this model reads only texts.")
        if not self._gallery:
            raise SettingsError("no video of the corpus is encoded; index a corpus first, with videos that play.")
        scores = score_gallery(self.model, texts, [*self._gallery.values()], [self.interaction])
        return self._best(scores[self.interaction], [*map(str, queries["id"])], top_k, top_ranked)

    def _best(
        self,
        scores: Float[Tensor, "queries videos"],
        queries: list[str],
        top_k: int,
        top_ranked: Mapping[str, list[str]] | None,
    ) -> dict[str, dict[str, float]]:
        videos = [*self._gallery]
        columns = {video: column for column, video in enumerate(videos)}
        found = {}
        for query, row in zip(queries, scores, strict=True):
            allowed = videos if top_ranked is None else [v for v in top_ranked.get(query, []) if v in columns]
            chosen = torch.tensor([columns[video] for video in allowed], dtype=torch.int64, device="cpu")
            own = row[chosen]  # (allowed,)
            best = best_first(own, whole_number("top_k", top_k, least=1)).tolist()
            found[query] = {allowed[column]: float(own[column]) for column in best}
        return found


def _describe(model: VideoEncoder, name: str | None, interaction: str) -> Any:
    try:
        from mteb.models.model_meta import ModelMeta, ScoringFunction
    except ImportError as error:
        raise DependencyError(
            'VideoColBERTEncoder needs mteb; install it with: pip install "colbert_video[mteb]".'
        ) from error
    known = name or model.name or (model.config.backbone if isinstance(model, VideoColBERT) else type(model).__name__)
    parameters = sum(weights.numel() for weights in model.parameters()) if isinstance(model, nn.Module) else None
    return ModelMeta.create_empty(
        {
            "name": known if known.count("/") == 1 else f"colbert_video/{Path(known).name}",
            "revision": model.fingerprint()[:16],
            "n_parameters": parameters,
            "embed_dim": model.dim,
            "max_tokens": float(model.config.query_length) if isinstance(model, VideoColBERT) else None,
            "similarity_fn_name": ScoringFunction.MAX_SIM,
            "framework": ["PyTorch"],
            "languages": ["eng-Latn"],
            "use_instructions": False,
            "modalities": ["text", "video"],
            "model_type": ["late-interaction"],
            "reference": "https://arxiv.org/abs/2503.19009",
            "experiment_kwargs": {"interaction": interaction},
        }
    )
