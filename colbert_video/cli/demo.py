"""`colbert-video demo`: render a toy world, index it, search it, with the checkpoint that ships in the package."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from colbert_video.cli.tables import cell, score_text
from colbert_video.errors import SettingsError
from colbert_video.indexing.indexer import Indexer
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.hit import Hit, format_moment
from colbert_video.search.searcher import Searcher
from colbert_video.training.world import WorldClip, write_world

QUERIES_SHOWN = 6
"""Queries whose hits are printed: pairs that differ in motion alone come first."""
HITS_SHOWN = 3
"""Hits printed for each query."""


@dataclass(frozen=True)
class DemoRow:
    """One query of the demo and its hits."""

    query: str
    """A clip's caption."""
    expected: str
    """The id of that clip."""
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class DemoResult:
    """Counts of the demo, and the queries that it shows."""

    rows: tuple[DemoRow, ...]
    """The queries that are shown."""
    clips: int
    """Number of clips rendered and indexed."""
    first: int
    """Number of captions whose own clip came first."""
    kept: Path | None
    """Folder of clips and index; None if they were temporary."""

    def summary(self) -> str:
        """Return the result in sentences, with what to do next."""
        if self.kept is not None:
            query = self.rows[0].query
            further = (
                f'Clips and index are in {self.kept}. Try: colbert-video search "{query}" --index {self.kept / "index"}\n'
                f"In a browser: colbert-video serve {self.kept / 'index'}\n"
            )
        else:
            further = "To see it in a browser: colbert-video demo --keep demo, then colbert-video serve demo/index\n"
        return (
            f"{self.first} of {self.clips} captions found their own clip first, among clips never seen in training.\n"
            f"{further}This model knows only its toy world of moving shapes. For real videos use a real one: "
            "colbert-video index FOLDER --index my.index --model PE-Core-B-16:meta"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"clips": self.clips, "first": self.first, "rows": [asdict(row) for row in self.rows]}


def run_demo(*, keep: Path | None = None, clips: int = 40, seed: int = 0) -> DemoResult:
    """Render clips that the shipped checkpoint never saw, index them and search them by their captions.

    Args:
        keep: Folder for clips and index, which must be new or empty; None for a temporary one.
        clips: How many clips to render.
        seed: Draws the clips.

    Raises:
        SettingsError: If `keep` is not an empty folder.
    """
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colbert-video-demo-")))
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(f"{folder} is not an empty folder; give --keep a new one.")
        world = write_world(folder / "clips", count=clips, seed=seed, split="test")
        model = VideoColBERT.from_pretrained("toy", device="cpu")
        Indexer(folder / "index", model=model).index(
            (clip.path.stem, clip.path, {"caption": clip.caption}) for clip in world
        )
        searcher = stack.enter_context(Searcher(folder / "index", model=model))
        found = [_search(searcher, clip) for clip in world]
    first = sum(row.hits[0].id == row.expected for row in found)
    return DemoResult(_shown(found, world), len(world), first, keep)


def _search(searcher: Searcher, clip: WorldClip) -> DemoRow:
    return DemoRow(clip.caption, clip.path.stem, tuple(searcher.search(clip.caption, k=HITS_SHOWN)))


def _shown(rows: Sequence[DemoRow], world: Sequence[WorldClip]) -> tuple[DemoRow, ...]:
    """Return a few queries, those of motion pairs first: only the order of frames distinguishes their clips."""
    by_id = {row.expected: row for row in rows}
    shown: list[DemoRow] = []
    for clip in sorted(world, key=lambda clip: clip.pair is None):
        for name in (clip.path.stem, clip.pair):
            if name is not None and by_id[name] not in shown and len(shown) < QUERIES_SHOWN:
                shown.append(by_id[name])
    return tuple(shown)


def demo_parts(result: DemoResult) -> list[RenderableType]:
    """Return a table of the demo's queries with their hits, and a summary."""
    table = Table(title="Queries and the best three videos of each")
    for column in ("query", "", "video", "moment", "score", ""):
        table.add_column(column)
    for row in result.rows:
        for hit in row.hits:
            right = "✓" if hit.id == row.expected else ""
            query = cell(row.query) if hit.rank == 1 else ""
            table.add_row(
                query, str(hit.rank), cell(hit.id), format_moment(hit.start, hit.end), score_text(hit.score), right
            )
        table.add_section()
    return [table, result.summary()]
