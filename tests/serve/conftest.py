"""What tests of the service share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from page_browser import CHROMIUM, CHROMIUM_SETTINGS, PAGE_CLIPS, on_one_core, running, watched
from page_corpus import build_page_index
from thorough import thorough_only

from colbert_video.serve.media.media_files import MediaFiles


@pytest.hookimpl(tryfirst=True)  # before `-m browser` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the tests in a browser to the thorough run: they want a core for themselves."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
            item.add_marker(thorough_only)
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"))


@pytest.fixture(scope="module")
def media_files() -> Iterator[Callable[..., MediaFiles]]:
    """Media files within some roots; asked again, the same with their decoding process."""
    made: dict[tuple[Path, ...], MediaFiles] = {}

    def within(*roots: Path) -> MediaFiles:
        return made.setdefault(roots, MediaFiles(roots))

    yield within
    for files in made.values():
        files.close()


@pytest.fixture(scope="module")
def corpus(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    build_page_index(folder, count=PAGE_CLIPS)
    return folder


@pytest.fixture(scope="module")
def address(corpus: Path) -> Iterator[str]:
    with running([corpus / "index"]) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    sync_api.expect.set_options(timeout=20_000)
    with on_one_core():
        playwright = sync_api.sync_playwright().start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_SETTINGS))
    yield browser
    browser.close()
    playwright.stop()


@pytest.fixture
def visit(browser: Any, address: str) -> partial[AbstractContextManager[Any]]:
    return partial(watched, browser, address)


@pytest.fixture
def page(visit: Any) -> Iterator[Any]:
    with visit() as page:
        page.goto("./")
        yield page
