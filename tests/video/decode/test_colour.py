"""HDR as FFmpeg's zscale and tonemap show it, tags that have no formula, and SDR to the bit."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter
from tagged_files import filtered
from video_writer import read_numbers, write_clip

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.colour import WHITE_16_BITS, tone_cube, tone_mapped
from colbert_video.video.decode.read import read_frames
from colbert_video.video.decode.resize import ACCURATE, FrameResizer
from colbert_video.video.frames import SamplingSettings

# Y, Cb, Cr of 10 bits with the matrix of BT.2020.
CODES = [
    (64, 512, 512), (300, 512, 512), (500, 512, 512), (660, 512, 512), (760, 512, 512), (940, 512, 512), (420, 440, 600),
    (420, 600, 440), (520, 470, 470), (350, 560, 480), (450, 420, 560), (610, 530, 500),
]  # fmt: skip
# What ffmpeg 9.0.2 makes of them by zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,
# zscale=t=bt709:m=bt709:r=tv,format=gbrp, by transfer characteristics and primaries.
SHOWN = {
    (16, 9): [
        (0, 0, 0), (56, 56, 56), (152, 152, 152), (234, 234, 234), (255, 255, 255), (255, 255, 255), (201, 41, 23),
        (0, 105, 202), (0, 185, 94), (0, 79, 121), (181, 96, 0), (164, 200, 229),
    ],
    (18, 9): [
        (0, 0, 0), (70, 70, 70), (124, 124, 124), (172, 172, 172), (206, 206, 206), (255, 255, 255), (154, 78, 54),
        (0, 108, 150), (89, 140, 101), (51, 87, 110), (141, 101, 50), (138, 154, 167),
    ],
    (16, 12): [
        (0, 0, 0), (56, 56, 56), (152, 152, 152), (234, 234, 234), (255, 255, 255), (255, 255, 255), (187, 68, 25),
        (0, 104, 201), (94, 182, 98), (48, 78, 121), (169, 105, 0), (176, 199, 228),
    ],
    (16, 1): [
        (0, 0, 0), (56, 56, 56), (152, 152, 152), (234, 234, 234), (255, 255, 255), (255, 255, 255), (178, 79, 45),
        (51, 104, 198), (117, 180, 108), (55, 78, 118), (163, 110, 44), (181, 199, 227),
    ],
}  # fmt: skip


def plain_frame(code: tuple[int, int, int], transfer: int, primaries: int) -> av.VideoFrame:
    frame = av.VideoFrame(32, 32, "yuv444p10le")
    for plane, value in zip(frame.planes, code, strict=True):
        plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
    frame.color_range, frame.colorspace = 1, 9
    frame.color_trc, frame.color_primaries = transfer, primaries
    return frame


@pytest.mark.parametrize(("transfer", "primaries"), SHOWN)
def test_hdr_is_shown_as_ffmpeg_shows_it(transfer: int, primaries: int) -> None:
    resizer = FrameResizer("a.mp4", SamplingSettings(height=8, width=8))
    got = np.array([resizer(plain_frame(code, transfer, primaries))[4, 4] for code in CODES])
    assert np.abs(got - np.array(SHOWN[transfer, primaries])).max() <= 3


def test_untagged_primaries_of_hdr_are_those_of_bt2020() -> None:
    resizer = FrameResizer("a.mp4", SamplingSettings(height=8, width=8))
    for code in CODES:
        assert (resizer(plain_frame(code, 16, 2)) == resizer(plain_frame(code, 16, 9))).all()


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_the_table_for_ffmpeg_holds_the_same(transfer: str) -> None:
    lines = tone_cube(transfer, 9, side=5).splitlines()
    assert lines[0] == "LUT_3D_SIZE 5"
    assert len(lines) == 1 + 5**3
    codes = np.rint(np.linspace(0, 65535, 5)).astype(np.uint16)
    for red, green, blue in [(0, 0, 0), (4, 0, 0), (1, 2, 3), (3, 3, 4)]:
        row = [float(value) for value in lines[1 + red + 5 * green + 25 * blue].split()]
        pixel = tone_mapped(codes[[red, green, blue]][None, None], transfer, 9)[0, 0]
        assert np.abs(np.array(row) * 255 - pixel).max() <= 0.51


def test_white_of_swscale_is_white() -> None:
    white = np.full((1, 1, 3), WHITE_16_BITS, np.uint16)
    assert (tone_mapped(white, "hlg", 9) == 255).all()
    assert (tone_mapped(white * 0, "pq", 9) == 0).all()


@pytest.mark.parametrize("transfer", [1, 2, 6, 14, 15])
def test_sdr_keeps_swscales_values_whatever_its_primaries(transfer: int) -> None:
    flags = Interpolation.BICUBIC
    for name in ACCURATE:
        flags |= getattr(Interpolation, name, Interpolation.BICUBIC)
    resizer = FrameResizer("a.mp4", SamplingSettings(height=8, width=8))
    if not resizer._accurate:
        pytest.skip("this PyAV cannot resize accurately")
    for code in CODES:
        frame = plain_frame(code, transfer, 9)
        expected = VideoReformatter().reformat(frame, 8, 8, "gbrp", interpolation=flags, threads=1).to_ndarray()
        assert (resizer(frame) == expected).all()


def tagged(tmp_path: Path, **tags: int) -> Path:
    """A clip whose stream claims the given numbers of ITU-T H.273."""
    words = ":".join(f"{name}={value}" for name, value in tags.items())
    plain = write_clip(tmp_path / "plain.mp4", 20)
    return filtered(plain, tmp_path / "tagged.mp4", f"h264_metadata={words}")


@pytest.mark.parametrize("matrix", [3, 8, 10, 11, 12, 13, 14, 15, 16, 17, 40, 255])
def test_a_matrix_without_a_formula_is_shown_by_a_near_one(tmp_path: Path, matrix: int) -> None:
    frames = read_frames(tagged(tmp_path, matrix_coefficients=matrix), SamplingSettings(num_frames=4))
    assert read_numbers(frames) == [2, 7, 12, 17]
    if matrix in (10, 11, 14, 15):
        assert frames.warnings == (f"colour matrix {matrix} has no formula here; colours are those of bt2020nc",)
    elif 3 < matrix < 20:
        assert frames.warnings == (f"colour matrix {matrix} has no formula here; colours are those of bt470bg",)


@pytest.mark.parametrize(("primaries", "matrix"), [(1, 1), (5, 5), (6, 5), (7, 7), (9, 9), (4, 4), (2, 5), (22, 5)])
def test_the_near_matrix_follows_the_primaries(primaries: int, matrix: int) -> None:
    settings = SamplingSettings(height=8, width=8)
    for code in CODES:
        derived, stated = plain_frame(code, 1, primaries), plain_frame(code, 1, primaries)
        derived.colorspace, stated.colorspace = 12, matrix
        assert (FrameResizer("a.mp4", settings)(derived) == FrameResizer("a.mp4", settings)(stated)).all()


@pytest.mark.parametrize("name", ["colour_primaries", "transfer_characteristics"])
@pytest.mark.parametrize("value", [0, 3, 19, 23, 100, 255])
def test_reserved_primaries_and_transfers_change_nothing(tmp_path: Path, name: str, value: int) -> None:
    frames = read_frames(tagged(tmp_path, **{name: value}), SamplingSettings(num_frames=4))
    expected = read_frames(tmp_path / "plain.mp4", SamplingSettings(num_frames=4))
    assert (frames.pixels == expected.pixels).all()
    assert frames.warnings == ()


@pytest.mark.parametrize("value", [3, 7])
def test_a_reserved_range_is_the_usual_one(value: int) -> None:
    settings = SamplingSettings(height=8, width=8)
    for code in CODES:
        reserved, usual = plain_frame(code, 1, 1), plain_frame(code, 1, 1)
        reserved.color_range, usual.color_range = value, 0
        assert (FrameResizer("a.mp4", settings)(reserved) == FrameResizer("a.mp4", settings)(usual)).all()


@pytest.mark.parametrize("pixel_format", ["gbrp", "gray", "rgb24"])
def test_tags_mean_nothing_to_rgb_and_grey(pixel_format: str) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((8, 8, 3), 90, np.uint8), format="rgb24").reformat(format=pixel_format)
    frame.colorspace = 14
    resizer: Any = FrameResizer("a.mp4", SamplingSettings(height=8, width=8))
    assert (resizer(frame) == 90).all()
    assert resizer.source.warnings == ()


def test_hdr_and_mirrored_pictures_are_refused_for_other_decoders(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = tagged(tmp_path, transfer_characteristics=16)
    with pytest.raises(
        VideoError, match="decord does not show HDR pictures as players do; use decoder='pyav'"
    ) as caught:
        read_frames(path, SamplingSettings(decoder="decord"))
    assert caught.value.kind is FailureKind.UNSUPPORTED
