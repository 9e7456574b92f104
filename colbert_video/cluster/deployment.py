"""The service over a cluster: shards are scored by actors of Ray, and Ray Serve may run the service itself."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from colbert_video.cluster.cluster_searcher import ClusterSearcher
from colbert_video.cluster.session import import_ray
from colbert_video.device import Device
from colbert_video.model.precision import Precision
from colbert_video.model.query_runtime import QueryRuntime
from colbert_video.serve.app import create_app
from colbert_video.serve.indexes import IndexRegistry, Opener, ServedIndex
from colbert_video.serve.service_settings import ServeSettings


def cluster_opener(**options: Any) -> Opener:
    """Return what `IndexRegistry.open` needs to have sharded corpora searched on a cluster.

    Args:
        **options: Arguments of `ClusterSearcher`, such as replicas=2.
    """
    return partial(ServedIndex, open_corpus=partial(ClusterSearcher, **options))


def serve_deployment(
    corpora: Sequence[str],
    *,
    settings: ServeSettings | None = None,
    cluster: Mapping[str, Any] | None = None,
    model: str | None = None,
    device: Device | None = None,
    precision: Precision | None = None,
    compile: bool = False,
    query_runtime: QueryRuntime | None = None,
    **options: Any,
) -> Any:
    """Wrap the service for `ray.serve.run`.

    Each replica of the deployment opens the corpora, encodes queries, and has shard actors of its own.

    Args:
        corpora: Sharded corpora, or NAME=FOLDER, as every machine sees them.
        settings: Limits and token. Ray Serve has its own host and port; clients' Host headers are checked by these.
        cluster: Arguments of `ClusterSearcher`, such as {"replicas": 2}.
        model: Encodes queries; None for the model that the shards name.
        device: Where models run.
        precision: Precision in which models compute; None for "auto".
        compile: True to compile models, as for `Searcher`.
        query_runtime: What runs the text tower, as for `Searcher`.
        **options: Options of the deployment, such as num_replicas or ray_actor_options.

    Returns:
        An application of Ray Serve.

    Raises:
        DependencyError: If Ray is not installed.
    """
    import_ray()
    from ray import serve

    def build() -> Any:
        limits = settings or ServeSettings()
        indexes = IndexRegistry.open(
            corpora,
            model=model,
            device=device,
            precision=precision,
            compile=compile,
            query_runtime=query_runtime,
            refresh_seconds=limits.refresh_seconds,
            opened=cluster_opener(**(cluster or {})),
        )
        return create_app(indexes, limits)

    deployment: Any = serve.deployment(serve.ingress(build)(), name="colbert_video", **options)
    return deployment.bind()
