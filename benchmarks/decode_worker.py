"""The process in which one reader reads files; orders come as lines of JSON, answers go back as such.

It imports this package only to measure it. What readers print goes to the log with their errors.
"""

import argparse
import gc
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from decode_readers import READERS, Refused, Sample
from decode_truth import SIDE
from processes import carry_out, megabytes


def installed(package: str) -> str:
    """Name and version."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package}, version unknown"


def small(pixels: np.ndarray) -> np.ndarray:
    """Pictures as small as those of ffmpeg that they are compared with."""
    from PIL import Image

    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), box)) for picture in pixels])


class Worker:
    """One reader."""

    def __init__(self, name: str) -> None:
        self._reader = READERS[name]
        self._read = self._reader.load(**self._reader.arguments)

    def describe(self) -> dict[str, Any]:
        """What is measured."""
        packages = ", ".join(map(installed, self._reader.packages))
        return {"versions": f"{packages}, Python {platform.python_version()}"}

    def read(self, path: str, keep: str | None = None) -> dict[str, Any]:
        """Read a file once; its small pictures are kept in an .npy file if that is named."""
        started = time.process_time()
        try:
            sample = self._read(path)
            outcome = {"outcome": "frames", "warnings": list(sample.warnings)}
        except Refused as refusal:
            sample, outcome = None, {"outcome": "refused", "detail": str(refusal)}
        except Exception as error:  # Readers raise what they like; every file must have an outcome.
            text = str(error).strip().splitlines() or [""]
            words = text[0].replace(f"{Path(path).parent}/", "")[:200]
            sample, outcome = None, {"outcome": "error", "detail": f"{type(error).__name__}: {words}"}
        outcome["cpu_ms"] = 1000 * (time.process_time() - started)
        if sample is not None and keep is not None:
            outcome["times"] = self._keep(sample, keep)
        return outcome

    def memory(self, paths: list[str], opens: int) -> dict[str, Any]:
        """Memory held after a fifth of the opens and after all."""
        held = []
        for number in range(opens):
            self.read(paths[number % len(paths)])
            if number + 1 in (opens // 5, opens):
                gc.collect()
                held.append(megabytes("VmRSS"))
        return {"opens": opens, "early_megabytes": held[0], "late_megabytes": held[1]}

    @staticmethod
    def _keep(sample: Sample, keep: str) -> list[float] | None:
        np.save(keep, small(sample.pixels))
        return None if sample.times is None else sample.times.tolist()


def main() -> None:
    """Carry out orders until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=READERS)
    options = parser.parse_args()
    worker = Worker(options.reader)
    carry_out(lambda order: getattr(worker, order))


if __name__ == "__main__":
    main()
