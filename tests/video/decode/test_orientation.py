"""All eight orientations, whoever asks for them; the reference moves every pixel as the matrix says."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from container_bytes import set_display_matrix
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tagged_files import filtered, mux_pictures
from video_writer import write_clip

from colbert_video.video.decode.orientation import Orientation
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import Cropping, SampledFrames, SamplingSettings

EIGHT = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (-1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, -1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, -1, 0),
]
SIZE = SamplingSettings(num_frames=3, height=64, width=64)


def moved(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Every pixel at (x, y) shown at (a x + c y, b x + d y), moved to where the smallest is 0."""
    a, b, c, d = matrix
    rows, columns = pixels.shape[:2]
    shown = {(a * x + c * y, b * x + d * y): pixels[y, x] for y in range(rows) for x in range(columns)}
    left, top = min(x for x, _ in shown), min(y for _, y in shown)
    width, height = max(x for x, _ in shown) - left + 1, max(y for _, y in shown) - top + 1
    result = np.zeros((height, width, 3), np.uint8)
    for (x, y), colour in shown.items():
        result[y - top, x - left] = colour
    return result


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", 30, codec="libx264")


def check_moved(frames: SampledFrames, plain: Path, matrix: tuple[int, int, int, int]) -> None:
    for got, whole in zip(frames.pixels, read_frames(plain, SIZE).pixels, strict=True):
        assert (got == moved(whole, matrix)).all()


@pytest.mark.parametrize("matrix", EIGHT)
def test_by_the_container(tmp_path: Path, plain: Path, matrix: tuple[int, int, int, int]) -> None:
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(plain.read_bytes())
    frames = read_frames(set_display_matrix(turned, *matrix), SIZE)
    check_moved(frames, plain, matrix)
    a, b, c, d = matrix
    assert frames.mirrored == (a * d - b * c < 0)
    assert frames.warnings == ()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["", "horizontal", "vertical", "horizontal+vertical"])
def test_by_the_stream(tmp_path: Path, plain: Path, degrees: int, flip: str) -> None:
    """ITU-T H.264, D.2.27: flip first, then turn counterclockwise."""
    wanted = f"h264_metadata=display_orientation=insert:rotate={degrees}" + (f":flip={flip}" if flip else "")
    path = filtered(plain, tmp_path / "turned.mkv", wanted)
    expected = read_frames(plain, SIZE).pixels
    for got, whole in zip(read_frames(path, SIZE).pixels, expected, strict=True):
        whole = whole[:, ::-1] if "horizontal" in flip else whole
        whole = whole[::-1] if "vertical" in flip else whole
        assert (got == np.rot90(whole, degrees // 90)).all()


@pytest.mark.parametrize("tag", range(1, 9))
def test_by_exif(tmp_path: Path, tag: int) -> None:
    """Frames of Motion JPEG may carry EXIF; Pillow is the reference."""
    exif = Image.Exif()
    exif[0x0112] = tag
    pixels = np.kron(np.arange(1, 25, dtype=np.uint8).reshape(4, 6) * 10, np.ones((16, 16), np.uint8))
    data = io.BytesIO()
    picture = Image.fromarray(np.repeat(pixels[:, :, None], 3, axis=2))
    picture.save(data, "JPEG", exif=exif, quality=95)
    path = mux_pictures(tmp_path / "a.mov", [data.getvalue()] * 3, 96, 64)
    upright = ImageOps.exif_transpose(Image.open(data)).convert("RGB")
    settings = SamplingSettings(num_frames=1, width=upright.width, height=upright.height)
    frames = read_frames(path, settings)
    assert (frames.width, frames.height) == upright.size
    assert np.abs(frames.pixels[0].astype(int) - np.asarray(upright)).max() < 8


@pytest.mark.parametrize(("degrees", "turned"), [(33, 0), (60, 90), (135.5, 180), (-80, 270)])
def test_other_angles_go_to_the_nearest_quarter_with_a_warning(
    tmp_path: Path, plain: Path, degrees: float, turned: int
) -> None:
    path = tmp_path / "askew.mp4"
    path.write_bytes(plain.read_bytes())
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    frames = read_frames(set_display_matrix(path, cosine, -sine, sine, cosine), SIZE)
    assert frames.rotation == turned
    assert frames.warnings == (f"the file asks to turn the picture by {degrees:g} degrees; it is turned by {turned}",)


def test_a_matrix_that_shows_nothing_turns_nothing(tmp_path: Path, plain: Path) -> None:
    path = tmp_path / "nothing.mp4"
    path.write_bytes(plain.read_bytes())
    frames = read_frames(set_display_matrix(path, 1, 1, 1, 1), SIZE)
    assert frames.rotation == 0
    assert "by no angle" in frames.warnings[0]
    assert (frames.pixels == read_frames(plain, SIZE).pixels).all()


@given(st.sampled_from(EIGHT), st.floats(0.5, 2), st.floats(-40, 40))
def test_near_the_eight(matrix: tuple[int, int, int, int], scale: float, degrees: float) -> None:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    a, b, c, d = (scale * value for value in matrix)
    near = (a * cosine - b * sine, a * sine + b * cosine, c * cosine - d * sine, c * sine + d * cosine)
    found, exact = Orientation.from_matrix(*near), Orientation.from_matrix(*matrix)
    assert (found.turns, found.mirrored) == (exact.turns, exact.mirrored)
    assert bool(found.warnings) == (abs(degrees) > 1)
    assert exact.warnings == ()


@pytest.mark.parametrize("matrix", EIGHT)
def test_borders_go_with_the_picture(matrix: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    orientation, crop = Orientation.from_matrix(*matrix), Cropping(1, 2, 3, 4)
    left, top, right, bottom = orientation.crop(crop)
    whole = orientation.apply(pixels)
    inner = whole[top : whole.shape[0] - bottom, left : whole.shape[1] - right]
    assert (inner == orientation.apply(pixels[2:5, 1:9])).all()
