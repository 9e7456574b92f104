"""Anti-aliased shapes in numpy: signed distances from unions and intersections of half-planes and discs."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Plane = Float32[np.ndarray, "poses height width"]


def coverage(
    shape: str, x: Plane, y: Plane, radius: Float32[np.ndarray, "poses 1 1"]
) -> Float32[np.ndarray, "poses height width"]:
    """Compute the share of each pixel that the shape covers.

    Args:
        shape: A key of `DISTANCES`.
        x: Pixels to the right of the shape's centre, in pixels, in the shape's own frame.
        y: Pixels below the shape's centre, in pixels.
        radius: The shape's radius in pixels.

    Returns:
        Values in [0, 1]; the edge is one pixel wide.
    """
    distance = DISTANCES[shape](x / radius, y / radius)
    return np.clip(0.5 - distance * radius, 0, 1)


def _circle(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y) - 0.95


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(np.sqrt(x * x + y * y) - 0.77) - 0.23


def _square(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - 0.82


def _cross(x: Plane, y: Plane) -> Plane:
    x, y = np.abs(x), np.abs(y)
    upright, flat = np.maximum(x - 0.3, y - 1), np.maximum(x - 1, y - 0.3)
    return np.minimum(upright, flat)


def _triangle(x: Plane, y: Plane) -> Plane:
    return np.maximum(0.928 * np.abs(x) - 0.371 * (y + 1), y - 0.85)  # tip up, taller than wide


def _arrow(x: Plane, y: Plane) -> Plane:
    head = np.maximum(0.707 * (np.abs(x) - (y + 1)), y + 0.1)
    shaft = np.maximum(np.abs(x) - 0.3, np.abs(y - 0.4) - 0.6)
    return np.minimum(head, shaft)


def _semicircle(x: Plane, y: Plane) -> Plane:
    y = y - 0.4  # the middle of the figure, not of the disc, is what turns
    return np.maximum(np.sqrt(x * x + y * y) - 1, y)


def _star(x: Plane, y: Plane) -> Plane:
    """Five points: the plane is folded onto half a point, which has one edge."""
    fifth = np.float32(2 * np.pi / 5)
    angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
    length = np.sqrt(x * x + y * y)
    across, along = length * np.sin(angle), length * np.cos(angle)
    tip, notch = 1.08, 0.48 * np.array([np.sin(fifth / 2), np.cos(fifth / 2)])
    normal = np.array([tip - notch[1], notch[0]]) / np.hypot(tip - notch[1], notch[0])
    return across * np.float32(normal[0]) + (along - np.float32(tip)) * np.float32(normal[1])


DISTANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "cross": _cross,
    "triangle": _triangle,
    "arrow": _arrow,
    "semicircle": _semicircle,
    "star": _star,
}
