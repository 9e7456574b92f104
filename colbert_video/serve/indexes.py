"""The indexes of a service: opened once, looked after while it runs, closed at its end."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from colbert_video.errors import ColBERTVideoError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.search.hits import Hits
from colbert_video.search.searcher import Searcher
from colbert_video.serve.http_errors import ServiceError

logger = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed"]


@runtime_checkable
class OpenCatalog(Protocol):
    """What is known of videos."""

    @property
    def version(self) -> int:
        """A number that grows with each commit."""
        ...

    def rows_of(self, ids: Iterable[str]) -> dict[str, list[VideoEntry]]:
        """Rows that ids stand for, as `Catalog.rows_of` gives them."""
        ...

    def close(self) -> None:
        """Close its files."""
        ...


class ServedIndex:
    """One index under its name.

    Args:
        name: What clients call it.
        path: The index folder.
        model: Encodes queries; None for the model that the index names.
        device: Where that model runs.
        preload: Ask the system to read its files ahead, and those of new commits.

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
        preload: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.state: State = "loading"
        self.note: str | None = None
        self.model: VideoColBERT | None = None
        self.description = self._describe()
        self._names_model = model is not None
        self._device = device
        self._preload = preload
        self._catalog = self._open_catalog()
        try:
            self.version = self._catalog.version
            self.searcher = self._open_searcher(model)
        except BaseException:
            self._catalog.close()
            raise

    def _describe(self) -> Mapping[str, Any]:
        return describe_index(self.path)

    def _open_catalog(self) -> OpenCatalog:
        return Catalog.open(self.path)

    def _open_searcher(self, model: VideoColBERT | str | None) -> Searcher:
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
        """Ask the system to read its files ahead, if that is wanted, and from now on those of new commits."""
        if self._preload:
            self.searcher.preload()

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
    ) -> Hits:
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
        """Close its files."""
        self.searcher.close()
        self._catalog.close()


Opener = Callable[..., ServedIndex]
"""`ServedIndex`, or what makes one of the same arguments."""


class IndexRegistry:
    """All indexes of a service, in order; the first is the default.

    Args:
        indexes: The opened indexes.
        refresh_seconds: How often to look for new commits.
    """

    def __init__(self, indexes: Sequence[ServedIndex], *, refresh_seconds: float = 1.0) -> None:
        self._indexes = {index.name: index for index in indexes}
        self._refresh_seconds = refresh_seconds
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def open(
        cls,
        folders: Sequence[str],
        *,
        model: VideoColBERT | str | None = None,
        device: str | None = None,
        refresh_seconds: float = 1.0,
        opened: Opener = ServedIndex,
    ) -> "IndexRegistry":
        """Open indexes.

        Args:
            folders: Index folders, or NAME=FOLDER to choose the name; else it is the folder's.
            model: Encodes queries; None for the models that the indexes name.
            device: Where models run.
            refresh_seconds: How often to look for new commits.
            opened: Opens one.

        Raises:
            SettingsError: If there is none, or two have one name.
            IndexFolderError: If one cannot be opened.
        """
        named = _named_folders(folders)
        indexes: list[ServedIndex] = []
        try:
            for name, path in named.items():
                indexes.append(opened(name, path, model=model, device=device))
        except BaseException:
            for index in indexes:
                index.close()
            raise
        return cls(indexes, refresh_seconds=refresh_seconds)

    def __iter__(self) -> Iterator[ServedIndex]:
        return iter(self._indexes.values())

    def get(self, name: str | None) -> ServedIndex:
        """An index by name; the first without one.

        Raises:
            ServiceError: 404, if there is none of that name.
        """
        if not name:
            return next(iter(self._indexes.values()))
        if name not in self._indexes:
            raise ServiceError(
                404,
                "no_such_index",
                f"there is no index {name[:200]!r}.",
                f"There are: {', '.join(self._indexes)}.",
            )
        return self._indexes[name]

    @property
    def ready(self) -> bool:
        """Whether every index can be searched."""
        return all(index.state == "ready" for index in self)

    def start(self, forget: Callable[[VideoColBERT], None]) -> None:
        """Read files into memory where that is wanted, load models and watch for commits, in threads of the running event loop.

        Args:
            forget: Called with each model that no index uses any more.
        """
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._look_after(forget)))

    async def close(self) -> None:
        """Stop watching and close every index."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for index in self:
            index.close()

    async def _look_after(self, forget: Callable[[VideoColBERT], None]) -> None:
        loaded: dict[str, VideoColBERT] = {}
        for index in self:
            await asyncio.to_thread(index.preload)
            await asyncio.to_thread(index.load_model, loaded)
            if index.model is not None and index.fingerprint is not None:
                loaded[index.fingerprint] = index.model
        del loaded
        while True:
            await asyncio.sleep(self._refresh_seconds)
            for index in self:
                before = index.model
                await asyncio.to_thread(index.refresh)
                if before is not None and all(other.model is not before for other in self):
                    forget(before)
                del before


def _named_folders(folders: Sequence[str]) -> dict[str, Path]:
    if not folders:
        raise SettingsError("no index was given; at least one is needed.")
    named: dict[str, Path] = {}
    for folder in folders:
        name, separator, rest = folder.partition("=")
        chosen = bool(separator and name) and not Path(folder).exists()
        path = Path(rest if chosen else folder)
        name = name if chosen else path.resolve().name
        if "/" in name:
            raise SettingsError(f"the index name {name!r} holds a slash; choose one without.")
        if name in named:
            raise SettingsError(f"two indexes are called {name!r}; name one of them: other={path}.")
        named[name] = path
    return named
