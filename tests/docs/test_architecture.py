"""The page that leads through the source names files and rooms that exist, and all rooms."""

import re
from pathlib import Path

import house
import pytest
from paths import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "indexing").is_dir(), reason="needs the sources, not a wheel")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FOLDERS = ("colbert_video", "indexing", "training", "tests", "benchmarks", "docs", "examples")


PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert named or page.name != "architecture.md"


def test_the_table_has_every_room() -> None:
    rooms = {path.rpartition("/")[0] for path in house.source_tree()}
    packages = ("indexing", "training")
    folders = {f"{room}/" if room.split("/")[0] in packages else f"colbert_video/{room}/" for room in rooms}
    in_table = re.findall(r"^\| `([\w/]+/)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(in_table) == sorted(folder.replace("//", "/") for folder in folders)


def test_the_picture_has_the_ranks_in_their_order() -> None:
    """Higher rooms stand in higher lines; `indexing` itself is drawn as its `indexer`."""
    lines = PAGE.split("```")[1].splitlines()
    names = [["indexer" if room == "indexing" else room.split("/")[-1] for room in level] for level in house.LEVELS]
    heights = [
        {number for number, line in enumerate(lines) for name in level if name in line.split()}
        for level in names
        if level != [""]
    ]
    assert all(len(height) == 1 for height in heights)
    order = [max(height) for height in heights]
    assert order == sorted(order, reverse=True)
    assert house.BASE_MODULES - {"__init__", "__main__"} | {"base"} == set(lines[-1].split())
