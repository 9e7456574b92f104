"""What the ablations compare: the paper's tables (Reddy et al., CVPR 2025) as a list of variants, and one of our own.

A variant is a row of a table: settings that differ from the paper's default in one point, and the R@1 that the paper
reports for it on MSR-VTT with CLIP ViT-B/32. Variants of equal settings share one training run.
"""

from dataclasses import dataclass, replace

from colbert_video.model.interaction import Interaction
from colbert_video.training.run.training_config import LossName


@dataclass(frozen=True)
class Settings:
    """What a run is trained with; the defaults are the paper's, with 6 frames instead of 12."""

    interaction: Interaction = "mms_fv"
    """What is trained."""
    loss: LossName = "dual_sigmoid"
    """The contrastive loss."""
    calibrated: bool = False
    """Whether a sigmoid loss's bias is set by the first batch's scores, instead of a fixed one."""
    labels: str = "video"
    """Whether captions belong to every row of their video or to their own row alone ("diagonal")."""
    query_augmentation: bool = True
    """Whether padding tokens are scored."""
    pad_id: int = 0
    """Token id of the padding."""
    num_frames: int = 6
    """Frames of a video."""
    temporal_layers: int = 4
    """Blocks of the temporal transformer, copied from the first ones of the text tower."""
    captions: int = 1
    """Captions of each training clip; the second one words the same scene differently."""
    tuned: bool = True
    """False evaluates the towers as they are."""


@dataclass(frozen=True)
class Variant:
    """A row of a table."""

    table: str
    """A key of `TABLES`."""
    name: str
    """What the row is called."""
    settings: Settings = Settings()
    """The run that it is measured on."""
    paper: float | None = None
    """R@1 in the paper, in percent."""
    scored: Interaction | None = None
    """How the run is scored; None for the interaction that was trained."""

    @property
    def interaction(self) -> Interaction:
        """How the run is scored."""
        return self.scored or self.settings.interaction

    @property
    def is_default(self) -> bool:
        """Whether the row is the paper's choice, which the others of its table are compared with."""
        return self.scored is None and replace(self.settings, captions=1) == Settings()


TABLES = {
    "interaction": "Interaction (paper: Table 3)",
    "loss": "Loss (paper: Table 4)",
    "augmentation": "Query augmentation (paper: Table 5, Figure 3)",
    "frames": "Frames (paper: Table 7)",
    "depth": "Temporal layers (paper: Table 8)",
    "pad": "Padding token (paper: Table 12)",
    "labels": "Labels from video ids (not in the paper)",
}

START = Settings(interaction="mms_f", query_augmentation=False, temporal_layers=0, num_frames=6, tuned=False)
"""The towers as they are, scored with the words of the caption alone."""

VARIANTS = (
    Variant("interaction", "MMS_F, not tuned", START),
    Variant("interaction", "MP, frame tokens", Settings(interaction="mp_f"), 42.1),
    Variant("interaction", "MP, video tokens", Settings(interaction="mp_v"), 43.4),
    Variant("interaction", "MMS_F", Settings(interaction="mms_f"), 44.3),
    Variant("interaction", "MMS_V", Settings(interaction="mms_v"), 47.0),
    Variant("interaction", "RRF of MMS_F and MMS_V", Settings(), 46.8, scored="rrf"),
    Variant("interaction", "**MMS_FV**", Settings(), 48.1),
    Variant("loss", "combined InfoNCE", Settings(loss="combined_infonce"), 45.1),
    Variant("loss", "dual InfoNCE", Settings(loss="dual_infonce"), 45.3),
    Variant("loss", "combined sigmoid", Settings(loss="combined_sigmoid"), 47.1),
    Variant("loss", "combined sigmoid, calibrated bias", Settings(loss="combined_sigmoid", calibrated=True)),
    Variant("loss", "dual sigmoid, calibrated bias", Settings(calibrated=True)),
    Variant("loss", "**dual sigmoid**", Settings(), 48.1),
    Variant("augmentation", "off", Settings(query_augmentation=False), 45.3),
    Variant("augmentation", "**on**", Settings(), 48.1),
    Variant("frames", "2 (paper: 4)", Settings(num_frames=2), 45.2),
    Variant("frames", "**6** (paper: 12)", Settings(), 48.1),
    Variant("frames", "10 (paper: 20)", Settings(num_frames=10), 48.4),
    Variant("depth", "1", Settings(temporal_layers=1)),
    Variant("depth", "2", Settings(temporal_layers=2), 47.0),
    Variant("depth", "**4**", Settings(), 48.1),
    Variant("pad", "31, `@`", Settings(pad_id=31), 46.0),
    Variant("pad", "49407, end of text", Settings(pad_id=49407), 46.0),
    Variant("pad", "3002, `...`", Settings(pad_id=3002), 47.8),
    Variant("pad", "13530, `___`", Settings(pad_id=13530), 47.9),
    Variant("pad", "49406, start of text", Settings(pad_id=49406), 48.0),
    Variant("pad", "**0**, `!`", Settings(), 48.1),
    Variant("labels", "diagonal", Settings(labels="diagonal", captions=2)),
    Variant("labels", "**video ids**", Settings(labels="video", captions=2)),
)


def choose_variants(tables: list[str] | None = None) -> list[Variant]:
    """The variants of some tables, or all of them."""
    return [variant for variant in VARIANTS if tables is None or variant.table in tables]


def runs_of(variants: list[Variant]) -> list[Settings]:
    """The settings that have to be trained, each once, the paper's default first."""
    return sorted(dict.fromkeys(variant.settings for variant in variants), key=lambda one: one != Settings())
