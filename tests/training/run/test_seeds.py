"""Several seeds: which ones a text names, a folder for each, and the spread of their figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from colbert_video.errors import SettingsError
from colbert_video.training.evaluation.seed_spread import parse_seeds, spread_of
from colbert_video.training.run import recipe_run
from colbert_video.training.run.recipe import parse_recipe
from colbert_video.training.run.recipe_run import run_recipe, train_recipe_seeds
from colbert_video.training.run.trainer import TrainingResult

RECIPE = {
    "model": {"backbone": "tiny-clip"},
    "data": {"manifest": "captions.jsonl"},
    "training": {"batch_size": 4},
    "stages": [{"name": "one"}, {"name": "two", "training": {"epochs": 2}}],
}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("1", (0,)), ("7,", (7,)), ("0, 7,11", (0, 7, 11)), ("100", tuple(range(100)))],
)
def test_seeds_that_a_text_names(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", ",", "-1", "1,1", "three", "1.5", "101", "9" * 5000, "²"])
def test_what_names_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="seeds="):
        parse_seeds(text)


def test_the_spread_is_that_of_a_sample() -> None:
    found = spread_of({0: {"R@1": 0.5, "MdR": 2.0}, 4: {"R@1": 0.7}, 9: {"R@1": 0.6}})
    assert found == {
        "R@1": {"mean": pytest.approx(0.6), "std": pytest.approx(0.1), "values": {"0": 0.5, "4": 0.7, "9": 0.6}}
    }
    assert spread_of({3: {"R@1": 0.5}})["R@1"]["std"] is None
    assert spread_of({}) == {}


def test_each_seed_has_its_folder_and_all_stages_have_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(recipe: Any, output: Path, **options: Any) -> dict[str, TrainingResult]:
        seeds = {stage.training.seed for stage in recipe.stages}
        assert len(seeds) == 1
        (seed,) = seeds
        results = {}
        for number, stage in enumerate(recipe.stages, start=1):
            folder = output / str(number)
            folder.mkdir(parents=True)
            entries = [
                {"step": epoch, "epoch": epoch, "metrics": {"R@1": (number * 10 + seed) / 100, "MdR": float(epoch)}}
                for epoch in (1, 2)
            ]
            (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
            results[stage.name] = TrainingResult(folder / "final", folder / "best", 2, 1.0, "R@1", 0.2, 2, 1.0)
        return results

    monkeypatch.setattr(recipe_run, "run_recipe", run)
    summary = train_recipe_seeds(parse_recipe(RECIPE), tmp_path / "runs", (0, 5))
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text()) == summary
    assert summary["models"] == {str(seed): str(tmp_path / "runs" / f"seed-{seed}" / "2" / "best") for seed in (0, 5)}
    assert summary["metrics"]["R@1"]["mean"] == pytest.approx(0.225)
    assert summary["metrics"]["MdR"]["values"] == {"0": 2.0, "5": 2.0}  # of the best epoch
    with pytest.raises(SettingsError, match="is not empty; resume the runs in it"):
        train_recipe_seeds(parse_recipe(RECIPE), tmp_path / "runs", (0, 5))


def test_a_gpu_that_is_not_there_is_one_sentence_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        SettingsError, match="device='cuda', but torch sees no CUDA device here; use one that is there or 'cpu'"
    ):
        run_recipe(parse_recipe(RECIPE), tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()
