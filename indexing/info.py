"""What an index holds, read without loading a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from colbert_video.indexing.catalog import Catalog
from colbert_video.indexing.folder import stored_settings


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
        videos = catalog.count()
        description: dict[str, Any] = {
            "path": str(path),
            "finished": settings is not None,
            "videos": videos,
            "removed": removed,
            "staged": len(catalog.staged_ids()),
            "segments": len(segments),
            "bytes": size,
            "bytes_per_video": round(size / videos) if videos else None,
        }
        if settings is not None:
            description |= settings.to_dict()
        description["failures"] = [asdict(failure) for failure in catalog.failures()]
        return description
