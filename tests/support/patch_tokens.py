"""A module of sentence-transformers whose tokens are known; it imports that package."""

import zlib
from typing import Any

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import InputModule, Normalize


class Patches(InputModule):
    """A token for each word, and one for each quarter of a picture; of wide pictures, for each eighth."""

    def __init__(self, dim: int, pictures: bool = True) -> None:
        super().__init__()
        self.dim, self.pictures = dim, pictures
        self.words = torch.nn.Embedding(500, dim)
        self.colours = torch.nn.Linear(3, dim)

    @property
    def modalities(self) -> list[Any]:
        return ["text", "image"] if self.pictures else ["text"]

    def get_embedding_dimension(self) -> int:
        return self.dim

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        if isinstance(inputs[0], str):
            rows = [torch.tensor([zlib.crc32(word.encode()) % 500 for word in text.split()]) for text in inputs]
        else:
            rows = [self._quarters(np.asarray(image, np.float32) / 255) for image in inputs]
        mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True
        )
        return {"rows": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), "attention_mask": mask}

    def _quarters(self, pixels: np.ndarray) -> torch.Tensor:
        columns = 4 if pixels[0, 0, 0] > 0.9 else 2  # white corners make more tokens
        parts = [half for side in np.array_split(pixels, 2) for half in np.array_split(side, columns, axis=1)]
        return torch.tensor(np.stack([part.mean(axis=(0, 1)) for part in parts]))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        rows = features["rows"]
        return {**features, "token_embeddings": self.words(rows) if rows.ndim == 2 else self.colours(rows)}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError


def patches(dim: int, **settings: Any) -> MultiVectorEncoder:
    """A multi-vector encoder of random weights, always the same."""
    torch.manual_seed(3)
    modules = [Patches(dim, **settings), Normalize(module_input_name="token_embeddings")]
    return MultiVectorEncoder(modules=modules, device="cpu", similarity_fn_name="meanmaxsim")
