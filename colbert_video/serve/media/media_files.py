"""From a video of the catalog to an open file: the only way by which the service reads a video.

Clients name ids; paths come from the catalog alone. A path is followed through its links to the file it really is, which
must be a regular file, lie in a media root if there are any, and be a known container: an index made elsewhere could
name any file of this machine, and only videos are handed out. Of a member of a tar archive, the same is asked of the
archive, and only the member is handed out.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media.containers import MediaKind, identify
from colbert_video.video.files import RangeReader, native_name, read_archive, split_member


@dataclass(frozen=True)
class MediaFile:
    """A video file as it is now."""

    path: str
    """Where it really is; a member of an archive at ARCHIVE/MEMBER."""
    size: int
    """Bytes."""
    modified_ns: int
    """When it was last changed, nanoseconds since 1970."""
    kind: MediaKind
    """What it is."""

    @property
    def etag(self) -> str:
        """Strong validator: changes with the file."""
        return f'"{self.modified_ns:x}-{self.size:x}"'


def open_media(path: str | None, roots: Sequence[Path]) -> tuple[MediaFile, BufferedIOBase]:
    """Find the file of a video and open it; the caller closes it.

    Args:
        path: As the catalog has it.
        roots: Folders in which it must lie; empty for anywhere.

    Returns:
        What the file is, and the open file.

    Raises:
        ServiceError: 404, if there is none that may be served; its message never tells where it would be.
    """
    archive, member = (path, None) if path is None else split_member(path)
    real = _real_path(archive, roots)
    try:
        whole = open(real, "rb", opener=_open_now)  # noqa: SIM115 - Path.open takes no opener
    except OSError as error:  # folders too
        raise _gone() from error
    try:
        status = os.fstat(whole.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _missing("what the index names is not a file.", "Index the video again.")
        if member is None:
            return _described(real, status.st_size, status.st_mtime_ns, whole)
        part = _open_member(real, member, whole)
        return _described(f"{real}/{member}", part.size, status.st_mtime_ns, BufferedReader(part))
    except BaseException:
        whole.close()
        raise


def locate_media(path: str | None, roots: Sequence[Path]) -> MediaFile:
    """Tell what the file of a video is; arguments and errors as in `open_media`."""
    media, file = open_media(path, roots)
    file.close()
    return media


def _real_path(path: str | None, roots: Sequence[Path]) -> str:
    if path is None:
        raise _missing("the index knows no file of this video.", "Index videos by their files to play them.")
    try:
        real = os.path.realpath(native_name(path), strict=True)
    except (OSError, ValueError) as error:
        raise _gone() from error
    if roots and not any(Path(real).is_relative_to(root.resolve()) for root in roots):
        raise _missing(
            "the video's file lies outside the media roots.", "Start the service with its --media-root."
        )
    return real


def _open_now(path: str, flags: int) -> int:
    """Open without following a link or waiting for a writer, should a link or a pipe have taken the file's place."""
    return os.open(
        path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    )  # POSIX has them


def _open_member(archive: str, member: str, whole: BufferedIOBase) -> RangeReader:
    """A member of an open archive."""
    try:
        place = read_archive(archive).members.get(member)
    except OSError as error:
        raise _gone() from error
    if place is None:
        raise _gone()
    return RangeReader(whole, *place)


def _described(
    path: str, size: int, modified_ns: int, file: BufferedIOBase
) -> tuple[MediaFile, BufferedIOBase]:
    """What an open file is, and the file."""
    kind = identify(file)
    if kind is None:
        raise _missing(
            "the video's file is of no kind that is served.", "Make a copy in MP4 or WebM and index that."
        )
    return MediaFile(path, size, modified_ns, kind), file


def _gone() -> ServiceError:
    return _missing(
        "the video's file is not where it was when it was indexed.", "Bring it back, or index it again."
    )


def _missing(message: str, remedy: str) -> ServiceError:
    return ServiceError(404, "media_missing", message, remedy)
