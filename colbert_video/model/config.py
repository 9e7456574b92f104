"""Settings of the model, which decide into which tokens a query or a video is encoded."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from colbert_video.base.checks import check_fields, whole_number
from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Preprocess
from colbert_video.model.interaction import Interaction
from colbert_video.video.frames import SamplingSettings

MINIMA = {"query_length": 3, "num_frames": 1, "max_frames": 1, "temporal_layers": 0, "expansion_tokens": 0}
MAXIMA = {"max_frames": 2**16, "expansion_tokens": 2**10}
"""Largest numbers that a model is built with; the backbone limits the others."""


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the model; the defaults are the paper's (sections 4 and 5.2)."""

    backbone: str
    """open_clip's name of the dual encoder, or "hf:" with the name of a model of Hugging Face transformers."""
    pretrained: str | None
    """Tag or file its weights came from; None for random weights, and for those that "hf:" names bring."""
    preprocess: Preprocess
    """How frames become pixels."""
    query_length: int
    """Tokens per query, padding included."""
    trained: bool = False
    """True once token vectors were trained; before, a query is its pooled token and a video its frame tokens."""
    interaction: Interaction = "mms_fv"
    """Score of a trained model; an untrained one uses `mms_f`."""
    query_augmentation: bool = True
    """True to score padding tokens too: they are contextual and act as soft query expansion (Table 5)."""
    pad_id: int | None = None
    """Token id of the padding (Table 12); None for the tokenizer's own, which is 0 for CLIP."""
    score_start_token: bool = True
    """True to score a causal tower's start token, whose vector is the same for every query."""
    num_frames: int = 12
    """Frames sampled from a video: 12 for short clips, 64 for DiDeMo and ActivityNet."""
    max_frames: int = 64
    """Most frames of a video; the temporal transformer has so many positions."""
    temporal_layers: int = 4
    """Blocks of the temporal transformer (Table 8)."""
    temporal_init: Literal["text", "random"] = "text"
    """Start of its blocks and positions: "text" copies the text tower's."""
    frame_positions: bool = True
    """True to give frames their position in time; without, video tokens do not depend on the order of frames."""
    expansion_tokens: int = 2
    """Learnt tokens that join the frames."""
    outer_residual: bool = True
    """True to add frame features to the temporal transformer's output."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name, minimum in MINIMA.items():
            whole_number(name, getattr(self, name), least=minimum)
        if self.num_frames > self.max_frames:
            raise SettingsError(f"num_frames={self.num_frames} exceeds max_frames={self.max_frames}; raise max_frames.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Build from what `to_dict` returned.

        Raises:
            ModelError: If a field is missing or unknown.
        """
        try:
            return cls(**{**values, "preprocess": Preprocess.from_dict(values["preprocess"])})
        except (KeyError, TypeError) as error:
            raise ModelError(f"the model configuration is unusable: {error}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def sampling(self, num_frames: int | None = None, **settings: Any) -> SamplingSettings:
        """Return how frames of a video are taken for the model: as many, and of the size, that it wants.

        Args:
            num_frames: Frames of each video; None for the model's own number.
            **settings: Other fields of `SamplingSettings`, such as `decoder` and `timeout`.

        Raises:
            SettingsError: If the model takes fewer frames, or a setting is out of range.
        """
        if num_frames is not None and num_frames > self.max_frames:
            raise SettingsError(
                f"num_frames={num_frames} is more than the model takes: it has positions for {self.max_frames} frames. "
                f"Give {self.max_frames} or fewer, or cut long videos into windows."
            )
        return SamplingSettings(
            num_frames=self.num_frames if num_frames is None else num_frames,
            height=self.preprocess.height,
            width=self.preprocess.width,
            interpolation=self.preprocess.interpolation,
            **settings,
        )

    @property
    def bags(self) -> tuple[str, ...]:
        """Bags that the interaction reads: "frame", "video" or both."""
        if not self.trained or self.interaction in ("mms_f", "mp_f"):
            return ("frame",)
        return ("video",) if self.interaction in ("mms_v", "mp_v") else ("frame", "video")
