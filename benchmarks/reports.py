"""What all benchmarks share: where figures and pages lie, the command line, the machine, and writing a report."""

import argparse
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
}
"""A CLIP that is built in a moment, with CLIP's own vocabulary."""


def arguments(description: str | None, name: str | None = None) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring as it is.

    Args:
        description: The docstring.
        name: The report in `results/` that `--output` names by default; None for a script without that option.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if name is not None:
        parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json", help="file of the figures")
    return parser


def load(path: Path, default: Any = None) -> Any:
    """Read a report; the default where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def save(path: Path, figures: Any) -> None:
    """Write a report, whole or not at all."""
    from colbert_video.durable import write_text  # here: other engines' processes have no such package

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What figures were measured on, with the version of the ffmpeg program where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    facts = {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
    }
    if shutil.which("ffmpeg"):
        version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
        facts["ffmpeg"] = version.split()[2]
    return facts
