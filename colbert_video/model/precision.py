"""The precision in which a model encodes: its weights are converted once, its tokens leave as float32."""

import logging
import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch

from colbert_video.errors import SettingsError, shown

logger = logging.getLogger(__name__)
Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Of weights and products: float32, bfloat16, float16, or what suits the device."""
DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_CAPABILITY = (8, 0)
"""CUDA's compute capability from which bfloat16 is multiplied in hardware."""
WITH_BF16 = ("ALL", "DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10")
"""Beginnings of values of ONEDNN_MAX_CPU_ISA that leave oneDNN products in bfloat16."""


def precision_of(dtype: torch.dtype) -> str:
    """Return the name of a type of weights."""
    return next((name for name, known in DTYPES.items() if known == dtype), str(dtype).removeprefix("torch."))


def check_precision(precision: str | None) -> None:
    """Check the name of a precision, before anything is loaded for it; None stands for no choice.

    Raises:
        SettingsError: If it is unknown.
    """
    if precision is not None and precision not in get_args(Precision):
        raise SettingsError(
            f"precision={shown(precision)} is unknown; choose from {', '.join(map(repr, get_args(Precision)))}."
        )


def choose_precision(precision: str, device: torch.device) -> str:
    """Return the precision in which a model computes on a device: "fp32", "bf16" or "fp16".

    "auto" takes bf16 on processors that multiply it in hardware (AMX, AVX512-BF16, or BF16 of ARM) and fp32 on others; on
    CUDA bf16 from compute capability 8.0 on, and fp16 below; fp16 on Apple's GPUs; fp32 on any other device.

    Raises:
        SettingsError: If the precision is unknown, or the device does not compute in it.
    """
    check_precision(precision)
    if precision == "auto":
        return _best(device)
    if precision == "bf16" and device.type == "cuda" and not _cuda_has_bf16(device):
        raise SettingsError(
            f"precision='bf16': {torch.cuda.get_device_name(device)} does not multiply bfloat16; use 'fp16' or 'auto'."
        )
    if device.type == "cpu" and _is_slow(precision):
        logger.warning(
            "this processor does not multiply %s in hardware, so fp32 would be faster; 'auto' chooses it", precision
        )
    return precision


def _best(device: torch.device) -> str:
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    if device.type == "cuda":
        return "bf16" if _cuda_has_bf16(device) else "fp16"
    return "fp16" if device.type == "mps" else "fp32"


def _cuda_has_bf16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY


def cpu_has_bf16() -> bool:
    """Return True if this processor multiplies bfloat16 in hardware, and torch and oneDNN may use that."""
    return (_wide() and (_capable("amx_bf16") or _capable("avx512_bf16"))) or _capable("bf16")


def _is_slow(precision: str) -> bool:
    if precision == "bf16":
        return not cpu_has_bf16()
    return precision == "fp16" and not (_capable("amx_fp16") or _capable("avx512_fp16") or _capable("fp16_arith"))


def _capable(name: str) -> bool:
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch 2.10 and later
    return bool(capabilities.get(name, _older_capability(name)))


def _older_capability(name: str) -> bool:
    """Ask releases of torch before `get_capabilities`, which have a function for each of x86."""
    known = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    if name not in known or hasattr(torch.cpu, "get_capabilities"):
        return False
    return bool(getattr(torch.cpu, known[name], lambda: False)())


def _wide() -> bool:
    """Return True unless the environment keeps torch or oneDNN from instructions of 512 bits."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return allowed.startswith(WITH_BF16) and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
