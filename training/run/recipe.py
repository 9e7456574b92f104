"""Recipes: a whole training as one YAML file, `colbert-video train RECIPE`.

A recipe has the sections `model` (`ModelRecipe`), `data` (`DataConfig`) and `training` (`TrainingConfig`). `stages` is
an optional list of overrides of `data` and `training`; the stages run one after the other on the same model, a static
warm-up on single frames, for instance, before training on whole videos. `world` (`WorldRecipe`) takes the place of a
manifest and has the data rendered.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colbert_video.base.json_values import unique_keys
from colbert_video.base.user_files import read_text, user_path
from colbert_video.errors import DependencyError, SettingsError, in_one_line, shown
from colbert_video.training.run.model_recipe import ModelRecipe
from colbert_video.training.run.training_config import DataConfig, TrainingConfig
from colbert_video.training.run.typed_settings import build_section, check_unknown
from colbert_video.training.world.rendered import WorldRecipe

SHIPPED = Path(__file__).parent.parent / "recipes"
"""Recipes that come with the package, each known by its file's name without the ending."""
SECTIONS = ("model", "data", "training", "world")
"""Sections whose values can be overridden."""
RENDERED = "rendered"
"""Stands for the manifest of a world that is yet to be rendered."""


@dataclass(frozen=True)
class StageRecipe:
    """One stage of a training, with all settings that it takes over from the recipe."""

    name: str
    """Name in logs and of its folder."""
    data: DataConfig
    training: TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """A model, and the stages of its training."""

    model: ModelRecipe
    stages: tuple[StageRecipe, ...]
    """Stages in order; a recipe that lists none has one."""
    world: WorldRecipe | None = None
    """Synthetic world that is rendered first, instead of a manifest."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise SettingsError(f"stages are called {', '.join(names)}; give each its own name.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def load_recipe(recipe: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        recipe: A YAML file, or the name of a shipped recipe such as "msrvtt-clip-b32".
        overrides: Values that replace the recipe's in every stage, as {"training.epochs": 1}.

    Raises:
        SettingsError: If the recipe does not exist, is not YAML, has an unknown key, or values that contradict each other.
        DependencyError: If PyYAML is not installed.
    """
    path = _find(recipe)
    values = _read_yaml(path)
    try:
        return parse_recipe(values, overrides=overrides)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def parse_recipe(values: Any, *, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Build a recipe from nested plain values, as YAML gives them; overrides as for `load_recipe`.

    Raises:
        SettingsError: If a key is unknown or values contradict each other.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(
            "no recipe is written here: it has sections such as model, data and training, in YAML; docs/training.md shows one."
        )
    check_unknown("the recipe", values, ["model", "data", "training", "stages", "world"])
    world = _world(values, overrides)
    stages = values.get("stages") or [{}]
    if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
        raise SettingsError("stages must be a list of mappings with the keys name, data and training.")
    if world is not None:
        overrides = {**(overrides or {}), "data.manifest": RENDERED}
    return Recipe(
        model=build_section(ModelRecipe, _overridden(values, "model", {}, overrides), "model"),
        stages=tuple(_stage(number, stage, values, overrides) for number, stage in enumerate(stages, start=1)),
        world=world,
    )


def parse_override(text: str) -> tuple[str, Any]:
    """Parse an override such as "training.epochs=1", whose value is YAML.

    Raises:
        SettingsError: If the equals sign is missing or the value is not YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"override {shown(text)} must have the form section.setting=value.")
    return name.strip(), _parse_yaml(value, f"override {shown(text)}")


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def _world(recipe: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> WorldRecipe | None:
    """Build the recipe of the world; None if there is none, or the caller gives a manifest instead."""
    if recipe.get("world") is None or "data.manifest" in (overrides or {}):
        unused = [name for name in overrides or {} if name.startswith("world.")]
        if unused:
            raise SettingsError(
                f"override {shown(unused[0])}: no world is rendered here, a manifest is read; leave it out."
            )
        return None
    data = recipe.get("data")
    if isinstance(data, Mapping) and "manifest" in data:
        raise SettingsError("a recipe has either data.manifest or a world to render, and not both.")
    return build_section(WorldRecipe, _overridden(recipe, "world", {}, overrides), "world")


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
    """Merge a section's values: the recipe's, then the stage's, then the caller's."""
    values: dict[str, Any] = {}
    for source in (recipe.get(section), stage.get(section)):
        if source is not None and not isinstance(source, Mapping):
            raise SettingsError(f"section {shown(section)} must be a mapping of settings, not {shown(source)}.")
        values |= source or {}
    for name, value in (overrides or {}).items():
        target, dot, key = name.partition(".")
        if target not in SECTIONS or not dot:
            raise SettingsError(f"override {shown(name)} must start with 'model.', 'data.', 'training.' or 'world.'.")
        if target == section:
            _override(values, key, value, name)
    return values


def _override(values: dict[str, Any], key: str, value: Any, name: str) -> None:
    """Set one value; "settings.num_frames" is that of the mapping `settings`."""
    outer, dot, inner = key.partition(".")
    if not dot:
        values[key] = value
        return
    within = values.get(outer) or {}
    if not isinstance(within, Mapping):
        raise SettingsError(f"override {shown(name)}: {outer} is not a mapping in this recipe, but {shown(within)}.")
    values[outer] = dict(within)
    _override(values[outer], inner, value, name)


def _find(recipe: str | Path) -> Path:
    path = user_path(recipe, "the recipe")
    if path.exists() and not path.is_dir():  # a pipe too: it is read once
        return path
    shipped = SHIPPED / f"{recipe}.yaml"
    if isinstance(recipe, str) and "/" not in recipe and shipped.is_file():
        return shipped
    names = recipe_names()
    near = difflib.get_close_matches(str(recipe), names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the shipped ones are {', '.join(names) or 'none'}."
    raise SettingsError(f"there is no recipe {shown(str(recipe))}, neither as a file nor by name; {hint}")


def _read_yaml(path: Path) -> Any:
    return _parse_yaml(read_text(path), str(path))


def _parse_yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise DependencyError("recipes need PyYAML: pip install 'colbert_video[train]'.") from error
    try:
        return yaml.load(text, _loader(yaml))
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{where} is no YAML: {in_one_line(error)}.") from error
    except RecursionError as error:
        raise SettingsError(f"{where} is nested too deeply to be a recipe.") from error


def _loader(yaml: Any) -> Any:
    """Return PyYAML's safe loader, made to refuse a key that comes twice, of which PyYAML keeps the last."""

    class UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            unique_keys((key.value, None) for key, _ in node.value if isinstance(key.value, str))
            return super().construct_mapping(node, deep)

    return UniqueKeys
