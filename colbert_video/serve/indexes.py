"""The indexes of a service: opened once, watched while it runs, closed at its end."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from colbert_video.base.user_files import user_path
from colbert_video.errors import ColBERTVideoError, IndexFolderError, SettingsError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.folder import check_can_begin, is_finished
from colbert_video.indexing.upkeep.contents import describe_index
from colbert_video.indexing.upkeep.sharding import ShardedCorpus, is_corpus
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.loading import ModelChoice
from colbert_video.search.hits import Hits
from colbert_video.search.queries import ReadText
from colbert_video.search.searcher import Searcher
from colbert_video.search.sharded.catalogs import CorpusCatalogs, describe_corpus
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.serve.http_errors import SEE_LOG, ServiceError

logger = logging.getLogger(__name__)
State = Literal["loading", "empty", "ready", "failed"]
NOTHING_YET = "nothing is indexed yet"
HOW_TO_FILL = "Drop video files on the service's page or name a folder there, or POST to /api/additions/file or /api/additions/folder."
NO_CONTENTS: Mapping[str, Any] = {
    "videos": 0, "windows": 0, "removed": 0, "segments": 0, "bytes": 0, "dim": 0, "nbits": 0, "bags": [], "failures": []
}  # fmt: skip
"""Description of an index before its first commit."""


class ServedIndex:
    """One index, or one sharded corpus, under its name; where that is allowed, also a folder that is to become an index.

    Args:
        name: What clients call it.
        path: Its folder.
        model: Encodes queries; None for the model that the index names.
        preload: Ask the system to read its files ahead, and those of new commits.
        fillable: True to take a folder without a finished index, too, which holds nothing until a first video is added.
        open_corpus: Opens a searcher of a sharded corpus elsewhere than in this process, with the arguments of
            `ShardedSearcher`; only corpora are served then. None to search here.
        options: How the model computes: `device`, `precision`, `compile` and `query_runtime` of `Searcher`.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged; where `fillable`, if none can be made there.
        SettingsError: If an index is to be made, and no model is named for it.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        model: VideoEncoder | str | None = None,
        preload: bool = False,
        fillable: bool = False,
        open_corpus: Callable[..., ShardedSearcher] | None = None,
        **options: Any,
    ) -> None:
        self.name = name
        self.path = path
        self.state: State = "loading"
        self.note: str | None = None
        self.model: VideoEncoder | None = None
        self._of_commit: dict[str, tuple[int, Any]] = {}
        self._names_model = model is not None
        self._options = {"model": model, **options}
        self._preload = preload
        self._refreshing = threading.Lock()
        self._corpus = ShardedCorpus.open(path) if open_corpus is not None or is_corpus(path) else None
        self._open_searcher: Callable[..., Searcher] = open_corpus or partial(
            Searcher if self._corpus is None else ShardedSearcher, threads=1
        )
        self.description: Mapping[str, Any] = NO_CONTENTS
        self.version = 0
        self._catalog: Catalog | CorpusCatalogs | None = None
        self._searcher: Searcher | None = None
        if self._corpus is not None or is_finished(path):
            self._open()
        else:
            _check_begins(path, fillable=fillable, names_model=self._names_model)

    def _open(self) -> None:
        """Open what is searched; a model that is in memory already encodes its queries."""
        description = self._describe()
        catalog = Catalog.open(self.path) if self._corpus is None else CorpusCatalogs(self._corpus)
        try:
            version = catalog.version
            searcher = self._open_searcher(self.path, **self._options)
        except BaseException:
            catalog.close()
            raise
        if self.model is not None:
            searcher.use_model(self.model)
        self.description, self.version, self._catalog, self._searcher = description, version, catalog, searcher

    def _describe(self) -> Mapping[str, Any]:
        return describe_index(self.path) if self._corpus is None else describe_corpus(self._corpus)

    @property
    def is_empty(self) -> bool:
        """True if nothing was ever indexed here."""
        return self._searcher is None

    @property
    def searcher(self) -> Searcher:
        """What searches it.

        Raises:
            ServiceError: 409, if nothing is indexed yet.
        """
        if self._searcher is None:
            message = f"{NOTHING_YET} in {shown(self.name)}, so there is nothing to search."
            raise ServiceError(409, "nothing_indexed", message, HOW_TO_FILL)
        return self._searcher

    def check_holds_videos(self) -> None:
        """Check that there is something to search; raises as `searcher`."""
        _ = self.searcher

    @property
    def is_corpus(self) -> bool:
        """True for a sharded corpus."""
        return self._corpus is not None

    @property
    def fingerprint(self) -> str | None:
        """Digest of the model that made it; None if it was made of tokens."""
        return self.description.get("model_fingerprint")

    @property
    def made_by(self) -> tuple[str | None, int | None]:
        """Its model and how many dimensions its tokens have: what query tokens that search it must agree with."""
        return self.fingerprint, self.description.get("dim")

    @property
    def video_stream(self) -> int | None:
        """Which video stream of its files was indexed, counted from 0; None for the one that is read by default."""
        return self.description.get("video_stream")

    @property
    def bag_weights(self) -> dict[str, float]:
        """How much each bag counts in a search that says nothing else."""
        stored: Mapping[str, float] = self.description.get("bag_weights") or {}
        return {bag: stored.get(bag, 1.0) for bag in self.description.get("bags", ())}

    @property
    def takes_text(self) -> bool:
        """True if there is a model to encode queries."""
        return self._names_model or self.description.get("model") is not None

    def preload(self) -> None:
        """Ask the system to read its files ahead, if that is wanted, and from now on those of new commits."""
        if self._preload and self._searcher is not None:
            self._searcher.preload()

    def load_model(self, loaded: Mapping[str, VideoEncoder] | None = None) -> None:
        """Load the model and let it encode a first query, which is slower than later ones.

        Args:
            loaded: Models in memory by their fingerprints: indexes of one model share it.
        """
        try:
            if self.takes_text:
                shared = (loaded or {}).get(self.fingerprint or "")
                if shared is not None and self.model is None:  # nobody searches before it has a model
                    self.searcher.use_model(shared)
                self.model = self._first_model() if self._searcher is None else self._searcher.model
                self.model.encode_queries(["warm"])
            self.state, self.note = ("empty", NOTHING_YET) if self._searcher is None else ("ready", None)
        except Exception as error:  # whatever it is, the other indexes go on
            self._log(error)
            self.state, self.note = "failed", "its model cannot be loaded; the service's log says why"

    def _first_model(self) -> VideoEncoder:
        """Return the model that is to make the index."""
        model = ModelChoice.from_given(**self._options).load(None)
        if model is None:
            raise SettingsError("there is no model to make the index; start the service with --model.")
        return model

    def refresh(self) -> bool:
        """See what was committed since; return whether there was anything new.

        What cannot be opened leaves the older state searchable, with a note. Where another model made the new state, no
        query is encoded until that is loaded: the older model's tokens would find anything.
        """
        with self._refreshing:
            return self._filled() if self._searcher is None else self._refreshed(self._searcher)

    def _filled(self) -> bool:
        """Open the index once its first videos are committed; return whether they were."""
        try:
            if not is_finished(self.path):
                return False
            self._open()
        except Exception as error:  # whatever it is, the next look may find it whole
            if self.note in (None, NOTHING_YET):
                self._log(error)
            self.note = "its first videos cannot be opened; the service's log says why"
            return False
        self.preload()
        self.load_model()
        return True

    def _refreshed(self, searcher: Searcher) -> bool:
        model, state = self.model, self.state
        try:
            version = self._version
            if version == self.version:
                return False
            description = self._describe()
            if (description.get("model_fingerprint"), description.get("dim")) != self.made_by:
                self.model, self.state = None, "loading"
            searcher.refresh()
            self.description, self.version = description, version
        except Exception as error:  # whatever it is, the older state is still there
            self.model, self.state = model, state
            if self.note is None:
                self._log(error)
            self.note = "its newest state cannot be opened, an older one is searched; the service's log says why"
            return False
        self.load_model()
        return True

    @property
    def _version(self) -> int:
        return 0 if self._catalog is None else self._catalog.version

    def _log(self, error: Exception) -> None:
        logger.error("index %s: %s", self.name, error, exc_info=not isinstance(error, ColBERTVideoError))

    def once_per_commit(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returned for this name, which is called again after each commit."""
        version = self.version
        known = self._of_commit.get(name)
        if known is None or known[0] != version:
            known = self._of_commit[name] = version, make()
        return known[1]

    def rows(self, video_id: str) -> list[VideoEntry]:
        """Return the catalog rows of a video: its own, or those of its windows.

        Raises:
            ServiceError: 404, if it is not in the index.
        """
        found = self.rows_of([video_id])
        if video_id not in found:
            message = f"video {shown(video_id)} is not in index {shown(self.name)}."
            raise ServiceError(404, "no_such_video", message, "Check the id.")
        return found[video_id]

    def rows_of(self, ids: Sequence[str]) -> Mapping[str, list[VideoEntry]]:
        """Return the catalog rows of those of some videos that are in the index."""
        return {} if self._catalog is None else self._catalog.rows_of(ids)

    def query_model(self) -> VideoEncoder:
        """Return the model, to encode a query.

        Raises:
            ServiceError: 503 while it is loaded or after that failed; 422 if there is none.
        """
        if not self.takes_text:
            message = f"index {shown(self.name)} names no model that could encode a query."
            raise ServiceError(422, "no_model", message, "Start the service with --model.")
        if self.model is not None:
            return self.model
        message, later = f"the model of index {shown(self.name)} is not loaded.", {"Retry-After": "2"}
        if self.state == "loading":
            raise ServiceError(503, "not_ready", message, "Try again in a moment.", later)
        raise ServiceError(503, "index_unavailable", message, SEE_LOG, later)

    def search_tokens(
        self,
        tokens: Float[Tensor, "query_tokens dim"],
        made_by: tuple[str | None, int | None],
        read: ReadText | None = None,
        **options: Any,
    ) -> Hits:
        """Search with query tokens that were made before.

        Args:
            tokens: The scored tokens of a query.
            made_by: That of the index when its model was asked for.
            read: The query, for moments that follow its words; None if that is not known.
            options: As in `Searcher.search_tokens`.

        Raises:
            ServiceError: 503, if the index has been replaced by one of another model meanwhile.
        """
        padding = () if read is None or len(read.padding) != len(tokens) else read.padding
        self._check_made_by(made_by)  # else tokens of other dimensions would be the client's error
        hits = self.searcher.search_tokens(tokens, **options, padding=padding)
        self._check_made_by(made_by)
        return hits

    def _check_made_by(self, made_by: tuple[str | None, int | None]) -> None:
        if self.model is None or self.made_by != made_by:  # the model goes before the new state is seen
            message = f"index {shown(self.name)} was replaced by one of another model."
            raise ServiceError(503, "not_ready", message, "Try again in a moment.", {"Retry-After": "1"})

    def close(self) -> None:
        """Close its files."""
        for opened in (self._searcher, self._catalog):
            if opened is not None:
                opened.close()


Opener = Callable[..., ServedIndex]
"""`ServedIndex`, or a function that returns one, with some of its arguments set."""


class IndexRegistry:
    """All indexes of a service, in order; the first is the default.

    Args:
        indexes: The opened indexes.
        refresh_seconds: How often to look for new commits.
    """

    def __init__(self, indexes: Sequence[ServedIndex], *, refresh_seconds: float = 1.0) -> None:
        self._indexes = {index.name: index for index in indexes}
        self._refresh_seconds = refresh_seconds
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        folders: Sequence[str],
        *,
        model: VideoEncoder | str | None = None,
        refresh_seconds: float = 1.0,
        opened: Opener = ServedIndex,
        fillable: bool = False,
        **options: Any,
    ) -> "IndexRegistry":
        """Open indexes.

        Args:
            folders: Folders of indexes or sharded corpora, or NAME=FOLDER to choose the name; else it is the folder's.
            model: Encodes queries; None for the models that the indexes name.
            refresh_seconds: How often to look for new commits.
            opened: Opens one.
            fillable: True to take folders without an index, too, which added videos fill.
            **options: How models compute: `device`, `precision`, `compile` and `query_runtime` of `Searcher`.

        Raises:
            SettingsError: If no folder is given, two have one name, or an index is to be made and no model is named for it.
            IndexFolderError: If an index cannot be opened.
        """
        options |= {"fillable": True} if fillable else {}
        indexes: list[ServedIndex] = []
        with ExitStack() as stack:
            for name, path in _named_folders(folders).items():
                indexes.append(opened(name, path, model=model, **options))
                stack.callback(indexes[-1].close)
            stack.pop_all()
        return cls(indexes, refresh_seconds=refresh_seconds)

    def __iter__(self) -> Iterator[ServedIndex]:
        return iter(self._indexes.values())

    def get(self, name: str | None) -> ServedIndex:
        """Return an index by its name; the first without a name.

        Raises:
            ServiceError: 404, if no index has that name.
        """
        if not name:
            return next(iter(self))
        if name not in self._indexes:
            message = f"there is no index {shown(name)}."
            raise ServiceError(404, "no_such_index", message, f"There are: {', '.join(self._indexes)}.")
        return self._indexes[name]

    @property
    def ready(self) -> bool:
        """True if every index can be searched, or be filled."""
        return all(index.state in ("ready", "empty") for index in self)

    def start(self, forget: Callable[[VideoEncoder], None]) -> None:
        """Load models and watch for commits, in threads of the running event loop.

        Args:
            forget: Called with each model that no index uses any more.
        """
        self._watch = asyncio.get_running_loop().create_task(self._look_after(forget))

    async def close(self) -> None:
        """Stop watching and close every index."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        for index in self:
            index.close()

    async def _look_after(self, forget: Callable[[VideoEncoder], None]) -> None:
        loaded: dict[str, VideoEncoder] = {}
        for index in self:
            await asyncio.to_thread(index.preload)
            await asyncio.to_thread(index.load_model, loaded)
            if index.model is not None and index.fingerprint is not None:
                loaded[index.fingerprint] = index.model
        del loaded
        known = {index.name: index.model for index in self}  # additions look for commits too, between two rounds
        while True:
            await asyncio.sleep(self._refresh_seconds)
            for index in self:
                await asyncio.to_thread(index.refresh)
                before, known[index.name] = known[index.name], index.model
                if before is not None and all(other.model is not before for other in self):
                    forget(before)
                del before


def _check_begins(path: Path, *, fillable: bool, names_model: bool) -> None:
    """Check that a folder without a finished index may become one.

    Raises:
        IndexFolderError: If it may not, or cannot.
        SettingsError: If no model is named to make it.
    """
    if not fillable:
        raise IndexFolderError(
            f"{path} holds no finished index; make it with `colbert-video index VIDEOS --index {path} --model NAME`, or start "
            "`serve` with --allow-add FOLDER --model NAME to fill it from the page."
        )
    if not names_model:
        raise SettingsError(f"{path} holds no index yet, and there is no model to make it; add --model NAME.")
    check_can_begin(path)
    logger.warning("%s in %s: drop videos on the page, or name a folder there", NOTHING_YET, path)


def _named_folders(folders: Sequence[str]) -> dict[str, Path]:
    if not folders:
        raise SettingsError("no index was given; at least one is needed.")
    named: dict[str, Path] = {}
    for folder in folders:
        name, separator, rest = folder.partition("=")
        chosen = bool(separator and name) and not Path(folder).exists()
        path = user_path(rest if chosen else folder, "the index")
        name = name if chosen else path.resolve().name
        if "/" in name:
            raise SettingsError(f"the index name {shown(name)} holds a slash; choose one without.")
        if name in named:
            raise SettingsError(f"two indexes are called {shown(name)}; name one of them: other={path}.")
        named[name] = path
    return named
