"""One index of a service: its searcher, its model and its catalog, and what is wrong with them."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import ColBERTVideoError
from colbert_video.hits import Hit
from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.entries import VideoEntry
from colbert_video.indexing.info import describe_index
from colbert_video.indexing.preload import Preloader
from colbert_video.model import VideoColBERT
from colbert_video.search import Searcher
from colbert_video.serve.errors import ServiceError
from colbert_video.serve.sources import OpenCatalog, OpenSearcher

logger = logging.getLogger(__name__)

State = Literal["loading", "ready", "failed"]


class ServedIndex:
    """One index under its name.

    Args:
        name: What clients call it.
        path: The index folder.
        model: Encodes queries; None for the model that the index names.
        device: Where that model runs.
        preloader: Reads its files into memory; None to leave them on disk.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        model: VideoColBERT | str | None = None,
        device: str | None = None,
        preloader: Preloader | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.state: State = "loading"
        self.note: str | None = None
        self.model: VideoColBERT | None = None
        self.description = self._describe()
        self._names_model = model is not None
        self._device = device
        self._preloader = preloader
        self._catalog = self._open_catalog()
        try:
            self.version = self._catalog.version
            self.searcher: OpenSearcher = self._open_searcher(model)
        except BaseException:
            self._catalog.close()
            raise

    def _describe(self) -> Mapping[str, Any]:
        return describe_index(self.path)

    def _open_catalog(self) -> OpenCatalog:
        return Catalog.open(self.path)

    def _open_searcher(
        self, model: VideoColBERT | str | None
    ) -> Any:  # checking a protocol would load the model
        return Searcher(self.path, model=model, device=self._device)

    @property
    def fingerprint(self) -> str | None:
        """Digest of the model that made it."""
        return self.description.get("model_fingerprint")

    @property
    def takes_text(self) -> bool:
        """Whether queries can be encoded."""
        return self._names_model or self.description.get("model") is not None

    def preload(self) -> None:
        """Read its files into memory, if that is wanted, and from now on those of new commits."""
        if self._preloader is None:
            return
        try:
            self.searcher.preload(self._preloader)
        except Exception:  # whatever it is, searches read from the disk what they need
            logger.exception("index %s is not read into memory", self.name)

    def load_model(self, loaded: Mapping[str, VideoColBERT] | None = None) -> None:
        """Load the model and let it encode a first query, which is slower than later ones.

        Args:
            loaded: Models in memory by their fingerprints: indexes of one model share it.
        """
        try:
            if self.takes_text:
                self._share((loaded or {}).get(self.fingerprint or ""))
                self.model = self.searcher.model
                self.model.encode_queries(["warm"])
            self.state, self.note = "ready", None
        except Exception as error:  # whatever it is, the other indexes go on
            logger.error("index %s: %s", self.name, error, exc_info=not isinstance(error, ColBERTVideoError))
            self.state, self.note = "failed", "its model cannot be loaded; the service's log says why"

    def _share(self, model: VideoColBERT | None) -> None:
        """Search with a model that another index has loaded, unless this one has; nobody searches before it has one."""
        if model is not None and self.model is None:
            self.searcher.use_model(model)

    def refresh(self) -> bool:
        """See what was committed since; return whether there was anything new.

        What cannot be opened leaves the older state searchable, with a note. Where another model made the new state, no
        query is encoded until that is loaded: the older model's tokens would find anything.
        """
        model, state = self.model, self.state
        try:
            version = self._catalog.version
            if version == self.version:
                return False
            description = self._describe()
            if description.get("model_fingerprint") != self.fingerprint:
                self.model, self.state = None, "loading"
            self.searcher.refresh()
            self.description, self.version = description, version
        except Exception as error:  # whatever it is, the older state is still there
            self.model, self.state = model, state
            if self.note is None:
                logger.error(
                    "index %s: %s", self.name, error, exc_info=not isinstance(error, ColBERTVideoError)
                )
            self.note = (
                "its newest state cannot be opened, an older one is searched; the service's log says why"
            )
            return False
        self.load_model()
        return True

    def rows(self, video_id: str) -> list[VideoEntry]:
        """Catalog rows of a video: its own, or those of its windows.

        Raises:
            ServiceError: 404, if it is not in the index.
        """
        found = self._catalog.rows_of([video_id])
        if video_id not in found:
            raise ServiceError(
                404,
                "no_such_video",
                f"video {video_id[:200]!r} is not in index {self.name!r}.",
                "Check the id.",
            )
        return found[video_id]

    def query_model(self) -> VideoColBERT:
        """The model, to encode a query.

        Raises:
            ServiceError: 503 while it is loaded; 422 if there is none.
        """
        if not self.takes_text:
            raise ServiceError(
                422,
                "no_model",
                f"index {self.name!r} names no model that could encode a query.",
                "Start the service with --model.",
            )
        if self.model is None:
            raise ServiceError(
                503,
                "not_ready" if self.state == "loading" else "index_unavailable",
                f"the model of index {self.name!r} is not loaded.",
                "Try again in a moment." if self.state == "loading" else "Look into the service's log.",
                {"Retry-After": "2"},
            )
        return self.model

    def search_tokens(
        self, tokens: Float[Tensor, "query_tokens dim"], made_by: str | None, **options: Any
    ) -> list[Hit]:
        """Search with query tokens that were made before.

        Args:
            tokens: The scored tokens of a query.
            made_by: The fingerprint of the index when its model was asked for.
            options: As in `Searcher.search_tokens`.

        Raises:
            ServiceError: 503, if the index has been replaced by one of another model meanwhile.
        """
        hits = self.searcher.search_tokens(tokens, **options)
        if self.model is None or self.fingerprint != made_by:  # the model goes before the new state is seen
            raise ServiceError(
                503,
                "not_ready",
                f"index {self.name!r} was replaced by one of another model.",
                "Try again in a moment.",
                {"Retry-After": "1"},
            )
        return hits

    def close(self) -> None:
        """Let go of its files."""
        if self._preloader is not None:
            self._preloader.stop()
        self.searcher.close()
        self._catalog.close()
