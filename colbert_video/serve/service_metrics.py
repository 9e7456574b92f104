"""Counters of the service, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import Scope

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "colbert_video_requests", "Answered requests.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "colbert_video_request_seconds",
            "Time to answer, streaming included.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.sent = Counter("colbert_video_sent_bytes", "Bytes of answers.", ("route",), registry=self.registry)
        self.running = self._gauge("requests_running", "Requests being answered.")
        self.batches = Histogram(
            "colbert_video_encoded_batch_queries", "Texts encoded together.", buckets=BATCHES, registry=self.registry
        )
        self.cache_hits = self._gauge("query_cache_hits", "Texts whose tokens were known.")
        self.cache_misses = self._gauge("query_cache_misses", "Texts that had to be encoded.")
        self.waiting_queries = self._gauge("queries_waiting", "Texts waiting to be encoded.")
        self.searches = self._gauge("searches", "Searches that run or wait.")
        self.thumbnails = self._gauge("thumbnails", "Thumbnails being decoded or waiting.")
        self.thumbnail_bytes = self._gauge("thumbnail_cache_bytes", "Memory of kept thumbnails.")
        self.copy_bytes = self._gauge("copies_bytes", "Disk space of H.264 copies.")
        self.videos = self._gauge("index_videos", "Videos of an index.", "index")
        self.version = self._gauge("index_version", "Number of the commit that is searched.", "index")
        self.ready = self._gauge("index_ready", "1 if an index can be searched.", "index")

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"colbert_video_{name}", text, labels, registry=self.registry)

    def count_request(self, scope: Scope, status: int | None, seconds: float, sent: int) -> None:
        """Count an answered request; all addresses that the service does not know count as one."""
        route = getattr(scope.get("route"), "path", "other")
        self.requests.labels(route, _method(scope["method"]), str(status or 499)).inc()
        self.seconds.labels(route).observe(seconds)
        self.sent.labels(route).inc(sent)

    def text(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self.registry)


def _method(method: str) -> str:
    """Name a method; clients can send any word, and each would be kept."""
    return method if method in ("GET", "HEAD", "POST") else "other"
