"""What a result depends on beside its settings: versions, code, weights and data, as a report names them."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import colbert_video

PACKAGES = ("accelerate", "numpy", "open_clip_torch", "transformers", "av", "safetensors")
"""Packages that results depend on, beside torch and this one."""


def versions() -> dict[str, Any]:
    """Return the versions of Python, packages and code, and the machine's kind.

    `code_sha256` is the digest of this package's Python files, whatever its version says; `git` is the commit where they lie
    in a repository, with "+changes" if it has uncommitted ones.
    """
    return {
        "colbert_video": colbert_video.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: found for name in PACKAGES if (found := _version(name)) is not None},
        "platform": f"{sys.platform} {platform.machine()}",
        "code_sha256": code_digest(),
        "git": git_commit(_home()),
    }


@cache
def code_digest() -> str:
    """Return the SHA-256 of this package's Python files, names included."""
    digest = hashlib.sha256()
    home = _home()
    for folder, _, names in sorted(os.walk(home, followlinks=True)):
        for name in sorted(name for name in names if name.endswith(".py")):
            path = Path(folder, name)
            digest.update(f"{path.relative_to(home).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def git_commit(folder: Path) -> str | None:
    """Return the commit of the repository that a folder lies in, with "+changes" if it has any; None if there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit or _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:  # another's repository
        return None
    return f"{commit}+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def changed_versions(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two of `versions`, as "torch 2.6.0 (was 2.5.0)"; nothing if there was no record."""
    if not before:
        return []
    return [f"{name} {now.get(name)} (was {value})" for name, value in before.items() if now.get(name) != value]


def _home() -> Path:
    return Path(colbert_video.__file__).parent


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints; None if it fails or there is none."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
