"""`colbert-video train` in several processes as torchrun and accelerate launch start them, against one process."""

import json
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import PROGRAMS, python_path
from safetensors.torch import load_file
from test_recipe_run import RECIPE
from thorough import thorough_only
from training_fakes import FakeData, tiny_model

from colbert_video.errors import SettingsError
from colbert_video.training.run import trainer as trainer_module
from colbert_video.training.run.distributed import build_accelerator
from colbert_video.training.run.recipe_run import train_recipe
from colbert_video.training.run.run_folder import RunFolder
from colbert_video.training.run.run_log import read_log
from colbert_video.training.run.source import ManifestData
from colbert_video.training.run.trainer import Trainer
from colbert_video.training.run.training_config import DataConfig, TrainingConfig

LAUNCHED = str(PROGRAMS / "launched_training.py")
ONE_STAGE = RECIPE.partition("stages:")[0].replace("epochs: 1", "epochs: 2")
"""Four steps of six pairs, in two epochs."""
TORCHRUN = ("-m", "torch.distributed.run")
every_launcher = pytest.mark.skipif(
    "COLBERT_VIDEO_LAUNCHERS" not in os.environ, reason="starts many processes; set COLBERT_VIDEO_LAUNCHERS=1"
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("launched") / "toy.yaml"
    path.write_text(ONE_STAGE)
    return path


@pytest.fixture(scope="module")
def alone(recipe: Path) -> Path:
    """The run of one process."""
    torch.set_num_threads(1)
    train_recipe(recipe, output=recipe.parent / "alone", device="cpu")
    return recipe.parent / "alone"


def started(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """A launcher at work; its processes see the checkout, and one thread each."""
    paths = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **paths, **variables}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(launchers: Sequence["subprocess.Popen[str]"]) -> str:
    """Wait for launchers that must all end well; what they printed."""
    printed = []
    try:
        for launcher in launchers:
            printed.append(launcher.communicate(timeout=1200)[0])
            assert launcher.returncode == 0, printed[-1]
    finally:
        for launcher in launchers:
            launcher.kill()
    return "\n".join(printed)


def training(recipe: Path, output: Path) -> list[str]:
    """The command, resumable from the start as a launcher that restarts it needs."""
    return ["-q", "train", str(recipe), "--output", str(output), "--resume", "--device", "cpu"]


def notes(folder: Path, start: int, rank: int) -> dict[str, Any]:
    """What a process of `launched_training.py` left behind."""
    return json.loads((folder / f"start-{start}-rank-{rank}.json").read_text())


def assert_same_run(found: Path, right: Path) -> None:
    """Losses to the fifth digit, weights to the sixth place."""
    assert [(entry["step"], "metrics" in entry) for entry in read_log(found / "log.jsonl")] == [
        (1, False), (2, False), (2, True), (3, False), (4, False), (4, True),
    ]  # fmt: skip
    for one, other in zip(read_log(right / "log.jsonl"), read_log(found / "log.jsonl"), strict=True):
        assert other.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-5)
        assert other.get("gradient_norm", 0.0) == pytest.approx(one.get("gradient_norm", 0.0), rel=1e-4)
        assert other.get("metrics") == one.get("metrics")
    weights, others = (load_file(run / "final" / "model.safetensors") for run in (right, found))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert (others[name] - value).abs().max() <= 1e-6, name  # a hundredth of the learning rate


@pytest.mark.slow
@thorough_only
def test_a_killed_process_is_started_again_and_the_run_equals_that_of_one_process(
    tmp_path: Path, recipe: Path, alone: Path
) -> None:
    """Process 1 kills itself after the third step; all go on from the checkpoint after the second."""
    launch = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    script = [LAUNCHED, str(tmp_path), "3"]
    printed = finish([started(*launch, *script, *training(recipe, tmp_path / "run"))])
    assert printed.count("the trained model is") == 1
    assert "FutureWarning" not in printed
    assert_same_run(tmp_path / "run", alone)
    first, second = notes(tmp_path, 1, 0), notes(tmp_path, 1, 1)
    assert len(first["validated"]) == 2, "the one after the checkpoint comes again, and the second epoch's"
    assert {"log.jsonl", "checkpoints"} <= {Path(path).name for path in first["written"]}
    assert second == {"written": [], "validated": []}
    assert not (tmp_path / "start-0-rank-1.json").exists(), "it died without a word"
    assert not (tmp_path / "run" / "checkpoints").exists()


@every_launcher
def test_accelerate_launch(tmp_path: Path, recipe: Path, alone: Path) -> None:
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    module = ["--dynamo_backend", "no", "-m", "colbert_video"]
    printed = finish([started(*launch.split(), *module, *training(recipe, tmp_path / "run"))])
    assert printed.count("the trained model is") == 1
    assert_same_run(tmp_path / "run", alone)


@every_launcher
def test_two_machines(tmp_path: Path, recipe: Path, alone: Path) -> None:
    """Two launchers that find each other by a rendezvous, as on two machines with a common file system."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    launch = "--nnodes 2 --nproc-per-node 1 --max-restarts 1 --rdzv-backend c10d --rdzv-id 7 --rdzv-endpoint"
    script = [LAUNCHED, str(tmp_path), "3"]
    arguments = [*TORCHRUN, *launch.split(), address, *script, *training(recipe, tmp_path / "run")]
    finish([started(*arguments, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1") for _ in range(2)])
    assert_same_run(tmp_path / "run", alone)
    assert notes(tmp_path, 1, 1) == {"written": [], "validated": []}


def test_a_restart_on_several_machines_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    restarted = {"TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in {**restarted, "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on every machine"):
        build_accelerator("cpu")


def test_the_package_is_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["colbert_video", "train", "--help"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("colbert_video", run_name="__main__")
    assert exit_.value.code == 0
    assert "Usage: colbert-video train" in capsys.readouterr().out


def test_decoding_processes_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "captions.jsonl"
    manifest.write_text(json.dumps({"video": "a.mp4", "caption": "a", "split": "train"}) + "\n")
    monkeypatch.setattr("colbert_video.training.run.source.available_cores", lambda: 8)
    for processes, given, used in ((1, None, None), (4, None, 2), (16, None, 1), (4, 3, 3), (4, 0, 0)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        config = DataConfig(manifest=str(manifest), validation_split=None, workers=given, missing="report")
        assert ManifestData(config)._workers == used


def test_processes_compare_what_they_go_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(trainer_module, "check_processes_agree", lambda *both: seen.append(both))
    config = TrainingConfig(epochs=1, max_steps=1, batch_size=4, precision="fp32")
    for resume, other in ((False, config), (True, config), (False, replace(config, seed=1))):
        output = tmp_path / str(other.seed)
        Trainer(tiny_model(), other, FakeData(), output=output, device="cpu", resume=resume).train()
    digests = [text.rpartition(" ")[2] for _, text in seen]
    assert [text.partition(", ")[0] for _, text in seen] == ["no run", "a finished run", "no run"]
    assert digests[0] == digests[1] != digests[2]
    assert {what for what, _ in seen} == {"output folder and data"}
    (tmp_path / "0" / "final" / "config.json").unlink()
    folder = RunFolder(tmp_path / "0")
    assert folder.progress == "a run without a checkpoint"
    (tmp_path / "0" / "checkpoints" / "step-00000003-epoch-0001").mkdir(parents=True)
    assert folder.progress == "step-00000003-epoch-0001"
