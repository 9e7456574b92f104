"""The model's switches: everything that decides which tokens a query or a video becomes."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Preprocess
from colbert_video.model.interaction import INTERACTIONS, Interaction


@dataclass(frozen=True)
class ModelConfig:
    """Every switch of the model; the defaults are the paper's (sections 4 and 5.2)."""

    backbone: str
    """open_clip's name of the dual encoder."""
    pretrained: str | None
    """Tag or file its weights came from; None for random weights."""
    preprocess: Preprocess
    """How frames become pixels."""
    query_length: int
    """Tokens per query, padding included."""
    trained: bool = False
    """False until the token level was trained: queries are then the pooled token, videos their frame tokens."""
    interaction: Interaction = "mms_fv"
    """How a trained model scores."""
    query_augmentation: bool = True
    """Whether padding tokens are scored too: they are contextual and act as soft query expansion (Table 5)."""
    pad_id: int | None = None
    """Token id of the padding (Table 12); None for the tokenizer's own, which is 0 for CLIP."""
    score_start_token: bool = True
    """Whether a causal tower's start token is scored; its vector is the same for every query."""
    num_frames: int = 12
    """Frames sampled from a video: 12 for short clips, 64 for DiDeMo and ActivityNet."""
    max_frames: int = 64
    """Most frames the temporal transformer has positions for."""
    temporal_layers: int = 4
    """Blocks of the temporal transformer (Table 8)."""
    temporal_init: Literal["text", "random"] = "text"
    """Whether its blocks and positions start as copies of the text tower's."""
    frame_positions: bool = True
    """Whether frames carry their place in time; without positions, video tokens cannot tell order."""
    expansion_tokens: int = 2
    """Learnt tokens that join the frames."""
    outer_residual: bool = True
    """Whether frame features are added to the temporal transformer's output."""

    def __post_init__(self) -> None:
        if self.interaction not in INTERACTIONS:
            raise SettingsError(
                f"interaction {self.interaction!r} is unknown; choose one of {', '.join(INTERACTIONS)}."
            )
        if self.temporal_init not in ("text", "random"):
            raise SettingsError(f"temporal_init {self.temporal_init!r} must be 'text' or 'random'.")
        for name, least in (
            ("query_length", 3),
            ("num_frames", 1),
            ("temporal_layers", 0),
            ("expansion_tokens", 0),
        ):
            if getattr(self, name) < least:
                raise SettingsError(f"{name}={getattr(self, name)} must be at least {least}.")
        if self.num_frames > self.max_frames:
            raise SettingsError(
                f"num_frames={self.num_frames} exceeds max_frames={self.max_frames}; raise max_frames."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Rebuild from `to_dict`.

        Raises:
            ModelError: If a field is missing or unknown.
        """
        try:
            return cls(**{**values, "preprocess": Preprocess.from_dict(values["preprocess"])})
        except (KeyError, TypeError) as error:
            raise ModelError(f"the model configuration is unusable: {error}.") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def bags(self) -> tuple[str, ...]:
        """The bags that the interaction reads: "frame", "video" or both."""
        if not self.trained or self.interaction in ("mms_f", "mp_f"):
            return ("frame",)
        return ("video",) if self.interaction in ("mms_v", "mp_v") else ("frame", "video")
