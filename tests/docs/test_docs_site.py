"""The documentation site builds strictly, asks no other site for anything, and its generated parts are current."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from paths import ROOT
from thorough import thorough_only

import colbert_video

pytestmark = thorough_only

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LINKED = ("stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload")


class Requests(HTMLParser):
    """Addresses that a browser fetches when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.found.append(str(values[FETCHED[tag]]))
        if tag == "link" and set(str(values.get("rel")).split()) & set(LINKED):
            self.found.append(str(values.get("href")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()


def test_nothing_is_fetched_from_other_sites(site: Path) -> None:
    for page in site.rglob("*.html"):
        requests = Requests()
        requests.feed(page.read_text(encoding="utf-8"))
        foreign = [address for address in requests.found if re.match(r"(https?:)?//", address)]
        assert not foreign, (page.name, foreign)
        assert requests.found, page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_reference_holds_the_public_names(site: Path) -> None:
    anchors = {match for page in (site / "reference").glob("*.html") for match in re.findall(r'id="([\w.]+)"', page.read_text())}  # fmt: skip
    for name in {*colbert_video.__all__} - {"__version__"}:
        assert {f"colbert_video.{name}", f"colbert_video.errors.{name}"} & anchors, name
    assert {"colbert_video.Searcher.refresh", "colbert_video.Indexer.index", "colbert_video.Hit.start"} <= anchors
    assert "colbert_video.training.DualSigmoidLoss" in anchors
    assert "colbert_video.errors.FailureKind" in anchors
