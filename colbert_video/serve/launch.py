"""Starting and stopping the service's process."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn

from colbert_video.device import Device
from colbert_video.errors import SettingsError
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.precision import Precision
from colbert_video.model.query_runtime import QueryRuntime
from colbert_video.serve.app import create_api, create_app
from colbert_video.serve.connections import connection_class
from colbert_video.serve.indexes import IndexRegistry, Opener, ServedIndex
from colbert_video.serve.service_settings import ServeSettings

MAX_HEAD_BYTES = 2**16
"""Limit of a request's head; a long filter in its address fits."""
BACKLOG = 128


class Server(uvicorn.Server):
    """A server that ends in order at SIGTERM or SIGINT."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal; uvicorn's own method raises it again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    folders: Sequence[str],
    settings: ServeSettings,
    *,
    model: VideoEncoder | str | None = None,
    device: Device | None = None,
    precision: Precision | None = None,
    compile: bool = False,
    query_runtime: QueryRuntime | None = None,
    opened: Opener = ServedIndex,
    agents: bool = False,
    announce: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve indexes until SIGTERM or SIGINT; running requests are finished first.

    Args:
        folders: Index folders, or NAME=FOLDER.
        settings: Limits and address.
        model: Encodes queries; None for the models that the indexes name.
        device: Where models run.
        precision: Precision in which models compute; None for "auto".
        compile: True to compile models, as for `Searcher`.
        query_runtime: What runs the text tower, as for `Searcher`.
        opened: Opens an index.
        agents: True to answer agents at /mcp, as for `create_app`.
        announce: Called with the address once the port is open.

    Raises:
        IndexFolderError: If an index cannot be opened.
        SettingsError: If the address cannot be listened on, or an index is to be made and no model is named for it.
    """
    with open_port(settings.host, settings.port) as port:
        indexes = IndexRegistry.open(
            folders,
            model=model,
            device=device,
            precision=precision,
            compile=compile,
            query_runtime=query_runtime,
            refresh_seconds=settings.refresh_seconds,
            opened=opened,
            fillable=bool(settings.add_roots),
        )
        app = create_app(indexes, settings, agents=agents)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        announce(f"http://{host}:{port.getsockname()[1]}/")
        Server(uvicorn_config(app, settings)).run(sockets=[port])


def serve_stdio(folders: Sequence[str], settings: ServeSettings, **computing: Any) -> None:
    """Answer one agent over stdin and stdout until it closes them; nothing else may write to stdout.

    Args:
        folders: Index folders, or NAME=FOLDER.
        settings: Limits.
        **computing: How models compute: `model`, `device`, `precision`, `compile` and `query_runtime` of `serve`.

    Raises:
        IndexFolderError: If an index cannot be opened.
    """
    from colbert_video.serve.agents.agent_endpoint import talk_over_stdio

    indexes = IndexRegistry.open(folders, refresh_seconds=settings.refresh_seconds, **computing)
    app, _ = create_api(indexes, settings)
    asyncio.run(talk_over_stdio(app))


def uvicorn_config(app: Callable[..., object], settings: ServeSettings) -> uvicorn.Config:
    """Return the settings of uvicorn: limits of connections, and nothing that says who serves."""
    return uvicorn.Config(
        app,
        http=connection_class(settings.header_seconds, settings.stall_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.most_connections,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )


@contextmanager
def open_port(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on a port while the block runs.

    Raises:
        SettingsError: If the host is unknown, or the port is in use or not allowed.
    """
    try:
        opened = _bound(host, port)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; choose others with --host and --port."
        ) from error
    with opened:
        yield opened


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # With the protocol named, asyncio turns off Nagle's algorithm, which would hold back each answer for 40 ms.
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened
