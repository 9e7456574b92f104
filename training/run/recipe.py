"""Recipes: a whole training as one YAML file, `colbert-video train RECIPE`.

A recipe has the sections `model` (`ModelRecipe`), `data` (`DataConfig`) and `training` (`TrainingConfig`). `stages` is
an optional list of overrides of `data` and `training`; the stages run one after the other on the same model, a static
warm-up on single frames, for instance, before training on whole videos. `world` (`WorldRecipe`) takes the place of a
manifest and has the data rendered.
"""

import difflib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import torch

from colbert_video.device import resolve_device
from colbert_video.errors import DependencyError, ModelError, SettingsError
from colbert_video.model.backbone import Preprocess
from colbert_video.model.config import ModelConfig
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.run.training_config import DataConfig, TrainingConfig
from colbert_video.training.world.rendered import WorldRecipe

SHIPPED = Path(__file__).parent.parent / "recipes"
"""Recipes that come with the package, each known by its file's name without the ending."""
BUILT_FIELDS = ("backbone", "pretrained", "preprocess", "trained", "interaction")
"""Fields of `ModelConfig` that a recipe gives elsewhere or that training sets."""
RENDERED = "rendered"
"""Stands for the manifest of a world that is yet to be rendered."""
Settings = TypeVar("Settings")
_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    tuple: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True)
class ModelRecipe:
    """Which model is trained."""

    backbone: str | None = None
    """open_clip's name of the dual encoder, or a new name for `backbone_config`."""
    pretrained: str | None = None
    """Tag or file of its weights, or folder of a saved untrained model that brings backbone and tokenizer; None for
    random weights."""
    checkpoint: str | None = None
    """A saved model to go on from, as `VideoColBERT.from_pretrained` takes it, instead of a backbone."""
    backbone_config: dict[str, Any] | None = None
    """A dual encoder that open_clip does not know, in open_clip's own form (`embed_dim`, `vision_cfg`, `text_cfg`)."""
    preprocess: dict[str, Any] | None = None
    """Overrides of the weights' preprocessing: height, width, mean, std, interpolation; all of them."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Other fields of `ModelConfig`, such as query_length, num_frames and temporal_layers."""

    def __post_init__(self) -> None:
        if (self.backbone is None) == (self.checkpoint is None):
            raise SettingsError("model needs either a backbone or a checkpoint, and not both.")
        if self.checkpoint is not None:
            given = [name for name in ("pretrained", "backbone_config", "preprocess") if getattr(self, name)]
            if given or self.settings:
                raise SettingsError(
                    f"model.checkpoint={self.checkpoint!r} brings its own architecture and settings; leave out "
                    f"{', '.join([*given, *(['settings'] if self.settings else [])])}."
                )
        if (
            self.backbone_config is not None
            and self.pretrained is not None
            and not Path(self.pretrained).is_file()
        ):
            raise SettingsError(
                f"model.pretrained={self.pretrained!r}: a backbone of its own form has no published weights; give a "
                "weight file or leave it out."
            )
        allowed = [name for name in ModelConfig.__dataclass_fields__ if name not in BUILT_FIELDS]
        check_unknown("model.settings", self.settings, allowed)
        typed_values(ModelConfig, self.settings, "model.settings")

    @property
    def preprocessing(self) -> Preprocess | None:
        """The preprocessing to build the backbone with.

        Raises:
            SettingsError: If it is incomplete.
        """
        return (
            None
            if self.preprocess is None
            else build_section(Preprocess, self.preprocess, "model.preprocess")
        )


@dataclass(frozen=True)
class StageRecipe:
    """One stage of a training, complete with all that it takes over from the recipe."""

    name: str
    """What the stage is called in logs and in the name of its folder."""
    data: DataConfig
    """Its data."""
    training: TrainingConfig
    """Its settings."""


@dataclass(frozen=True)
class Recipe:
    """A model, and the stages of its training."""

    model: ModelRecipe
    """What is trained."""
    stages: tuple[StageRecipe, ...]
    """How, in order; a recipe without stages is one of a single stage."""
    world: WorldRecipe | None = None
    """The synthetic world that is rendered first, instead of a manifest."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise SettingsError(f"stages are called {', '.join(names)}; give each a name of its own.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def load_recipe(recipe: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        recipe: A YAML file, or the name of a shipped recipe such as "msrvtt-clip-b32".
        overrides: Values that replace the recipe's in every stage, as {"training.epochs": 1}.

    Raises:
        SettingsError: If there is no such recipe, it is no YAML, a key is unknown, or values contradict each other.
        DependencyError: If PyYAML is not installed.
    """
    path = _find(recipe)
    values = _read_yaml(path)
    try:
        return parse_recipe(values, overrides=overrides)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def parse_recipe(values: Any, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Build a recipe from nested plain values, as YAML gives them.

    Args:
        values: The sections by name.
        overrides: As for `load_recipe`.

    Raises:
        SettingsError: If a key is unknown or values contradict each other.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"a recipe is a mapping of sections, and this is {type(values).__name__}.")
    check_unknown("the recipe", values, ["model", "data", "training", "stages", "world"])
    world = _world(values, overrides)
    stages = values.get("stages") or [{}]
    if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
        raise SettingsError("stages must be a list of mappings with the keys name, data and training.")
    if world is not None:
        overrides = {**(overrides or {}), "data.manifest": RENDERED}
    return Recipe(
        model=build_section(ModelRecipe, _overridden(values, "model", {}, overrides), "model"),
        stages=tuple(
            _stage(number, stage, values, overrides) for number, stage in enumerate(stages, start=1)
        ),
        world=world,
    )


def parse_override(text: str) -> tuple[str, Any]:
    """Read an override as the command line takes it, "training.epochs=1"; the value is YAML.

    Raises:
        SettingsError: If there is no equals sign or the value is no YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"override {text!r} must have the form section.setting=value.")
    return name.strip(), _parse_yaml(value, f"override {text!r}")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def _world(recipe: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> WorldRecipe | None:
    """The world to render; a manifest that the caller gives takes its place."""
    if recipe.get("world") is None or "data.manifest" in (overrides or {}):
        return None
    if "manifest" in (recipe.get("data") or {}):
        raise SettingsError("a recipe has either data.manifest or a world to render, and not both.")
    return build_section(WorldRecipe, recipe["world"], "world")


def _stage(
    number: int, stage: Mapping[str, Any], recipe: Mapping[str, Any], overrides: Mapping[str, Any] | None
) -> StageRecipe:
    check_unknown(f"stage {number}", stage, ["name", "data", "training"])
    return StageRecipe(
        name=str(stage.get("name", f"stage {number}")),
        data=build_section(DataConfig, _overridden(recipe, "data", stage, overrides), "data"),
        training=build_section(TrainingConfig, _overridden(recipe, "training", stage, overrides), "training"),
    )


def _overridden(
    recipe: Mapping[str, Any], section: str, stage: Mapping[str, Any], overrides: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A section's values: the recipe's, then the stage's, then the caller's."""
    values: dict[str, Any] = {}
    for source in (recipe.get(section), stage.get(section)):
        if source is not None and not isinstance(source, Mapping):
            raise SettingsError(f"section {section!r} must be a mapping of settings, and is {source!r}.")
        values |= source or {}
    for name, value in (overrides or {}).items():
        target, dot, key = name.partition(".")
        if target not in ("model", "data", "training") or not dot:
            raise SettingsError(f"override {name!r} must start with 'model.', 'data.' or 'training.'.")
        if target == section:
            values[key] = value
    return values


def _find(recipe: str | Path) -> Path:
    path = Path(recipe).expanduser()
    if path.is_file():
        return path
    shipped = SHIPPED / f"{recipe}.yaml"
    if isinstance(recipe, str) and "/" not in recipe and shipped.is_file():
        return shipped
    names = recipe_names()
    near = difflib.get_close_matches(str(recipe), names, n=3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"the shipped ones are {', '.join(names) or 'none'}."
    )
    raise SettingsError(f"there is no recipe {str(recipe)!r}, neither as a file nor by name; {hint}")


def _read_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from error
    return _parse_yaml(text, str(path))


def _parse_yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise DependencyError("recipes need PyYAML: pip install 'colbert_video[train]'.") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where} is no YAML: {' '.join(str(error).split())}.") from error


def build_model(recipe: ModelRecipe, *, seed: int = 0, device: str | None = None) -> VideoColBERT:
    """Build or load the model of a recipe.

    Args:
        recipe: What to build.
        seed: Makes random weights repeatable; the global random state stays as it was.
        device: Where to put it; None for the first GPU, else the CPU.

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
        if recipe.pretrained is not None and Path(recipe.pretrained).is_dir():
            return _from_saved_backbone(Path(recipe.pretrained), recipe).to(resolve_device(device))
        return VideoColBERT.from_backbone(
            backbone,
            recipe.pretrained,
            preprocess=recipe.preprocessing,
            device=device,
            **recipe.settings,
        )


def _from_saved_backbone(folder: Path, recipe: ModelRecipe) -> VideoColBERT:
    """The backbone of a saved model with a temporal transformer as new as that of `from_backbone`."""
    saved = VideoColBERT.from_pretrained(folder, device="cpu")
    if saved.config.backbone != recipe.backbone:
        raise ModelError(
            f"{folder} holds the backbone {saved.config.backbone}, and model.backbone is {recipe.backbone}; give the folder "
            "of the right one."
        )
    if saved.config.trained:
        raise ModelError(
            f"{folder} holds a trained model; to go on from it, give it as model.checkpoint. A backbone to start from is "
            "saved untrained: VideoColBERT.from_backbone(NAME, TAG).save_pretrained(FOLDER)."
        )
    config = ModelConfig(
        backbone=saved.config.backbone,
        pretrained=saved.config.pretrained,
        preprocess=recipe.preprocessing or saved.config.preprocess,
        **{"query_length": saved.config.query_length, **recipe.settings},
    )
    return VideoColBERT(config, saved.backbone).eval()


def register_backbone(name: str, config: dict[str, Any]) -> None:
    """Make open_clip know a backbone by a name, for the rest of the process.

    Args:
        name: A name of letters, digits, `-`, `_` and `.`.
        config: open_clip's `model_cfg`.

    Raises:
        SettingsError: If a section is missing, or the name already stands for another model.
    """
    import open_clip

    missing = [section for section in ("embed_dim", "vision_cfg", "text_cfg") if section not in config]
    if missing:
        raise SettingsError(f"model.backbone_config lacks {', '.join(missing)}; it is open_clip's model_cfg.")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise SettingsError(f"model.backbone={name!r} must consist of letters, digits, '-', '_' and '.'.")
    known = open_clip.get_model_config(name)
    if known == config:
        return
    if known is not None:
        raise SettingsError(
            f"model.backbone={name!r} is already the name of another model; give backbone_config a new name."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"  # open_clip names a configuration after its file
        path.write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(path)


def build_section(kind: type[Settings], values: Any, where: str) -> Settings:
    """Build a dataclass of settings.

    Args:
        kind: The dataclass.
        values: Its fields by name.
        where: What the section is called in errors.

    Raises:
        SettingsError: If it is no mapping, a field is missing or unknown, or a value is of the wrong kind.
    """
    typed = typed_values(kind, values, where)
    missing = [item.name for item in fields(kind) if _required(item) and item.name not in typed]  # type: ignore[arg-type]
    if missing:
        raise SettingsError(f"{where} lacks {', '.join(missing)}.")
    return kind(**typed)


def typed_values(kind: type[Any], values: Any, where: str) -> dict[str, Any]:
    """Some fields of a dataclass, each in the form that its annotation asks for; arguments as for `build_section`.

    Raises:
        SettingsError: If they are no mapping, a field is unknown, or a value is of the wrong kind.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"section {where!r} must be a mapping of settings, and is {values!r}.")
    known = {item.name: item.type for item in fields(kind)}
    check_unknown(where, values, list(known))
    return {name: _typed(value, known[name], f"{where}.{name}") for name, value in values.items()}


def check_unknown(where: str, values: Iterable[str], known: list[str]) -> None:
    """Refuse names that are not known, with the one that was probably meant.

    Raises:
        SettingsError: If there is such a name.
    """
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
            raise SettingsError(f"{where} has no setting {name!r}; {hint}")


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _typed(value: Any, kind: Any, where: str) -> Any:
    """The value in the form that a field's annotation asks for. YAML reads 1e-7 as text, and tuples as lists."""
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kind = next(option for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        item = get_args(kind)[0]
        return tuple(_typed(part, item, where) for part in value)
    kind = str if get_origin(kind) is Literal else get_origin(kind) or kind
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SettingsError(f"{where}={value!r} must be {_KINDS.get(kind, kind.__name__)}.")
