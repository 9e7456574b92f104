"""Many machines: indexing and searching with Ray.

Nothing here imports Ray before it is used; `pip install "colbert_video[cluster]"` brings it.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.cluster.cluster_searcher import ClusterSearcher as ClusterSearcher
    from colbert_video.cluster.deployment import serve_deployment as serve_deployment
    from colbert_video.cluster.indexing.cluster_run import RayCluster as RayCluster
    from colbert_video.cluster.session import Session as Session
    from colbert_video.cluster.session import connect as connect

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.cluster.cluster_searcher": ["ClusterSearcher"],
        "colbert_video.cluster.deployment": ["serve_deployment"],
        "colbert_video.cluster.indexing.cluster_run": ["RayCluster"],
        "colbert_video.cluster.session": ["Session", "connect"],
    },
)
