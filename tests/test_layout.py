"""The checkout, the mapping in setup.py and the links must tell one story."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT


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
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(output.stdout.split())


def test_every_source_folder_is_installed() -> None:
    pytest.importorskip("setuptools")
    wanted = {"colbert_video"}
    for room, prefix in (
        ("colbert_video", ""),
        ("indexing", "colbert_video."),
        ("training", "colbert_video."),
    ):
        for init in (ROOT / room).rglob("__init__.py"):
            relative = init.parent.relative_to(ROOT)
            linked = relative.parts[:2] in (("colbert_video", "indexing"), ("colbert_video", "training"))
            if not linked:
                wanted.add(prefix + ".".join(relative.parts))
    assert _mapped_packages() == wanted


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


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def test_the_video_room_knows_only_itself_and_the_errors() -> None:
    for path in (ROOT / "colbert_video" / "video").glob("*.py"):
        for module in _imports(path):
            if module.startswith("colbert_video"):
                assert module.startswith(("colbert_video.errors", "colbert_video.video")), (path.name, module)


def test_indexing_never_reaches_up_to_search_or_training() -> None:
    above = {"search", "explain", "moments", "ranking", "cli", "output", "demo", "serve", "training"}
    for path in (ROOT / "indexing").rglob("*.py"):
        for module in _imports(path):
            parts = module.split(".")
            assert not (parts[0] == "colbert_video" and len(parts) > 1 and parts[1] in above), (
                path.name,
                module,
            )
