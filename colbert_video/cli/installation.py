"""What is installed, what is missing and what is slow, for `colbert-video info` without an index."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from rich.console import RenderableType
from rich.table import Table

NEEDED = ("torch", "open_clip_torch", "av", "numpy", "safetensors", "transformers")
"""Packages whose versions decide what works."""
OPTIONAL = ("colbert-ai", "decord")
"""Packages that one part each needs."""
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
        "advice": list(_advice(kernels == WITHOUT_KERNELS, str(device))),
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
        "extras not installed": others and f'{", ".join(others)}: pip install "colbert_video[{others[0]}]"',
        "ffmpeg": found["ffmpeg"] or "not found; only copies of videos for browsers need it",
        "advice": "\n".join(found["advice"]),
    }
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for name, text in rows.items():
        if text:
            table.add_row(name, text)
    return table
