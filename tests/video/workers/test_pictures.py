"""Small pictures of moments, in the shape that players show."""

import io
from pathlib import Path

import pytest
from container_bytes import set_display_matrix
from PIL import Image
from tagged_files import filtered
from video_writer import write_clip

from colbert_video.video.frames import Cropping, SourcePicture
from colbert_video.video.workers.pictures import picture_of, picture_settings
from colbert_video.video.workers.pool import FramePool


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", 10)


@pytest.mark.parametrize(
    ("aspect", "turned", "size"),
    [("2/1", False, (160, 80)), ("9/16", False, (90, 160)), ("2/1", True, (80, 160)), ("1/1", False, (160, 160))],
)
def test_pixels_that_are_not_square(
    tmp_path: Path, plain: Path, aspect: str, turned: bool, size: tuple[int, int]
) -> None:
    path = filtered(plain, tmp_path / "a.mp4", f"h264_metadata=sample_aspect_ratio={aspect}")
    if turned:
        set_display_matrix(path, 0, 1, -1, 0)
    with FramePool(picture_settings(64, seconds=30.0), workers=1) as pool:
        assert Image.open(io.BytesIO(picture_of(pool, str(path), 0.1, 160))).size == size


def test_how_a_file_is_shown_comes_back_from_the_process(tmp_path: Path, plain: Path) -> None:
    path = filtered(
        plain, tmp_path / "a.mp4", "h264_metadata=sample_aspect_ratio=1/2:matrix_coefficients=14:crop_left=6"
    )
    set_display_matrix(path, 0, 1, 1, 0)
    with FramePool(picture_settings(64, seconds=30.0), workers=1) as pool:
        shown = pool.read_source(str(path))
    words = "colour matrix 14 has no formula here; colours are those of bt2020nc"
    assert shown == SourcePicture(
        width=64, height=58, rotation=90, mirrored=True, pixel_aspect=2.0, crop=Cropping(), matrix=9, warnings=(words,)
    )
