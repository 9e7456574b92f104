"""Whether the service lives and is ready, and what it counts, for monitoring."""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from colbert_video.serve.http_errors import JSON, ServiceError
from colbert_video.serve.schemas import StatusAnswer
from colbert_video.serve.service import Service, get_service

router = APIRouter(tags=["status"])


@router.get("/healthz", response_model=StatusAnswer)
async def healthz() -> JSON:
    """The process answers."""
    return JSON(StatusAnswer(status="alive"))


@router.get("/readyz", response_model=StatusAnswer)
async def readyz(request: Request) -> JSON:
    """Every index can be searched, or be filled with first videos."""
    indexes = get_service(request).indexes
    if not indexes.ready:
        waiting = ", ".join(
            f"{index.name} ({index.state})" for index in indexes if index.state in ("loading", "failed")
        )
        remedy, later = "Wait; if an index failed, see the log.", {"Retry-After": "2"}
        raise ServiceError(503, "not_ready", f"not ready: {waiting}.", remedy, later)
    return JSON(StatusAnswer(status="ready"))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format."}},
)
async def metrics(request: Request) -> Response:
    """Counters in Prometheus's text format."""
    service = get_service(request)
    _measure(service)
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _measure(service: Service) -> None:
    """Set the gauges that are read only when asked for."""
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
