"""`colbert-video train` on rendered clips, from a recipe with two stages to models that search."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run as run_command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from colbert_video.errors import SettingsError
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.recipe_run import train_recipe
from colbert_video.training.run.run_log import read_log
from colbert_video.training.world.rendered import WorldRecipe, render_world

RECIPE = """
model:
  backbone: tiny-trained
  backbone_config:
    embed_dim: 32
    vision_cfg: {image_size: 32, layers: 1, width: 32, head_width: 32, patch_size: 16}
    text_cfg: {context_length: 16, vocab_size: 49408, width: 32, heads: 1, layers: 2}
  settings: {query_length: 12, num_frames: 3, max_frames: 4, temporal_layers: 1}
world: {train: 12, validation: 4, seed: 1}
data: {validation_split: validation, group_batches: true, workers: 0}
training: {batch_size: 6, epochs: 1, precision: fp32, freeze: []}
stages:
  - name: Static warm-up
    data: {num_frames: 1}
    training: {interaction: mms_f, loss: dual_infonce}
  - name: whole videos
    training: {epochs: 2}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "toy.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.slow
def test_a_recipe_from_end_to_end(tmp_path: Path, recipe: Path) -> None:
    report = train_recipe(recipe, output=tmp_path / "run", cache=tmp_path / "cache", device="cpu")
    assert json.loads(json.dumps(report)) == report
    assert list(report["stages"]) == ["Static warm-up", "whole videos"]
    assert [stage["steps"] for stage in report["stages"].values()] == [2, 4]
    assert report["stages"]["whole videos"]["model"] == str(tmp_path / "run" / "2-whole-videos" / "final")
    assert Path(report["model"]).parent.name == "2-whole-videos"
    assert list((tmp_path / "cache").iterdir())

    static = VideoColBERT.from_pretrained(tmp_path / "run" / "1-static-warm-up" / "final", device="cpu")
    final = VideoColBERT.from_pretrained(tmp_path / "run" / "2-whole-videos" / "final", device="cpu")
    assert (static.config.interaction, final.config.interaction) == ("mms_f", "mms_fv")
    queries = final.encode_queries("a red circle moves left")
    videos = final.encode_videos([torch.zeros(3, 32, 32, 3, dtype=torch.uint8)])
    assert final.score(queries, videos).shape == (1, 1)

    with pytest.raises(SettingsError, match="is not empty; resume the run in it"):
        train_recipe(recipe, output=tmp_path / "run", device="cpu")
    again = train_recipe(recipe, output=tmp_path / "run", cache=tmp_path / "cache", resume=True, device="cpu")
    assert again["model"] == report["model"]
    assert again["stages"]["whole videos"]["loss"] == report["stages"]["whole videos"]["loss"]


@pytest.mark.slow
def test_tensorboard_reads_back_what_the_log_has(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name is that of a tracker which is there anyway: it is taken, and nothing is written twice."""
    one_stage = tmp_path / "one-stage.yaml"
    one_stage.write_text(recipe.read_text().partition("stages:")[0].replace("epochs: 1", "epochs: 2"))
    run = tmp_path / "run"
    named = ["--output", str(run), "--tracker", "tensorboard", "--device", "cpu"]
    code, out, _ = run_command(["train", str(one_stage), *named], capsys)
    assert (code, out) == (0, f"the trained model is {run / 'best'}\n")

    assert [path.parent for path in run.rglob("events.out.tfevents.*")] == [run / "tensorboard"]
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    written = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    wanted: dict[str, list[tuple[int, float]]] = {}
    for entry in read_log(run / "log.jsonl"):
        group, values = ("validation", entry["metrics"]) if "metrics" in entry else ("training", entry)
        for name in values.keys() - {"step", "epoch"}:
            wanted.setdefault(f"{group}/{name}", []).append((entry["step"], values[name]))
    assert written.keys() == wanted.keys() >= {"training/loss", "training/learning_rate", "validation/R@1"}
    for tag, values in wanted.items():
        assert [step for step, _ in written[tag]] == [step for step, _ in values]
        assert [value for _, value in written[tag]] == pytest.approx([value for _, value in values], rel=1e-6)
    assert [step for step, _ in written["training/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in written["validation/R@1"]] == [2, 4]


def test_everything_is_checked_before_training(tmp_path: Path, recipe: Path) -> None:
    manifest = tmp_path / "captions.jsonl"
    manifest.write_text(json.dumps({"video": "a.mp4", "caption": "a", "split": "train"}) + "\n")
    with pytest.raises(SettingsError, match="split 'validation' has no rows"):
        train_recipe(recipe, output=tmp_path / "run", manifest=manifest, device="cpu")
    unvalidated = ["data.validation_split=null"]
    with pytest.raises(SettingsError, match="batch_size is 6 and there are 1 rows"):
        train_recipe(recipe, output=tmp_path / "run", manifest=manifest, settings=unvalidated, device="cpu")
    with pytest.raises(SettingsError, match=r"split 'test' is for the final figures alone"):
        train_recipe(recipe, output=tmp_path / "run", settings=["data.validation_split=test"], device="cpu")
    assert not (tmp_path / "run").exists()


def test_frames_of_a_later_stage_are_compared_with_the_model_before_the_first_is_trained(
    tmp_path: Path, recipe: Path
) -> None:
    path = tmp_path / "late.yaml"
    path.write_text(recipe.read_text() + "    data: {num_frames: 9}\n")
    with pytest.raises(SettingsError, match=r"^data\.num_frames=9 is more than the model takes.*4 frames"):
        train_recipe(path, output=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_the_world_is_rendered_once(tmp_path: Path, monkeypatch: Any) -> None:
    world = WorldRecipe(train=4, validation=2, seed=3)
    manifest = render_world(world, tmp_path / "world")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["split"] for row in rows] == ["train"] * 4 + ["validation"] * 2
    assert all((tmp_path / "world" / row["video"]).is_file() for row in rows)
    monkeypatch.setattr("colbert_video.training.world.rendered.write_world", None)
    assert render_world(world, tmp_path / "world") == manifest
    with pytest.raises(SettingsError, match=r"holds another world .*'train': 4.* than the recipe's .*'train': 5"):
        render_world(WorldRecipe(train=5, validation=2, seed=3), tmp_path / "world")
    (tmp_path / "other").mkdir()
    with pytest.raises(SettingsError, match=r"other exists and is not a rendered world"):
        render_world(world, tmp_path / "other")


def test_another_round_draws_anew_and_keeps_its_scenes_apart(tmp_path: Path) -> None:
    manifest = render_world(WorldRecipe(train=6, validation=2, seed=3, rounds=2), tmp_path / "world")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    training = [row for row in rows if row["split"] == "train"]
    assert len(training) == 12
    assert len({row["video"] for row in rows}) == 14
    assert {row["group"].split(":")[0] for row in training[:6]} == {"0"}
    assert {row["group"].split(":")[0] for row in training[6:]} == {"1"}
    assert {row["caption"] for row in training[:6]} != {row["caption"] for row in training[6:]}
    with pytest.raises(SettingsError, match=r"world\.rounds=0 must be at least 1"):
        WorldRecipe(train=6, validation=2, rounds=0)
