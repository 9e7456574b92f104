"""The newest view of an index: swapped when a writer has committed, closed when its last search has ended."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME


@runtime_checkable
class View(Protocol):
    """An index as of one commit."""

    @property
    def version(self) -> int:
        """Number of the commit."""
        ...

    def close(self) -> None:
        """Close its files."""
        ...


AnyView = TypeVar("AnyView", bound=View)


class CurrentView(Generic[AnyView]):
    """Lends one view to any number of threads and replaces it on demand.

    Args:
        path: The index folder, whose catalog is watched.
        open_view: Opens the view of the last commit.
    """

    def __init__(self, path: Path, open_view: Callable[[], AnyView]) -> None:
        self._path = path
        self._identity = _identity(path)
        self._open_view = open_view
        self._refreshing = threading.Lock()
        self._lending = threading.Lock()
        self._borrowers: Counter[int] = Counter()
        self._view = open_view()
        try:
            self._watch = Catalog.open(path)
        except BaseException:
            self._view.close()
            raise

    def close(self) -> None:
        """Close the view and stop watching."""
        self._view.close()
        self._watch.close()

    @contextmanager
    def lend(self) -> Iterator[AnyView]:
        """Lend the view; it stays open and the same until the block ends, whatever is refreshed meanwhile."""
        with self._lending:
            view = self._view
            self._borrowers[id(view)] += 1
        try:
            yield view
        finally:
            with self._lending:
                self._borrowers[id(view)] -= 1
                last = view is not self._view and not self._borrowers[id(view)]
            if last:
                self._retire(view)

    def refresh(self) -> bool:
        """Open the view of the last commit, if there was one since; return whether there was.

        Raises:
            IndexFolderError: If the index cannot be opened; the view stays as it is.
        """
        with self._refreshing:
            moved = (
                _identity(self._path) != self._identity
            )  # the folder was made again: SQLite still reads the old one
            if not moved and self._watch.version == self._view.version:
                return False
            view = self._open_view()
            if moved:
                self._watch_again()
            with self._lending:
                old, self._view = self._view, view
                unused = not self._borrowers[id(old)]
            if unused:
                self._retire(old)
            return True

    def _watch_again(self) -> None:
        """Watch the catalog that is in the folder now."""
        identity, watch = _identity(self._path), Catalog.open(self._path)
        self._watch.close()
        self._identity, self._watch = identity, watch

    def _retire(self, view: AnyView) -> None:
        del self._borrowers[id(view)]
        view.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file the catalog is; None while there is none."""
    try:
        status = (path / CATALOG_NAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
