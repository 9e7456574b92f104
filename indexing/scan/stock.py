"""The bridge to stock colbert-ai: its own IndexScorer searches our segment folders.

Each bag folder of a segment is a PLAID index that colbert-ai 0.2.22 loads as it is, so a query that is rotated first
can go through stock code from end to end: PLAID (Santhanam et al., CIKM 2022) retrieves from each bag, and the union
of what it found is scored in every bag. Stock sums over query tokens where Video-ColBERT takes the mean; dividing by
their number leaves only the fusion, MMS_F + MMS_V, to us.

Two differences remain. On CPUs stock's MaxSim starts from zero, so a query token whose best match is negative counts
as 0 (colbert/modeling/segmented_maxsim.cpp); on GPUs it does not, but computes in half precision. And stock finds what
its inverted lists and its pruning let through, where the native engine looks at every video.
"""

import importlib
import io
import logging
import multiprocessing
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from threading import Timer
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from colbert_video.base.checks import check_fields
from colbert_video.device import Device, resolve_device
from colbert_video.errors import DependencyError, IndexFolderError, SettingsError, shown
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.prepared_query import PreparedQuery, prepare
from colbert_video.indexing.scan.scan import weighed
from colbert_video.indexing.segments.opened_segment import Scored, Segment
from colbert_video.indexing.segments.segment import StoredBag

logger = logging.getLogger(__name__)
VIDEOS_PER_CALL = 2**13
"""Videos decoded at once: stock keeps an array of this length on the stack, and two float32 copies of their tokens."""
DOCS_PER_RESULT = 4
"""Of `ndocs` videos PLAID decodes one in so many."""
NEEDED = ("colbert.search.index_storage", "colbert.modeling.colbert", "colbert.infra")
TOKENIZERS = "TOKENIZERS_PARALLELISM"
SLOW = 5.0
"""Seconds after which loading must be a compilation, and a warning says so."""


@dataclass(frozen=True)
class PlaidSettings:
    """Settings of stock ColBERT's search for candidates; the names are ColBERT's.

    ColBERT's own defaults are made for the cosines of BERT tokens: a threshold of 0.4 to 0.5 prunes every centroid
    where CLIP-like tokens of text and video rarely exceed 0.4; wherever candidates then outnumber `ndocs`, all tie.

    ColBERT probes one cell for 10 results; `docs/performance.md` shows what more cells find, and what they cost.
    """

    ncells: int = 16
    """Inverted lists probed for each query token in each bag; at most as many as there are centroids."""
    centroid_score_threshold: float = -1.0
    """Centroids whose best cosine with the query is lower are ignored at first; -1 ignores none."""
    ndocs: int = 4096
    """Videos of each bag that pass the first pruning; a quarter of them are decoded, and at least k."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.ncells < 1:
            raise SettingsError(f"ncells={self.ncells} must be at least 1.")
        if self.ndocs < DOCS_PER_RESULT:
            raise SettingsError(f"ndocs={self.ndocs} must be at least {DOCS_PER_RESULT}.")
        if not -1 <= self.centroid_score_threshold <= 1:
            raise SettingsError(f"centroid_score_threshold={self.centroid_score_threshold} is a cosine: -1 to 1.")


class StockEngine:
    """Searches the segments of an index with stock colbert-ai; safe to share between threads.

    Stock copies all codes and residuals into memory. Its C++ is compiled at the first use on a machine, which takes
    minutes.

    Args:
        reader: The index; its bags' folders are what stock reads.
        device: A GPU to score there, in half precision; None or "cpu" for the CPU.
        settings: Settings of the search for candidates; None for the defaults.

    Raises:
        DependencyError: If colbert-ai is missing, or its extensions cannot be compiled.
        IndexFolderError: If a bag's files are damaged or missing.
        SettingsError: If the device is not one that stock can use.
    """

    def __init__(
        self, reader: IndexReader, *, device: Device | None = None, settings: PlaidSettings | None = None
    ) -> None:
        self._use_gpu = _use_gpu(device)
        self._settings = settings or PlaidSettings()
        load_kernels(use_gpu=self._use_gpu)
        self._scorers = {
            segment.name: {bag: self._open(segment.bags[bag]) for bag in reader.codecs(segment)}
            for segment in reader.segments
        }

    def _open(self, stored: StoredBag) -> Any:
        """Open stock's IndexScorer over one bag."""
        from colbert.search.index_storage import IndexScorer

        _ = stored.ivf  # stock's C++ follows the inverted lists unchecked; reading them here checks them
        try:
            with settings_kept(), visible_gpus(int(self._use_gpu)), quiet(logger):
                return IndexScorer(str(stored.folder), use_gpu=self._use_gpu)
        except OSError as error:
            raise IndexFolderError(
                f"{stored.folder} cannot be read: {error}. If the index changed meanwhile, open a new Searcher."
            ) from error

    def search_segment(
        self,
        segment: Segment,
        codecs: Mapping[str, ResidualCodec],
        query: Float[Tensor, "query_tokens dim"] | PreparedQuery,
        *,
        k: int,
        allowed: Bool[Tensor, "videos"] | None = None,
        exact: bool = False,
        threads: int = 1,
        weights: Mapping[str, float] | None = None,
    ) -> Scored:
        """Find the k best videos of a segment, as `scan.search_segment` does.

        Args:
            segment: Where to look.
            codecs: The codec of each bag; of it stock needs the rotation.
            query: Scored query tokens, unit vectors, not rotated; prepared if several segments are searched.
            k: Results wanted.
            allowed: True for videos that may be found; None for all live ones.
            exact: Must be False, as stock scores what PLAID retrieves.
            threads: Changes nothing: stock's C++ uses the cores that torch may use.
            weights: What each bag's MeanMaxSim counts, as in `scan.search_segment`.

        Returns:
            At most k videos, best first; equal scores are ordered by row.

        Raises:
            SettingsError: If `exact`, or no bag is left to be scored.
        """
        if exact:
            raise SettingsError(
                "exact=True contradicts engine='colbert', which scores what PLAID retrieves; use engine='native'."
            )
        prepared = prepare(query)
        bags = {
            bag: _Bag(self._scorers[segment.name][bag], prepared.rotated(codec).cpu(), self._use_gpu)
            for bag, codec in weighed(codecs, weights).items()
        }
        with torch.no_grad():
            eligible = segment.eligible(allowed).cpu()
            rows = _candidates(bags.values(), len(segment), eligible, k, self._settings)
            scores = {bag: scorer.mean_max(rows) for bag, scorer in bags.items()}
        return Scored.from_bags(rows, scores, weights).best(k)

    def estimated_scores(
        self,
        segment: Segment,
        codecs: Mapping[str, ResidualCodec],
        query: PreparedQuery,
        rows: Int64[Tensor, "videos"],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Float[Tensor, "videos"]:
        """Return what live videos score, as `scan.estimated_scores` does; here exactly, and best first."""
        allowed = torch.zeros(len(segment), dtype=torch.bool, device="cpu")
        allowed[rows.cpu()] = True
        return self.search_segment(segment, codecs, query, k=len(rows), allowed=allowed, weights=weights).total


def _candidates(
    bags: Collection["_Bag"], videos: int, eligible: Int64[Tensor, "eligible"], k: int, settings: PlaidSettings
) -> Int64[Tensor, "candidates"]:
    """Return videos that any bag retrieves, ascending; all eligible ones if few are, or fewer than k were found."""
    wanted = max(settings.ndocs // DOCS_PER_RESULT, k)
    if len(eligible) <= wanted:
        return eligible
    mask = torch.zeros(videos, dtype=torch.bool, device="cpu")
    mask[eligible] = True
    found = torch.cat([bag.retrieve(mask, wanted, settings) for bag in bags]).unique()
    return found if len(found) >= k else eligible


@dataclass(frozen=True)
class _Bag:
    """Stock's scorer of one bag, and a query in the form it takes."""

    scorer: Any
    query: Float[Tensor, "query_tokens dim"]
    """Rotated."""
    use_gpu: bool

    def retrieve(
        self, mask: Bool[Tensor, "videos"], wanted: int, settings: PlaidSettings
    ) -> Int64[Tensor, "retrieved"]:
        """Return the `wanted` best videos, among those that `mask` leaves, by all of PLAID's stages."""
        config = self._config(
            ncells=min(settings.ncells, len(self.scorer.codec.centroids)),
            centroid_score_threshold=settings.centroid_score_threshold,
            ndocs=wanted * DOCS_PER_RESULT,
        )

        def keep(pids: Tensor) -> Tensor:
            return pids[mask.to(pids.device)[pids.long()]]

        pids, _ = self.scorer.rank(config, self.query[None], filter_fn=keep)
        return torch.tensor(pids, dtype=torch.int64, device="cpu")

    def mean_max(self, rows: Int64[Tensor, "videos"]) -> Float[Tensor, "videos"]:
        """Return stock's MaxSim of some videos, divided by the number of query tokens."""
        config, scores = self._config(), [torch.zeros(0, dtype=torch.float32, device="cpu")]
        for pids in rows.int().split(VIDEOS_PER_CALL) if len(rows) else ():
            sums, _ = self.scorer.score_pids(config, self.query[None], pids, None)
            scores.append(sums.float().cpu())
        return torch.cat(scores) / len(self.query)

    def _config(self, **settings: Any) -> Any:
        """Return stock's settings for one call, new ones each time."""
        from colbert.infra import ColBERTConfig

        # Query tokens beyond query_maxlen would not be probed.
        config = ColBERTConfig(query_maxlen=len(self.query), **settings)
        config.total_visible_gpus = int(self.use_gpu)  # by this, not by the scorer, stock picks its kernels
        return config


def _use_gpu(device: Device | None) -> bool:
    """Return True to score on the GPU.

    Raises:
        SettingsError: If the device is not the first GPU.
    """
    resolved = torch.device("cpu") if device is None else resolve_device(device)
    if resolved.type == "cuda" and resolved.index:
        raise SettingsError(
            f"device={shown(str(device))}: stock ColBERT scores on the first GPU only; set CUDA_VISIBLE_DEVICES="
            f"{resolved.index} and use device='cuda', or engine='native'."
        )
    return resolved.type == "cuda"


def import_colbert() -> None:
    """Import the parts of colbert-ai that score, and leave the process's settings as they were.

    Raises:
        DependencyError: If colbert-ai, or something it needs, is missing.
    """
    try:
        with settings_kept():
            for module in NEEDED:
                importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"engine='colbert' needs the package colbert-ai, and its import failed: {error}. Install it (pip install "
            "'colbert-ai>=0.2.22'; it also needs the program git), or use engine='native'."
        ) from error


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back multiprocessing's start method, which progress bars fix too, and TOKENIZERS_PARALLELISM."""
    start_method = multiprocessing.get_start_method(allow_none=True)
    tokenizers = os.environ.get(TOKENIZERS)
    try:
        yield
    finally:
        multiprocessing.set_start_method(start_method, force=True)
        os.environ.pop(TOKENIZERS, None)
        if tokenizers is not None:
            os.environ[TOKENIZERS] = tokenizers


def load_kernels(*, use_gpu: bool) -> None:
    """Import colbert-ai and load its compiled functions, compiling them where that has not been done.

    Args:
        use_gpu: Load the CUDA functions instead of those for CPUs.

    Raises:
        DependencyError: If colbert-ai is missing, or the compilation fails.
    """
    import_colbert()
    from colbert.indexing.codecs.residual import ResidualCodec
    from colbert.modeling.colbert import ColBERT
    from colbert.search.index_storage import IndexScorer
    from colbert.search.strided_tensor import StridedTensor

    notice = Timer(SLOW, logger.warning, ("compiling colbert-ai's C++; once on a machine, for minutes",))
    notice.start()
    try:
        with quiet(logger):
            for owner in (IndexScorer, StridedTensor, ColBERT, ResidualCodec):
                owner.try_load_torch_extensions(use_gpu)
    except (RuntimeError, OSError, ImportError) as error:
        compiler = "nvcc of the CUDA toolkit" if use_gpu else "a C++ compiler (g++ or clang)"
        reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
        raise DependencyError(
            f"engine='colbert' compiles C++ of colbert-ai, and that failed: {reason}. Install {compiler} and ninja "
            "(pip install ninja), or use engine='native', which compiles nothing."
        ) from error
    finally:
        notice.cancel()


@contextmanager
def visible_gpus(count: int) -> Iterator[None]:
    """Let stock count this many GPUs: its codec otherwise uses a GPU whenever the machine has one."""
    from colbert.infra.config.settings import RunSettings

    before = RunSettings.total_visible_gpus
    RunSettings.total_visible_gpus = count
    try:
        yield
    finally:
        RunSettings.total_visible_gpus = before


@contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    """Log what stock prints and its progress bars, at debug level, instead of showing them."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            log.debug("colbert-ai: %s", line)
