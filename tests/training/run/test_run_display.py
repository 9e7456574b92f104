"""What a training shows while it runs, and what experiment trackers get of it."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate import tracking
from command_line import run as run_command
from training_fakes import PLAIN, FakeData, tiny_model

from colbert_video.errors import DependencyError, SettingsError, TrainingError
from colbert_video.progress import Bar, show_progress
from colbert_video.training.run import run_display
from colbert_video.training.run.run_display import RunDisplay
from colbert_video.training.run.run_log import read_log
from colbert_video.training.run.trainer import Trainer


class Recorded(Bar):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.states: list[str] = []
        self.done = 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def status(self, text: str) -> None:
        self.states.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_each_epoch_is_a_row_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 102.0, 200.0, 204.0, 300.0])
    monkeypatch.setattr(run_display.time, "monotonic", lambda: next(clock))
    bar = Recorded()
    display = RunDisplay(bar, "R@1")
    display.begin(["model: a"])
    for loss in (3.0, 1.0):
        display.step({"loss": loss, "learning_rate": 1e-3}, 8)
    display.end_steps()
    display.validated({"R@1": 0.25, "R@5": 0.5}, 0.5)
    display.end_epoch(1, 2)
    display.step({"loss": 0.5, "learning_rate": 5e-4}, 8)
    display.end_epoch(2, 3)
    assert bar.states == ["loss 3.0000, lr 1.0e-03", "loss 1.0000, lr 1.0e-03", "loss 0.5000, lr 5.0e-04, R@1 0.250"]
    assert bar.done == 24
    about, *table = bar.notes
    assert about == "model: a"
    assert [line.split() for line in table] == [
        ["epoch", "step", "loss", "learning", "rate", "samples/s", "R@1", "best"],
        ["1", "2", "2.0000", "1.00e-03", "8.0", "0.2500", "0.5000"],
        ["2", "3", "0.5000", "5.00e-04", "2.0", "-", "-"],
    ]
    assert len({len(line) for line in table}) == 1


def test_a_run_says_what_it_does_and_how_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(True)
    model = tiny_model()
    config = replace(PLAIN, freeze=("token_embedding",))
    data = FakeData(metrics=[{"R@1": 0.5}, {"R@1": 0.25}])
    trainer = Trainer(model, config, data, output=tmp_path / "run", device="cpu")
    trainer.train()
    lines = capsys.readouterr().err.splitlines()
    total = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for group in trainer.learner.optimizer.param_groups for weight in group["params"])
    assert 0 < trained < total / 2
    assert f"{total:,} parameters, {trained:,} of them trained" in lines[0]
    assert lines[1] == "device: cpu, fp32"
    assert "3 batches of 4 captions with their videos an epoch, 2 epochs, 6 steps" in lines[2]
    assert (
        "dual_sigmoid of mms_fv; learning rate 1.0e-03, of the backbone 1.0e-04, linear after 10 % warm-up" in lines[3]
    )
    rows = [line.split() for line in lines[5:7]]
    losses = [entry["loss"] for entry in read_log(tmp_path / "run" / "log.jsonl") if "loss" in entry]
    assert [(row[0], row[1], row[-2], row[-1]) for row in rows] == [
        ("1", "3", "0.5000", "0.5000"),
        ("2", "6", "0.2500", "0.5000"),
    ]
    assert float(rows[0][2]) == pytest.approx(sum(losses[:3]) / 3, abs=1e-3)
    assert "samples/s" in lines[-1] + lines[-2]


def test_a_silent_run_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(False)
    Trainer(tiny_model(), replace(PLAIN, epochs=1), FakeData(), output=tmp_path / "run", device="cpu").train()
    assert capsys.readouterr() == ("", "")


class Remote(tracking.GeneralTracker):
    """Stands in for a service; accelerate makes it by its name."""

    name = "wandb"
    requires_logging_directory = False
    runs: ClassVar[list["Remote"]] = []
    failing = ""

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.project, self.options = project, options
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int | None, dict[str, float]]] = []
        self.finished = False
        self.runs.append(self)
        if self.failing == "begin":
            raise RuntimeError("api key missing")

    @property
    def tracker(self) -> Any:
        return self

    def start(self) -> None:
        pass

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], step: int | None = None, **more: Any) -> None:
        if self.failing == "log":
            raise RuntimeError("no network")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> type[Remote]:
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Remote)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["wandb", "tensorboard"])
    monkeypatch.setattr(Remote, "runs", [])
    return Remote


def train(output: Path, *trackers: str) -> None:
    data = FakeData(metrics=[{"R@1": 0.5}, {"R@1": 0.25}])
    Trainer(tiny_model(), PLAIN, data, output=output, device="cpu", trackers=trackers).train()


def test_a_tracker_gets_settings_steps_and_validations(tmp_path: Path, remote: type[Remote]) -> None:
    train(tmp_path / "my-run", "wandb", "tensorboard", "wandb")
    (run,) = remote.runs
    assert (run.project, run.options, run.finished) == ("colbert_video", {"name": "my-run"}, True)
    assert run.settings["training.batch_size"] == 4
    assert "0.98" in run.settings["training.betas"]
    log = read_log(tmp_path / "my-run" / "log.jsonl")
    wanted = [
        (entry["step"], {f"validation/{name}": value for name, value in entry["metrics"].items()})
        if "metrics" in entry
        else (
            entry["step"],
            {f"training/{name}": value for name, value in entry.items() if name not in ("step", "epoch")},
        )
        for entry in log
    ]
    assert run.logged == wanted
    assert len(wanted) == 8


def test_a_tracker_that_fails_does_not_end_the_training(
    tmp_path: Path, remote: type[Remote], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote, "failing", "log")
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "run", "wandb")
    assert [record.message for record in caplog.records if "tracker" in record.message] == [
        "tracker wandb failed and gets nothing more: no network; log.jsonl has all"
    ]
    assert (tmp_path / "run" / "final").is_dir()


def test_a_tracker_that_cannot_begin_ends_the_training(
    tmp_path: Path, remote: type[Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "failing", "begin")
    with pytest.raises(TrainingError, match="tracker wandb cannot begin: RuntimeError: api key missing"):
        train(tmp_path / "run", "wandb")


def test_unknown_and_missing_trackers_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(SettingsError, match=r"there is no tracker 'nope'; choose one of .*wandb"):
        train(tmp_path / "run", "nope")
    with pytest.raises(DependencyError, match="tracker comet_ml is not installed: pip install comet-ml"):
        train(tmp_path / "run", "comet_ml")
    assert not (tmp_path / "run").exists()
    code, _, err = run_command(["train", "toy", "--output", str(tmp_path / "run"), "--tracker", "mlflow"], capsys)
    assert (code, "tracker mlflow is not installed: pip install mlflow" in err) == (2, True)
    assert not list(tmp_path.iterdir())
