"""A sharded corpus in one process, without Ray: for one machine, and as the reference for the cluster."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from colbert_video.base.checks import check_flags
from colbert_video.base.once import PerProcess
from colbert_video.base.user_files import user_path
from colbert_video.device import Device
from colbert_video.indexing.upkeep.sharding import ShardedCorpus
from colbert_video.model.loading import Model
from colbert_video.model.precision import Precision
from colbert_video.model.query_runtime import QueryRuntime
from colbert_video.search.queries import QueryModel
from colbert_video.search.searcher import Searcher
from colbert_video.search.sharded.catalogs import CorpusCatalogs
from colbert_video.search.sharded.corpus_view import Answers, CorpusView
from colbert_video.search.sharded.shard import Shard


class ShardedSearcher(Searcher):
    """Opens all shards of a corpus and searches one after the other; called as `Searcher` is, safe between threads.

    A query is encoded once. Hits name in `shards_failed` the shards that did not answer, rankings those that did not
    answer a query; if not one shard answered in time, `ShardsUnavailableError` is raised. An id is refused if no shard
    holds it, and only shards that hold some of the `ids` are asked for hits. With `exact`, hits and their order are those of one
    index; without it each shard decodes the best few hundred of its own. Of a video in windows, `moments` may name more
    than one index would, as each shard fetches as many windows as that.

    Args:
        path: The sharded corpus.
        model: Encodes queries; None for the model that the shards name, loaded at the first text query.
        device: Where that model runs; a GPU that is named keeps the shards too.
        precision: Precision in which the model computes; None for "auto", and for that of an encoder in memory.
        compile: True to compile the model with `torch.compile`: its first query takes a minute or more, for services.
        query_runtime: "onnx" or "openvino" to run the text tower by ONNX Runtime or OpenVINO, which is faster on CPUs
            and takes up to half a minute when the model is loaded; None for torch.
        preload: True to ask the system to read the shards' files ahead; see `Searcher`.
        threads: Cores that searches use, one for each query of `search_all`; see `Searcher`.
        bag_weights: How much each bag counts, where a search says nothing else; None for what the shards say.

    Raises:
        IndexFolderError: If there is no sharded corpus, or a shard is damaged or does not belong to the others.
        SettingsError: If `bag_weights` or `threads` is not valid.
    """

    deadline: float | None = None
    """Seconds after which shards that have not answered are given up; None to wait for all."""

    def __init__(
        self,
        path: str | Path,
        *,
        model: Model | None = None,
        device: Device | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        query_runtime: QueryRuntime | None = None,
        preload: bool = False,
        threads: int | None = None,
        bag_weights: Mapping[str, float] | None = None,
    ) -> None:
        check_flags(preload=preload)
        self._set_defaults(threads, bag_weights)
        self._settings: dict[str, Any] = {"device": device}
        self._preload = False
        self._open_corpus(path, model, device, precision=precision, compile=compile, query_runtime=query_runtime)
        try:
            self._opened_shards = PerProcess(self._open_shards)
        except BaseException:
            self.catalogs.close()
            raise
        self._check_defaults()
        if preload:
            self.preload()

    def _open_corpus(self, path: str | Path, model: Model | None, device: Device | None, **options: Any) -> None:
        self.path = user_path(path, "the corpus")
        self.corpus = ShardedCorpus.open(self.path)
        self._model = QueryModel(self.path, model, device, **options)
        self.catalogs = CorpusCatalogs(self.corpus)

    @property
    def _shards(self) -> list[Shard]:
        return self._opened_shards.value

    def _open_shards(self) -> list[Shard]:
        shards: list[Shard] = []
        with ExitStack() as stack:
            for folder in self.corpus.folders:
                shards.append(Shard(folder, **self._settings))
                stack.callback(shards[-1].close)
                if self._preload:
                    shards[-1].preload()
            stack.pop_all()
        return shards

    def refresh(self) -> bool:
        """See what was committed to the shards since they were opened or refreshed; True if there was anything new.

        Raises:
            IndexFolderError: If a shard can no longer be opened; then its older state stays searchable.
        """
        self._check_open()
        changed = [shard.refresh() for shard in self._shards]  # every one, not just up to the first
        return any(changed)

    def preload(self) -> None:
        """Ask the system to read the shards' files ahead, and those of new commits; as `Searcher.preload`."""
        self._check_open()
        self._preload = True
        for shard in self._shards:
            shard.preload()

    def close(self) -> None:
        """Close the shards' files; a second call does nothing."""
        self._closed = True
        if not self._opened_shards.inherited:  # a forked process leaves those of the other to it
            for shard in self._shards:
                shard.close()
        self.catalogs.close()

    @contextmanager
    def _view(self) -> Iterator[CorpusView]:
        self._check_open()
        yield CorpusView(self.catalogs, self._ask, self.deadline)

    def _ask(self, method: str, asked: Mapping[int, tuple[Any, ...]]) -> Answers:
        return {number: getattr(self._shards[number], method)(*given) for number, given in asked.items()}, ()

    def __len__(self) -> int:
        self._check_open()
        return self.catalogs.videos
