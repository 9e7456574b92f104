"""The checkout, the mapping in setup.py and the links must fit together, and the source must follow the plan of its rooms."""

import subprocess
import sys
from collections.abc import Callable

import house
import pytest
from house import Tree
from paths import ROOT

of_a_checkout = pytest.mark.skipif(not (ROOT / "indexing").is_dir(), reason="needs the sources, not a wheel")


@pytest.mark.parametrize("room", ["indexing", "training"])
def test_links_lead_to_the_rooms(room: str) -> None:
    link = ROOT / "colbert_video" / room
    if not link.exists():
        pytest.skip("a copy without links, such as an unpacked sdist")
    assert link.resolve() == (ROOT / room).resolve()


def _mapped_packages() -> set[str]:
    """The packages that setup.py installs, with its real mapping."""
    program = (
        "import runpy, setuptools\n"
        "setuptools.setup = lambda **given: print(*given['packages'])\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(output.stdout.split())


@of_a_checkout
def test_every_source_folder_is_installed() -> None:
    pytest.importorskip("setuptools")
    rooms = {path.rpartition("/")[0] for path in house.source_tree() if path.endswith("__init__.py")}
    assert _mapped_packages() == {f"colbert_video.{room}".replace("/", ".").rstrip(".") for room in rooms}


def test_nothing_is_imported_under_a_top_level_name() -> None:
    program = (
        "import pkgutil, importlib, sys, colbert_video\n"
        "for module in pkgutil.walk_packages(colbert_video.__path__, 'colbert_video.'):\n"
        "    if not module.name.endswith(('__main__', '.worker')):\n"
        "        importlib.import_module(module.name)\n"
        "assert 'indexing' not in sys.modules and 'training' not in sys.modules, 'a top-level import'\n"
        "assert 'colbert' not in sys.modules, 'colbert was imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)


@of_a_checkout
@pytest.mark.parametrize("check", house.CHECKS, ids=lambda check: check.__name__)
def test_the_source_follows_the_plan(check: Callable[[Tree], list[str]]) -> None:
    assert check(house.source_tree()) == []


def test_the_packages_lie_on_few_levels() -> None:
    assert house.package_levels() <= house.MAX_PACKAGE_LEVELS


DESCRIBED = '"""Does a thing. Says so."""\n'
GOOD: dict[str, str] = {
    "__init__.py": "from colbert_video.cli.app import app\n",
    "__main__.py": "from colbert_video.cli.app import app\n",
    "errors.py": "class ColBERTVideoError(Exception): ...\n",
    "cli/__init__.py": DESCRIBED,
    "cli/app.py": "def app():\n    from colbert_video.search.searcher import Searcher\n",
    "search/__init__.py": DESCRIBED,
    "search/searcher.py": "import colbert_video.errors\nclass Searcher:\n    def search(self): ...\n",
    "search/ranking.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from colbert_video.cli.app import app\n"
        "else:\n    from colbert_video.search import searcher\n"
    ),
    "indexing/__init__.py": DESCRIBED,
    "indexing/indexer.py": "from colbert_video.indexing.upkeep.compact import compact\n",
    "indexing/upkeep/__init__.py": DESCRIBED,
    "indexing/upkeep/compact.py": "from colbert_video.indexing.scan.reader import read\n",
    "indexing/scan/__init__.py": DESCRIBED,
    "indexing/scan/reader.py": "from colbert_video import errors\n",
}
BAD: list[tuple[Callable[[Tree], list[str]], dict[str, str], str]] = [
    (
        house.upward_imports,
        {"search/hit.py": "def show():\n    from colbert_video.cli.app import app\n"},
        "search/hit.py imports cli/app.py",
    ),
    (
        house.upward_imports,
        {"search/hit.py": "import importlib\nimportlib.import_module('colbert_video.cli.app')\n"},
        "search/hit.py imports cli/app.py",
    ),
    (
        house.upward_imports,
        {"indexing/scan/kernels.py": "import colbert_video.indexing.upkeep.compact\n"},
        "indexing/scan/kernels.py imports indexing/upkeep/compact.py",
    ),
    (
        house.upward_imports,
        {"errors.py": "from colbert_video.indexing import indexer\n"},
        "errors.py imports indexing/indexer.py",
    ),
    (
        house.file_circles,
        {
            "search/hit.py": "from colbert_video.search import hits\n",
            "search/hits.py": "def row():\n    from colbert_video.search.hit import Hit\n",
        },
        "search/hit.py, search/hits.py",
    ),
    (
        house.room_circles,
        {
            "training/__init__.py": DESCRIBED,
            "training/data/__init__.py": DESCRIBED,
            "training/data/loader.py": "from colbert_video.training.run.trainer import Trainer\n",
            "training/data/manifest.py": "",
            "training/run/__init__.py": DESCRIBED,
            "training/run/trainer.py": "from colbert_video.training.data.manifest import read\n",
        },
        "training/data, training/run",
    ),
    (house.repeated_names, {"cli/reader.py": ""}, "2 modules are named reader"),
    (house.repeated_names, {"cli/json.py": ""}, "cli/json.py has the name"),
    (house.loose_modules, {"helpers.py": ""}, "helpers.py is in no room"),
    (house.crowded_rooms, {f"cli/verb_{number}.py": "" for number in range(16)}, "cli holds 17 modules"),
    (house.undescribed_rooms, {"cli/__init__.py": '"""The command line."""\n'}, "cli/__init__.py has"),
    (house.undescribed_rooms, {"serve/app.py": ""}, "serve/__init__.py has a docstring of 0 sentences"),
    (
        house.cut_classes,
        {
            "search/base.py": "class Base:\n    def refresh(self): ...\n    def search(self): ...\n",
            "search/searcher.py": (
                "from colbert_video.search.base import Base\nclass Searcher(Base):\n    def search(self): ...\n"
            ),
        },
        "Searcher.refresh is in search/base.py, not in search/searcher.py",
    ),
]  # fmt: skip


def test_a_made_up_tree_follows_the_plan() -> None:
    assert [complaint for check in house.CHECKS for complaint in check(GOOD)] == []


@pytest.mark.parametrize(("check", "changes", "complaint"), BAD)
def test_each_check_finds_what_it_is_for(
    check: Callable[[Tree], list[str]], changes: dict[str, str], complaint: str
) -> None:
    (found,) = check(GOOD | changes)
    assert complaint in found
