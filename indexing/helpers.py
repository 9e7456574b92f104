"""Other machines that help with a run of indexing: those of a Ray cluster, or none, and then nothing of Ray is imported."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from colbert_video.indexing.build.ingest import Decoding, Helpers
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.model.video_colbert import VideoColBERT


def joined(cluster: str | None) -> AbstractContextManager[Any]:
    """A cluster, joined while the block runs, before anything expensive is done; None without one.

    Raises:
        ClusterError: If it cannot be joined.
        SettingsError: If the address is none.
    """
    if cluster is None:
        return nullcontext()
    from colbert_video.cluster.session import connect

    return connect(cluster)


def hired(
    session: Any,
    folder: Path,
    model: VideoColBERT,
    *,
    by_name: bool,
    settings: IndexSettings,
    decoding: Decoding,
    device: str | torch.device | None,
) -> AbstractContextManager[Helpers | None]:
    """The machines of a joined cluster, whose workers end with the block; None without one.

    Args:
        session: The cluster, or None.
        folder: The index folder.
        model: The model.
        by_name: Whether workers load it by its name.
        settings: The index's settings.
        decoding: How video files are read.
        device: Where workers run the model; None to choose.
    """
    if session is None:
        return nullcontext()
    from colbert_video.cluster.indexing.cluster_run import cluster_helpers

    return cluster_helpers(
        session,
        folder=folder,
        model=model,
        by_name=by_name,
        settings=settings,
        decoding=decoding,
        device=device,
    )
