"""Training data that is rendered when it is needed: the synthetic world of moving shapes, for recipes that ask for it."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from colbert_video.errors import SettingsError
from colbert_video.training.world import write_world

MANIFEST = "captions.jsonl"
DESCRIPTION = "world.json"


@dataclass(frozen=True)
class WorldRecipe:
    """How much of the synthetic world is rendered; its splits are called "train" and "validation"."""

    train: int
    """Clips to train on."""
    validation: int
    """Clips to choose the best model by; their scenes are other ones."""
    paired_fraction: float = 0.5
    """Share of the training clips that come with their time reversal."""
    seed: int = 0
    """Which clips are rendered."""

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            if getattr(self, name) < 2:
                raise SettingsError(f"world.{name}={getattr(self, name)} must be at least 2 clips.")
        if not 0 <= self.paired_fraction <= 1:
            raise SettingsError(
                f"world.paired_fraction={self.paired_fraction} is a share; it must be in [0, 1]."
            )


def render_world(recipe: WorldRecipe, folder: str | Path) -> Path:
    """Render both splits, unless that was done before.

    Args:
        recipe: What to render.
        folder: Where; it appears when everything is rendered.

    Returns:
        The manifest of both splits.

    Raises:
        SettingsError: If the folder holds something else.
    """
    folder = Path(folder)
    if folder.exists():
        _check_rendered(recipe, folder)
        return folder / MANIFEST
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as staging:
        fresh = Path(staging) / "world"
        rows = [row for split in ("train", "validation") for row in _render_split(recipe, fresh, split)]
        (fresh / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (fresh / DESCRIPTION).write_text(json.dumps(asdict(recipe)), encoding="utf-8")
        fresh.rename(folder)
    return folder / MANIFEST


def _render_split(recipe: WorldRecipe, folder: Path, split: str) -> list[dict[str, str | None]]:
    """Render one split; training clips of one look form a group, so that motion and place have to be learnt."""
    training = split == "train"
    clips = write_world(
        folder / split,
        count=getattr(recipe, split),
        seed=recipe.seed,
        split=split,
        paired_fraction=recipe.paired_fraction if training else 0.5,
    )
    groups = [{"group": clip.scene.look} if training else {} for clip in clips]
    return [
        {**clip.row, **group, "video": f"{split}/{clip.path.name}"}
        for clip, group in zip(clips, groups, strict=True)
    ]


def _check_rendered(recipe: WorldRecipe, folder: Path) -> None:
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{folder} exists and is no rendered world; remove it or choose another output."
        ) from error
    if found != asdict(recipe):
        raise SettingsError(
            f"{folder} holds another world ({found}) than the recipe's ({asdict(recipe)}); remove it or choose another "
            "output."
        )
