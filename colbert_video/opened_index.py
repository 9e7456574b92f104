"""An index that is open: its newest commit, looked at anew on demand, and the model that belongs to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from colbert_video.engines import check_engine, open_view
from colbert_video.indexing.colbert import PlaidSettings
from colbert_video.indexing.current import CurrentView
from colbert_video.model import VideoColBERT
from colbert_video.query_model import QueryModel
from colbert_video.view import SearchView


class OpenedIndex:
    """What every search needs; the arguments are those of `Searcher`."""

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None = None,
        device: str | torch.device | None = None,
        engine: Literal["native", "colbert"] = "native",
        plaid: PlaidSettings | None = None,
        auto_refresh: bool = False,
    ) -> None:
        check_engine(engine, plaid)
        self.path = Path(path)
        self._model = QueryModel(self.path, model, device)
        self._auto_refresh = auto_refresh
        opened = partial(open_view, self.path, device=device, engine=engine, plaid=plaid)
        self._current = CurrentView(self.path, opened)

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

    @property
    def model(self) -> VideoColBERT:
        """The model that encodes queries.

        Raises:
            IndexFolderError: If it did not make this index.
            SettingsError: If the index names no model and none was given.
        """
        with self._view() as view:
            return self._model_of(view)

    def _model_of(self, view: SearchView) -> VideoColBERT:
        return self._model.of(view.reader.settings)
