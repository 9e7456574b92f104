"""What the public packages offer, what importing them does not load, and that documentation imports nothing else."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

import colbert_video

HEAVY = ("torch", "av", "open_clip", "faiss", "colbert", "transformers", "numpy", "ray", "fastapi")
PACKAGES = (
    "colbert_video",
    "colbert_video.model",
    "colbert_video.indexing",
    "colbert_video.search",
    "colbert_video.training",
    "colbert_video.training.datasets",
    "colbert_video.training.world",
    "colbert_video.serve",
    "colbert_video.cluster",
    "colbert_video.ecosystem",
    "colbert_video.video",
)
LAZY = [package for package in PACKAGES if package != "colbert_video.training.world"]
NAMES = [
    pytest.param(package, name, id=f"{package}.{name}")
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
    if name != "__version__"
]
ALIASES = ("Interaction",)
"""Types without a docstring of their own."""


def errors() -> list[str]:
    """Public names of the module of errors; its function is for the library itself."""
    defined = ast.parse((ROOT / "colbert_video" / "errors.py").read_text()).body
    return sorted(node.name for node in defined if isinstance(node, ast.ClassDef))


def test_public_names_are_exactly_these() -> None:
    assert colbert_video.__all__ == [
        *sorted(
            [
                *("VideoColBERT", "ModelConfig", "QueryTokens", "TokenBags", "VideoTokens"),
                *("mean_max_sim", "fuse", "reciprocal_rank_fusion"),
                *("Indexer", "IndexReport", "Searcher", "Hit", "Hits", "Question", "Ranking", "Explanation"),
                "show_progress",
                *errors(),
            ]
        ),
        "__version__",
    ]


def test_training_offers_trainer_losses_metrics_and_evaluation() -> None:
    assert set(importlib.import_module("colbert_video.training").__all__) >= {
        *("Trainer", "TrainingConfig", "TrainingResult", "DataConfig", "ManifestData", "TrainingData"),
        *("DualSigmoidLoss", "CombinedSigmoidLoss", "DualInfoNCELoss", "CombinedInfoNCELoss"),
        *("evaluate_model", "evaluate_index", "evaluate_run", "evaluate_toy", "retrieval_metrics"),
    }


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_public_name_can_be_had_is_offered_and_described(package: str, name: str) -> None:
    if package == "colbert_video.serve":
        pytest.importorskip("fastapi")
    room = importlib.import_module(package)
    found = getattr(room, name)
    assert name in dir(room)
    assert name in ALIASES or (found.__doc__ and found.__module__.startswith("colbert_video."))


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_the_same_names(package: str) -> None:
    room = importlib.import_module(package)
    assert room.__file__ is not None
    tree = ast.parse(Path(room.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(seen) == sorted({*room.__all__} - {"__version__"})
    (table,) = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    homes = ast.literal_eval(table)
    assert seen == {name: module for module, names in homes.items() for name in names}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Encoder'; it has ClosedError, ClusterError"):
        colbert_video.Encoder  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    root = Path(colbert_video.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", [f"import {', '.join(LAZY)}; dir(colbert_video)", "from colbert_video import ColBERTVideoError"]
)
def test_importing_the_packages_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == set()


def test_the_check_above_can_fail() -> None:
    assert loaded_by("import colbert_video; import numpy") == {"numpy"}
    assert "torch" in loaded_by("import colbert_video; colbert_video.ModelConfig")


PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", *sorted((ROOT / "examples").glob("*.py"))]
IMPORT = re.compile(r"^ *(?:>>> )?from (colbert_video[\w.]*) import (\([^)]*\)|[\w, ]+)", re.MULTILINE)
MODULE_IMPORT = re.compile(r"^ *(?:>>> )?import (colbert_video[\w.]*)", re.MULTILINE)
REFERENCE = re.compile(r"^::: (colbert_video[\w.]*)\.(\w+)$", re.MULTILINE)


def used_names(text: str) -> Iterator[tuple[str, str]]:
    """Packages and names that a page imports or describes."""
    for package, names in IMPORT.findall(text):
        yield from ((package, name) for name in re.findall(r"\w+", names))
    yield from ((package, "__all__") for package in MODULE_IMPORT.findall(text))
    yield from REFERENCE.findall(text)


def inner_names(text: str) -> list[str]:
    """What a page takes from elsewhere than the public packages."""
    return [
        f"{package}.{name}"
        for package, name in used_names(text)
        if (package, name) != ("colbert_video", "errors")
        and (package not in PACKAGES or name not in [*importlib.import_module(package).__all__, "__all__"])
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_documentation_uses_public_names_only(page: Path) -> None:
    assert inner_names(page.read_text(encoding="utf-8")) == []


def test_inner_names_are_found() -> None:
    text = (
        "from colbert_video import Searcher\nfrom colbert_video.search.hit import Hit\n    import colbert_video.hub\n"
        "::: colbert_video.search.Nothing\n::: colbert_video.errors\nfrom colbert_video import (\n    Hit,\n    Nobody,\n)\n"
    )
    assert inner_names(text) == [
        "colbert_video.search.hit.Hit",
        "colbert_video.Nobody",
        "colbert_video.hub.__all__",
        "colbert_video.search.Nothing",
    ]
