"""Limits of the service."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from colbert_video.base.checks import check_fields
from colbert_video.base.user_files import user_path
from colbert_video.durable import check_folder_writable
from colbert_video.errors import SettingsError

MIN_TOKEN_CHARACTERS = 16
"""Shorter tokens can be guessed over the network."""
THUMBNAIL_WIDTHS = (160, 320, 640)
"""Sides of the squares that thumbnails fit in, in pixels."""


@dataclass(frozen=True)
class ServeSettings:
    """Limits of the service. All waiting is bounded: what does not fit is refused with 503 and a time to come back.

    Raises:
        SettingsError: If a limit is out of range, the token is short, or an address beyond this machine has no token.
    """

    host: str = "127.0.0.1"
    """Address to listen on; the default is reachable from this machine only."""
    port: int = 8000
    """Port to listen on; 0 for a free one."""
    token: str | None = None
    """Secret that clients must show; None lets in everyone who reaches the port."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which browsers reach the service, such as that of a reverse proxy."""
    media_roots: tuple[Path, ...] = ()
    """Serve only video files in these folders, after following links; empty for all files that the catalog names."""
    most_results: int = 1000
    """Largest k of a search."""
    most_query_characters: int = 1000
    """Limit of a query's text."""
    most_listed: int = 1000
    """Most videos on one page of a list."""
    most_ids: int = 1000
    """Most ids in one search."""
    most_filter_characters: int = 20_000
    """Longest filter."""
    most_upload_bytes: int = 20 * 2**20
    """Largest uploaded picture."""
    most_pixels: int = 50_000_000
    """Largest uploaded picture, width times height."""
    kept_picture_bytes: int = 128 * 2**20
    """Memory for pictures that were searched by; the ones not used for longest go first."""
    batch_queries: int = 32
    """Most texts encoded at once."""
    batch_seconds: float = 0.003
    """How long a text waits for others to be encoded with."""
    waiting_queries: int = 256
    """Most texts waiting to be encoded."""
    cached_queries: int = 1024
    """Texts whose tokens are kept: 64 kB each at 32 tokens of 512 dimensions."""
    search_threads: int = 2
    """Searches scored at once."""
    waiting_searches: int = 64
    """Most searches waiting for a thread."""
    thumbnail_workers: int = 1
    """Processes that decode thumbnails."""
    waiting_thumbnails: int = 64
    """Most thumbnails waiting to be decoded."""
    thumbnail_seconds: float = 10.0
    """Time limit for decoding one thumbnail."""
    cached_thumbnail_bytes: int = 64 * 2**20
    """Memory for thumbnails that were made."""
    copies_at_once: int = 1
    """H.264 copies made at once."""
    waiting_copies: int = 8
    """Most copies waiting to be made."""
    copy_seconds: float = 900.0
    """Time limit for making one copy."""
    most_copy_bytes: int = 2**30
    """Largest copy."""
    cached_copy_bytes: int = 4 * 2**30
    """Disk space for copies; the ones not used for longest go first."""
    copy_memory_bytes: int = 4 * 2**30
    """Memory of the ffmpeg that makes a copy, where the system can limit it."""
    most_clip_seconds: float = 600.0
    """Longest clip of a video to save."""
    copies_folder: Path | None = None
    """Where copies are kept while the service runs; None for a new temporary folder."""
    add_roots: tuple[Path, ...] = ()
    """Let clients add videos: those in these folders, and files that they send, which go into the first; empty for none."""
    most_added_bytes: int = 4 * 2**30
    """Largest video file that is sent."""
    uploads_at_once: int = 4
    """Video files that are sent at once."""
    waiting_additions: int = 10_000
    """Most added videos that wait to be indexed, and most videos of one folder."""
    most_requests: int = 128
    """Requests answered at once, videos being streamed included."""
    most_connections: int = 512
    """Open connections."""
    header_seconds: float = 10.0
    """Time a client has to send the head of a request."""
    body_seconds: float = 30.0
    """Time a client has to send a picture."""
    stall_seconds: float = 30.0
    """Time within which a client must read some of an answer that waits for it; else its connection is cut."""
    keep_alive_seconds: int = 5
    """Time an idle connection stays open."""
    stop_seconds: int = 10
    """Time that running requests get when the service is stopped."""
    refresh_seconds: float = 1.0
    """How often the indexes are looked at for new commits."""

    def __post_init__(self) -> None:
        check_fields(self)
        roots = tuple(user_path(root, "media_roots (--media-root)") for root in self.media_roots)
        object.__setattr__(self, "media_roots", roots)
        object.__setattr__(self, "add_roots", tuple(_add_root(root) for root in self.add_roots))
        if self.copies_folder is not None:
            folder = user_path(self.copies_folder, "copies_folder (--copies-folder)")
            object.__setattr__(self, "copies_folder", folder)
            check_folder_writable(folder)
        for name, value in vars(self).items():
            if name != "port" and isinstance(value, (int, float)) and not value > 0:
                raise SettingsError(f"{name} is {value}; it must be more than 0.")
        if not 0 <= self.port < 2**16:
            raise SettingsError(f"port is {self.port}; it must be between 0 (any free one) and 65535.")
        if self.token is not None and len(self.token) < MIN_TOKEN_CHARACTERS:
            raise SettingsError(
                f"the token has {len(self.token)} characters and could be guessed; use at least {MIN_TOKEN_CHARACTERS}, "
                "for instance those of `openssl rand -hex 32`."
            )
        if self.token is None and not is_local(self.host):
            raise SettingsError(
                f"host {self.host} can be reached from other machines; that needs a token (--token or COLBERT_VIDEO_TOKEN)."
            )


def _add_root(root: Path) -> Path:
    folder = user_path(root, "add_roots (--allow-add)")
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder, so no videos can be added from it; make it, or name another.")
    return folder


def is_local(host: str) -> bool:
    """Return whether an address to listen on is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
