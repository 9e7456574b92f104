"""What an index holds and what searches it, read without loading a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.folder import stored_drift, stored_settings
from colbert_video.indexing.kernels import kernel_name


def describe_index(path: Path) -> dict[str, Any]:
    """Describe an index, finished or not, as plain values.

    Raises:
        IndexFolderError: If there is no index or its catalog is damaged.
    """
    with Catalog.open(path) as catalog:
        settings = stored_settings(catalog)
        segments = catalog.live_segments()
        removed = sum(len(catalog.tombstoned(segment.name)) for segment in segments)
        size = sum(size for size, _ in catalog.files().values())
        videos = catalog.count_videos()
        description: dict[str, Any] = {
            "path": str(path),
            "finished": settings is not None,
            "videos": videos,
            "windows": catalog.count_windows(),
            "removed": removed,
            "staged": len(catalog.staged_ids()),
            "segments": len(segments),
            "bytes": size,
            "bytes_per_video": round(size / videos) if videos else None,
            "kernels": kernel_name(),
        }
        if settings is not None:
            description |= settings.to_dict()
        drift = stored_drift(catalog)
        if drift is not None:
            description["codec_errors"] = drift.to_dict()
            description["codec_drift"] = drift.advice() if drift.drifted else None
        description["failures"] = [asdict(failure) for failure in catalog.failures()]
        return description
