"""An index that is open: its newest commit, looked at anew on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from colbert_video.indexing.current import CurrentView
from colbert_video.indexing.preload import Preloader
from colbert_video.view import SearchView


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
        self._preloader: Preloader | None = None
        self._current = CurrentView(self.path, self._newest)

    def _newest(self) -> SearchView:
        """The last commit; where files are preloaded, its new ones too."""
        view = self._open_view()
        if self._preloader is not None:
            self._preloader.read(self.path, view.reader.segments)
        return view

    def close(self) -> None:
        """Let go of the index's files."""
        self._current.close()

    def refresh(self) -> bool:
        """See what was committed since the searcher was opened or refreshed.

        Returns:
            Whether there was anything new.

        Raises:
            IndexFolderError: If the index can no longer be opened; then the older state stays searchable.
        """
        return self._current.refresh()

    def preload(self, preloader: Preloader | None = None) -> None:
        """Read the files that searches read at random once and in order, and from now on those of each new commit.

        Files that would not stay in memory are left alone, with a warning in the log. On a GPU that keeps the index there
        is nothing to do.

        Args:
            preloader: That of other indexes that are to stay in memory too; None for one of its own.
        """
        self._preloader = preloader or Preloader()
        with self._current.lend() as view:
            self._preloader.read(self.path, view.reader.segments)

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
