"""Tensor files in ColBERT's format, read without trust: nothing is unpickled but tensors, everything is checked."""

from pathlib import Path

import torch
from torch import Tensor

from colbert_video.base.access import read_problem
from colbert_video.durable import RESTORE, naming
from colbert_video.errors import IndexFolderError


def write_tensors(value: Tensor | tuple[Tensor, Tensor], path: Path) -> None:
    """Write one or two tensors as stock ColBERT does; the file is not synced.

    Raises:
        OSError: If the file cannot be written; the error names it.
    """
    with naming(path):
        torch.save(value, path)


def read_tensor(
    path: Path, dtype: torch.dtype | tuple[torch.dtype, ...], shape: tuple[int | None, ...], *, mmap: bool = False
) -> Tensor:
    """Read a file that holds one tensor.

    Args:
        path: A `torch.save` file.
        dtype: The element type it must have, or those it may have.
        shape: The shape it must have; None where any length goes.
        mmap: Map the file into memory instead of reading it.

    Returns:
        A contiguous tensor on the CPU.

    Raises:
        IndexFolderError: If the file is missing, damaged, or holds something else.
    """
    return _checked(path, _load(path, mmap), dtype, shape)


def read_tensor_pair(
    path: Path,
    dtypes: tuple[torch.dtype, torch.dtype],
    shapes: tuple[tuple[int | None, ...], tuple[int | None, ...]],
    *,
    mmap: bool = False,
) -> tuple[Tensor, Tensor]:
    """Read a file that holds a tuple of two tensors.

    Args:
        path: A `torch.save` file.
        dtypes: The element type of each.
        shapes: The shape of each; None where any length goes.
        mmap: Map the file into memory instead of reading it.

    Returns:
        Two contiguous tensors on the CPU.

    Raises:
        IndexFolderError: If the file is missing, damaged, or holds something else.
    """
    pair = _load(path, mmap)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise IndexFolderError(f"{path} holds a {type(pair).__name__}, not a pair of tensors; {RESTORE}")
    first, second = (
        _checked(path, item, dtype, shape) for item, dtype, shape in zip(pair, dtypes, shapes, strict=True)
    )
    return first, second


def _load(path: Path, mmap: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError as error:
        raise IndexFolderError(f"{path} is missing; {RESTORE}") from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        if (problem := read_problem(path)) is not None:
            raise IndexFolderError(f"{path} cannot be read: {problem}") from error
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise IndexFolderError(f"{path} cannot be read as tensors ({reason}); {RESTORE}") from error


def _checked(
    path: Path, value: object, dtype: torch.dtype | tuple[torch.dtype, ...], shape: tuple[int | None, ...]
) -> Tensor:
    dtypes = dtype if isinstance(dtype, tuple) else (dtype,)
    names = " or ".join(str(one) for one in dtypes)
    expected = f"{names} of shape {tuple('any' if n is None else n for n in shape)}"
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        raise IndexFolderError(f"{path} holds a {type(value).__name__}, not a tensor {expected}; {RESTORE}")
    fits = value.dim() == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    if value.dtype not in dtypes or not fits or not value.is_contiguous():
        raise IndexFolderError(f"{path} holds {value.dtype} of shape {tuple(value.shape)}, not {expected}; {RESTORE}")
    return value
