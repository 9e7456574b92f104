"""Models of Hugging Face transformers as files: where they are, what they describe, how they take pictures.

Nothing of them is run: configurations are read as JSON, weights are safetensors, and tokenizers are the classes of
transformers itself. What a model describes is checked before its weights are fetched, and against them before memory is
taken for it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colbert_video.base.access import open_plain, os_problem, read_problem
from colbert_video.base.json_values import parse_json
from colbert_video.base.user_files import user_path
from colbert_video.base.weight_files import WEIGHTS_FILE, larger_than_weights, weight_shapes
from colbert_video.errors import HubError, ModelError, SettingsError, shown
from colbert_video.hub import REPOSITORY, HubRepository
from colbert_video.model.backbone import MAX_SIDE, Preprocess
from colbert_video.model.backbones.transformers_families import UNCHANGED, Family

PREFIX = "hf:"
"""Beginning of the names of these models."""
MODEL_FILE = "config.json"
"""The architecture, in transformers' own form."""
INDEX_FILE = "model.safetensors.index.json"
"""Which file has which weight, where they are several."""
SHARD = re.compile(r"[\w.-]+\.safetensors")
PICTURE_FILES = ("preprocessor_config.json", "processor_config.json")
"""How pictures are prepared: older models have the first, newer ones may have the second alone."""
VOCABULARY_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)
"""One of these holds the words of a tokenizer."""
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
"""What tokenizers may consist of; nothing else is downloaded with them."""
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
MAX_LAYERS = 512
"""Most layers of a tower; those of the largest models have some 60."""
FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that frames can be resized with."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies: in a folder, or in a repository of the Hub."""

    name: str
    """What it is called in errors and by `from_backbone`: "hf:FOLDER" or "hf:user/model@revision"."""
    folder: Path | None
    repository: HubRepository | None

    @classmethod
    def from_name(cls, name: str) -> "ModelSource":
        """Find a model by its name, without reading it or asking the Hub.

        Raises:
            ModelError: If the name is neither a folder nor a Hub id.
        """
        text = name.removeprefix(PREFIX)
        folder = _folder_of(text)
        if folder is not None and folder.is_dir():
            return cls(f"{PREFIX}{folder.resolve()}", folder.resolve(), None)
        repository, _, revision = text.partition("@")
        if REPOSITORY.fullmatch(repository):
            return cls(name, None, HubRepository(repository, "model", revision or None))
        raise ModelError(
            f"there is no model {shown(name)}: {shown(text)} is not a folder here, and not a Hub id 'user/model'. Give "
            "'hf:FOLDER' or 'hf:user/model'."
        )

    def fetch(self, *files: str) -> "ModelSource":
        """Download files of the model from the Hub, or find them in its cache; files that it lacks are left out.

        Returns:
            The model at the commit that was found, with the folder that holds its files.

        Raises:
            ModelError: If the Hub cannot be reached or refuses, and the cache has nothing.
        """
        if self.repository is None:
            return self
        try:
            folder = self.repository.fetch(files)
        except HubError as error:
            raise ModelError(f"there is no folder {shown(self.name.removeprefix(PREFIX))}, and {error}") from None
        return ModelSource(self.name, folder, replace(self.repository, revision=folder.name))

    def has(self, file: str) -> bool:
        """Return True if a file is there, or was fetched."""
        return self.folder is not None and (self.folder / file).is_file()

    def read_json(self, file: str) -> dict[str, Any]:
        """Read one of its JSON files.

        Raises:
            ModelError: If it is missing or no JSON object.
        """
        if self.folder is None or not (self.folder / file).exists():
            raise ModelError(f"{self.name} has no {file}; give a folder or repository that holds a whole model.")
        return read_object(self.folder / file)

    def weight_shapes(self) -> dict[str, list[int]]:
        """Return the shape of each weight, without reading them.

        Raises:
            ModelError: If there are no safetensors weights, or files of them are missing or damaged.
        """
        assert self.folder is not None
        if self.has(WEIGHTS_FILE):
            return weight_shapes(self.folder / WEIGHTS_FILE)
        if not self.has(INDEX_FILE):
            raise ModelError(self._no_weights())
        names = self.read_json(INDEX_FILE).get("weight_map")
        if not isinstance(names, dict) or not all(
            isinstance(file, str) and SHARD.fullmatch(file) for file in names.values()
        ):
            raise ModelError(f"{self.name}: its {INDEX_FILE} does not list files of weights beside it.")
        shapes: dict[str, list[int]] = {}
        for file in sorted(set(names.values())):
            shapes |= weight_shapes(self.folder / file)
        return shapes

    def _no_weights(self) -> str:
        pickled = next((file for file in PICKLED if self.has(file)), None)
        if pickled is not None:
            return (
                f"{self.name} has its weights as {pickled} only, which is not read: a pickle can run code. Save them as "
                "safetensors: AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER_FOLDER)."
            )
        where = "its folder" if self.repository is None else "its repository"
        return f"{self.name} has no weights that are read: {where} lacks {WEIGHTS_FILE}. Give a model that has it."

    def check_whole(self) -> None:
        """Check that weights are nowhere else: an adapter would bring them from another repository.

        Raises:
            ModelError: If they are, or it has no tokenizer.
        """
        if self.has("adapter_config.json"):
            raise ModelError(
                f"{self.name} holds an adapter (adapter_config.json); merge it into its model and save that."
            )
        if not any(self.has(file) for file in VOCABULARY_FILES):
            raise ModelError(
                f"{self.name} has no tokenizer: none of {', '.join(VOCABULARY_FILES)} is there. Download it with the model, "
                "or save it there: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)."
            )


def _folder_of(text: str) -> Path | None:
    if not str(text).strip():
        raise ModelError("the model is empty: name one, such as 'toy', 'PE-Core-B-16:meta' or 'hf:user/model'.")
    try:
        return user_path(text, "the model")
    except SettingsError as error:
        raise ModelError(str(error)) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a file with one JSON object.

    Raises:
        ModelError: If it cannot be read or holds something else.
    """
    try:
        with open_plain(path) as file:
            values = parse_json(file.read())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {read_problem(path) or os_problem(error)}.") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}); download it again.") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds {shown(values)}, not a JSON object; download it again.")
    return values


def write_object(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def check_bounds(architecture: Mapping[str, Any], name: str, *, most_layers: int) -> None:
    """Check that an architecture has no more layers in a tower and no longer sides than its model can have.

    Raises:
        ModelError: If it has.
    """
    for part in (architecture["text_config"], architecture["vision_config"]):
        sizes = _numbers(part.get("image_size"), part.get("max_position_embeddings"), part.get("num_register_tokens"))
        if not 1 <= part["num_hidden_layers"] <= most_layers or max(sizes, default=0) > MAX_SIDE:
            raise larger_than_weights(name)


def _numbers(*values: Any) -> list[int]:
    flat = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return [one for one in flat if isinstance(one, int)]


def preprocess_of(source: ModelSource, family: Family, vision: Any) -> Preprocess:
    """Return how a model's image processor prepares pictures, with its crop left out: frames are squashed to its size.

    Raises:
        ModelError: If its file is missing, or it does what frames cannot be prepared by.
    """
    name = next((file for file in PICTURE_FILES if source.has(file)), None)
    values = {} if name is None else source.read_json(name)
    values = values.get("image_processor", values if name == PICTURE_FILES[0] else {})
    if not isinstance(values, dict) or not values:
        raise ModelError(
            f"{source.name} has no preprocessor_config.json, so the size, mean and deviation of its pictures are not "
            "known. Download it with the model, or pass preprocess=Preprocess(...)."
        )
    try:
        height, width = _picture_size(values, family, vision)
        mean, std = _normalisation(values, family)
        return Preprocess(height, width, mean, std, _interpolation(values, family))  # type: ignore[arg-type]
    except (SettingsError, TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{source.name}: its {name} is unusable: {error}") from error


def _picture_size(values: Mapping[str, Any], family: Family, vision: Any) -> tuple[int, int]:
    if family.patches:
        side = math.isqrt(int(values.get("max_num_patches", 256))) * int(vision.patch_size)
        return side, side
    size = values.get("crop_size" if values.get("do_center_crop", family.crops) else "size")
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    own = size if isinstance(size, int) else vision.image_size  # "shortest_edge" says nothing of the other one
    height, width = own if isinstance(own, list | tuple) else (own, own)
    return int(height), int(width)


def _normalisation(values: Mapping[str, Any], family: Family) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation on pixels in [0, 1]; a processor that scales pixels otherwise has others."""
    mean, std = UNCHANGED
    if values.get("do_normalize", family.normalises):
        mean = values.get("image_mean") or family.normalisation[0]
        std = values.get("image_std") or family.normalisation[1]
    factor = float(values.get("rescale_factor") or 1 / 255) if values.get("do_rescale", True) else 1.0
    scale = 1.0 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else 255 * factor
    return tuple(float(one) / scale for one in mean), tuple(float(one) / scale for one in std)


def _interpolation(values: Mapping[str, Any], family: Family) -> str:
    chosen = values.get("resample")
    if chosen is None:
        return family.interpolation
    if chosen not in FILTERS:
        raise ValueError(
            f"it resizes with Pillow's filter {shown(chosen)}, and frames are resized with 2 (bilinear) or 3 (bicubic); "
            "pass preprocess=Preprocess(...)."
        )
    return FILTERS[chosen]
