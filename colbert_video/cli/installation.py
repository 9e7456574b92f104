"""What is installed, what is missing and what is slow, for `colbert-video info` without an index."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from colbert_video.errors import in_one_line

NEEDED = ("torch", "open_clip_torch", "av", "numpy", "safetensors", "transformers")
"""Packages whose versions decide what works."""
OPTIONAL = ("colbert-ai", "decord")
"""Packages that one part each needs."""
PURPOSES = {
    "serve": "the search page and its service",
    "mcp": "tools for agents",
    "train": "training",
    "cluster": "indexing and serving on several machines",
    "pandas": "hits as a table",
    "datasets": "videos of Hugging Face datasets",
    "mteb": "MTEB's tasks",
    "sentence-transformers": "its encoders and trainers",
    "onnx": "faster queries on CPUs",
    "openvino": "faster queries on Intel's CPUs",
    "parquet": "export to Parquet",
    "lance": "export to LanceDB",
    "qdrant": "export to Qdrant",
    "langchain": "a retriever",
    "llama-index": "a retriever",
    "torchcodec": "another decoder",
}
"""What each extra is for; a test holds that all are named."""
DEVELOPING = ("test", "docs")
"""Extras that users do not miss."""
EXTRA = re.compile(r"""(?P<package>[\w.-]+).*;.*extra == ['"](?P<extra>[\w.-]+)['"]""")
"""A requirement of an extra, as the metadata of packages has it."""


def describe_installation() -> dict[str, Any]:
    """Return versions, devices, extras and advice as plain values."""
    import torch

    from colbert_video.device import resolve_device
    from colbert_video.indexing.scan.kernels import WITHOUT_KERNELS, kernel_name
    from colbert_video.model.precision import choose_precision

    kernels, device = kernel_name(), resolve_device("auto")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    extras = {extra: [name for name in needed if _version(name) is None] for extra, needed in _extras().items()}
    return {
        "version": _version("colbert_video"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "device": str(device),
        "precision": choose_precision("auto", device),
        "kernels": kernels,
        "ffmpeg": shutil.which("ffmpeg"),
        "packages": {name: _version(name) for name in (*NEEDED, *OPTIONAL)},
        "missing_by_extra": extras,
        "advice": [*_advice(kernels == WITHOUT_KERNELS, str(device)), *_packages_advice(str(device))],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Return the packages of each extra; none where colbert_video is not installed."""
    extras: dict[str, list[str]] = {}
    for requirement in (requires("colbert_video") or ()) if _version("colbert_video") else ():
        found = EXTRA.match(requirement)
        if found and found["extra"] not in DEVELOPING:
            extras.setdefault(found["extra"], []).append(found["package"])
    return extras


def _advice(slow: bool, device: str) -> Iterator[str]:
    if slow:
        yield (
            "searches run on torch, several times slower than the kernels: install a C++ compiler, then "
            "`pip install --force-reinstall --no-deps colbert_video`."
        )
    if device == "cpu":
        yield "no GPU is used: encoding videos takes about a second each with ViT-B/32; searches need none."


def _packages_advice(device: str) -> Iterator[str]:
    """Name packages that do not fit together, or that this machine does not use."""
    missing = [name for name in NEEDED if _version(name) is None]
    if missing:
        yield f"not installed, though everything needs it: pip install {' '.join(missing)}"
    problem = _torchvision_problem()
    if problem:
        yield (
            f"torchvision {_version('torchvision')} does not work with torch {_version('torch')} ({problem}), which models of "
            "open_clip need: install both from one place, for CPUs `pip install --force-reinstall torch torchvision "
            "--index-url https://download.pytorch.org/whl/cpu`."
        )
    if device == "cpu" and _has_nvidia_device():
        yield (
            f"there is an NVIDIA GPU, and torch {_version('torch')} cannot use it: install a build for CUDA "
            "(https://pytorch.org/get-started/locally), or a newer driver."
        )
    if not find_spec("faiss"):
        yield "faiss is not installed, which large indexes are built with: pip install faiss-cpu"
    if device == "cpu" and not _has_nvidia_device() and _version("nvidia-cublas-cu12"):
        yield (
            "CUDA libraries came with faiss-gpu and are not used here: `pip uninstall -y faiss-gpu "
            "nvidia-cublas-cu12 nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-curand-cu12`, then `pip install faiss-cpu`."
        )


def _torchvision_problem() -> str | None:
    """Return why torchvision cannot be imported; None if it can."""
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # a build for another torch raises RuntimeError, a missing library OSError
        return in_one_line(error)
    return None


def _has_nvidia_device() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def installation_table(found: dict[str, Any]) -> RenderableType:
    """Return an installation as a table of words."""
    extras = [extra for extra, lacking in found["missing_by_extra"].items() if not lacking]
    others = [extra for extra, lacking in found["missing_by_extra"].items() if lacking]
    packages = [f"{name} {installed}" for name, installed in found["packages"].items() if installed]
    absent = [name for name, installed in found["packages"].items() if not installed]
    rows = {
        "colbert_video": found["version"] or "not installed, run from its folder",
        "Python": f"{found['python']} on {found['system']}",
        "processor": f"{found['cores']} cores, {found['kernels']} kernels",
        "GPUs": ", ".join(found["gpus"]) or "none",
        "models run on": f"{found['device']} in {found['precision']}",
        "packages": ", ".join(packages),
        "not installed": ", ".join(absent),
        "extras": ", ".join(extras) or "none",
        "extras not installed": "\n".join(_remedy(extra) for extra in others),
        "ffmpeg": found["ffmpeg"] or "not found; only copies of videos for browsers need it",
        "advice": "\n".join(found["advice"]),
    }
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    return table


def _remedy(extra: str) -> str:
    purpose = f"{extra}, for {PURPOSES[extra]}" if extra in PURPOSES else extra
    return f'{purpose}: pip install "colbert_video[{extra}]"'
