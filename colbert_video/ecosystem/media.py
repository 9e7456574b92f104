"""Videos that come as bytes, kept as files, so that an index can show what was found."""

import hashlib
from pathlib import Path

from colbert_video.base.access import reason_of
from colbert_video.base.checks import whole_number
from colbert_video.base.user_files import user_path
from colbert_video.durable import write_bytes_durably
from colbert_video.errors import SettingsError
from colbert_video.video.sources import EXTENSIONS

NAME_LENGTH = 40
"""Hexadecimal digits of a file's name."""


class MediaFolder:
    """A folder of videos named by their content, so that a video that comes repeatedly is kept once.

    Args:
        path: The folder, made if it is missing. Files in it count.
        most_bytes: Limit of the total size of its files in bytes; None for no limit.
    """

    def __init__(self, path: str | Path, *, most_bytes: int | None = None) -> None:
        self.path = user_path(path, "the media folder")
        self.most_bytes = None if most_bytes is None else whole_number("most_bytes", most_bytes, least=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.bytes = sum(file.stat().st_size for file in self.path.iterdir() if file.is_file())
        except OSError as error:
            raise SettingsError(f"the media folder {path} cannot be used: {reason_of(error)}.") from error

    def keep(self, data: bytes, *, name: str | None = None) -> Path:
        """Write a video, unless the folder has it.

        Args:
            data: The file's content.
            name: What it was called; its extension is kept if it is a video's.

        Returns:
            The file.

        Raises:
            SettingsError: If the limit is exceeded, or the file cannot be written.
        """
        suffix = Path(name or "").suffix.lower()
        digest = hashlib.sha256(data).hexdigest()[:NAME_LENGTH]
        path = self.path / f"{digest}{suffix if suffix in EXTENSIONS else ''}"
        if path.is_file() and path.stat().st_size == len(data):
            return path
        if self.most_bytes is not None and self.bytes + len(data) > self.most_bytes:
            raise SettingsError(
                f"the videos take more than most_bytes={self.most_bytes} in {self.path}; allow more, or index a "
                "part of them."
            )
        self._write(data, path)
        self.bytes += len(data)
        return path

    def _write(self, data: bytes, path: Path) -> None:
        try:
            write_bytes_durably(path, data)
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {reason_of(error)}.") from error
