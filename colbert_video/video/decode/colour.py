"""Colours that swscale does not convert: HDR becomes SDR, and matrices without a formula are replaced by near ones.

HDR is shown as FFmpeg's `zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709`
shows it: display light with 100 cd/m² as 1 (SMPTE ST 2084; for HLG, ITU-R BT.2100 with a system gamma of 1.2 for each
channel and a peak of 1000 cd/m²), primaries of BT.709, Hable's curve up to 1000 cd/m² on the largest channel, and the
inverse of BT.1886.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8, UInt16

HDR_TRANSFERS: Mapping[int, str] = {16: "pq", 18: "hlg"}
"""Transfer characteristics of ITU-T H.273 that are tone-mapped."""
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
CHROMATICITIES = {
    BT709: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x and y of red, green and blue by H.273's numbers of primaries; white is D65."""
D65 = (0.3127, 0.3290)
WHITE_16_BITS = 255 << 8
"""What swscale makes of white in 16 bits."""
PEAK = 10.0
"""1000 cd/m², in units of 100."""

MATRICES = {1: "bt709", 2: "unspecified", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
"""Matrices that swscale knows by H.273's numbers, with FFmpeg's names."""
RGB = 0
COLOURS = 3
WIDE_MATRICES = (10, 11, 14, 15)
"""BT.2020 with constant luminance, Y'D'zD'x, ICtCp, IPT-C2: used with the primaries of BT.2020."""
MATRIX_OF_PRIMARIES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""5 and 6 are one matrix."""
USUAL_MATRIX = 5
"""BT.601, which swscale takes for pictures without a tag."""


def hdr_transfer(frame: Any) -> str | None:
    """Return "pq" or "hlg" for an HDR `av.VideoFrame`; None for any other."""
    return HDR_TRANSFERS.get(int(frame.color_trc))


def hdr_primaries(frame: Any) -> int:
    """Return H.273's number of an HDR frame's primaries; those of BT.2020 where the tag says nothing usable."""
    tagged = int(frame.color_primaries)
    return tagged if tagged in CHROMATICITIES else BT2020


def nearest_matrix(frame: Any) -> int | None:
    """Return H.273's number of the matrix to take in place of one that swscale cannot compute; None if it can."""
    tagged = int(frame.colorspace)
    if tagged in MATRICES or tagged == RGB or frame.format.is_rgb or len(frame.format.components) < COLOURS:
        return None
    if tagged in WIDE_MATRICES:
        return BT2020
    return MATRIX_OF_PRIMARIES.get(int(frame.color_primaries), USUAL_MATRIX)


def matrix_warning(frame: Any) -> tuple[str, ...]:
    """Return a sentence if a frame's matrix is replaced."""
    nearest = nearest_matrix(frame)
    if nearest is None:
        return ()
    return (f"colour matrix {int(frame.colorspace)} has no formula here; colours are those of {MATRICES[nearest]}",)


def tone_mapped(
    pixels: UInt16[np.ndarray, "height width 3"], transfer: str, primaries: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return an HDR picture as BT.709 RGB.

    Args:
        pixels: RGB in 16 bits as swscale makes it, still in the source's transfer and primaries.
        transfer: "pq" or "hlg".
        primaries: H.273's number of the primaries.
    """
    light = _light_of_codes(transfer)[pixels]  # (height, width, 3)
    return np.rint(255 * _shown(light, primaries)).astype(np.uint8)


def tone_cube(transfer: str, primaries: int, side: int = 65) -> str:
    """Return `tone_mapped` as a table of `side` cubed entries in the format of .cube files, for FFmpeg's `lut3d`."""
    codes = np.rint(np.linspace(0, 2**16 - 1, side)).astype(np.uint16)
    blue, green, red = np.meshgrid(codes, codes, codes, indexing="ij")  # red changes fastest
    light = _light_of_codes(transfer)[np.stack([red, green, blue], axis=-1)]
    rows = _shown(light, primaries).reshape(-1, 3)
    return f"LUT_3D_SIZE {side}\n" + "".join(f"{r:.6f} {g:.6f} {b:.6f}\n" for r, g, b in rows.tolist())


def _shown(light: Float[np.ndarray, "*shape 3"], primaries: int) -> Float[np.ndarray, "*shape 3"]:
    """Return what an SDR display is sent for light in units of 100 cd/m²: 0 to 1."""
    light = light @ _to_bt709(primaries).T
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light = light * (_hable(largest) / (_hable(np.float32(PEAK)) * largest))
    return np.clip(light, 0, 1) ** np.float32(1 / 2.4)


@lru_cache
def _light_of_codes(transfer: str) -> Float[np.ndarray, "65536"]:
    """Return the light of every code of 16 bits, in units of 100 cd/m²."""
    signal = np.minimum(np.arange(2**16) / WHITE_16_BITS, 1.0)
    return (_pq_light(signal) if transfer == "pq" else _hlg_light(signal)).astype(np.float32)


def _pq_light(signal: Float[np.ndarray, "codes"]) -> Float[np.ndarray, "codes"]:
    """SMPTE ST 2084, equation 4.1."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return 100 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_light(signal: Float[np.ndarray, "codes"]) -> Float[np.ndarray, "codes"]:
    """ITU-R BT.2100, table 5; the system gamma is applied to each channel, as zimg does."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return PEAK * scene**1.2


def _hable(light: Any) -> Any:
    """John Hable's filmic curve, with the constants of FFmpeg's `tonemap`."""
    a, b, c, d, e, f = 0.15, 0.50, 0.10, 0.20, 0.02, 0.30
    return (light * (light * a + b * c) + d * e) / (light * (light * a + b) + d * f) - e / f


@lru_cache
def _to_bt709(primaries: int) -> Float[np.ndarray, "3 3"]:
    if primaries == BT709:
        return np.eye(3, dtype=np.float32)
    return (np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: int) -> Float[np.ndarray, "3 3"]:
    """Return the matrix from linear RGB to CIE XYZ (SMPTE RP 177)."""
    columns = np.array([_xyz(*point) for point in CHROMATICITIES[primaries]]).T
    return columns * np.linalg.solve(columns, _xyz(*D65))


def _xyz(x: float, y: float) -> Float[np.ndarray, "3"]:
    return np.array([x / y, 1.0, (1 - x - y) / y])
