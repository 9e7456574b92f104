"""The published figures that `colbert-video reproduce` puts beside its own: Video-ColBERT's, and zero-shot baselines.

Figures are as printed: R@k in percent, nDCG@10 as a share, MdR and MnR as ranks; caption to video. The main results are
those of Reddy et al. (CVPR 2025), who give R@1, R@5, R@10 and nDCG@10; their ablations give R@1 on MSR-VTT.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from colbert_video.errors import SettingsError, shown
from colbert_video.model.interaction import Interaction

Figures = Mapping[str, float]
"""Metrics by name, as printed."""

BACKBONES: Mapping[str, str] = {
    "clip-b32": "ViT-B-32-quickgelu:openai",
    "clip-b16": "ViT-B-16-quickgelu:openai",
    "siglip-b16": "ViT-B-16-SigLIP:webli",
}
"""The paper's backbones: our name, and open_clip's name and tag."""
MAIN = "main results"
PORTILLO = "Portillo-Quintero et al., 2021 (arXiv 2102.12443)"
DRL = "Wang et al., 2022, README of github.com/foolwood/DRL"
PERCEPTION = "README of github.com/facebookresearch/perception_models"


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of Video-ColBERT's paper, and how to train it."""

    dataset: str
    """Key of `DATASETS`."""
    backbone: str
    """Key of `BACKBONES`."""
    figures: Figures
    source: str = MAIN
    """Table of the paper."""
    variant: str | None = None
    """Name of an ablation; None for the main results."""
    interaction: Interaction = "mms_fv"
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `TrainingConfig` that differ from the recipe."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `ModelConfig` that differ from the recipe."""
    ran: str | None = None
    """Time and place of a run with this library; None if there was none."""

    @property
    def recipe(self) -> str:
        """Name of the shipped recipe."""
        return f"{self.dataset}-{self.backbone}"

    @property
    def name(self) -> str:
        """Name of the recipe, with the variant if there is one."""
        return self.recipe if self.variant is None else f"{self.recipe}-{self.variant}"


@dataclass(frozen=True)
class ZeroShotRow:
    """Published figures of an image-text model that was not trained on videos of the dataset."""

    dataset: str
    split_name: str
    """Protocol of the dataset."""
    model: str
    """open_clip's name and tag."""
    figures: Figures
    source: str
    interaction: str = "mp_f"
    """Our score that corresponds to the source's."""
    note: str = ""
    """Possible difference from our evaluation."""


def _main(dataset: str, *rows: tuple[float, float, float, float]) -> list[PaperRow]:
    """Build a dataset's rows, one for each backbone: R@1, R@5, R@10 and nDCG@10."""
    names = ("R@1", "R@5", "R@10", "nDCG@10")
    return [
        PaperRow(dataset, backbone, dict(zip(names, row, strict=True)))
        for backbone, row in zip(BACKBONES, rows, strict=True)
    ]


def _ablation(table: str, variant: str, r1: float, backbone: str = "clip-b32", **how: Any) -> PaperRow:
    """Build a row of the tables on MSR-VTT, of which only R@1 is used."""
    return PaperRow("msrvtt", backbone, {"R@1": r1}, source=table, variant=variant, **how)


def _interaction(variant: Interaction, r1: float) -> PaperRow:
    """Build a row of Table 3, which trains each interaction alone; rank fusion uses the model of mms_fv."""
    trained: dict[str, Any] = {} if variant == "rrf" else {"interaction": variant}
    return _ablation("Table 3", variant, r1, interaction=variant, training=trained)


PAPER_ROWS: tuple[PaperRow, ...] = (
    *_main("msrvtt", (48.1, 74.9, 83.9, 0.652), (51.0, 77.1, 85.5, 0.677), (51.5, 76.3, 85.5, 0.677)),
    *_main("msvd", (46.0, 75.0, 84.0, 0.645), (50.2, 79.6, 87.8, 0.683), (55.2, 82.9, 89.4, 0.724)),
    *_main("vatex", (61.8, 90.8, 95.7, 0.794), (66.8, 92.9, 96.8, 0.826), (68.0, 93.4, 96.9, 0.833)),
    *_main("didemo", (48.2, 75.1, 83.7, 0.654), (51.9, 78.3, 85.6, 0.682), (51.7, 76.1, 84.8, 0.675)),
    *_main("activitynet", (45.5, 74.6, 85.5, 0.645), (50.6, 78.0, 87.9, 0.685), (45.8, 76.3, 86.7, 0.656)),
    _interaction("mp_f", 42.1),
    _interaction("mp_v", 43.4),
    _interaction("mms_f", 44.3),
    _interaction("mms_v", 47.0),
    _interaction("rrf", 46.8),
    _ablation("Table 4", "combined_infonce", 45.1, training={"loss": "combined_infonce"}),
    _ablation("Table 4", "dual_infonce", 45.3, training={"loss": "dual_infonce"}),
    _ablation("Table 4", "combined_sigmoid", 47.1, training={"loss": "combined_sigmoid"}),
    _ablation("Table 5", "no_augmentation", 45.3, model={"query_augmentation": False}),
    _ablation("Table 5", "no_augmentation", 51.0, "siglip-b16", model={"query_augmentation": False}),
    _ablation("Table 7", "frames_4", 45.2, model={"num_frames": 4}),
    _ablation("Table 7", "frames_20", 48.4, model={"num_frames": 20}),
    _ablation("Table 8", "layers_2", 47.0, model={"temporal_layers": 2}),
    _ablation("Table 8", "layers_8", 48.5, model={"temporal_layers": 8}),
    _ablation("Table 12", "pad_31", 46.0, model={"pad_id": 31}),
    _ablation("Table 12", "pad_49407", 46.0, model={"pad_id": 49407}),
    _ablation("Table 12", "pad_3002", 47.8, model={"pad_id": 3002}),
    _ablation("Table 12", "pad_13530", 47.9, model={"pad_id": 13530}),
    _ablation("Table 12", "pad_49406", 48.0, model={"pad_id": 49406}),
)
"""Every row that can be run, the main results first."""

_OWN_FRAMES = "chooses frames in its own way"
_UNSTATED = "the source does not say how many frames"

ZERO_SHOT_ROWS: tuple[ZeroShotRow, ...] = (
    ZeroShotRow(
        "msrvtt",
        "1k-a",
        BACKBONES["clip-b32"],
        {"R@1": 31.1, "R@5": 53.7, "R@10": 63.4, "MdR": 4.0, "MnR": 41.6},
        DRL,
        note="one frame a second, at most 12 of them",
    ),
    ZeroShotRow(
        "msrvtt",
        "1k-a",
        BACKBONES["clip-b32"],
        {"R@1": 31.2, "R@5": 53.7, "R@10": 64.2, "MdR": 4.0},
        PORTILLO,
        note=_OWN_FRAMES,
    ),
    ZeroShotRow(
        "msvd",
        "standard",
        BACKBONES["clip-b32"],
        {"R@1": 37.0, "R@5": 64.1, "R@10": 73.8, "MdR": 3.0},
        PORTILLO,
        note=_OWN_FRAMES,
    ),
    ZeroShotRow("msrvtt", "1k-a", "PE-Core-T-16-384:meta", {"R@1": 28.8}, PERCEPTION, note=_UNSTATED),
    ZeroShotRow("msrvtt", "1k-a", "PE-Core-S-16-384:meta", {"R@1": 39.3}, PERCEPTION, note=_UNSTATED),
    ZeroShotRow("msrvtt", "1k-a", "PE-Core-B-16:meta", {"R@1": 47.6}, PERCEPTION, note=_UNSTATED),
    ZeroShotRow("msrvtt", "1k-a", "PE-Core-L-14-336:meta", {"R@1": 50.3}, PERCEPTION, note=_UNSTATED),
    ZeroShotRow("msrvtt", "1k-a", "PE-Core-bigG-14-448:meta", {"R@1": 51.2}, PERCEPTION, note=_UNSTATED),
)
"""Known zero-shot figures."""


def find_row(dataset: str, backbone: str, variant: str | None = None) -> PaperRow:
    """Return the paper's row of a dataset, a backbone and, for ablations, a variant.

    Raises:
        SettingsError: If the paper has no such row; the text names those near it.
    """
    backbones = [row.backbone for row in PAPER_ROWS if row.dataset == dataset and row.variant is None]
    if not backbones:
        known = ", ".join(dict.fromkeys(row.dataset for row in PAPER_ROWS))
        raise SettingsError(f"the paper has no row for the dataset {shown(dataset)}; choose {known}.")
    if backbone not in backbones:
        raise SettingsError(f"the paper has no backbone {shown(backbone)}; choose {', '.join(backbones)}.")
    rows = {row.variant: row for row in PAPER_ROWS if (row.dataset, row.backbone) == (dataset, backbone)}
    if variant not in rows:
        known = ", ".join(name for name in rows if name)
        hint = f"choose {known}." if known else "the paper's ablations are on msrvtt with clip-b32."
        raise SettingsError(f"{dataset} with {backbone} has no variant {shown(variant)}; {hint}")
    return rows[variant]


def zero_shot_rows(dataset: str, model: str) -> list[ZeroShotRow]:
    """Return the known zero-shot figures of a model, by open_clip's name and tag, on a dataset."""
    return [row for row in ZERO_SHOT_ROWS if (row.dataset, row.model) == (dataset, model)]
