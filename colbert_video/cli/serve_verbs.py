"""The verbs that serve indexes to browsers, programs and agents."""

import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from colbert_video.cli.options import FOLDER, compile_option, device_option, precision_option, query_runtime_option
from colbert_video.errors import DependencyError

model_option = click.option("--model", help="The model's new name or folder, if it moved.")
THREADS, CLUSTER_THREADS = 2, 16
"""Searches at once, scored here or elsewhere."""


@click.command()
@click.argument("indexes", nargs=-1, metavar="INDEX...")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Addresses that other machines can reach need a token.",
)
@click.option("--port", type=int, default=8000, show_default=True, help="Port; 0 for a free one.")
@click.option(
    "--token",
    envvar="COLBERT_VIDEO_TOKEN",
    help="Secret that clients must send. Better set COLBERT_VIDEO_TOKEN: other users can see command lines.",
)
@click.option("--allowed-host", "allowed_hosts", multiple=True, help="Host name of a reverse proxy; repeatable.")
@click.option(
    "--media-root",
    "media_roots",
    type=FOLDER,
    multiple=True,
    help="Serve only video files in this folder; repeatable. Default: every file that an index names.",
)
@click.option(
    "--allow-add",
    "add_roots",
    type=FOLDER,
    multiple=True,
    help="Let the page and programs add videos from this folder, and send files, which are stored in the first such folder; "
    "repeatable. With --model an INDEX need not exist yet. Default: nothing can be added.",
)
@click.option(
    "-k",
    "most_results",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="At most this many results of a search.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Searches at the same time. Default: 2; 16 with a cluster, which scores on other machines.",
)
@click.option(
    "--cluster",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="auto",
    help="Search sharded corpora on a Ray cluster: the one at HOST:PORT, or else that of this machine.",
)
@click.option("--replicas", type=click.IntRange(min=1), help="Processes for each shard on the cluster. Default: 1.")
@click.option("--deadline", type=float, help="Seconds to wait for shards on the cluster. Default: 5.")
@click.option("--copies-folder", type=FOLDER, help="Folder for H.264 copies. Default: a temporary folder.")
@click.option(
    "--preload",
    is_flag=True,
    help="Ask the system to read the indexes and new commits into memory before searches need them.",
)
@click.option("--mcp", "agents", is_flag=True, help="Also answer agents (Model Context Protocol) at /mcp.")
@model_option
@device_option
@precision_option
@compile_option
@query_runtime_option
def serve(
    indexes: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    allowed_hosts: tuple[str, ...],
    media_roots: tuple[Path, ...],
    add_roots: tuple[Path, ...],
    most_results: int,
    threads: int | None,
    cluster: str | None,
    replicas: int | None,
    deadline: float | None,
    copies_folder: Path | None,
    preload: bool,
    agents: bool,
    **computing: Any,
) -> None:
    """Serve indexes over HTTP: a search page, and an interface for programs.

    INDEX is an index folder or a sharded corpus, or NAME=FOLDER to choose its name. New commits are seen within a
    second. Stop with Ctrl-C or SIGTERM.
    """
    check_server(agents=agents)
    from colbert_video.serve.indexes import Opener, ServedIndex
    from colbert_video.serve.launch import serve as run
    from colbert_video.serve.service_settings import ServeSettings

    cluster, indexes = split_address(cluster, indexes)
    options = cluster_options(cluster, replicas=replicas, deadline=deadline)
    opened: Opener = partial(ServedIndex, preload=preload)
    if options is not None:
        from colbert_video.cluster.deployment import cluster_opener

        opened = cluster_opener(preload=preload, **options)
    settings = ServeSettings(
        host=host,
        port=port,
        token=_own_token(host, token),
        allowed_hosts=allowed_hosts,
        media_roots=media_roots,
        add_roots=add_roots,
        most_results=most_results,
        search_threads=threads or (THREADS if cluster is None else CLUSTER_THREADS),
        copies_folder=copies_folder,
    )
    run(
        indexes,
        settings,
        **computing,
        opened=opened,
        agents=agents,
        announce=lambda address: _say(f"serving {address}"),
    )


@click.command()
@click.argument("indexes", nargs=-1, required=True, metavar="INDEX...")
@click.option(
    "--http", is_flag=True, help="Listen at http://HOST:PORT/mcp instead, for agents elsewhere; with the search page."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: address to listen on.")
@click.option("--port", type=int, default=8000, show_default=True, help="With --http: port; 0 for a free one.")
@click.option("--token", envvar="COLBERT_VIDEO_TOKEN", help="With --http: secret that agents must show.")
@click.option(
    "--media-root",
    "media_roots",
    type=FOLDER,
    multiple=True,
    help="Show only video files in this folder; repeatable. Default: every file that an index names.",
)
@model_option
@device_option
@precision_option
@compile_option
@query_runtime_option
def mcp(
    indexes: tuple[str, ...],
    http: bool,
    host: str,
    port: int,
    token: str | None,
    media_roots: tuple[Path, ...],
    **computing: Any,
) -> None:
    """Give agents tools that search indexes: the Model Context Protocol over stdin and stdout.

    Agents start this themselves; add it to their settings as the command `colbert-video mcp my.index`. They can search,
    explain, list, and look at frames, but change nothing. With --http it is a service, like `colbert-video serve --mcp`.
    """
    check_server(agents=True)
    from colbert_video.serve.launch import serve as run
    from colbert_video.serve.launch import serve_stdio
    from colbert_video.serve.service_settings import ServeSettings

    if not http:
        serve_stdio(indexes, ServeSettings(media_roots=media_roots), **computing)
        return
    settings = ServeSettings(host=host, port=port, token=_own_token(host, token), media_roots=media_roots)
    run(indexes, settings, **computing, agents=True, announce=lambda address: _say(f"serving {address}mcp"))


def _own_token(host: str, token: str | None) -> str | None:
    """Return the token of a service; one is made, and printed, where others can reach it and none was given."""
    from colbert_video.serve.service_settings import is_local

    if token is None and not is_local(host):
        token = secrets.token_urlsafe(32)
        _say(f"token: {token}")
    return token


def split_address(cluster: str | None, indexes: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the address after --cluster and the indexes, of which the first may stand there: `--cluster corpus.shards`."""
    if cluster is not None and (Path(cluster.rpartition("=")[2]).exists() or ":" not in cluster):
        named = cluster in ("auto", "local") and not Path(cluster).exists()
        cluster, indexes = (cluster, indexes) if named else ("auto", (cluster, *indexes))
    if not indexes:
        raise click.UsageError("Missing argument 'INDEX...'.")
    return cluster, indexes


def cluster_options(cluster: str | None, **given: Any) -> dict[str, Any] | None:
    """Return the arguments of `ClusterSearcher`; None without a cluster.

    Raises:
        UsageError: If an option is for searches on a cluster, and there is none.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if cluster is None:
        if chosen:
            raise click.UsageError(f"--{min(chosen)} is for searches on a cluster; add --cluster.")
        return None
    return {"cluster": cluster, **chosen}


def check_server(*, agents: bool = False) -> None:
    """Check that the packages for serving, and for agents where they are wanted, are installed.

    Raises:
        DependencyError: If one is missing.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f'{error.name} is not installed, which `serve` needs: pip install "colbert_video[serve]"'
        ) from error
    try:
        if agents:
            import mcp.server.mcpserver  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f'{error.name} is not installed, or too old for agents: pip install "colbert_video[mcp]"'
        ) from error


def _say(line: Any) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # whoever started the service waits for it
