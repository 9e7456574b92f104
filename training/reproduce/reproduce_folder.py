"""The folder of a reproduction: the request, and the results of each finished stage.

- request.json: the row, the data and the settings, which a repeated command must have again
- captions.jsonl, prepared.json: the manifest, and what was missing or different when it was written
- training/: the run, as `colbert-video train` makes it
- evaluation.json: the metrics on the test split
- report.json: these figures beside the published ones
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colbert_video.base.access import os_problem
from colbert_video.base.user_files import user_path
from colbert_video.durable import write_text
from colbert_video.errors import SettingsError
from colbert_video.training.run.run_folder import RunFolder, differences


class ReproduceFolder:
    """Reads and writes the folder of a reproduction; a stage is finished when its JSON file exists.

    Args:
        path: The folder; `claim` makes it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path, "output").resolve()
        self.request = self.path / "request.json"
        self.manifest, self.prepared = self.path / "captions.jsonl", self.path / "prepared.json"
        self.training = RunFolder(self.path / "training")
        self.evaluation, self.report = self.path / "evaluation.json", self.path / "report.json"

    @property
    def model(self) -> Path:
        """The trained model: the best by validation if there was one, else the final one."""
        best = self.training.best
        return best if (best / "config.json").is_file() else self.training.final

    def claim(self, description: Mapping[str, Any]) -> None:
        """Reserve the folder for one reproduction, or check that it holds the same one.

        Raises:
            SettingsError: If it holds something else; the text names what differs.
        """
        now = json.loads(json.dumps(description))
        if self.request.is_file():
            differing = differences(self.read(self.request), now)
            if differing:
                raise SettingsError(
                    f"{self.path} holds another reproduction: {differing}. Repeat the command as it was to continue it, or "
                    "choose another folder (--output)."
                )
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise SettingsError(
                f"{self.path} is not empty and holds no reproduction; choose another folder (--output)."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.write(self.request, now)

    def read(self, path: Path) -> Any:
        """Read a stage's JSON file.

        Raises:
            SettingsError: If it is damaged.
        """
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {os_problem(error)}.") from error
        except ValueError as error:
            raise SettingsError(f"{path} is unreadable ({error}); remove it to run that stage again.") from error

    def write(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write a stage's JSON file, whole or not at all."""
        write_text(path, json.dumps(values, indent=2) + "\n")
