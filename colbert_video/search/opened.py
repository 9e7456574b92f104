"""An open index: lends the newest commit to searches, and opens the next one when a writer has committed."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from colbert_video.base.checks import check_flags
from colbert_video.base.user_files import user_path
from colbert_video.device import Device, resolve_device
from colbert_video.errors import ClosedError, SettingsError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.kernels import compiled_kernels
from colbert_video.indexing.scan.scan import search_segment
from colbert_video.indexing.scan.stock import PlaidSettings, StockEngine
from colbert_video.search.view import SearchView

Engine = Literal["native", "colbert"]


class OpenIndex:
    """An index that is open for searching; safe to share between threads.

    Args:
        path: The index folder.
        device: A GPU that is named keeps the index, in its compressed form, and scores on it; else it is mapped from disk.
        engine: Who scores; see `Searcher`.
        plaid: How stock ColBERT looks for candidates; only for engine="colbert".
        auto_refresh: True to look for a new commit before every search.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        DependencyError: If engine="colbert" and colbert-ai or a C++ compiler is missing.
        SettingsError: If there is no such engine, or `plaid` is given for another engine.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: Device | None = None,
        engine: Engine = "native",
        plaid: PlaidSettings | None = None,
        auto_refresh: bool = False,
    ) -> None:
        _check_engine(engine, plaid)
        check_flags(auto_refresh=auto_refresh)
        self._path = path = user_path(path, "the index")
        self._auto_refresh = auto_refresh
        self._preload = False
        self._closed = False
        self._open_view = partial(_open_view, path, device=device, engine=engine, plaid=plaid)
        self._refreshing = threading.Lock()
        self._lending = threading.Lock()
        self._borrowers: Counter[int] = Counter()  # searches that use a view, by its id()
        self._identity = _catalog_identity(path)
        self._newest = self._open_view()
        try:
            self._watch = Catalog.open(path)
        except BaseException:
            self._newest.reader.close()
            raise

    @contextmanager
    def view(self) -> Iterator[SearchView]:
        """Lend one commit; it stays open and the same until the block ends, whatever is refreshed meanwhile."""
        if self._auto_refresh:
            self.refresh()
        with self._lending:
            self._check_open()
            view = self._newest
            self._borrowers[id(view)] += 1
        try:
            yield view
        finally:
            with self._lending:
                self._borrowers[id(view)] -= 1
                unused = (self._closed or view is not self._newest) and not self._borrowers[id(view)]
            if unused:
                self._retire(view)

    def refresh(self) -> bool:
        """Open the last commit; return whether there was a new one.

        Raises:
            IndexFolderError: If it cannot be opened; then the older one stays searchable.
            ClosedError: If the index was closed.
        """
        with self._refreshing:
            self._check_open()
            # If the folder was made again, SQLite still reads the catalog that was there before.
            moved = _catalog_identity(self._path) != self._identity
            if not moved and self._watch.version == self._newest.reader.version:
                return False
            view = self._open_view()
            if self._preload:
                view.reader.preload()
            if moved:
                self._watch_again()
            with self._lending:
                old, self._newest = self._newest, view
                unused = not self._borrowers[id(old)]
            if unused:
                self._retire(old)
            return True

    def preload(self) -> None:
        """Ask the system to read the index's files ahead, and from now on those of each new commit."""
        self._preload = True
        with self.view() as view:
            view.reader.preload()

    def close(self) -> None:
        """Close the index's files, once searches that run have ended; a second call does nothing."""
        with self._refreshing, self._lending:
            if self._closed:
                return
            self._closed = True
            view = self._newest
            unused = not self._borrowers[id(view)]
            self._watch.close()
        view.reader.end_preload()
        if unused:
            self._retire(view)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the index {self._path} was closed here: open it again.")

    def __len__(self) -> int:
        with self.view() as view:
            return view.reader.videos

    def _watch_again(self) -> None:
        identity, watch = _catalog_identity(self._path), Catalog.open(self._path)
        self._watch.close()
        self._identity, self._watch = identity, watch

    def _retire(self, view: SearchView) -> None:
        del self._borrowers[id(view)]
        view.reader.close()


def _open_view(path: Path, *, device: Device | None, engine: Engine, plaid: PlaidSettings | None) -> SearchView:
    reader = IndexReader.open(path, device=_index_device(device) if engine == "native" else None)
    try:
        if engine == "native":
            return SearchView(reader, search_segment, spreads=_uses_kernels(reader))
        stock = StockEngine(reader, device=device, settings=plaid)
        return SearchView(reader, stock.search_segment, stock.estimated_scores, spreads=False)
    except BaseException:
        reader.close()
        raise


def _uses_kernels(reader: IndexReader) -> bool:
    """Return True if the compiled kernels score an index, on one core each; torch uses all of them, or the GPU."""
    on_cpu = all(segment.live.device.type == "cpu" for segment in reader.segments)
    return on_cpu and compiled_kernels() is not None


def _check_engine(engine: str, plaid: PlaidSettings | None) -> None:
    if engine not in ("native", "colbert"):
        raise SettingsError(f"engine={shown(engine)} must be 'native' or 'colbert'.")
    if plaid is not None and engine != "colbert":
        raise SettingsError(f"plaid settings are for engine='colbert'; engine={shown(engine)} has none.")


def _index_device(device: Device | None) -> torch.device | None:
    """Return the GPU that keeps the index; None to leave it on disk, as other accelerators do: they lack operations."""
    if device is None:
        return None
    resolved = resolve_device(device)
    return resolved if resolved.type == "cuda" else None


def _catalog_identity(path: Path) -> tuple[int, int] | None:
    """Return which file the catalog is; None while there is none."""
    try:
        status = (path / CATALOG_NAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
