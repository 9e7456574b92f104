"""`colbert-video` as torchrun starts it, in a process that notes what it does and can die at a chosen step.

Arguments: a folder for the notes, the step after which process 1 kills itself (0 for never), then those of the command.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

NOTES, KILL_AFTER = Path(sys.argv[1]), int(sys.argv[2])
RANK, START = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OUTPUT = sys.argv[sys.argv.index("--output") + 1]
written: set[str] = set()
validated: list[str] = []


def note_write(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep the paths below the run's folder that this process writes to."""
    changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
    if changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
        path = str(arguments[0])
        if path.startswith(OUTPUT):
            written.add(path)


def watch() -> None:
    """Note validations, and kill process 1 of the first start after its step."""
    from colbert_video.training.run.source import ManifestData
    from colbert_video.training.run.trainer import Trainer

    validate, step = ManifestData.validate, Trainer._step

    def noted_validate(data: Any, model: Any, interaction: Any) -> Any:
        validated.append(model.fingerprint())
        return validate(data, model, interaction)

    def deadly_step(trainer: Any, batch: Any) -> Any:
        values = step(trainer, batch)
        if (RANK, START, trainer.state.step) == (1, 0, KILL_AFTER):
            os.kill(os.getpid(), signal.SIGKILL)
        return values

    ManifestData.validate, Trainer._step = noted_validate, deadly_step  # type: ignore[method-assign]


def main() -> None:
    """Run the command, and leave the notes behind whatever becomes of it."""
    import torch

    from colbert_video.cli import main as command

    torch.set_num_threads(1)
    watch()
    sys.addaudithook(note_write)
    try:
        command(sys.argv[3:])
    finally:
        notes = {"written": sorted(written), "validated": validated}
        (NOTES / f"start-{START}-rank-{RANK}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    main()
