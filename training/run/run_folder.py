"""The folder of a training run: its settings, checkpoints to resume from, and the trained models.

- run.json: settings, data and architecture, which a resumed run must have again; versions and digests of what it began with
- checkpoints/step-00000042-epoch-0001/: weights, optimizer and random states after 42 steps, as safetensors and JSON;
  deleted when the run is finished
- log.jsonl, tensorboard/, curves.png: losses and metrics
- best/, final/: models for `VideoColBERT.from_pretrained`

A checkpoint is written beside its place, synced and renamed, so that a kill at any moment leaves the one before.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from colbert_video.base.access import os_problem
from colbert_video.base.user_files import user_path
from colbert_video.durable import check_folder_writable, fsync_folder, sync_tree, write_text
from colbert_video.errors import ModelError, SettingsError, TrainingError, in_one_line
from colbert_video.model.video_colbert import VideoColBERT

FORMAT = 1
PROVENANCE = "provenance"
"""Key of versions and digests in run.json, which a resumed run need not have again."""
MAX_LISTED = 8
"""Differing fields that an error names."""


@dataclass
class RunState:
    """Progress of a run."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epoch of the next batch, from 0."""
    batch: int = 0
    """Next batch of this epoch, from 0."""
    best: float | None = None
    """Best validation metric so far."""


class RunFolder:
    """Reads and writes one run's folder.

    Args:
        path: The folder; it is made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path, "output").resolve()
        self.best, self.final = self.path / "best", self.path / "final"
        self.log, self.curves = self.path / "log.jsonl", self.path / "curves.png"
        self.tensorboard = self.path / "tensorboard"
        self._description, self._checkpoints = self.path / "run.json", self.path / "checkpoints"

    @property
    def started(self) -> bool:
        """True if a run was begun here."""
        return self._description.is_file()

    @property
    def finished(self) -> bool:
        """True if a run was completed here."""
        return (self.final / "config.json").is_file()

    @property
    def progress(self) -> str:
        """Progress of the run in words."""
        if self.finished or not self.started:
            return "a finished run" if self.finished else "no run"
        return self.checkpoints()[-1].name if self.checkpoints() else "a run without a checkpoint"

    def check_usable(self, *, resume: bool) -> None:
        """Check that the folder is new or empty, or holds a run to resume.

        Raises:
            SettingsError: If the path is a file, or the folder holds other files, or a run although `resume` is False.
        """
        if self.path.exists() and not self.path.is_dir():
            raise SettingsError(f"{self.path} is a file; a training run needs its own folder.")
        if self.started and not resume:
            raise SettingsError(
                f"{self.path} holds a training run; resume it (resume=True, --resume) or choose another folder."
            )
        if not self.started and self.path.is_dir() and any(self.path.iterdir()):
            raise SettingsError(
                f"{self.path} is not empty and holds no training run; choose another folder, nothing is overwritten."
            )
        check_folder_writable(self.path)

    def begin(self, description: Mapping[str, Any], provenance: Mapping[str, Any] | None = None) -> None:
        """Make the folder and write the description of the run, and what else its result depends on."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **description, PROVENANCE: provenance}, indent=2)
        write_text(self._description, text + "\n")

    def provenance(self) -> dict[str, Any]:
        """Return what `begin` wrote as the provenance; nothing for runs of versions that did not."""
        return self._read_description().get(PROVENANCE) or {}

    def check_same(self, description: Mapping[str, Any], *, ignored: tuple[str, ...] = ()) -> None:
        """Check that the run to resume has the same description, but for fields of the `ignored` names.

        Raises:
            TrainingError: If other fields differ; the text names them.
        """
        saved = {name: value for name, value in self._read_description().items() if name != PROVENANCE}
        differing = differences(saved, json.loads(json.dumps({"format": FORMAT, **description})), ignored)
        if differing:
            raise TrainingError(
                f"the run in {self.path} cannot be resumed, because it was started with another configuration: "
                f"{differing}. Use what it was started with, or start again in another folder."
            )

    def _read_description(self) -> dict[str, Any]:
        try:
            saved = json.loads(self._description.read_text(encoding="utf-8"))
        except OSError as error:
            raise TrainingError(f"{self._description} cannot be read: {os_problem(error)}.") from error
        except ValueError as error:
            raise TrainingError(
                f"{self._description} is unreadable ({error}); start again in another folder."
            ) from error
        return saved if isinstance(saved, dict) else {}

    def save(
        self,
        state: RunState,
        model: VideoColBERT,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        random_states: UInt8[Tensor, "processes bytes"],
        *,
        keep: int,
    ) -> None:
        """Write a checkpoint and delete the oldest beyond `keep`."""
        target = self._checkpoints / f"step-{state.step:08d}-epoch-{state.epoch:04d}"
        if target.exists():  # the run was resumed from it, and no step has been made since
            return
        for interrupted in self._checkpoints.glob(".*.tmp"):
            shutil.rmtree(interrupted)
        fresh = self._checkpoints / f".{target.name}.tmp"
        fresh.mkdir(parents=True)
        save_file(_on_cpu({**_prefixed("model.", model), **_prefixed("loss.", loss)}), fresh / "weights.safetensors")
        save_file(_on_cpu(_optimizer_tensors(optimizer)), fresh / "optimizer.safetensors")
        save_file({"states": random_states.cpu().contiguous()}, fresh / "random.safetensors")
        (fresh / "state.json").write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
        sync_tree(fresh)
        fresh.rename(target)
        fsync_folder(self._checkpoints)
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Return the folders of the complete checkpoints, oldest first."""
        return sorted(self._checkpoints.glob("step-*"))

    def load(
        self, model: VideoColBERT, loss: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[RunState, UInt8[Tensor, "processes bytes"]] | None:
        """Restore model, loss and optimizer from the newest checkpoint.

        Returns:
            Progress and random states; None if there is no checkpoint yet.

        Raises:
            TrainingError: If the checkpoint is damaged or another model's.
        """
        if not self.checkpoints():
            return None
        newest = self.checkpoints()[-1]
        try:
            weights = load_file(newest / "weights.safetensors")
            model.load_state_dict(_without("model.", weights))
            loss.load_state_dict(_without("loss.", weights))
            _restore_optimizer(optimizer, load_file(newest / "optimizer.safetensors"))
            random_states = load_file(newest / "random.safetensors")["states"]
            state = RunState(**json.loads((newest / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise TrainingError(
                f"the checkpoint {newest} is damaged or another model's: {in_one_line(error)}. Remove it to continue "
                "from an older one, or start again in another folder."
            ) from error
        return state, random_states

    def clear_checkpoints(self) -> None:
        """Delete the checkpoints of a finished run; its models stay."""
        shutil.rmtree(self._checkpoints)

    def load_final(self, model: VideoColBERT) -> None:
        """Load the weights of the finished run into a model.

        Raises:
            TrainingError: If they are damaged or another model's.
        """
        try:
            finished = VideoColBERT.from_pretrained(self.final, device="cpu")
            model.load_state_dict(finished.state_dict())
        except (ModelError, RuntimeError) as error:
            raise TrainingError(f"the model {self.final} cannot be loaded: {error}") from error
        model.config, model.name = finished.config, finished.name


def differences(before: Mapping[str, Any], now: Mapping[str, Any], ignored: Sequence[str] = ()) -> str:
    """Describe the fields that differ between two nested mappings of plain values; "" if none do."""
    old, new = _flat(before), _flat(now)
    differing = [
        f"{name} (was {_short(old.get(name))}, is {_short(new.get(name))})"
        for name in sorted({*old, *new})
        if name.rpartition(".")[2] not in ignored and old.get(name) != new.get(name)
    ]
    more = [f"and {len(differing) - MAX_LISTED} more"] if len(differing) > MAX_LISTED else []
    return ", ".join(differing[:MAX_LISTED] + more)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _prefixed(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _named_parameters(optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in _named_parameters(optimizer).items()
        for key, value in optimizer.state[parameter].items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = _named_parameters(optimizer)
    saved = {name.rpartition("/")[0] for name in tensors}
    if saved - set(parameters):
        raise ValueError(
            f"its optimizer has parameters such as {min(saved - set(parameters))} that are not trained now"
        )
    for name, value in tensors.items():
        owner, _, key = name.rpartition("/")
        parameter = parameters[owner]
        optimizer.state[parameter][key] = value.to(parameter.device)
