"""What tests of the service share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from colbert_video.serve.media.media_files import MediaFiles


@pytest.fixture(scope="module")
def media_files() -> Iterator[Callable[..., MediaFiles]]:
    """Media files within some roots; asked again, the same with their decoding process."""
    made: dict[tuple[Path, ...], MediaFiles] = {}

    def within(*roots: Path) -> MediaFiles:
        return made.setdefault(roots, MediaFiles(roots))

    yield within
    for files in made.values():
        files.close()
