"""Training data that is rendered when it is needed: the synthetic world of moving shapes, for recipes that ask for it."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from colbert_video.base.checks import check_fields
from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError
from colbert_video.training.world import write_world

MANIFEST = "captions.jsonl"
DESCRIPTION = "world.json"


@dataclass(frozen=True)
class WorldRecipe:
    """Size and seed of a rendered world; its splits are called "train" and "validation"."""

    train: int
    """Clips to train on, in each round."""
    validation: int
    """Clips to choose the best model on, of other scenes."""
    paired_fraction: float = 0.5
    """Share of the training clips that come with their time reversal."""
    seed: int = 0
    """Seed of the scenes."""
    rounds: int = 1
    """Rounds of drawing training scenes. One round draws every scene at most once, so small families of scenes run out; in
    the next round they come again with other words, shades, places and speeds."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("train", "validation"):
            if getattr(self, name) < 2:
                raise SettingsError(f"world.{name}={getattr(self, name)} must be at least 2 clips.")
        if self.rounds < 1:
            raise SettingsError(f"world.rounds={self.rounds} must be at least 1.")
        if not 0 <= self.paired_fraction <= 1:
            raise SettingsError(f"world.paired_fraction={self.paired_fraction} is a share; it must be in [0, 1].")


def render_world(recipe: WorldRecipe, folder: str | Path) -> Path:
    """Render both splits into a new folder, unless that was done before, and return the manifest.

    Raises:
        SettingsError: If the folder holds another world or other files.
    """
    folder = user_path(folder, "the folder")
    if folder.exists():
        _check_rendered(recipe, folder)
        return folder / MANIFEST
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
        fresh = Path(staging) / "world"
        rows = [row for number in range(recipe.rounds) for row in _render_training(recipe, fresh, number)]
        rows += _render_validation(recipe, fresh)
        (fresh / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (fresh / DESCRIPTION).write_text(json.dumps(asdict(recipe)), encoding="utf-8")
        fresh.rename(folder)
    return folder / MANIFEST


def _render_training(recipe: WorldRecipe, folder: Path, number: int) -> list[dict[str, str | None]]:
    """Render one round; its clips of one look form a group, so that motion and place have to be learnt.

    Scenes of other rounds stay out of the group: a scene that comes again would be a negative of itself.
    """
    name = f"train-{number}"
    clips = write_world(
        folder / name,
        count=recipe.train,
        seed=recipe.seed + number,
        split="train",
        paired_fraction=recipe.paired_fraction,
    )
    return [
        {**clip.row, "group": f"{number}: {clip.scene.look}", "video": f"{name}/{clip.path.name}"} for clip in clips
    ]


def _render_validation(recipe: WorldRecipe, folder: Path) -> list[dict[str, str | None]]:
    clips = write_world(
        folder / "validation", count=recipe.validation, seed=recipe.seed, split="validation", paired_fraction=0.5
    )
    return [{**clip.row, "video": f"validation/{clip.path.name}"} for clip in clips]


def _check_rendered(recipe: WorldRecipe, folder: Path) -> None:
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{folder} exists and is not a rendered world; remove it or choose another output."
        ) from error
    if found != asdict(recipe):
        raise SettingsError(
            f"{folder} holds another world ({found}) than the recipe's ({asdict(recipe)}); remove it or choose another "
            "output."
        )
