"""Weight files of models: safetensors, whose header says what they hold before any memory is taken for it."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from colbert_video.base.access import read_problem
from colbert_video.errors import ModelError, in_one_line

WEIGHTS_FILE = "model.safetensors"


def weight_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each weight, from the file's header.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    if not path.exists():
        raise ModelError(f"{path} is missing. Save or download the checkpoint again.")
    if (problem := read_problem(path)) is not None:  # before it is opened: a named pipe would be waited for
        raise ModelError(f"{path} cannot be read: {problem}.")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise unfit(path, error) from error


def unfit(weights: Path, error: Exception) -> ModelError:
    """Return the error that says that weights are damaged or belong to another model."""
    return ModelError(
        f"{weights} is damaged, or does not fit its configuration: {in_one_line(error)}. Save or download the "
        "checkpoint again."
    )
