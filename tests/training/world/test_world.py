"""The synthetic world: captions, pairs, splits, pixels and files."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount, cases

from colbert_video.errors import SettingsError
from colbert_video.training.world import (
    Figure,
    Scene,
    render,
    render_moments,
    sample,
    sample_scenes,
    scene_split,
    write_clip,
    write_world,
)
from colbert_video.training.world.sample import Family
from colbert_video.training.world.scene import BACKGROUNDS, COLOURS, MOTION_CLASSES, SHAPES, SIZES, TURNING_SHAPES
from colbert_video.training.world.shapes import DISTANCES, coverage

RED_CIRCLE = Figure("red", "circle", "large")
BLUE_SQUARE = Figure("blue", "square", "small")
MANY = sample_scenes(400, seed=11)
MANY_SCENES = amount(150, thorough=600)


def scene_of(motion: str, *, second: bool = False, variation: int = 5) -> Scene:
    """A scene of that motion on black, its first figure red."""
    kind = MOTION_CLASSES[motion]
    first = Figure("red", "semicircle" if kind == "rotate" else "circle", None if kind == "resize" else "large")
    other = {"recolour": Figure("blue", "circle", "large"), "sequence": BLUE_SQUARE}.get(kind)
    if kind == "still" and second:
        return Scene(motion, "black", BLUE_SQUARE, RED_CIRCLE, variation)
    return Scene(motion, "black", first, BLUE_SQUARE if second else other, variation)


def plain(scene: Scene) -> Scene:
    return replace(scene, variation=0)


def redness(pixels: np.ndarray) -> np.ndarray:
    """How red each pixel is: (frames, height, width), about 0 on black and on blue."""
    values = pixels.astype(float)
    return np.clip(values[..., 0] - values[..., 2] - 40, 0, None)


def centres(weights: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y) of every frame: (frames, 2)."""
    rows, columns = np.mgrid[: weights.shape[1], : weights.shape[2]]
    total = weights.sum(axis=(1, 2))
    return np.stack([(weights * columns).sum(axis=(1, 2)), (weights * rows).sum(axis=(1, 2))], axis=1) / total[:, None]


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


class TestScene:
    @pytest.mark.parametrize(
        ("motion", "second", "variation", "caption"),
        [
            ("left", False, 0, "a single large red circle moves left on a black background"),
            ("up", True, 0, "a large red circle moves up while a small blue square stays still on a black background"),
            ("grow", False, 4, "a lone red circle gets bigger against a black backdrop"),
            ("clockwise", False, 8, "on a black background, a single large red semicircle turns clockwise"),
            ("disappear", False, 2, "a single large red circle vanishes on a black background"),
            ("recolour", False, 0, "a single large circle turns from red to blue on a black background"),
            ("sequence", False, 1, "first a large red circle is seen, then a small blue square on a black background"),
            ("still", True, 0, "a small blue square and a large red circle stay still on a black background"),
        ],
    )
    def test_caption_names_every_attribute(self, motion: str, second: bool, variation: int, caption: str) -> None:
        assert scene_of(motion, second=second, variation=variation).caption == caption

    def test_article_before_a_vowel(self) -> None:
        scene = Scene("grow", "grey", Figure("orange", "star"), BLUE_SQUARE)
        assert scene.caption.startswith("an orange star grows while a small blue square")

    def test_no_two_scenes_share_a_caption_in_any_wording(self) -> None:
        owners: dict[str, Scene] = {}
        for scene, variation in product(MANY, range(9)):
            varied = replace(scene, variation=variation)
            assert owners.setdefault(varied.caption, plain(scene)) == plain(scene)
        assert len(owners) == 9 * len(MANY)

    def test_partner_caption_differs_in_the_motion_words_alone(self) -> None:
        one = scene_of("left", second=True, variation=0)
        assert one.reversed().caption == one.caption.replace("moves left", "moves right")
        for scene in MANY:
            partner = scene.reversed()
            if partner is not None and scene.motion in ("recolour", "sequence"):
                assert sorted(partner.caption.replace(",", "").split()) == sorted(
                    scene.caption.replace(",", "").split()
                )

    def test_reversing_twice_gives_the_scene(self) -> None:
        for scene in MANY:
            partner = scene.reversed()
            assert (partner is None) == (scene.motion_class == "still")
            if partner is not None:
                assert partner != scene
                assert partner.reversed() == scene
                assert partner.motion_class == scene.motion_class
                assert partner.backwards is not scene.backwards

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("fly", "black", RED_CIRCLE), "motion 'fly' is not in the world's vocabulary: choose from left"),
            (("left", "pink", RED_CIRCLE), "background 'pink'"),
            (("left", "black", Figure("red", "circle")), "a figure that grows or shrinks has no size"),
            (("grow", "black", RED_CIRCLE), "a figure that grows or shrinks has no size"),
            (("clockwise", "black", RED_CIRCLE), "shapes that rotate are"),
            (("left", "black", Figure("red", "arrow", "small")), "shapes that rotate are"),
            (("sequence", "black", RED_CIRCLE), "two figures are needed"),
            (("appear", "black", RED_CIRCLE, BLUE_SQUARE), "only one figure is allowed"),
            (("recolour", "black", RED_CIRCLE, BLUE_SQUARE), "only the colour must change"),
            (("left", "black", RED_CIRCLE, Figure("red", "square", "small")), "differ in both colour and shape"),
            (("left", "black", RED_CIRCLE, Figure("blue", "star")), "the second figure has a size"),
            (("still", "black", RED_CIRCLE, BLUE_SQUARE), "in the order of their keys"),
            (("left", "black", RED_CIRCLE, None, -1), "variation is -1"),
        ],
    )
    def test_contradictions_are_refused(self, arguments: tuple, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Scene(*arguments)

    def test_unknown_words_of_a_figure_are_refused(self) -> None:
        for words, message in [
            (("pink", "circle", "small"), "colour 'pink'"),
            (("red", "blob", "small"), "shape 'blob'"),
            (("red", "circle", "huge"), "size 'huge'"),
        ]:
            with pytest.raises(SettingsError, match=message):
                Figure(*words)


class TestSplit:
    def test_partners_and_variations_share_a_split(self) -> None:
        for scene in MANY:
            assert scene_split(replace(scene, variation=scene.variation + 1)) == scene_split(scene)
            assert scene_split(scene.reversed() or scene) == scene_split(scene)

    def test_eight_tenths_are_for_training(self) -> None:
        splits = [scene_split(scene) for scene in sample_scenes(2000, seed=2)]
        assert splits.count("train") / 2000 == pytest.approx(0.8, abs=0.03)
        assert splits.count("validation") / 2000 == pytest.approx(0.1, abs=0.02)
        assert splits.count("test") / 2000 == pytest.approx(0.1, abs=0.02)

    def test_assignment_never_changes(self) -> None:
        """A model trained today must not meet its training scenes in tomorrow's test split."""
        scenes = [Scene("right", name, Figure(colour, "star", "small")) for name in BACKGROUNDS for colour in COLOURS]
        letters = "".join({"train": ".", "validation": "v", "test": "t"}[scene_split(scene)] for scene in scenes)
        assert letters == "..........v.....t........t.."


class TestSampleScenes:
    def test_same_seed_same_scenes(self) -> None:
        assert sample_scenes(50, seed=3) == sample_scenes(50, seed=3)
        assert sample_scenes(50, seed=3) != sample_scenes(50, seed=4)

    @settings(max_examples=amount(10, thorough=25), deadline=None)
    @given(st.integers(1, 80), st.floats(0, 1), st.integers(0, 9), st.sampled_from(["train", "test", None]))
    def test_share_of_pairs(self, count: int, fraction: float, seed: int, split: str | None) -> None:
        scenes = sample_scenes(count, seed=seed, paired_fraction=fraction, split=split)
        together = set(scenes)
        contents = {plain(scene) for scene in scenes}
        with_partner = [scene for scene in scenes if plain(scene).reversed() in contents]
        assert len(scenes) == len(together) == len(contents) == len({scene.caption for scene in scenes}) == count
        assert len(with_partner) == int(count * fraction) // 2 * 2
        assert all(scene.reversed() in together for scene in with_partner)
        assert split is None or {scene_split(scene) for scene in scenes} == {split}

    def test_partners_stand_side_by_side(self) -> None:
        scenes = sample_scenes(40, seed=0, paired_fraction=1)
        assert [scene.reversed() for scene in scenes[::2]] == scenes[1::2]

    def test_every_word_of_the_world_occurs(self) -> None:
        assert {scene.motion for scene in MANY} == set(MOTION_CLASSES)
        assert {scene.background for scene in MANY} == set(BACKGROUNDS)
        figures = [figure for scene in MANY for figure in (scene.first, scene.second) if figure]
        assert {figure.colour for figure in figures} == set(COLOURS)
        assert {figure.shape for figure in figures} == {*SHAPES, "arrow", "semicircle"}
        assert {figure.size for figure in figures} == {*SIZES, None}

    def test_splits_never_meet(self) -> None:
        train = {plain(scene) for scene in sample_scenes(MANY_SCENES, seed=0, split="train")}
        test = {plain(scene) for scene in sample_scenes(MANY_SCENES, seed=0, split="test")}
        assert (len(train), len(test)) == (MANY_SCENES, MANY_SCENES)
        assert not train & test
        assert not {scene.reversed() for scene in train} & test

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"count": 0}, "count is 0: ask for at least one"),
            ({"seed": -1}, "seed is -1"),
            ({"paired_fraction": 1.5}, "paired_fraction is 1.5"),
            ({"split": "dev"}, "split is 'dev': choose from train, validation, test"),
        ],
    )
    def test_bad_arguments_are_refused(self, changes: dict, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            sample_scenes(**{"count": 4, "seed": 0, **changes})

    def test_more_than_the_world_holds_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        turning = (Family(("clockwise", "anticlockwise"), 1, shapes=TURNING_SHAPES),)
        monkeypatch.setattr(sample, "MOVING", turning)
        monkeypatch.setattr(sample, "STILL", ())
        pairs = len(BACKGROUNDS) * len(COLOURS) * len(TURNING_SHAPES) * len(SIZES)
        assert len(sample_scenes(2 * pairs, seed=0, paired_fraction=1)) == 2 * pairs
        with pytest.raises(SettingsError, match=f"only {pairs} of the {pairs + 1} scenes asked for .all splits."):
            sample_scenes(pairs + 1, seed=0, paired_fraction=0)


class TestRender:
    def test_shape_and_repeatability(self) -> None:
        pixels = render(MANY[0], size=48, frames=7)
        assert pixels.shape == (7, 48, 48, 3)
        np.testing.assert_array_equal(pixels, render(MANY[0], size=48, frames=7))
        assert np.any(pixels != render(replace(MANY[0], variation=MANY[0].variation + 1), size=48, frames=7))

    def test_partner_is_the_exact_time_reversal(self) -> None:
        for scene in MANY[::10]:
            partner = scene.reversed()
            if partner is not None:
                np.testing.assert_array_equal(render(partner), render(scene)[::-1])
                assert np.any(render(partner) != render(scene))

    def test_still_scenes_do_not_change(self) -> None:
        for second in (False, True):
            pixels = render(scene_of("still", second=second))
            np.testing.assert_array_equal(pixels, np.broadcast_to(pixels[0], pixels.shape))

    @pytest.mark.parametrize("second", [False, True])
    @pytest.mark.parametrize("variation", cases([0], thorough=[1, 2, 3]))
    @pytest.mark.parametrize(
        ("motion", "direction"), [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))]
    )
    def test_travel_goes_where_the_caption_says(
        self, motion: str, direction: tuple, variation: int, second: bool
    ) -> None:
        path = centres(redness(render(scene_of(motion, second=second, variation=variation))))
        along, aside = path @ np.array(direction), path @ np.array(direction[::-1])
        assert np.all(np.diff(along) > 0.9)
        assert 0.48 * 96 < along[-1] - along[0] < 0.6 * 96
        assert np.ptp(aside) < 0.5

    @pytest.mark.parametrize("second", [False, True])
    def test_growing_grows(self, second: bool) -> None:
        areas = redness(render(scene_of("grow", second=second))).sum(axis=(1, 2))
        assert np.all(np.diff(areas) > 0)
        assert 4 < areas[-1] / areas[0] < 9

    @pytest.mark.parametrize("variation", cases([0], thorough=[1, 2, 3]))
    @pytest.mark.parametrize(("motion", "sign"), [("clockwise", 1), ("anticlockwise", -1)])
    def test_rotation_turns_the_way_the_caption_says(self, motion: str, sign: int, variation: int) -> None:
        weights = redness(render(scene_of(motion, variation=variation), size=192))
        x, y = centres(weights).T[..., None, None]
        rows, columns = np.mgrid[:192, :192]
        arm = (columns - x) + 1j * (rows - y)
        heading = (weights * np.abs(arm) ** 2 * arm).sum(axis=(1, 2))  # points to a fixed side of the figure
        turns = sign * np.angle(heading[1:] / heading[:-1])  # y points down, so clockwise is positive
        assert turns.min() > 0
        assert 1.05 * np.pi < turns.sum() < 1.4 * np.pi

    def test_events_come_in_order(self) -> None:
        for motion in ("recolour", "sequence"):
            pixels = render(scene_of(motion)).astype(int)
            red, blue = redness(pixels).any(axis=(1, 2)), (pixels[..., 2] > 150).any(axis=(1, 2))
            np.testing.assert_array_equal(red, ~blue)
            assert red[:14].all()
            assert blue[22:].all()

    def test_appearing_and_disappearing(self) -> None:
        seen = redness(render(scene_of("appear"))).any(axis=(1, 2))
        gone = ~redness(render(scene_of("disappear"))).any(axis=(1, 2))
        assert not seen[:14].any()
        assert seen[22:].all()
        assert not gone[:14].any()
        assert gone[22:].all()

    def test_two_figures_never_touch(self) -> None:
        """The red one keeps its area while it passes the other, so nothing was painted over it."""
        for variation in range(40):
            areas = redness(render(scene_of("right", second=True, variation=variation))).sum(axis=(1, 2))
            assert np.ptp(areas) < 0.02 * areas.mean()

    def test_edges_are_smooth(self) -> None:
        values = np.unique(render(scene_of("still"), size=48)[0, :, :, 0])
        assert np.count_nonzero((values > 40) & (values < 190)) > 5

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"size": 47}, "size is 47"), ({"size": 8}, "at least 16"), ({"frames": 1}, "frames is 1")],
    )
    def test_bad_arguments_are_refused(self, changes: dict, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            render(MANY[0], **changes)


class TestShapes:
    @pytest.mark.parametrize(
        ("shape", "area"),
        [
            ("circle", np.pi * 0.95**2),
            ("ring", np.pi * (1 - 0.54**2)),
            ("square", 1.64**2),
            ("cross", 4 * 0.6 - 0.36),
            ("triangle", 1.85**2 * 0.371 / 0.928),
            ("arrow", 0.9**2 + 0.6 * 1.1),
            ("semicircle", np.pi / 2),
            ("star", 5 * 1.08 * 0.48 * np.sin(np.pi / 5)),
        ],
    )
    def test_areas(self, shape: str, area: float) -> None:
        across = np.arange(-150, 150, dtype=np.float32)[None, None, :] + np.float32(0.5)
        down = np.swapaxes(across, 1, 2)
        x, y = np.broadcast_arrays(across, down)
        mask = coverage(shape, x.copy(), y.copy(), np.full((1, 1, 1), 100, np.float32))
        assert mask.sum() / 100**2 == pytest.approx(area, rel=0.01)
        assert 0 <= mask.min() <= mask.max() <= 1

    def test_every_shape_can_be_drawn(self) -> None:
        assert set(DISTANCES) == {*SHAPES, "arrow", "semicircle"}


class TestFiles:
    def test_clip_decodes_to_what_was_written(self, tmp_path: Path) -> None:
        pixels = render(scene_of("left"), size=64, frames=20)
        write_clip(pixels, tmp_path / "a.mp4", fps=10)
        with av.open(str(tmp_path / "a.mp4")) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (64, 64, 10)
            assert container.duration == 2_000_000
        decoded = decode(tmp_path / "a.mp4")
        assert decoded.shape == pixels.shape
        assert np.abs(decoded.astype(float) - pixels).mean() < 3

    def test_same_pixels_same_bytes_and_header_first(self, tmp_path: Path) -> None:
        pixels = render(MANY[0], size=48, frames=12)
        for name in ("a.mp4", "b.mp4"):
            write_clip(pixels, tmp_path / name)
        data = (tmp_path / "a.mp4").read_bytes()
        assert data == (tmp_path / "b.mp4").read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")

    def test_coding_keeps_partners_equal_frame_by_frame(self, tmp_path: Path) -> None:
        """Otherwise coding artefacts, rather than the order of the frames, could tell partners apart."""
        for motion in amount(
            ("left", "recolour"), thorough=("left", "grow", "clockwise", "appear", "recolour", "sequence")
        ):
            scene = scene_of(motion)
            write_clip(render(scene), tmp_path / "one.mp4")
            write_clip(render(scene.reversed()), tmp_path / "two.mp4")
            np.testing.assert_array_equal(decode(tmp_path / "one.mp4"), decode(tmp_path / "two.mp4")[::-1])

    def test_bad_pixels_are_refused(self, tmp_path: Path) -> None:
        for shape in [(3, 15, 16, 3), (3, 16, 15, 3), (0, 16, 16, 3)]:
            with pytest.raises(SettingsError, match="even height and width"):
                write_clip(np.zeros(shape, np.uint8), tmp_path / "a.mp4")
        with pytest.raises(SettingsError, match="fps is 0"):
            write_clip(np.zeros((3, 16, 16, 3), np.uint8), tmp_path / "a.mp4", fps=0)
        assert not list(tmp_path.iterdir())

    def test_world_folder(self, tmp_path: Path) -> None:
        clips = write_world(tmp_path / "w", count=12, seed=5, split="test", size=48, frames=12)
        rows = [json.loads(line) for line in (tmp_path / "w" / "captions.jsonl").read_text().splitlines()]
        assert [clip.id for clip in clips] == [f"clip-{number:04d}" for number in range(1, 13)]
        assert [clip.scene for clip in clips] == sample_scenes(12, seed=5, split="test")
        assert sorted(path.name for path in (tmp_path / "w").glob("*.mp4")) == [row["video"] for row in rows]
        by_id = {clip.id: clip for clip in clips}
        assert sum(clip.pair is not None for clip in clips) == 6
        for clip, row in zip(clips, rows, strict=True):
            assert row == {
                "video": f"{clip.id}.mp4",
                "caption": clip.scene.caption,
                "split": "test",
                "pair": clip.pair,
                "motion": clip.scene.motion_class,
            }
            assert decode(clip.path).shape == (12, 48, 48, 3)
            if clip.pair is not None:
                assert by_id[clip.pair].scene == clip.scene.reversed()
                assert by_id[clip.pair].pair == clip.id

    def test_second_world_in_one_folder_is_refused(self, tmp_path: Path) -> None:
        write_world(tmp_path, count=1, seed=0, size=16, frames=2)
        with pytest.raises(SettingsError, match="already holds clips"):
            write_world(tmp_path, count=1, seed=1, size=16, frames=2)

    def test_moments(self, tmp_path: Path) -> None:
        scenes = [Scene("right", name, RED_CIRCLE) for name in ("black", "white", "brown")]
        spans = render_moments(scenes, tmp_path / "long.mp4", size=48, frames=18, fps=12)
        assert spans == [(0.0, 1.5), (1.5, 3.0), (3.0, 4.5)]
        decoded = decode(tmp_path / "long.mp4")
        assert len(decoded) == 54
        for scene, (start, end) in zip(scenes, spans, strict=True):
            part = decoded[round(start * 12) : round(end * 12)]
            expected = render(scene, size=48, frames=18)
            assert np.abs(part.astype(float) - expected).mean() < 4

    def test_no_moments_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="scenes is empty"):
            render_moments([], tmp_path / "long.mp4")
