"""Content of a synthetic clip: figures, colours and a background, and motion that no single frame shows.

Every motion is one of a pair that are each other's time reversal (left and right, growing and shrinking, red
then blue and blue then red), so both partners consist of the same frames and only their order differs.
"""

import hashlib
from dataclasses import dataclass, replace

from colbert_video.errors import SettingsError, shown

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
TURNING_SHAPES = ("arrow", "semicircle", "triangle")
SIZES = ("small", "large")
BACKGROUNDS = ("black", "grey", "white", "brown")
SPLITS = ("train", "validation", "test")

MOTION_CLASSES = {
    "left": "travel",
    "right": "travel",
    "up": "travel",
    "down": "travel",
    "grow": "resize",
    "shrink": "resize",
    "clockwise": "rotate",
    "anticlockwise": "rotate",
    "appear": "visibility",
    "disappear": "visibility",
    "recolour": "recolour",
    "sequence": "sequence",
    "still": "still",
    "rest_left": "still",
    "rest_right": "still",
    "rest_top": "still",
    "rest_bottom": "still",
    "rest_centre": "still",
}
RESTS = tuple(motion for motion in MOTION_CLASSES if motion.startswith("rest_"))
OPPOSITES = {"left": "right", "up": "down", "shrink": "grow", "anticlockwise": "clockwise", "disappear": "appear"}
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}
BACKWARDS = ("left", "up", "shrink", "anticlockwise", "disappear")

PHRASES = {
    "left": ("moves left", "slides to the left", "travels leftwards"),
    "right": ("moves right", "slides to the right", "travels rightwards"),
    "up": ("moves up", "slides to the top", "travels upwards"),
    "down": ("moves down", "slides to the bottom", "travels downwards"),
    "grow": ("grows", "gets bigger", "expands"),
    "shrink": ("shrinks", "gets smaller", "contracts"),
    "clockwise": ("rotates clockwise", "spins clockwise", "turns clockwise"),
    "anticlockwise": ("rotates anticlockwise", "spins anticlockwise", "turns anticlockwise"),
    "appear": ("appears", "comes into view", "shows up"),
    "disappear": ("disappears", "goes out of view", "vanishes"),
    "recolour": ("turns from {} to {}", "is first {}, then {}", "starts {} and ends {}"),
    "sequence": ("{} gives way to {}", "first {} is seen, then {}", "{} is replaced by {}"),
    "still": ("stays still", "does not move", "remains motionless"),
    "rest_left": ("stays still on the left", "rests at the left side", "remains motionless on the left"),
    "rest_right": ("stays still on the right", "rests at the right side", "remains motionless on the right"),
    "rest_top": ("stays still at the top", "rests in the upper part", "remains motionless at the top"),
    "rest_bottom": ("stays still at the bottom", "rests in the lower part", "remains motionless at the bottom"),
    "rest_centre": ("stays still in the centre", "rests in the middle", "remains motionless in the centre"),
}
STILL_TOGETHER = ("stay still", "do not move", "remain motionless")
PLACES = ("{} on a {} background", "{} against a {} backdrop", "on a {1} background, {0}")


@dataclass(frozen=True)
class Figure:
    """One coloured shape."""

    colour: str
    """One of `COLOURS`."""
    shape: str
    """One of `SHAPES`, or of `TURNING_SHAPES` where it rotates."""
    size: str | None = None
    """One of `SIZES`; None where the size is what changes."""

    def __post_init__(self) -> None:
        _check_unknown("colour", self.colour, COLOURS)
        _check_unknown("shape", self.shape, tuple(dict.fromkeys(SHAPES + TURNING_SHAPES)))
        if self.size is not None:
            _check_unknown("size", self.size, SIZES)

    @property
    def name(self) -> str:
        """Words for the figure, such as "small red circle"."""
        return " ".join(word for word in (self.size, self.colour, self.shape) if word)

    @property
    def key(self) -> tuple[str, str, str]:
        """Sort key of figures."""
        return self.colour, self.shape, self.size or ""


@dataclass(frozen=True)
class Scene:
    """All attributes of one clip; its caption names every one of them but `variation`.

    Raises:
        SettingsError: If a word is outside the vocabulary, or the figures do not fit the motion.
    """

    motion: str
    """A key of `MOTION_CLASSES`."""
    background: str
    """One of `BACKGROUNDS`."""
    first: Figure
    """The figure that moves; the earlier state of a recolouring, the earlier figure of a sequence."""
    second: Figure | None = None
    """The figure that stays still beside the first; the later state or figure of a recolouring or sequence."""
    variation: int = 0
    """Seed of wording, start position, shades, speed and grain; the caption is true for all."""

    def __post_init__(self) -> None:
        _check_unknown("motion", self.motion, tuple(MOTION_CLASSES))
        _check_unknown("background", self.background, BACKGROUNDS)
        if self.variation < 0:
            raise SettingsError(f"variation is {self.variation}; it seeds a random generator: give 0 or more.")
        problem = _figure_problem(self)
        if problem:
            raise SettingsError(f"{shown(self.motion)} with {self.first} and {self.second}: {problem}.")

    @property
    def motion_class(self) -> str:
        """The kind of motion: a value of `MOTION_CLASSES`, the same for both partners of a pair."""
        return MOTION_CLASSES[self.motion]

    @property
    def look(self) -> str:
        """Background and figures in words, without motion or place: scenes of one look are hard to tell apart."""
        figures = sorted(figure.name for figure in (self.first, self.second) if figure is not None)
        return ", ".join([self.background, *figures])

    @property
    def caption(self) -> str:
        """A sentence that is true of this scene and of no other; the wording follows `variation`."""
        place = PLACES[self.variation // 3 % len(PLACES)]
        return place.format(_action(self, self.variation % 3), self.background)

    @property
    def backwards(self) -> bool:
        """True if the clip is drawn as its partner played in reverse; so it is for exactly one of each pair."""
        if self.second is not None and self.motion in ("recolour", "sequence"):
            return self.first.key > self.second.key
        return self.motion in BACKWARDS

    def reversed(self) -> "Scene | None":
        """Return the scene whose clip is this one played in reverse, or None for a still scene."""
        if self.motion_class == "still":
            return None
        if self.second is not None and self.motion in ("recolour", "sequence"):
            return replace(self, first=self.second, second=self.first)
        return replace(self, motion=OPPOSITES[self.motion])


def scene_split(scene: Scene) -> str:
    """Assign a scene to "train" (80 %), "validation" (10 %) or "test" (10 %) by a hash of its attributes.

    Partners, and all variations of one scene, are always in the same split.
    """
    partner = scene.reversed()
    forward = partner if partner is not None and scene.backwards else scene
    text = repr((forward.motion, forward.background, forward.first.key, forward.second and forward.second.key))
    tenth = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 10
    return {8: "validation", 9: "test"}.get(tenth, "train")


def _action(scene: Scene, wording: int) -> str:
    """Return the sentence without its background; "single" and "lone" say that there is no other figure."""
    first, second, phrase = scene.first, scene.second, PHRASES[scene.motion][wording]
    alone = ("a single", "a lone", "a single")[wording]
    if second is None:
        return f"{alone} {first.name} {phrase}"
    if scene.motion == "recolour":
        return f"{alone} {first.size} {first.shape} {phrase.format(first.colour, second.colour)}"
    if scene.motion == "sequence":
        return phrase.format(_with_article(first), _with_article(second))
    if scene.motion == "still":
        return f"{_with_article(first)} and {_with_article(second)} {STILL_TOGETHER[wording]}"
    return f"{_with_article(first)} {phrase} while {_with_article(second)} {PHRASES['still'][wording]}"


def _with_article(figure: Figure) -> str:
    return f"{'an' if figure.name[0] in 'aeiou' else 'a'} {figure.name}"


def _figure_problem(scene: Scene) -> str | None:
    """Return the rule that the figures break, if any."""
    first, second, kind = scene.first, scene.second, scene.motion_class
    if (first.size is None) != (kind == "resize"):
        return "a figure that grows or shrinks has no size, every other has one"
    if first.shape not in (TURNING_SHAPES if kind == "rotate" else SHAPES):
        return f"shapes that rotate are {TURNING_SHAPES}, all others {SHAPES}"
    if second is None:
        return "two figures are needed" if kind in ("recolour", "sequence") else None
    if scene.motion in RESTS:
        return "only one figure is allowed"
    return _second_problem(first, second, kind)


def _second_problem(first: Figure, second: Figure, kind: str) -> str | None:
    """Return the rule that the second figure breaks, if any."""
    if kind in ("rotate", "visibility"):
        return "only one figure is allowed"
    if second.size is None or second.shape not in SHAPES:
        return f"the second figure has a size and one of the shapes {SHAPES}"
    if kind == "recolour":
        same = (first.shape, first.size) == (second.shape, second.size)
        return None if same and first.colour != second.colour else "only the colour must change"
    if first.colour == second.colour or first.shape == second.shape:
        return "the two figures differ in both colour and shape"
    if kind == "still" and first.key > second.key:
        return "two still figures have no order of their own: give them in the order of their keys"
    return None


def _check_unknown(what: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise SettingsError(f"{what} {shown(word)} is not in the world's vocabulary: choose from {', '.join(known)}.")
