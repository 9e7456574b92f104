"""What `import colbert_video` offers, and what it does not load."""

import subprocess
import sys
from pathlib import Path

import pytest

import colbert_video

HEAVY = ("torch", "av", "open_clip", "faiss", "colbert", "transformers", "numpy")


def test_public_names_are_exactly_these() -> None:
    assert colbert_video.__all__ == [
        "ColBERTVideoError",
        "Hit",
        "Indexer",
        "ModelConfig",
        "Searcher",
        "VideoColBERT",
        "__version__",
    ]


@pytest.mark.parametrize("name", colbert_video.__all__)
def test_every_public_name_can_be_had_and_is_offered(name: str) -> None:
    assert getattr(colbert_video, name).__doc__
    assert name in dir(colbert_video)


@pytest.mark.parametrize("name", [name for name in colbert_video.__all__ if name != "__version__"])
def test_public_names_come_from_inside(name: str) -> None:
    assert getattr(colbert_video, name).__module__.startswith("colbert_video.")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Encoder'; it has ColBERTVideoError, Hit"):
        colbert_video.Encoder  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    root = Path(colbert_video.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import colbert_video",
        "import colbert_video; dir(colbert_video)",
        "from colbert_video import ColBERTVideoError",
    ],
)
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) == set()


def test_the_check_above_can_fail() -> None:
    assert loaded_by("import colbert_video; import numpy") == {"numpy"}
    assert "torch" in loaded_by("import colbert_video; colbert_video.ModelConfig")
