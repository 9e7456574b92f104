"""Drawing distinct scenes: a share of them in pairs that differ in motion alone, never across splits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from colbert_video.base.checks import real_number, whole_number
from colbert_video.errors import SettingsError, shown
from colbert_video.training.world.scene import (
    BACKGROUNDS,
    COLOURS,
    RESTS,
    SHAPES,
    SIZES,
    SPLITS,
    TURNING_SHAPES,
    Figure,
    Scene,
    scene_split,
)


@dataclass(frozen=True)
class Family:
    """Scenes of one form: every combination of the words that the form leaves open."""

    motions: tuple[str, ...]
    """Motions to choose from."""
    weight: float
    """Relative frequency of this family."""
    shapes: tuple[str, ...] = SHAPES
    """Shapes of the first figure."""
    sizes: tuple[str | None, ...] = SIZES
    """Sizes of the first figure."""
    second: tuple[tuple[str, ...], ...] = ()
    """Choices for the second figure: none, a colour alone, or colour, shape and size."""

    @property
    def choices(self) -> tuple[tuple[Any, ...], ...]:
        """Words to choose from, one tuple for each open attribute."""
        return (self.motions, BACKGROUNDS, COLOURS, self.shapes, self.sizes, *self.second)

    def scene(self, number: int, variation: int) -> Scene | None:
        """Return the combination of that number, or None where its two figures are not distinct."""
        lengths = tuple(len(words) for words in self.choices)
        indices = np.unravel_index(number, lengths)
        motion, background, *rest = (words[i] for words, i in zip(self.choices, indices, strict=True))
        first = Figure(*rest[:3])
        second = _second_figure(first, rest[3:])
        if second is not None and _clash(motion, first, second):
            return None
        return Scene(motion, background, first, second, variation)

    def deal(self, rng: np.random.Generator, split: str | None) -> Iterator[Scene]:
        """Yield all scenes of the family that belong to `split` (None: to any), in random order."""
        size = math.prod(len(words) for words in self.choices)
        for number in rng.permutation(size):
            scene = self.scene(int(number), int(rng.integers(2**31)))
            if scene is not None and split in (None, scene_split(scene)):
                yield scene


ANY_FIGURE = (COLOURS, SHAPES, SIZES)
MOVING = (
    Family(("left", "right", "up", "down"), 4),
    Family(("grow", "shrink"), 2, sizes=(None,)),
    Family(("clockwise", "anticlockwise"), 2, shapes=TURNING_SHAPES),
    Family(("appear", "disappear"), 2),
    Family(("recolour",), 3, second=(COLOURS,)),
    Family(("sequence",), 3, second=ANY_FIGURE),
    Family(("left", "right", "up", "down"), 0.5, second=ANY_FIGURE),
    Family(("grow", "shrink"), 0.2, sizes=(None,), second=ANY_FIGURE),
)
STILL = (Family(RESTS, 6), Family(("still",), 0.5, second=ANY_FIGURE))


def sample_scenes(count: int, *, seed: int, paired_fraction: float = 0.5, split: str | None = None) -> list[Scene]:
    """Draw distinct scenes; no caption is true of another scene among them.

    Args:
        count: Number of scenes.
        seed: The same seed gives the same scenes.
        paired_fraction: Share of the scenes, in [0, 1], that come with their time reversal, rounded down to
            whole pairs. Partners are next to each other, pairs and single scenes in random order. The
            partners of the single scenes are not in the list.
        split: "train", "validation" or "test" to draw from that split alone (see `scene_split`); None for all.

    Returns:
        `count` scenes.

    Raises:
        SettingsError: If an argument is out of range, or the world has too few scenes.
    """
    _check(count, seed, paired_fraction, split)
    rng = np.random.default_rng(seed)
    pairs = int(count * paired_fraction) // 2
    seen: set[Scene] = set()
    groups = _draw(MOVING, pairs, rng, split, seen)
    paired = [[scene, scene.reversed()] for scene in groups]
    single = [[scene] for scene in _draw(MOVING + STILL, count - 2 * pairs, rng, split, seen)]
    together = paired + single
    return [scene for number in rng.permutation(len(together)) for scene in together[number] if scene is not None]


def _draw(
    families: tuple[Family, ...], count: int, rng: np.random.Generator, split: str | None, seen: set[Scene]
) -> list[Scene]:
    """Draw scenes of which neither the scene nor its partner is in `seen`, and add both to it."""
    decks = [(family.weight, family.deal(rng, split)) for family in families]
    drawn: list[Scene] = []
    while len(drawn) < count:
        if not decks:
            raise SettingsError(
                f"The world holds only {len(drawn)} of the {count} scenes asked for"
                f" ({'all splits' if split is None else split}): ask for fewer, or for a larger paired_fraction."
            )
        weights = np.array([weight for weight, _ in decks])
        chosen = int(rng.choice(len(decks), p=weights / weights.sum()))
        scene = _next_unseen(decks[chosen][1], seen)
        if scene is None:
            del decks[chosen]  # this family is used up; the others remain
        else:
            drawn.append(scene)
    return drawn


def _next_unseen(deck: Iterator[Scene], seen: set[Scene]) -> Scene | None:
    for scene in deck:
        plain = replace(scene, variation=0)
        if plain not in seen:
            seen.update({plain, plain.reversed() or plain})
            return scene
    return None


def _second_figure(first: Figure, words: list[Any]) -> Figure | None:
    if not words:
        return None
    return replace(first, colour=words[0]) if len(words) == 1 else Figure(*words)


def _clash(motion: str, first: Figure, second: Figure) -> bool:
    """Return True if the two figures are too alike, or repeat another combination in reverse order."""
    if motion == "recolour":
        return first.colour == second.colour
    alike = first.colour == second.colour or first.shape == second.shape
    return alike or (motion == "still" and first.key > second.key)


def _check(count: int, seed: int, paired_fraction: float, split: str | None) -> None:
    whole_number("count", count)
    whole_number("seed", seed)
    real_number("paired_fraction", paired_fraction)
    if count < 1:
        raise SettingsError(f"count is {count}: ask for at least one scene.")
    if seed < 0:
        raise SettingsError(f"seed is {seed}: give 0 or more.")
    if not 0 <= paired_fraction <= 1:
        raise SettingsError(f"paired_fraction is {paired_fraction}: it is a share, give a value in [0, 1].")
    if split is not None and split not in SPLITS:
        raise SettingsError(f"split is {shown(split)}: choose from {', '.join(SPLITS)}, or None for all of them.")
