"""The model of an index: found by the name stored there, or given, and checked before it encodes a query."""

from pathlib import Path

import torch

from colbert_video.errors import ModelError, SettingsError
from colbert_video.indexing.settings import IndexSettings, check_model
from colbert_video.model import VideoColBERT


class QueryModel:
    """Loads the model of an index when it is first wanted, and again if the index is replaced by another model's.

    Args:
        path: The index folder, for errors.
        given: A model, or a name for `VideoColBERT.from_pretrained`; None for the model that the index names.
        device: Where a model given by name runs.
    """

    def __init__(
        self, path: Path, given: VideoColBERT | str | Path | None, device: str | torch.device | None
    ) -> None:
        self._path = path
        self._given = given
        self._device = device
        self._loaded: tuple[IndexSettings, VideoColBERT] | None = None

    def use(self, model: VideoColBERT) -> None:
        """Take a model that is in memory already instead of what was given."""
        self._given, self._loaded = model, None

    def of(self, settings: IndexSettings) -> VideoColBERT:
        """The model that encodes queries for an index of these settings.

        Raises:
            IndexFolderError: If it did not make this index.
            ModelError: If it cannot be loaded.
            SettingsError: If the index names no model and none was given.
        """
        if self._loaded is None or self._loaded[0] != settings:
            model = self._load(settings)
            check_model(model, settings, self._path)
            self._loaded = settings, model
        return self._loaded[1]

    def _load(self, settings: IndexSettings) -> VideoColBERT:
        source = self._given or settings.model
        if source is None:
            raise SettingsError(
                f"{self._path} names no model: pass Searcher(path, model=...), or search with search_tokens."
            )
        if isinstance(source, VideoColBERT):
            return source
        try:
            return VideoColBERT.from_pretrained(source, device=self._device)
        except ModelError as error:
            if self._given is not None:
                raise
            raise ModelError(
                f"the model that made {self._path} cannot be loaded: {error} If it moved, say where it is with model= "
                "(--model)."
            ) from error
