"""Whether the service lives, is ready, and what it counts; for those who watch over it."""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from colbert_video.serve.http_errors import JSON, ServiceError
from colbert_video.serve.schemas import StatusAnswer
from colbert_video.serve.service import Service, service_of

router = APIRouter(tags=["status"])


@router.get("/healthz", response_model=StatusAnswer)
async def healthz() -> JSON:
    """The process answers."""
    return JSON({"status": "alive"})


@router.get("/readyz", response_model=StatusAnswer)
async def readyz(request: Request) -> JSON:
    """Every index can be searched."""
    indexes = service_of(request).indexes
    if not indexes.ready:
        waiting = ", ".join(f"{index.name} ({index.state})" for index in indexes if index.state != "ready")
        raise ServiceError(
            503,
            "not_ready",
            f"not ready: {waiting}.",
            "Wait; if an index failed, see the log.",
            {"Retry-After": "2"},
        )
    return JSON({"status": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format."}},
)
async def metrics(request: Request) -> Response:
    """Counters in Prometheus's text format."""
    service = service_of(request)
    _measure(service)
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _measure(service: Service) -> None:
    """Read the gauges that nobody sets on the way."""
    known = service.metrics
    known.cache_hits.set(service.encoder.hits)
    known.cache_misses.set(service.encoder.misses)
    known.waiting_queries.set(service.encoder.waiting)
    known.searches.set(service.searches.taken)
    known.thumbnails.set(service.thumbnails.work.taken)
    known.thumbnail_bytes.set(service.thumbnails.cache.bytes)
    known.copy_bytes.set(service.copies.bytes)
    for index in service.indexes:
        known.videos.labels(index.name).set(index.description["videos"])
        known.version.labels(index.name).set(index.version)
        known.ready.labels(index.name).set(index.state == "ready")
