"""Take the pictures of the search page that README and docs show, with Chromium and the synthetic world.

    python benchmarks/page_pictures.py

writes docs/figures/page_start.png, page_results.png and page_viewer.png. Needs `pip install playwright pillow` and a Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colbert_video import Indexer
from colbert_video.training.world.clip_files import render_moments, write_clip
from colbert_video.training.world.render import render
from colbert_video.training.world.sample import sample_scenes
from colbert_video.video.sources import VideoRecord

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
CLIPS, FILMS, SCENES_PER_FILM = 80, 4, 6
SIZE = 256
"""Side of the clips, in pixels."""
SCENE_SECONDS = 3.0
QUERY = "a large blue ring disappears on a grey background"
VIEWPORT = {"width": 1280, "height": 860}
COLOURS = 256
"""Of the pictures' palette, which keeps them small."""


def main() -> None:
    """Make clips, an index and the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        build_index(Path(folder))
        with served(Path(folder) / "films.index") as address:
            take_pictures(address)


def build_index(folder: Path) -> None:
    """Render clips of one scene and films of several, and index them in windows of a scene's length."""
    clips = folder / "clips"
    clips.mkdir()
    scenes = sample_scenes(CLIPS + FILMS * SCENES_PER_FILM, seed=4, paired_fraction=0.2, split="test")
    records = []
    for number, scene in enumerate(scenes[:CLIPS], start=1):
        path = clips / f"clip-{number:03}.mp4"
        write_clip(render(scene, size=SIZE), path)
        metadata = {"text": scene.caption, "background": scene.background, "motion": scene.motion_class}
        records.append(VideoRecord(path.name, str(path), metadata))
    for number in range(FILMS):
        path = clips / f"film-{number + 1}.mp4"
        begin = CLIPS + number * SCENES_PER_FILM
        render_moments(scenes[begin : begin + SCENES_PER_FILM], path, size=SIZE)
        records.append(VideoRecord(path.name, str(path), {"motion": "several"}))
    Indexer(folder / "films.index", model="toy", window=SCENE_SECONDS, stride=SCENE_SECONDS).index(records)


@contextmanager
def served(index: Path) -> Iterator[str]:
    """Serve an index; yield the address."""
    command = [sys.executable, "-m", "colbert_video", "serve", str(index), "--port", "0"]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        yield service.stdout.readline().removeprefix("serving ").strip()
    finally:
        service.terminate()
        service.wait()


def take_pictures(address: str) -> None:
    """Photograph the start, the results of a search, and the viewer of a film."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=VIEWPORT, base_url=address, device_scale_factor=1)
        page.goto("./")
        page.locator(".tile img").first.wait_for()
        save(page, "page_start")
        page.locator("#query").fill(QUERY)
        page.locator(".card img").first.wait_for()
        page.locator("#query").blur()
        save(page, "page_results")
        film = page.locator(".card", has_text="film-").first
        film.scroll_into_view_if_needed()
        film.click()
        page.locator(".cell").first.wait_for()
        page.wait_for_timeout(2500)
        page.mouse.move(640, 5)
        save(page, "page_viewer")
        browser.close()


def save(page: Any, name: str) -> None:
    """Write what the page shows now as a small PNG."""
    from PIL import Image

    page.wait_for_timeout(1500)
    path = FIGURES / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
