"""The trainer: a whole run, exact resumption after SIGKILL, several processes, and everything it must refuse."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed_checks
import pytest
import torch
import training_fakes
from paths import python_path
from thorough import cases, thorough_only
from tiny_models import build_tiny
from training_fakes import PLAIN, RESUMED, FakeData, tiny_model, training_batch

from colbert_video.errors import SettingsError, TrainingError
from colbert_video.model import compiled_towers, video_colbert
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.run_log import read_log
from colbert_video.training.run.trainer import Trainer
from colbert_video.training.run.training_config import TrainingConfig

pytestmark = pytest.mark.numeric

EXACT = ("loss", "gradient_norm", "learning_rate", "decision_point", "metrics")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Sums in one order, so that equal runs are equal to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(
    output: Path, config: TrainingConfig = PLAIN, data: Any = None, model: Any = None, **options: Any
) -> Trainer:
    return Trainer(model or tiny_model(), config, data or FakeData(), output=output, device="cpu", **options)


def exact(output: Path) -> list[list[Any]]:
    """The log without what depends on the clock."""
    return [
        [entry["step"], entry["epoch"], *(entry.get(name) for name in EXACT)]
        for entry in read_log(output / "log.jsonl")
    ]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, tiny_names: Any) -> Path:
    """A run that nothing interrupted."""
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("runs") / "whole"
    trainer(output, RESUMED).train()
    return output


def test_a_whole_run(tmp_path: Path) -> None:
    model, data = tiny_model(), FakeData(metrics=[{"R@1": 0.5, "R@5": 0.6}, {"R@1": 0.25, "R@5": 0.9}])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = trainer(tmp_path / "run", model=model, data=data).train()
    assert (result.steps, result.best, result.best_epoch, result.metric) == (6, 0.5, 1, "R@1")
    assert json.loads(json.dumps(result.to_dict()))["model"] == str(tmp_path / "run" / "final")

    best, final = (VideoColBERT.from_pretrained(folder, device="cpu") for folder in (result.best_model, result.model))
    assert best.fingerprint() == data.validated[0]
    assert final.fingerprint() == data.validated[1] == model.fingerprint()
    assert data.modes == [True] * 6, "validation must not leave the model in evaluation mode"
    assert final.config.trained
    assert model.name == str(result.model)
    assert not model.training
    assert all(value.grad is None for value in model.parameters())
    assert model.temporal.blocks[0].attn.in_proj_weight.requires_grad

    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    kept = {name for name in before if name not in changed}
    assert "backbone.clip.token_embedding.weight" in kept, "frozen by default"
    assert {"temporal.expansion", "backbone.clip.visual.proj", "backbone.clip.ln_final.weight"} <= changed
    assert (tmp_path / "run" / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert not (tmp_path / "run" / "checkpoints").exists(), "a finished run needs none"


def test_the_log(whole_run: Path) -> None:
    entries = read_log(whole_run / "log.jsonl")
    steps = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert [entry["epoch"] for entry in steps] == [1, 1, 1, 2, 2, 2]
    assert [entry["step"] for entry in entries if "metrics" in entry] == [3, 6]
    assert [entry["learning_rate"] for entry in steps] == pytest.approx([1e-3 * f for f in (1, 1, 0.8, 0.6, 0.4, 0.2)])
    assert all(entry["samples_per_second"] > 0 for entry in steps)


def test_training_learns(tmp_path: Path) -> None:
    """The same batch again and again: captions and frames become a pair."""

    class OneBatch(FakeData):
        def loader(self, model: Any, **settings: Any) -> Any:
            loader = super().loader(model, **settings)
            loader.iterate = lambda start_batch=0: (training_batch(4, 7) for _ in range(start_batch, 20))
            return loader

    config = replace(PLAIN, epochs=1, learning_rate=2e-3, pretrained_learning_rate=2e-4, freeze=())
    trainer(tmp_path / "run", config, OneBatch(batches=20)).train()
    losses = [entry["loss"] for entry in read_log(tmp_path / "run" / "log.jsonl") if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill_at", "logged", "kept"),
    [
        pytest.param(  # right after a validation
            3, [1, 2, 3, 3], ["step-00000002-epoch-0000", "step-00000003-epoch-0000"], marks=thorough_only
        ),
        (5, [1, 2, 3, 3, 4, 5], ["step-00000003-epoch-0000", "step-00000004-epoch-0001"]),
    ],
)
def test_killed_and_resumed_to_the_last_digit(
    tmp_path: Path, whole_run: Path, kill_at: int, logged: list[int], kept: list[str]
) -> None:
    """The whole environment goes along: variables such as ATEN_CPU_CAPABILITY choose kernels, which round differently."""
    output = tmp_path / "run"
    died = subprocess.run(
        [sys.executable, training_fakes.__file__, str(output), str(kill_at)],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
    )
    assert died.returncode == -9, died.stderr
    assert [entry[0] for entry in exact(output)] == logged
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == kept
    trainer(output, RESUMED, resume=True).train()
    assert exact(output) == exact(whole_run)
    resumed, whole = (VideoColBERT.from_pretrained(run / "final", device="cpu") for run in (output, whole_run))
    assert resumed.fingerprint() == whole.fingerprint()


class StopError(Exception):
    """Ends a run from inside its data."""


class StoppingData(FakeData):
    """Data whose first validation ends the run."""

    def validate(self, model: Any, interaction: str) -> Any:
        raise StopError


@pytest.mark.parametrize("stop_after", cases([1], thorough=[0]))
def test_an_error_in_validation_costs_no_training(tmp_path: Path, whole_run: Path, stop_after: int) -> None:
    class Failing(FakeData):
        def validate(self, model: Any, interaction: str) -> Any:
            if len(self.validated) == stop_after:
                raise StopError
            return super().validate(model, interaction)

    with pytest.raises(StopError):
        trainer(tmp_path / "run", RESUMED, Failing()).train()
    data = FakeData()
    trainer(tmp_path / "run", RESUMED, data, resume=True).train()
    assert len(data.validated) == 2 - stop_after
    assert exact(tmp_path / "run") == exact(whole_run)


def test_resuming_an_empty_folder_begins_and_a_finished_run_is_not_repeated(tmp_path: Path, whole_run: Path) -> None:
    first = trainer(tmp_path / "run", RESUMED, resume=True).train()
    assert exact(tmp_path / "run") == exact(whole_run)
    model = tiny_model()
    again = trainer(tmp_path / "run", RESUMED, FakeData(kill_at=0), model, resume=True).train()
    assert replace(again, seconds=0.0) == replace(first, seconds=0.0)
    assert model.fingerprint() == VideoColBERT.from_pretrained(first.model, device="cpu").fingerprint()


def test_gradcache_takes_the_same_steps_as_the_plain_batch(tmp_path: Path, whole_run: Path) -> None:
    trainer(tmp_path / "run", replace(RESUMED, chunk_size=None)).train()
    for plain, cached in zip(read_log(tmp_path / "run" / "log.jsonl"), read_log(whole_run / "log.jsonl"), strict=True):
        assert plain.get("loss", 0.0) == pytest.approx(cached.get("loss", 0.0), rel=1e-4)


@thorough_only
def test_a_compiled_run_takes_the_same_steps_and_goes_on_from_either_kind_of_checkpoint(
    tmp_path: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled by torch's plainest backend, which needs no compiler."""
    asked: list[dict[str, Any]] = []
    compiled = torch.compile

    def compile_plainly(*what: Any, **how: Any) -> Any:
        asked.append(how)
        return compiled(*what, **{**how, "backend": "eager"})

    monkeypatch.setattr(torch, "compile", compile_plainly)
    monkeypatch.setattr(compiled_towers, "check_compiler", lambda device: None)
    monkeypatch.setattr(video_colbert, "check_compiler", lambda device: None)
    fast, plain = replace(RESUMED, compile=True), RESUMED
    for number, (first, second) in enumerate([(fast, plain), (plain, fast)]):
        output, model = tmp_path / str(number), tiny_model()
        with pytest.raises(StopError):
            trainer(output, first, StoppingData(), model).train()
        assert model.compiling is None  # as it was before
        trainer(output, second, resume=True).train()
        for mine, other in zip(read_log(output / "log.jsonl"), read_log(whole_run / "log.jsonl"), strict=True):
            assert mine.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-4)
    assert len(asked) == 2 * 5  # text, frames, temporal transformer, scores, loss: each time


@pytest.mark.parametrize("interaction", cases(["rrf"], thorough=["mms_f", "mp_v"]))
def test_other_interactions_and_settings(tmp_path: Path, interaction: Any) -> None:
    config = replace(
        PLAIN,
        interaction=interaction,
        loss="dual_infonce",
        precision="bf16",
        grad_checkpointing=True,
        labels="diagonal",
        max_steps=4,
        clip=None,
        evaluate_every=2,
    )
    model = tiny_model()
    temporal = model.temporal.expansion.detach().clone()
    data = FakeData()
    result = trainer(tmp_path / "run", config, data, model).train()
    assert result.steps == 4
    assert len(data.validated) == 1
    saved = VideoColBERT.from_pretrained(result.model, device="cpu")
    assert saved.config.interaction == interaction
    assert torch.equal(saved.temporal.expansion, temporal) == (interaction == "mms_f"), "trained only where it is read"
    assert not model.temporal.grad_checkpointing


def test_without_validation_there_is_no_best_model(tmp_path: Path) -> None:
    result = trainer(tmp_path / "run", replace(PLAIN, max_steps=1), FakeData(metrics=[])).train()
    assert (result.best_model, result.best, result.best_epoch) == (None, None, None)
    assert not (tmp_path / "run" / "best").exists()


def test_a_loss_that_is_no_number_stops_and_names_the_batch(tmp_path: Path) -> None:
    model = tiny_model()
    model.temporal.positions.data.fill_(math.nan)
    for chunk in (None, 2):
        with pytest.raises(
            TrainingError,
            match=r"the loss is nan in step 1 \(epoch 1, batch 1\), whose videos are video-0-0, video-0-1",
        ):
            trainer(tmp_path / f"run-{chunk}", replace(PLAIN, chunk_size=chunk), model=model).train()
        assert not read_log(tmp_path / f"run-{chunk}" / "log.jsonl")


def test_a_gradient_that_is_no_number_leaves_the_weights_alone(tmp_path: Path) -> None:
    model = tiny_model()
    model.temporal.expansion.register_hook(lambda gradient: gradient * math.inf)
    before = model.temporal.expansion.detach().clone()
    with pytest.raises(TrainingError, match=r"norm of the gradient is (nan|inf) in step 1"):
        trainer(tmp_path / "run", model=model).train()
    assert torch.equal(model.temporal.expansion, before)


def test_nothing_is_overwritten(tmp_path: Path, whole_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")}
    with pytest.raises(
        SettingsError, match=r"holds a training run; resume it \(resume=True, --resume\) or choose another"
    ):
        trainer(whole_run, RESUMED)
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(SettingsError, match="is not empty and holds no training run"):
            trainer(tmp_path, resume=resume)
    with pytest.raises(SettingsError, match=r"notes.txt is a file"):
        trainer(tmp_path / "notes.txt")
    assert {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")} == before


def test_resuming_another_run_is_refused(tmp_path: Path, whole_run: Path) -> None:
    changed = replace(RESUMED, batch_size=6, learning_rate=0.5)
    with pytest.raises(
        TrainingError, match=r"training.batch_size \(was 4, is 6\), training.learning_rate \(was 0.001, is 0.5\)"
    ):
        trainer(whole_run, changed, resume=True)
    with pytest.raises(TrainingError, match=r"data.rows \(was 12, is 13\)"):
        trainer(whole_run, RESUMED, FakeData(description={"rows": 13}), resume=True)
    other = build_tiny("tiny-clip", num_frames=4, max_frames=8, query_length=16, expansion_tokens=1)
    with pytest.raises(TrainingError, match=r"cannot be resumed.*model.expansion_tokens \(was 2, is 1\)"):
        trainer(whole_run, RESUMED, model=other, resume=True)
    trainer(whole_run, replace(RESUMED, checkpoint_every=5, keep_checkpoints=7), resume=True)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    class Failing(FakeData):
        def validate(self, model: Any, interaction: str) -> Any:
            raise StopError

    with pytest.raises(StopError):
        trainer(tmp_path / "run", data=Failing()).train()
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    whole = (checkpoint / "weights.safetensors").read_bytes()
    (checkpoint / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match=r"checkpoint .*step-00000003-epoch-0000 is damaged or another model's"):
        trainer(tmp_path / "run", resume=True).train()
    shutil.rmtree(checkpoint)
    assert trainer(tmp_path / "run", resume=True).train().steps == 6, "without a checkpoint, from the beginning"
    assert len(exact(tmp_path / "run")) == 8


def test_a_metric_that_is_not_measured_is_refused(tmp_path: Path) -> None:
    data = FakeData(metrics=[{"R@1": math.nan}, {"R@1": 0.5}])
    with pytest.raises(SettingsError, match=r"metric='R@1' is not a number after epoch 1; validation gave"):
        trainer(tmp_path / "run", data=data).train()
    with pytest.raises(SettingsError, match=r"metric='MRR' is not a number after epoch 1"):
        trainer(tmp_path / "other", replace(PLAIN, metric="MRR")).train()


def test_settings_that_do_not_fit_leave_the_model_as_it_was(tmp_path: Path) -> None:
    model = tiny_model()
    model.name = "known"
    for freeze, text in ((("temporal", "vision"), "freeze names 'temporal'"), (("*",), "every parameter is frozen")):
        with pytest.raises(SettingsError, match=text):
            trainer(tmp_path / "run", replace(PLAIN, freeze=freeze), model=model).train()
    assert (model.config.trained, model.name, model.training) == (False, "known", False)
    assert model.temporal.expansion.requires_grad
    assert not (tmp_path / "run").exists()


def test_data_that_fill_no_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the data do not fill one batch of 4"):
        trainer(tmp_path / "run", data=FakeData(batches=0))
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_pair_is_refused(tmp_path: Path) -> None:
    class Shrinking(FakeData):
        def loader(self, model: Any, **settings: Any) -> Any:
            return super().loader(model, **{**settings, "batch_size": 1})

    with pytest.raises(SettingsError, match=r"the batch has only one pair \('video-0-0'\)"):
        trainer(tmp_path / "run", data=Shrinking()).train()


@thorough_only
@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """Batches are shared out, negatives gathered, gradients averaged: every step is the one process's step."""
    config = replace(PLAIN, epochs=1, chunk_size=2, batch_size=8, learnable_loss=True)
    trainer(tmp_path / "one", config, FakeData(noise=False)).train()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(distributed_checks.train, args=(2, str(tmp_path), config, port), nprocs=2)
    one, two = read_log(tmp_path / "one" / "log.jsonl"), read_log(tmp_path / "two" / "log.jsonl")
    assert [entry["step"] for entry in one] == [entry["step"] for entry in two] == [1, 2, 3, 3]
    for alone, together in zip(one[:3], two[:3], strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)
    assert (tmp_path / "two" / "final" / "config.json").is_file()
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1], "both processes end with the same weights"
