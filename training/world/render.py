"""Pixels of a scene: the position of each figure in every frame, then anti-aliased painting."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from colbert_video.base.checks import whole_number
from colbert_video.errors import SettingsError
from colbert_video.training.world.scene import Figure, Scene
from colbert_video.training.world.shapes import coverage

COLOUR_VALUES = {
    "red": (225, 35, 35),
    "orange": (250, 135, 0),
    "yellow": (245, 225, 30),
    "green": (30, 165, 50),
    "cyan": (30, 205, 225),
    "blue": (35, 70, 235),
    "purple": (165, 45, 200),
}
BACKGROUND_VALUES = {"black": (14, 14, 14), "grey": (122, 122, 122), "white": (240, 240, 240), "brown": (88, 52, 26)}
RADII = {"small": 0.115, "large": 0.19}  # parts of the frame's side
GROWTH = (0.08, 0.2)  # smallest and largest radius of a figure that grows
LANES = (0.27, 0.73)  # of two figures that must not overlap
MIN_SIZE = 16

REST_PLACES = {
    "rest_left": (0.27, 0.5),
    "rest_right": (0.73, 0.5),
    "rest_top": (0.5, 0.27),
    "rest_bottom": (0.5, 0.73),
    "rest_centre": (0.5, 0.5),
}
"""Positions of figures at rest: x from the left and y from the top, as shares of the picture."""


@dataclass(frozen=True)
class Layer:
    """One figure's path; lengths are parts of the frame's side."""

    figure: Figure
    poses: Float[np.ndarray, "frames 4"]
    """Centre x, centre y, radius and angle (radians, clockwise) in every frame."""
    visible: Float[np.ndarray, " frames"]
    """1 where the figure is shown, 0 where it is not."""


def render(scene: Scene, *, size: int = 96, frames: int = 36) -> UInt8[np.ndarray, "frames height width 3"]:
    """Draw a scene's clip; the clip of `scene.reversed()` has exactly the same frames in reverse order.

    Args:
        scene: The scene.
        size: Height and width in pixels, even and at least 16.
        frames: Number of frames, at least 2; the motion fills them all.

    Returns:
        RGB frames.

    Raises:
        SettingsError: If an argument is out of range.
    """
    whole_number("size", size)
    whole_number("frames", frames)
    if size < MIN_SIZE or size % 2:
        raise SettingsError(f"size is {size}: H.264 4:2:0 needs an even number; give one of at least {MIN_SIZE}.")
    if frames < 2:
        raise SettingsError(f"frames is {frames}: motion needs at least 2.")
    partner = scene.reversed()
    if partner is not None and scene.backwards:
        return np.ascontiguousarray(_draw(partner, size, frames)[::-1])
    return _draw(scene, size, frames)


def _draw(scene: Scene, size: int, frames: int) -> UInt8[np.ndarray, "frames height width 3"]:
    """Draw a scene that is not played backwards."""
    rng = np.random.default_rng(scene.variation)
    layers = _layers(scene, frames, rng)
    background = _shade(BACKGROUND_VALUES[scene.background], rng)
    grain = rng.normal(0, 2, (size, size, 1)).astype(np.float32)
    canvas = np.broadcast_to(background + grain, (frames, size, size, 3)).copy()  # (frames, height, width, 3)
    for layer in layers:
        _paint(canvas, layer, _shade(COLOUR_VALUES[layer.figure.colour], rng))
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _layers(scene: Scene, frames: int, rng: np.random.Generator) -> list[Layer]:
    """Lay the figures out in space and time."""
    poses = _first_poses(scene, frames, rng)
    shown = np.ones(frames)
    later = (_times(frames) > rng.uniform(0.4, 0.6)).astype(float)  # the second of two events
    if scene.second is None:
        return [Layer(scene.first, poses, later if scene.motion == "appear" else shown)]
    if scene.motion in ("recolour", "sequence"):
        after = poses.copy()
        after[:, 2] = _radius(scene.second)
        return [Layer(scene.first, poses, 1 - later), Layer(scene.second, after, later)]
    across = scene.motion in ("left", "right") or (scene.motion_class != "travel" and bool(rng.integers(2)))
    beside = _still_pose(_radius(scene.second), frames, rng)
    lanes = np.array(LANES)[rng.permutation(2)] + rng.uniform(-0.03, 0.03, 2)
    for lane, path in zip(lanes, (poses, beside), strict=True):
        path[:, int(across)] = lane  # figures that move across keep their height, the others their column
    return [Layer(scene.first, poses, shown), Layer(scene.second, beside, shown)]


def _first_poses(scene: Scene, frames: int, rng: np.random.Generator) -> Float[np.ndarray, "frames 4"]:
    times = _times(frames)
    radius = _radius(scene.first)
    poses = _still_pose(radius, frames, rng)
    if scene.motion in REST_PLACES:
        poses[:, :2] = np.array(REST_PLACES[scene.motion]) + rng.uniform(-0.04, 0.04, 2)
    if scene.motion_class == "travel":
        length = rng.uniform(0.5, 0.6)
        middle = 0.5 + rng.uniform(-1, 1) * (0.49 - radius - length / 2)
        poses[:, int(scene.motion == "down")] = middle + length * (times - 0.5)
    if scene.motion_class == "resize":
        smallest, largest = np.array(GROWTH) * rng.uniform(0.92, 1.05)
        poses[:, 2] = smallest + (largest - smallest) * times
    if scene.motion_class == "rotate":
        poses[:, 3] = rng.uniform(-np.pi / 6, np.pi / 6) + rng.uniform(1.1, 1.4) * np.pi * (times - 0.5)
    return poses


def _still_pose(radius: float, frames: int, rng: np.random.Generator) -> Float[np.ndarray, "frames 4"]:
    x, y = rng.uniform(0.26, 0.74, 2)
    return np.tile([x, y, radius, 0.0], (frames, 1))


def _radius(figure: Figure) -> float:
    return RADII[figure.size] if figure.size else GROWTH[1]


def _times(frames: int) -> Float[np.ndarray, " frames"]:
    """Return the middle of each frame in (0, 1): symmetric, so that reversing the frames reverses time."""
    return (np.arange(frames) + 0.5) / frames


def _shade(values: tuple[int, int, int], rng: np.random.Generator) -> Float32[np.ndarray, "3"]:
    """Make the colour slightly darker or lighter, in [0, 255]."""
    return (np.array(values) * rng.uniform(0.88, 1.0) + rng.uniform(-6, 6, 3)).astype(np.float32)


def _paint(
    canvas: Float32[np.ndarray, "frames height width 3"], layer: Layer, colour: Float32[np.ndarray, "3"]
) -> None:
    """Blend a figure into every frame where it is visible; each distinct pose is computed once."""
    size = canvas.shape[1]
    poses, which = np.unique(layer.poses, axis=0, return_inverse=True)
    patches, corners = _patches(layer.figure.shape, poses, size)
    for frame in np.flatnonzero(layer.visible):
        patch, (top, left) = patches[which[frame]], corners[which[frame]]
        rows = slice(max(top, 0), min(top + len(patch), size))
        columns = slice(max(left, 0), min(left + len(patch), size))
        mask = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, None]
        area = canvas[frame, rows, columns]
        area += mask * (colour - area)


def _patches(
    shape: str, poses: Float[np.ndarray, "poses 4"], size: int
) -> tuple[Float32[np.ndarray, "poses side side"], np.ndarray]:
    """Cut a square around each pose: its coverage and the (top, left) pixel where it belongs."""
    x, y, radius = (poses[:, :3].T * size).astype(np.float32)
    half = int(np.ceil(1.1 * radius.max())) + 1
    corners = np.floor(np.stack([y, x], axis=1)).astype(int) - half  # (poses, 2)
    offsets = np.arange(2 * half + 1, dtype=np.float32) + 0.5  # pixel centres
    down = (corners[:, :1] + offsets - y[:, None])[:, :, None]  # (poses, side, 1)
    right = (corners[:, 1:] + offsets - x[:, None])[:, None, :]  # (poses, 1, side)
    cosine, sine = (wave(poses[:, 3]).astype(np.float32)[:, None, None] for wave in (np.cos, np.sin))
    # y points down, so this turns the pixel back by a clockwise angle
    across, along = cosine * right + sine * down, cosine * down - sine * right
    masks = coverage(shape, across.astype(np.float32), along.astype(np.float32), radius[:, None, None])
    return masks.astype(np.float32), corners
