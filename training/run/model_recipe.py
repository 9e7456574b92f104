"""The model of a recipe: a backbone of open_clip, of transformers or of its own form, or a saved model to continue from."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from colbert_video.base.checks import check_fields
from colbert_video.base.user_files import user_path
from colbert_video.device import Device, resolve_device
from colbert_video.errors import ModelError, SettingsError, shown
from colbert_video.model.backbone import Preprocess
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.backbones.transformers_backbone import TransformersBackbone
from colbert_video.model.config import MINIMA, ModelConfig
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.typed_settings import build_section, check_unknown, typed_values

BUILT_FIELDS = ("backbone", "pretrained", "preprocess", "trained", "interaction")
"""Fields of `ModelConfig` that a recipe gives elsewhere or that training sets."""
_ANY_PREPROCESS = Preprocess(224, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")


@dataclass(frozen=True)
class ModelRecipe:
    """The model that a recipe trains: a backbone with new temporal layers, or a saved model."""

    backbone: str | None = None
    """Name of the dual encoder, as `VideoColBERT.from_backbone` takes it, or a new name for `backbone_config`."""
    pretrained: str | None = None
    """Tag or file of its weights, or folder of a saved untrained model that brings backbone and tokenizer; None for
    random weights."""
    checkpoint: str | None = None
    """A saved model to continue from, as `VideoColBERT.from_pretrained` takes it, instead of a backbone."""
    backbone_config: dict[str, Any] | None = None
    """A dual encoder that open_clip does not know, in open_clip's own form (`embed_dim`, `vision_cfg`, `text_cfg`)."""
    preprocess: dict[str, Any] | None = None
    """Preprocessing instead of the weights' own; needs all of height, width, mean, std and interpolation."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Other fields of `ModelConfig`, such as query_length, num_frames and temporal_layers."""

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.backbone is None) == (self.checkpoint is None):
            raise SettingsError("model needs either a backbone or a checkpoint, and not both.")
        names = ("pretrained", "backbone_config", "preprocess", "settings")
        given = [name for name in names if getattr(self, name)]
        for name in ("backbone", "pretrained", "checkpoint"):
            if (value := getattr(self, name)) is not None and not value.strip():
                raise SettingsError(f"model.{name} is empty; give a name, or leave it out.")
        if self.checkpoint is not None and given:
            raise SettingsError(
                f"model.checkpoint={shown(self.checkpoint)} brings its own architecture and settings; leave out "
                f"{', '.join(given)}."
            )
        own_form = self.backbone_config is not None
        if own_form and self.pretrained is not None and not _file_of(self.pretrained).is_file():
            raise SettingsError(
                f"model.pretrained={shown(self.pretrained)}: a backbone of its own form has no published weights; give "
                "a weight file or leave it out."
            )
        allowed = [name for name in ModelConfig.__dataclass_fields__ if name not in BUILT_FIELDS]
        check_unknown("model.settings", self.settings, allowed)
        typed = typed_values(ModelConfig, self.settings, "model.settings")
        with _named_as_in_recipes(self):  # ranges, before the weights are fetched
            ModelConfig("any", None, _ANY_PREPROCESS, **{"query_length": MINIMA["query_length"], **typed})

    @property
    def preprocessing(self) -> Preprocess | None:
        """The preprocessing to build the backbone with; None for that of its weights.

        Raises:
            SettingsError: If a setting is missing or unknown.
        """
        if self.preprocess is None:
            return None
        return build_section(Preprocess, self.preprocess, "model.preprocess")


def build_model(recipe: ModelRecipe, *, seed: int = 0, device: Device | None = None) -> VideoColBERT:
    """Build or load the model of a recipe.

    Args:
        recipe: The model's section of a recipe.
        seed: Seed of new weights; the global random state stays as it was.
        device: Device of the model; None for the first GPU, else the CPU.

    Raises:
        ModelError: If the backbone or checkpoint cannot be used.
        SettingsError: If the settings do not fit, or the backbone's own configuration is incomplete.
    """
    if recipe.checkpoint is not None:
        return VideoColBERT.from_pretrained(recipe.checkpoint, device=device)
    backbone = str(recipe.backbone)
    if recipe.backbone_config is not None:
        register_backbone(backbone, recipe.backbone_config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if recipe.pretrained is not None and _file_of(recipe.pretrained).is_dir():
            return _from_saved_backbone(_file_of(recipe.pretrained), recipe).to(resolve_device(device))
        with _named_as_in_recipes(recipe):
            return VideoColBERT.from_backbone(
                backbone, recipe.pretrained, preprocess=recipe.preprocessing, device=device, **recipe.settings
            )


def _file_of(pretrained: str) -> Path:
    return user_path(pretrained, "model.pretrained")


def _from_saved_backbone(folder: Path, recipe: ModelRecipe) -> VideoColBERT:
    """Build a model of a saved model's backbone and a new temporal transformer, as `from_backbone` does."""
    saved = VideoColBERT.from_pretrained(folder, device="cpu")
    if saved.config.backbone != recipe.backbone:
        raise ModelError(
            f"{folder} holds the backbone {saved.config.backbone}, and model.backbone is {recipe.backbone}; give the folder "
            "of the right one."
        )
    if saved.config.trained:
        raise ModelError(
            f"{folder} holds a trained model; to continue from it, give it as model.checkpoint. A backbone to start from is "
            "saved untrained: VideoColBERT.from_backbone(NAME, TAG).save_pretrained(FOLDER)."
        )
    with _named_as_in_recipes(recipe):
        config = ModelConfig(
            backbone=saved.config.backbone,
            pretrained=saved.config.pretrained,
            preprocess=recipe.preprocessing or saved.config.preprocess,
            **{"query_length": saved.config.query_length, **recipe.settings},
        )
        if isinstance(saved.backbone, OpenClipBackbone | TransformersBackbone):
            saved.backbone.check_picture_size(config.preprocess)
        return VideoColBERT(config, saved.backbone).eval()


@contextmanager
def _named_as_in_recipes(recipe: ModelRecipe) -> Iterator[None]:
    """Write the settings that errors of the block name as a recipe does: "model.settings.query_length=100"."""
    try:
        yield
    except (SettingsError, ModelError) as error:
        text = re.sub(rf"(?<![\w.])({'|'.join(recipe.settings) or '$^'})=", r"model.settings.\1=", str(error))
        raise type(error)(re.sub(r"^(?=preprocess )", "model.", text)) from error


def register_backbone(name: str, config: dict[str, Any]) -> None:
    """Register a backbone with open_clip, for the rest of the process; `config` is open_clip's `model_cfg`.

    Raises:
        SettingsError: If a section is missing, the name has other characters than letters, digits, `-`, `_` and `.`, or it
            is the name of another model.
    """
    import open_clip

    missing = [section for section in ("embed_dim", "vision_cfg", "text_cfg") if section not in config]
    if missing:
        raise SettingsError(f"model.backbone_config lacks {', '.join(missing)}; it is open_clip's model_cfg.")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise SettingsError(f"model.backbone={shown(name)} must consist of letters, digits, '-', '_' and '.'.")
    known = open_clip.get_model_config(name)
    if known == config:
        return
    if known is not None:
        raise SettingsError(
            f"model.backbone={shown(name)} is already the name of another model; give backbone_config a new name."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"  # open_clip names a configuration after its file
        path.write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(path)
