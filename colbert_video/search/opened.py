"""An index that is open: its newest commit, looked at again on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from colbert_video.device import resolve_device
from colbert_video.errors import SettingsError
from colbert_video.indexing.scan.current import CurrentView
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.scan import search_segment
from colbert_video.indexing.scan.stock import PlaidSettings, StockEngine
from colbert_video.search.view import SearchView

Engine = Literal["native", "colbert"]
"""Who scores."""


class OpenedIndex:
    """What every search of an index needs.

    Args:
        path: The index folder.
        open_view: Opens its last commit.
        auto_refresh: Look for a new commit before every search.
    """

    def __init__(
        self, path: str | Path, open_view: Callable[[], SearchView], *, auto_refresh: bool = False
    ) -> None:
        self.path = Path(path)
        self._auto_refresh = auto_refresh
        self._open_view = open_view
        self._preload = False
        self._current = CurrentView(self.path, self._newest)

    def _newest(self) -> SearchView:
        view = self._open_view()
        if self._preload:
            view.reader.preload()
        return view

    def close(self) -> None:
        """Close the index's files."""
        self._current.close()

    def refresh(self) -> bool:
        """See what was committed since the searcher was opened or refreshed.

        Returns:
            Whether there was anything new.

        Raises:
            IndexFolderError: If the index can no longer be opened; then the older state stays searchable.
        """
        return self._current.refresh()

    def preload(self) -> None:
        """Ask the system to read the index's files into its page cache, and from now on those of each new commit.

        See `IndexReader.preload`. On a GPU that keeps the index there is nothing to do.
        """
        self._preload = True
        with self._current.lend() as view:
            view.reader.preload()

    @contextmanager
    def _view(self) -> Iterator[SearchView]:
        """One state of the index for all of a search."""
        if self._auto_refresh:
            self._current.refresh()
        with self._current.lend() as view:
            yield view

    def __len__(self) -> int:
        """Videos that can be found."""
        with self._view() as view:
            return view.reader.videos


def open_view(
    path: Path, *, device: str | torch.device | None, engine: Engine, plaid: PlaidSettings | None
) -> SearchView:
    """Open the last commit of an index for an engine.

    Args:
        path: The index folder.
        device: Where to score; see `Searcher`.
        engine: Who scores.
        plaid: How stock ColBERT looks for candidates.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        DependencyError: If engine="colbert" and colbert-ai or a C++ compiler is missing.
    """
    reader = IndexReader.open(path, device=_index_device(device) if engine == "native" else None)
    try:
        if engine == "native":
            return SearchView(reader, search_segment)
        stock = StockEngine(reader, device=device, settings=plaid)
        return SearchView(reader, stock.search_segment)
    except BaseException:
        reader.close()
        raise


def check_engine(engine: str, plaid: PlaidSettings | None) -> None:
    """Refuse an engine that does not exist, and settings that it does not have.

    Raises:
        SettingsError: If so.
    """
    if engine not in ("native", "colbert"):
        raise SettingsError(f"engine={engine!r} must be 'native' or 'colbert'.")
    if plaid is not None and engine != "colbert":
        raise SettingsError(f"plaid settings are for engine='colbert'; engine={engine!r} has none.")


def _index_device(device: str | torch.device | None) -> torch.device | None:
    """The GPU that keeps the index; None to leave it on disk, as other accelerators do: they lack operations."""
    if device is None:
        return None
    resolved = resolve_device(device)
    return resolved if resolved.type == "cuda" else None
