"""Hard negatives from an index: which videos come into one batch, and which are too near to be negatives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from hypothesis import given
from hypothesis import strategies as st

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError
from colbert_video.training.data.hard_negatives import (
    Confusions,
    Mined,
    MiningSettings,
    find_confusions,
    group_videos,
    grouped_rows,
    mine_hard_negatives,
)
from colbert_video.training.data.manifest import ManifestRow, read_manifest


def row(video: str, caption: str = "", split: str = "train", group: str | None = None) -> ManifestRow:
    return ManifestRow(video, Path("/clips") / video, caption or f"about {video}", split, group, {"note": video})


SCORES = {  # of each caption: its own video first
    "a": {"a": 0.90, "b": 0.80, "c": 0.88, "elsewhere": 0.89},
    "b": {"b": 0.70, "a": 0.20, "d": 0.60},
    "c": {"c": 0.50, "d": 0.10},
    "d": {"d": 0.90, "c": 0.95},
}
ROWS = [row(name) for name in SCORES]


def test_what_comes_near_is_a_negative_and_what_comes_too_near_is_none() -> None:
    found = find_confusions(ROWS, [*SCORES.values()], margin=0.05)
    assert found.gaps == pytest.approx({("a", "b"): 0.10, ("b", "d"): 0.10})
    assert found.too_near == {("a", "c"), ("c", "d")}  # 0.02 below, and better than d's own
    bold = find_confusions(ROWS, [*SCORES.values()], margin=-1.0)
    assert bold.too_near == frozenset()
    assert bold.gaps["c", "d"] == pytest.approx(-0.05)


def test_videos_of_one_caption_are_no_negatives_of_each_other() -> None:
    rows = [row("a", "A dog"), row("b", "a dog "), row("c", "a cat")]
    scores = [{"a": 0.9, "b": 0.5, "c": 0.4}, {"b": 0.9}, {"c": 0.9}]
    found = find_confusions(rows, scores, margin=0.1)
    assert found.too_near == {("a", "b")}
    assert [*found.gaps] == [("a", "c")]


def test_the_nearest_pairs_are_joined_first_and_groups_stay_small() -> None:
    gaps = {("a", "b"): 0.3, ("b", "c"): 0.1, ("c", "d"): 0.2, ("d", "e"): 0.4}
    groups = group_videos(Confusions(gaps, frozenset()), group_size=3)
    assert groups["b"] == groups["c"] == groups["d"]
    assert "a" not in groups
    assert "e" not in groups
    apart = group_videos(Confusions(gaps, frozenset({("b", "d")})), group_size=4)
    assert apart["a"] == apart["b"] == apart["c"] != apart["d"] == apart["e"]


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_groups_hold_nothing_that_is_too_near(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    names = [f"v{number}" for number in range(9)]
    pairs = [(one, other) for one in names for other in names if one < other]
    drawn = torch.rand(len(pairs), generator=generator).tolist()
    too_near = frozenset(pair for pair, gap in zip(pairs, drawn, strict=True) if gap < 0.2)
    gaps = {pair: gap for pair, gap in zip(pairs, drawn, strict=True) if 0.2 <= gap < 0.6}
    groups = group_videos(Confusions(gaps, too_near), size)
    by_group: dict[int, list[str]] = {}
    for video, number in groups.items():
        by_group.setdefault(number, []).append(video)
    assert all(2 <= len(videos) <= size for videos in by_group.values())
    for videos in by_group.values():
        assert not any(one < other and (one, other) in too_near for one in videos for other in videos)


def test_captions_of_one_video_come_into_groups_of_their_own() -> None:
    rows = [row("a", "one"), row("a", "two"), row("b", "three"), row("c", "four"), row("a", "five", "val", "old")]
    mined = Mined({"a": 0, "b": 0}, captions=4, too_near=0)
    made = [*grouped_rows(rows, mined, "train", Path("/clips"))]
    assert [one.get("group") for one in made] == ["mined-0-0", "mined-0-1", "mined-0-0", None, "old"]
    assert [one["video"] for one in made] == ["a", "a", "b", "c", "a"]
    assert made[0]["note"] == "a"
    assert next(grouped_rows(rows, mined, "train", Path("/")))["video"] == "clips/a"
    assert mined.to_dict() == {"captions": 4, "groups": 1, "videos": 2, "too_near": 0}


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(SettingsError, match="k=1: beside a caption's own video at least one more is needed"):
        MiningSettings(k=1)
    with pytest.raises(SettingsError, match="group_size=1: a group needs at least 2 videos"):
        MiningSettings(group_size=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, rendered_clips: Path, tiny_trained_model: Any) -> Path:
    """Clips, their manifest, and an index of them with the model in a folder."""
    folder = tmp_path_factory.mktemp("mining")
    names = sorted(path.name for path in rendered_clips.glob("*.mp4"))[:4]
    for name in names:
        (folder / name).write_bytes((rendered_clips / name).read_bytes())
    lines = [{"video": name, "caption": f"clip {number}", "split": "train"} for number, name in enumerate(names)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    tiny_trained_model.save_pretrained(folder / "model")
    Indexer(folder / "clips.index", model=folder / "model", workers=1).index(
        [(name, str(folder / name)) for name in names]
    )
    return folder


class TestIndex:
    def test_scores_are_those_of_searches(self, world: Path) -> None:
        rows = read_manifest(world / "captions.jsonl")
        with Searcher(world / "clips.index") as searcher:
            everything = mine_hard_negatives(searcher, rows, MiningSettings(margin=-10.0))
            assert everything.to_dict() == {"captions": 4, "groups": 1, "videos": 4, "too_near": 0}
            nothing = mine_hard_negatives(searcher, rows, MiningSettings(margin=10.0))
            assert nothing.to_dict() == {"captions": 4, "groups": 0, "videos": 0, "too_near": 6}
            few = mine_hard_negatives(searcher, rows, MiningSettings(k=2, margin=-10.0, group_size=2))
            assert all([*few.groups.values()].count(number) == 2 for number in few.groups.values())
            with pytest.raises(SettingsError, match="there are no captions"):
                mine_hard_negatives(searcher, [], MiningSettings())
            with pytest.raises(SettingsError, match="not in the index"):
                mine_hard_negatives(searcher, [row("gone.mp4")], MiningSettings())

    def test_the_verb_writes_a_manifest_to_train_on(
        self, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "mined.jsonl"
        arguments = ["mine", str(world / "captions.jsonl"), "--index", str(world / "clips.index")]
        arguments += ["--output", str(output), "--margin", "-10", "--device", "cpu"]
        code, out, err = run([*arguments, "--json"], capsys)
        assert code == 0, err
        assert json.loads(out) == {"captions": 4, "groups": 1, "videos": 4, "too_near": 0, "manifest": str(output)}
        rows = read_manifest(output)
        assert {one.group for one in rows} == {"mined-0-0"}
        assert all(one.path.is_file() for one in rows)
        code, out, _ = run(arguments, capsys)
        assert f"--manifest {output} --set data.group_batches=true" in " ".join(out.split())
        code, _, err = run([*arguments, "--output", str(world / "captions.jsonl")], capsys)
        assert code == 2
        assert "is the manifest itself; write the groups to another file" in " ".join(err.split())
        code, _, err = run([*arguments, "--split", "gone"], capsys)
        assert code == 2
        assert "gone" in err
