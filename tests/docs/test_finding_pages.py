"""What people look for is found: by words in headings, in `llms.txt`, and in the navigation."""

import json
import re
from pathlib import Path

import pytest
from paths import ROOT

DOCS = ROOT / "docs"
if not (ROOT / "mkdocs.yml").is_file():
    pytest.skip("an installed copy", allow_module_level=True)
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
WANTED = (
    *("docker", "container", "completion", "citing", "process", "thread", "gpu", "memory", "install", "uv"),
    *("reverse proxy", "metrics", "lancedb|vector database", "langchain", "llamaindex", "parquet", "mteb", "security"),
    *("filter|some of the videos", "moment|long videos", "keep an index", "stays as it is"),
)


@pytest.mark.parametrize("word", WANTED)
def test_a_heading_has_the_word(word: str) -> None:
    """Docker stands in a page's first lines: its heading says containers."""
    titles = [
        line
        for text in PAGES.values()
        for line in re.sub(r"```.*?```", "", text, flags=re.S).splitlines()[:]
        if line[:1] == "#"
    ]
    first = [" ".join(text.split("\n## ")[0].split()[:60]) for text in PAGES.values()]
    assert re.search(rf"\b({word})", "\n".join([*titles, *first]), flags=re.IGNORECASE)


def test_every_page_is_in_the_navigation_and_in_llms_txt() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for_models = (DOCS / "llms.txt").read_text(encoding="utf-8")
    named = set(re.findall(r"\(([\w/-]+\.md)\)", for_models))
    assert set(re.findall(r"[\w/-]+\.md", navigation)) == set(PAGES)
    assert named | {"index.md"} == set(PAGES)
    assert for_models.startswith("# colbert_video\n\n> ")


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells one after the other, as a notebook does; it keeps no outputs."""
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    hits, why, report = names["hits"], names["why"], names["report"]
    assert hits[0].id == "clip-0002.mp4"  # type: ignore[index]
    assert report.videos == 6  # type: ignore[attr-defined]
    assert "<" in why._repr_html_()  # type: ignore[attr-defined]
    assert names["similar"]
