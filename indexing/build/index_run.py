"""Who does the work of an index run: this process, or the machines of a cluster that the caller passes in."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, runtime_checkable

from colbert_video.base.checks import check_fields, whole_number
from colbert_video.device import Device
from colbert_video.errors import DependencyError, shown
from colbert_video.indexing.build.segment_builder import CompressedChunk
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.chunks import TokenSource
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.precision import Precision
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord

CLUSTERS, RAY = "colbert_video.clusters", "ray"
"""Group of entry points, and the name in it, of the class that opens a cluster by its address."""


@dataclass(frozen=True)
class Decoding:
    """How video files are read here and now; the index remembers which frames are taken.

    Raises:
        SettingsError: If a value is out of range.
    """

    decoder: Literal["pyav", "decord", "torchcodec"]
    timeout: float
    """Seconds that one file, or one window of it, may take."""
    workers: int | None
    """Decoding processes; None for one per core."""
    max_pixels: int = SamplingSettings.max_pixels
    """Largest picture to decode: width times height in pixels."""
    max_memory: int = SamplingSettings.max_memory
    """Bytes that a decoding process may take."""

    def __post_init__(self) -> None:
        check_fields(self)
        SamplingSettings(**self.sampling)
        if self.workers is not None:
            whole_number("workers", self.workers, least=1)

    @property
    def sampling(self) -> dict[str, Any]:
        """These settings as fields of `SamplingSettings`."""
        names = ("decoder", "timeout", "max_pixels", "max_memory")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Work:
    """What a run does to its videos, on whichever machine."""

    folder: Path
    """The index folder, the same path on every machine."""
    settings: IndexSettings
    decoding: Decoding
    precision: Precision | None = None
    """Precision in which a model that is loaded by its name computes; None for "auto" on each machine."""
    compile: bool = False
    """True to compile a model that is loaded by its name."""

    def sampling(self, model: VideoEncoder) -> SamplingSettings:
        """Return which frames the model wants of each video, and how they are read."""
        settings = self.settings
        return model.sampling(
            settings.num_frames, snap=settings.snap, stream=settings.video_stream, **self.decoding.sampling
        )


@dataclass(frozen=True)
class Staged:
    """What became of the videos of a run until they wait in staging."""

    resumed: int
    """Videos that an interrupted run had staged before."""
    failures: tuple[Failure, ...]
    """What failed, also of the resumed videos."""
    damaged: Mapping[str, tuple[str, ...]]
    """Videos of which something was damaged, by id, with what that was."""
    waited: float
    """Seconds in which the model waited for frames."""
    texts: frozenset[str] = frozenset()
    """Videos with streams that may hold text."""


@runtime_checkable
class Helpers(Protocol):
    """Those who do the work of one run; the catalog is written by the process that runs the index."""

    def stage(self, catalog: Catalog, records: Sequence[VideoRecord]) -> Staged:
        """Encode records and stage them."""
        ...

    def compress(self, source: TokenSource, codecs: Mapping[str, ResidualCodec]) -> Iterable[CompressedChunk]:
        """Compress what was staged, in its order."""
        ...


@runtime_checkable
class Cluster(Protocol):
    """A cluster that the caller of `Indexer` passes in, such as `colbert_video.cluster.RayCluster`.

    It is joined when the block is entered, before anything expensive is done, and left with the block.
    """

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def helpers(
        self, work: Work, model: VideoEncoder, *, by_name: bool, device: Device | None
    ) -> AbstractContextManager[Helpers]:
        """Return the machines as helpers of a run, whose workers end with the block.

        Args:
            work: What they do.
            model: The model that they encode with.
            by_name: Let each machine load the model by its name instead of sending it there.
            device: Where they run it; None to choose.
        """
        ...


def find_cluster(cluster: Cluster | str | None) -> AbstractContextManager[Any]:
    """Return the cluster that an argument means; what is installed for it opens one that is named by its address.

    Raises:
        DependencyError: If nothing that can open a cluster is installed.
        SettingsError: If the address is not valid.
    """
    if cluster is None:
        return nullcontext()
    if not isinstance(cluster, str):
        return cluster
    found = list(entry_points(group=CLUSTERS, name=RAY))
    if not found:
        raise DependencyError(
            f"cluster={shown(cluster)}: this installation of colbert_video has no entry point {shown(RAY)} in "
            f"{shown(CLUSTERS)}, which opens clusters by their address; install colbert_video again, or pass "
            "colbert_video.cluster.RayCluster(...)."
        )
    opened: AbstractContextManager[Any] = found[0].load()(cluster)
    return opened
