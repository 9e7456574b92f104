"""Towers and temporal transformer of a model, compiled by `torch.compile` for shapes that stay the same.

Each shape takes a minute or more at its first use, so batches go through the towers in parts of a few sizes.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from colbert_video.errors import DependencyError, in_one_line
from colbert_video.model.backbone import Backbone
from colbert_video.model.temporal import TemporalEncoder
from colbert_video.model.text_limits import is_causal

QUERIES, VIDEOS = (16, 1), (16, 1)
"""Queries and videos that are computed together."""
FRAME_VIDEOS = 16
"""Frames are computed together as those of so many videos, or of one."""
TOKENS_STEP = 32
"""Query tokens are padded to a multiple of this, up to the context, where they were cut."""


def check_compiler(device: torch.device) -> None:
    """Check that the compiler which `torch.compile` calls is there.

    Raises:
        DependencyError: If it is missing.
    """
    if device.type == "cuda":
        import importlib.util

        if importlib.util.find_spec("triton") is None:
            raise DependencyError("compile=True needs Triton on a GPU: pip install triton, or leave compile out.")
        return
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        raise DependencyError(
            f"compile=True needs a C++ compiler, and there is no {compiler}: install it, name another in CXX, or leave "
            "compile out."
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise DependencyError(
            "compile=True needs the headers of Python (Python.h): install python3-dev or what has that part, or leave "
            "compile out."
        )


class CompiledTowers:
    """What a model computes, compiled.

    In training each call is one batch of one shape. Without gradients, batches are split into parts of a few sizes, and what
    is left is padded to the smallest.

    Args:
        backbone: Whose towers are compiled.
        temporal: The temporal transformer.
        frames: Frames of a usual video.
        backend: As for `torch.compile`.
    """

    def __init__(self, backbone: Backbone, temporal: TemporalEncoder, *, frames: int, backend: str) -> None:
        self._backbone = backbone
        self._frame_sizes = (FRAME_VIDEOS * frames, frames)
        self._frames = frames
        compiled: dict[str, Any] = {"backend": backend, "dynamic": False}
        self._text = torch.compile(backbone.text_tokens, **compiled)
        self._images = torch.compile(backbone.frame_tokens, **compiled)
        self._temporal = torch.compile(temporal, **compiled)

    def text_tokens(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return what the backbone's method of that name does."""
        if torch.is_grad_enabled():
            return _called(self._text, ids)
        length = ids.shape[1]
        padded = min(-(-length // TOKENS_STEP) * TOKENS_STEP, self._backbone.context_length)
        if padded > length and is_causal(self._backbone):
            ids = torch.nn.functional.pad(ids, (0, padded - length))
        return _in_parts(self._text, QUERIES, ids)[:, :length]

    def frame_tokens(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Return what the backbone's method of that name does."""
        if torch.is_grad_enabled():
            return _called(self._images, pixels)
        return _in_parts(self._images, self._frame_sizes, pixels)

    def temporal(
        self, frames: Float[Tensor, "videos frames dim"], mask: Bool[Tensor, "videos frames"] | None
    ) -> tuple[Float[Tensor, "videos tokens dim"], Bool[Tensor, "videos tokens"] | None]:
        """Return what the temporal transformer does."""
        if torch.is_grad_enabled():
            return _called(self._temporal, frames, mask)
        if mask is None:
            return _in_parts(lambda part: _called(self._temporal, part, None)[0], VIDEOS, frames), None
        tokens = _in_parts(lambda *part: _called(self._temporal, *part)[0], VIDEOS, frames, mask)
        extra = tokens.shape[1] - frames.shape[1]  # expansion tokens
        return tokens, torch.nn.functional.pad(mask, (0, extra), value=True)


def _called(compiled: Callable[..., Any], *inputs: Any) -> Any:
    """Call a compiled function.

    Raises:
        DependencyError: If the compiler fails.
    """
    with naming_compiler_failures():
        return compiled(*inputs)


@contextmanager
def naming_compiler_failures() -> Iterator[None]:
    """Say in one sentence that the compiler fails, if it does in the block.

    Raises:
        DependencyError: In its place.
    """
    try:
        yield
    except Exception as error:
        # the compiler's own error is looked up only here: importing it takes a second
        if not isinstance(error, torch._dynamo.exc.BackendCompilerFailed):
            raise
        raise DependencyError(
            f"compile=True: torch cannot compile the model on this machine: {in_one_line(error)}. Leave compile out."
        ) from error


def _in_parts(compiled: Callable[..., Tensor], sizes: tuple[int, ...], *inputs: Tensor) -> Tensor:
    """Return what a function makes of a batch, called on parts of the given sizes, the largest first.

    A rest smaller than the smallest size is padded with copies of its first row.
    """
    parts, start, count = [], 0, len(inputs[0])
    while start < count:
        left = count - start
        size = next((size for size in sizes if size <= left), sizes[-1])
        rows = [_padded(whole[start : start + size], size) for whole in inputs]
        parts.append(_called(compiled, *rows)[: min(size, left)])
        start += size
    return torch.cat(parts)


def _padded(rows: Tensor, size: int) -> Tensor:
    missing = size - len(rows)
    return rows if missing == 0 else torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
