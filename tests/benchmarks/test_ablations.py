"""The ablations: the plan against the paper's tables, resuming, the page from canned figures, and one tiny run."""

import json
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import ablation_measures
import ablation_training
import ablations
from ablation_measures import LENGTHS, Measurement
from ablation_training import BUDGETS, Workshop, towers, training_config, wordings
from ablation_variants import START, TABLES, VARIANTS, Settings, choose_variants, runs_of

from colbert_video.errors import SettingsError
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.manifest import read_manifest
from colbert_video.training.world import sample_scenes

QUICK = BUDGETS["quick"]
TINY = replace(QUICK, train_clips=10, test_clips=4, steps=1, batch=10)


def canned(seed: int, settings: Settings, recall: float) -> Measurement:
    """A run with made-up figures; RRF is two points worse, long captions ten."""
    names = ablation_measures.interactions_of(settings)
    metrics = {
        name: {"R@1": recall - 0.02 * (name == "rrf"), "R@5": 0.9, "nDCG@10": 0.8, "motion pairs": 0.5}
        for name in names
    }
    by_length = {name: dict(zip(LENGTHS, (recall, recall, recall - 0.1), strict=True)) for name in names}
    return Measurement(seed, settings, metrics, by_length, 60.0)


# the plan


def test_every_table_has_the_papers_choice_once_and_in_bold() -> None:
    for table in TABLES:
        defaults = [variant.is_default for variant in choose_variants([table])]
        bold = [variant.name.startswith("**") for variant in choose_variants([table])]
        assert defaults.count(True) == 1
        assert defaults == bold


def test_papers_figures_are_those_of_msrvtt() -> None:
    papers = {table: [variant.paper for variant in choose_variants([table]) if variant.paper] for table in TABLES}
    assert papers == {
        "interaction": [42.1, 43.4, 44.3, 47.0, 46.8, 48.1],
        "loss": [45.1, 45.3, 47.1, 48.1],
        "augmentation": [45.3, 48.1],
        "frames": [45.2, 48.1, 48.4],
        "depth": [47.0, 48.1],
        "pad": [46.0, 46.0, 47.8, 47.9, 48.0, 48.1],
        "labels": [],
    }


def test_a_row_differs_from_the_papers_choice_in_one_setting_and_its_bias() -> None:
    for variant in VARIANTS:
        if variant.settings == START:
            continue
        reference = Settings(captions=variant.settings.captions)
        changed = [
            field.name
            for field in fields(Settings)
            if getattr(variant.settings, field.name) != getattr(reference, field.name)
        ]
        assert len(changed) - ("calibrated" in changed) <= 1, variant
        assert (len(changed) > 0) == (variant.settings != reference), variant


def test_equal_settings_are_trained_once_and_the_default_first() -> None:
    runs = runs_of(choose_variants())
    assert max(Counter(runs).values()) == 1
    assert set(runs) == {variant.settings for variant in VARIANTS}
    assert runs[0] == Settings()
    assert len(runs) == 23


@pytest.mark.parametrize("settings", runs_of(choose_variants()))
def test_every_run_has_a_valid_configuration(settings: Settings) -> None:
    config = training_config(QUICK, settings, 3)
    assert (config.interaction, config.loss, config.labels) == (settings.interaction, settings.loss, settings.labels)
    assert (config.max_steps, config.batch_size, config.seed) == (2, 16, 3)
    assert "token_embedding" in config.freeze


def test_a_combined_loss_has_half_the_scale_and_the_same_bias() -> None:
    dual, combined = (training_config(QUICK, Settings(loss=f"{kind}_sigmoid"), 0) for kind in ("dual", "combined"))  # type: ignore[arg-type]
    assert (dual.loss_scale, combined.loss_scale) == (30, 15)
    assert dual.loss_bias == combined.loss_bias == -20


def test_two_wordings_are_two_captions_of_one_scene() -> None:
    for scene in sample_scenes(40, seed=5):
        first, second = wordings(scene)
        assert first != second
        assert first == scene.caption


# the figures


def test_an_interrupted_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, Settings]] = []

    def measure(shop: Workshop, settings: Settings, seed: int) -> Measurement:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append((seed, settings))
        return canned(seed, settings, 0.5)

    monkeypatch.setattr(ablations, "measure", measure)
    monkeypatch.setattr(Workshop, "render", lambda shop: None)
    command = ["--budget", "quick", "--only", "loss", "--seeds", "0", "1", "--output", str(tmp_path / "a.json")]
    with pytest.raises(KeyboardInterrupt):
        ablations.main(command)
    assert len(json.loads((tmp_path / "a.json").read_text())["runs"]) == 4
    made.append((9, Settings()))  # the second command is not interrupted
    ablations.main(command)
    del made[4]
    losses = [variant.settings for variant in choose_variants(["loss"])]
    assert Counter(made) == Counter((seed, one) for seed in (0, 1) for one in losses)
    assert [seed for seed, _ in made] == [0] * len(losses) + [1] * len(losses)
    assert made[0] == (0, Settings())


def test_figures_of_another_budget_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    ablations.Ledger(path, QUICK).add(canned(0, Settings(), 0.5))
    with pytest.raises(SettingsError, match=r"holds runs of the budget .* choose another --output"):
        ablations.Ledger(path, BUDGETS["full"]).read()


def test_clips_of_another_budget_are_refused(tmp_path: Path) -> None:
    Workshop(tmp_path, replace(TINY, train_clips=2, test_clips=2)).render()
    with pytest.raises(SettingsError, match="what another budget left"):
        Workshop(tmp_path, TINY).render()


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    ledger = ablations.Ledger(tmp_path / "new" / "a.json", QUICK)
    runs = [canned(0, Settings(), 0.5), canned(1, START, 0.25)]
    for run in runs:
        ledger.add(run)
    assert ledger.read() == runs


def test_quick_figures_stay_out_of_the_repository() -> None:
    assert ablations.options_given(["--budget", "quick", "--cache", "c"]).output == Path("c/quick.json")
    assert ablations.options_given([]).output == ablations.RESULTS / "ablations.json"


# one tiny run


@pytest.mark.slow
def test_a_run_from_clips_to_figures(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "shop", TINY, "cpu")
    shop.render()
    for captions in (1, 2):
        rows = read_manifest(shop.folder / "train" / f"captions-{captions}.jsonl")
        assert Counter(Counter(row.video for row in rows).values()) == {captions: 10}
    run = ablation_measures.measure(shop, Settings(captions=2, num_frames=2, temporal_layers=1), 0)
    assert set(run.metrics) == {"mms_fv", "rrf"}
    assert all(0 <= values[metric] <= 1 for values in run.metrics.values() for metric in values)
    assert "motion pairs" in run.metrics["mms_fv"]
    weights = towers(shop)
    before = weights.stat().st_mtime_ns
    start = ablation_measures.measure(shop, START, 0)  # from the same towers, which are not written again
    assert weights.stat().st_mtime_ns == before
    assert set(start.metrics) == {"mms_f"}
    assert not list((shop.folder / "runs").iterdir())
    shop.render()  # nothing is rendered twice
    assert len(list((shop.folder / "train").glob("*.mp4"))) == 10


def test_a_run_begins_with_the_towers_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    model = ablation_training.tuned_model(Workshop(tmp_path, TINY, "cpu"), START, 0)
    assert model.config.trained
    assert not model.config.query_augmentation
    toy = VideoColBERT.from_pretrained("toy", device="cpu")
    ours, theirs = model.backbone.state_dict(), toy.backbone.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)
