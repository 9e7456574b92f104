"""A Video-ColBERT as a module of sentence-transformers, for its trainers, losses and evaluators of multi-vector models."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from colbert_video.errors import DependencyError, SettingsError, shown
from colbert_video.model.video_colbert import VideoColBERT

try:
    from sentence_transformers.base.modules import InputModule
except ImportError as missing:
    raise DependencyError(
        'VideoColBERTModule needs sentence-transformers; install it with: pip install "colbert_video[sentence-transformers]".'
    ) from missing


class VideoColBERTModule(InputModule):
    """Texts become query tokens, frames and videos frame tokens: `MultiVectorEncoder(modules=[VideoColBERTModule(model)])`.

    Its documents are frames (PIL images) and videos (RGB bytes (frames, height, width, 3)); video tokens, for which bags are
    kept apart, have no place in it. Set `similarity_fn_name="meanmaxsim"` for our scores.

    Args:
        model: The model, which losses train in place. An untrained one has the pooled token of a query alone.
    """

    save_in_root = False

    def __init__(self, model: VideoColBERT) -> None:
        super().__init__()
        self.model = model

    @property
    def modalities(self) -> list[Any]:
        """What may be encoded."""
        return ["text", "image", "video"]

    def get_embedding_dimension(self) -> int:
        """Return the dimensions of every token."""
        return self.model.dim

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Turn texts into ids, or frames and videos into pixels.

        Raises:
            SettingsError: If a batch holds texts beside pictures, or something else.
        """
        if all(isinstance(one, str) for one in inputs):
            batch = self.model.tokenize([(prompt or "") + text for text in inputs])
            scored = batch.scored
            if self.model.searches_pooled:
                scored = torch.zeros_like(scored).scatter_(1, batch.pooled[:, None], True)
            return {"input_ids": batch.ids, "attention_mask": scored}
        stacks = [self._pixels(one) for one in inputs]  # (frames, 3, height, width) each
        lengths = torch.tensor([len(stack) for stack in stacks])
        pixels = nn.utils.rnn.pad_sequence(stacks, batch_first=True)  # (videos, frames, 3, height, width)
        return {"pixel_values": pixels, "attention_mask": torch.arange(pixels.shape[1]) < lengths[:, None]}

    def _pixels(self, picture: Any) -> Tensor:
        if isinstance(picture, dict):
            picture = picture.get("array")
        frames = np.asarray(picture.convert("RGB") if hasattr(picture, "convert") else picture)
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise SettingsError(
                f"{shown(picture)} is neither a text, nor a picture, nor RGB bytes (frames, height, width, 3); a batch holds "
                "texts alone, or pictures and videos alone."
            )
        return self.model.config.preprocess.to_pixels(frames, device=torch.device("cpu"))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return the features with `token_embeddings` (inputs, tokens, dim), unit vectors, and the mask of those scored."""
        mask = features["attention_mask"].bool()
        if "pixel_values" in features:
            pixels = features["pixel_values"]
            made = self.model.backbone.frame_tokens(pixels[mask]).float()  # (real frames, dim)
            tokens = made.new_zeros(*mask.shape, self.model.dim).masked_scatter(mask[..., None], made)
            tokens = nn.functional.normalize(tokens, dim=-1)
        else:
            tokens = self.model.embed_queries(features["input_ids"])
        return {**features, "token_embeddings": tokens, "attention_mask": mask.long()}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Save the model as a checkpoint, which `VideoColBERT.from_pretrained` loads too."""
        self.model.save_pretrained(output_path)

    @classmethod
    def load(  # type: ignore[override]
        cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> "VideoColBERTModule":
        """Load what `save` wrote into a folder."""
        return cls(VideoColBERT.from_pretrained(Path(model_name_or_path) / subfolder))
