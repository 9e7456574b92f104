"""The request of `colbert-video reproduce`: a row of the paper, the data, and all changes to the recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colbert_video.base.checks import check_fields
from colbert_video.base.user_files import user_path
from colbert_video.errors import SettingsError, shown
from colbert_video.training.datasets.annotations import Published
from colbert_video.training.datasets.prepare import DATASETS
from colbert_video.training.reproduce.paper_rows import BACKBONES, PaperRow
from colbert_video.training.reproduce.weights_origin import doubt_about
from colbert_video.training.run.recipe import Recipe, load_recipe

SMOKE_VIDEOS = 8
"""Videos of each split in a smoke run."""
SMOKE: Mapping[str, Any] = {
    "training.epochs": 1,
    "training.max_steps": 2,
    "training.batch_size": 4,
    "training.chunk_size": None,
}
"""Overrides of a smoke run, which take precedence."""
WITHOUT_EFFECT = (
    "data.cache",
    "data.cache_gigabytes",
    "data.timeout",
    "data.workers",
    "training.checkpoint_every",
    "training.chunk_size",
    "training.evaluate_every",
    "training.grad_checkpointing",
    "training.keep_checkpoints",
    "training.seed",
)
"""Overrides that keep a run comparable with the paper: they decide its speed, or the random numbers. A cache is one of them,
as the paper does not say from how many frames of a segment it draws; with it, training draws from three."""


@dataclass(frozen=True)
class ReproducePlan:
    """One row of the paper, and how it is run."""

    row: PaperRow
    """Row to reproduce; a zero-shot evaluation reads only its dataset and backbone."""
    annotations: Path
    """Folder of the annotation files."""
    videos: Path
    """Folder of the videos."""
    split_name: str | None = None
    """Protocol of the dataset; None for the paper's."""
    hold_out: int = 0
    """Training videos to validate on, where the dataset has no validation videos."""
    weights: str | None = None
    """File of the backbone's weights, or folder of a saved untrained model, instead of a download."""
    zero_shot: bool = False
    """True to evaluate the backbone without training."""
    smoke: bool = False
    """True to run all stages on a few videos, for a few steps."""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further overrides of the recipe, such as {"training.chunk_size": 32}."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("annotations", "videos"):
            object.__setattr__(self, name, user_path(getattr(self, name), name))
        if self.weights is not None and not self.weights_path.exists():
            raise SettingsError(
                f"there are no weights at {self.weights} (--weights); give a weight file, or the folder that "
                "VideoColBERT.from_backbone(NAME, TAG).save_pretrained(FOLDER) wrote."
            )
        if self.zero_shot and self.row.variant is not None:
            raise SettingsError(f"zero-shot evaluation has no variant {shown(self.row.variant)}; leave it out.")

    @property
    def weights_path(self) -> Path:
        """The weights that were given, absolute."""
        return user_path(str(self.weights), "weights (--weights)")

    @property
    def name(self) -> str:
        """Name of the row in folders and reports."""
        return f"{self.row.recipe}-zero-shot" if self.zero_shot else self.row.name

    @property
    def protocol(self) -> str:
        """Name of the dataset's protocol."""
        if self.split_name is not None:
            return self.split_name
        # Zero-shot, MSR-VTT's test files are all that is needed.
        return "1k-a" if self.zero_shot and self.row.dataset == "msrvtt" else self._usual_protocol

    @property
    def expected(self) -> Published:
        """Published size of the test split."""
        return DATASETS[self.row.dataset].protocols[self.protocol].published["test"]

    @property
    def model_name(self) -> str:
        """open_clip's name of the backbone, with its tag."""
        backbone, _, tag = BACKBONES[self.row.backbone].partition(":")
        backbone = self.settings.get("model.backbone", backbone)
        return f"{backbone}:{self.settings.get('model.pretrained', tag)}"

    @property
    def description(self) -> dict[str, Any]:
        """Plain values that a repeated command must have unchanged."""
        return {
            "row": self.name,
            "annotations": str(self.annotations.resolve()),
            "videos": str(self.videos.resolve()),
            "split": self.protocol,
            "hold_out": self.hold_out,
            "weights": None if self.weights is None else str(self.weights_path.resolve()),
            "smoke": self.smoke,
            "seed": self.seed,
            "settings": {name: value for name, value in self.settings.items() if name not in WITHOUT_EFFECT},
        }

    def recipe(self, manifest: Path, **reading: Any) -> Recipe:
        """Load the shipped recipe with all changes of the row, the data and the user.

        Args:
            manifest: The videos and captions.
            **reading: Settings of `DataConfig`.
        """
        given = dict(self.settings)
        settings = load_recipe(self.row.recipe).model.settings
        settings = {**settings, **self.row.model, **given.pop("model.settings", {})}
        values = {"data.manifest": str(manifest), "model.settings": settings, "training.seed": self.seed}
        values |= {f"training.{name}": value for name, value in self.row.training.items()}
        values |= {f"data.{name}": value for name, value in reading.items() if value is not None}
        if not self._validated:
            values["data.validation_split"] = None
        if self.weights is not None:
            values["model.pretrained"] = str(self.weights_path)
        return load_recipe(self.row.recipe, overrides={**values, **given, **(SMOKE if self.smoke else {})})

    def departures(self) -> list[str]:
        """List the requested differences from the published run."""
        departures = []
        if self.smoke:
            steps = "no training" if self.zero_shot else f"{SMOKE['training.max_steps']} training steps"
            departures.append(f"smoke run: {steps}, at most {SMOKE_VIDEOS} videos of each split")
        if self.protocol != self._usual_protocol and not (self.zero_shot and self.protocol == "1k-a"):
            departures.append(f"split {self.protocol} instead of {self._usual_protocol}")
        if self.hold_out:
            departures.append(f"{self.hold_out} training videos are held out to choose the model on")
        if self.weights is not None and (doubt := doubt_about(self.weights_path, self.model_name)) is not None:
            departures.append(doubt)
        return departures + [
            f"{name}={shown(value)} is set" for name, value in self.settings.items() if name in self._deviating
        ]

    @property
    def _usual_protocol(self) -> str:
        return next(iter(DATASETS[self.row.dataset].protocols))

    @property
    def _validated(self) -> bool:
        """True if there are videos to choose a model on."""
        return self.hold_out > 0 or "val" in DATASETS[self.row.dataset].protocols[self.protocol].published

    @property
    def _deviating(self) -> Sequence[str]:
        """Overrides that change the result; zero-shot figures are looked up by the model that is set."""
        named = ("model.backbone", "model.pretrained") if self.zero_shot else ()
        return [name for name in self.settings if name not in (*WITHOUT_EFFECT, *named)]
