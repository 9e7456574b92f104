"""CLIP, SigLIP, MetaCLIP 2, TIPSv2 and other dual encoders of Hugging Face transformers, as backbones.

`get_text_features` of transformers returns one vector per text; late interaction needs the tokens it is made of. They go
through the same projection, and parity tests hold the pooled one equal to the model's own. Models are found by
"hf:user/model" or "hf:FOLDER", and no code or pickle of theirs is run.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from colbert_video.base.once import ForkLock
from colbert_video.base.torch_state import own_device, own_torch, shapes_alone
from colbert_video.base.weight_files import WEIGHTS_FILE, check_no_larger
from colbert_video.errors import ModelError, SettingsError, in_one_line, shown
from colbert_video.model.backbone import Preprocess, TokenizedQueries
from colbert_video.model.backbones.transformers_families import EncoderBlock, Family, family_of, inner
from colbert_video.model.backbones.transformers_files import (
    INDEX_FILE,
    MAX_LAYERS,
    MODEL_FILE,
    PICTURE_FILES,
    PREFIX,
    TOKENIZER_FILES,
    ModelSource,
    check_bounds,
    preprocess_of,
    read_object,
    write_object,
)

CONFIG_FILE = "transformers_config.json"
"""The architecture in a checkpoint's folder, in transformers' own form; its usual name is taken by our own settings."""
OPTIONAL_WEIGHTS = {"temperature"}
"""Weights that published models may lack: they play no part in tokens."""
UNUSED = ("logit_scale", "logit_bias", "temperature", "vision_model.embeddings.mask_token")
"""Weights that play no part in tokens."""
_BUILDING, _TOKENIZING = ForkLock(), ForkLock()


class TransformersBackbone(nn.Module):
    """A dual encoder of Hugging Face transformers whose text tower gives all its tokens.

    A tower that pools by the mean of its tokens has one position more than the tower itself: the last one holds the mean,
    and is the pooled token.

    Args:
        towers: The model; `text_model` and `vision_model` are its towers.
        tokenizer: The tokenizer of transformers that belongs to it.
        architecture: Its configuration as plain values, from which it can be built again.
        preprocess: How its weights expect frames.

    Raises:
        ModelError: If it is of no supported family, or its towers do not end in one space.
    """

    def __init__(
        self, towers: nn.Module, *, tokenizer: Any, architecture: dict[str, Any], preprocess: Preprocess
    ) -> None:
        super().__init__()
        self.towers: Any = towers
        self.tokenizer = tokenizer
        self.architecture = architecture
        self.preprocess = preprocess
        self.family = family_of(architecture.get("model_type"), type(towers).__name__)
        self._check_towers()
        self._freeze_unused()

    @classmethod
    def from_name(
        cls, name: str, pretrained: str | None = None, *, preprocess: Preprocess | None = None
    ) -> "TransformersBackbone":
        """Load a model with its weights and its tokenizer.

        Args:
            name: "hf:user/model", "hf:user/model@revision" or "hf:FOLDER".
            pretrained: None: the name brings the weights.
            preprocess: Overrides what the model's image processor prescribes.

        Raises:
            ModelError: If the model is unknown, unsupported or incomplete, or a download fails.
        """
        if pretrained is not None:
            raise ModelError(
                f"{shown(name)} brings its own weights, so pretrained={shown(pretrained)} says nothing; leave it out. A "
                "revision is written 'hf:user/model@revision'."
            )
        source, config, family = _described(name)
        source = source.fetch(MODEL_FILE, *PICTURE_FILES, *TOKENIZER_FILES, "adapter_config.json")
        source.check_whole()
        preprocess = preprocess or preprocess_of(source, family, config.vision_config)
        tokenizer = _tokenizer(source.folder, config, source.name)
        architecture, outline = _plain(config), _without_memory(config, source.name)
        checked = cls(outline, tokenizer=tokenizer, architecture=architecture, preprocess=preprocess)
        checked.check_tokenizer(source.name)
        checked.check_picture_size(preprocess)
        if not source.has(WEIGHTS_FILE):
            source = source.fetch(WEIGHTS_FILE, INDEX_FILE, "model-*-of-*.safetensors")
        _check_size(config, source.weight_shapes(), source.name)
        towers = _with_weights(source, config)
        return cls(towers, tokenizer=tokenizer, architecture=architecture, preprocess=preprocess)

    @classmethod
    def outline(cls, name: str, preprocess: Preprocess | None = None) -> "TransformersBackbone":
        """Build a model of shapes alone, without weights and tokenizer, to check settings beforehand.

        Raises:
            ModelError: If the model is unknown or unsupported.
        """
        source, config, family = _described(name)
        if preprocess is None:
            source = source.fetch(MODEL_FILE, *PICTURE_FILES)
            preprocess = preprocess_of(source, family, config.vision_config)
        towers = _without_memory(config, source.name)
        return cls(towers, tokenizer=None, architecture=_plain(config), preprocess=preprocess)

    @classmethod
    def from_folder(
        cls, folder: Path, preprocess: Preprocess, *, shapes: Mapping[str, Sequence[int]]
    ) -> "TransformersBackbone":
        """Build the model described by a checkpoint's folder, with random weights.

        Args:
            folder: The checkpoint, which may be a stranger's.
            preprocess: How its weights expect frames.
            shapes: Shape of each of its weights. A model that is larger is not built.

        Raises:
            ModelError: If the description is unusable or larger than the weights, or the tokenizer is missing.
        """
        path = folder / CONFIG_FILE
        config = _config(read_object(path), str(path), most_layers=min(MAX_LAYERS, len(shapes)))
        _check_size(config, shapes, str(path))
        tokenizer = _tokenizer(folder, config, str(folder))
        with _quiet_transformers(), own_device("cpu"):
            towers = _built(config, str(path))
        try:
            backbone = cls(towers, tokenizer=tokenizer, architecture=_plain(config), preprocess=preprocess)
            backbone.check_tokenizer(str(folder))
            backbone.check_picture_size(preprocess)
            return backbone
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from error

    def save(self, folder: Path) -> None:
        """Write `transformers_config.json` and the tokenizer into a checkpoint's folder."""
        write_object(folder / CONFIG_FILE, self.architecture)
        with _quiet_transformers():
            self.tokenizer.save_pretrained(str(folder))

    def _check_towers(self) -> None:
        vision = self.towers.config.vision_config
        if not getattr(vision, "vision_use_head", True) or not getattr(vision, "use_head", True):
            raise ModelError(f"{self.family.title}: its image tower is built without the head that pools a picture.")
        picture = self._image_projection.out_features if self._image_projection is not None else vision.hidden_size
        if picture != self.dim:
            raise ModelError(
                f"{self.family.title}: text tokens have {self.dim} dimensions and pictures {picture}; a dual encoder needs "
                "one space for both."
            )
        if self.family.pooled == "end" and not isinstance(self._end_id, int):
            raise ModelError(f"{self.family.title}: eos_token_id={shown(self._end_id)} must be one token id.")

    def _freeze_unused(self) -> None:
        weights = dict(self.towers.named_parameters())
        for name in UNUSED:
            if name in weights:
                weights[name].requires_grad_(False)

    def check_picture_size(self, preprocess: Preprocess) -> None:
        """Check that the image tower takes the preprocessing's pictures, by trying one; shapes alone are enough.

        Raises:
            ModelError: If it does not.
        """
        was_training = self.training
        size = (preprocess.height, preprocess.width)
        try:
            with torch.no_grad(), own_torch():
                picture = torch.zeros(1, 3, *size, device=self.device)
                self._as_patches(picture) if self.family.patches else self.eval().frame_tokens(picture)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"preprocess has pictures of {size[0]}×{size[1]}, and the image tower does not take them: "
                f"{in_one_line(error)}."
            ) from error
        finally:
            self.train(was_training)

    def check_tokenizer(self, name: str) -> None:
        """Check that the tokenizer belongs to the text tower, by trying a query.

        Raises:
            ModelError: If its ids are not the tower's, or it does not write the token that the tower pools.
        """
        length = min(16, self.context_length)
        try:
            batch = self.tokenize(["a photo of a cat"], length=length)
        except SettingsError as error:
            raise ModelError(f"{name}: its tokenizer is unusable: {error}") from error
        if self.family.pooled == "end" and int(batch.pooled[0]) != int(batch.content[0].sum()) - 1:
            raise ModelError(
                f"{name}: its text tower pools the token {self._end_id} that ends a text, and its tokenizer does not write "
                "it; take the tokenizer that was published with the model."
            )

    @property
    def _text(self) -> Any:
        return self.towers.text_model

    @property
    def _text_config(self) -> Any:
        return self.towers.config.text_config

    @property
    def _text_projection(self) -> Any:
        path = self.family.text_projection
        return None if path is None else inner(self.towers, path)

    @property
    def _image_projection(self) -> Any:
        path = self.family.image_projection
        return None if path is None else inner(self.towers, path)

    @property
    def _end_id(self) -> Any:
        return self._text_config.eos_token_id

    @property
    def pooling(self) -> Literal["token", "mean"]:
        """How the text tower pools: "mean" of its tokens, or one "token" of them."""
        return "mean" if self.family.pooled == "mean" else "token"

    @property
    def dim(self) -> int:
        """Dimensions of the space that text and frames share."""
        projection = self._text_projection
        return int(self._text_config.hidden_size if projection is None else projection.out_features)

    @property
    def context_length(self) -> int:
        """Most tokens a query can have; one more than the tower's positions where the mean takes one."""
        positions = len(self.text_positions)
        return min(positions, self.family.context or positions) + (self.pooling == "mean")

    @property
    def bidirectional(self) -> bool:
        """True if text tokens see later ones, so that the length of the padding changes every token (SigLIP)."""
        return not self.family.causal and not self.family.masks_padding

    @property
    def masks_padding(self) -> bool:
        """True if no text token sees the padding, which is known by its id."""
        return self.family.masks_padding

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return int(self._text_config.vocab_size)

    @property
    def start_id(self) -> int | None:
        """Token id that opens every query of a causal tower, if the tokenizer has one."""
        return self.tokenizer.bos_token_id if self.family.causal and self.tokenizer is not None else None

    @property
    def padding_id(self) -> int:
        """Token id of the padding: the tokenizer's own, and 0 where that is the end of text, as CLIP was trained."""
        own: int | None = self.tokenizer.pad_token_id
        if own is None or (self.family.pooled == "end" and own == self.tokenizer.eos_token_id):
            return 0
        return own

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._token_embedding.weight.device

    @property
    def _token_embedding(self) -> Any:
        return self._text.get_input_embeddings()

    @property
    def text_positions(self) -> Float[Tensor, "context width"]:
        """Position embeddings of the text tower; sines and cosines where it learns none."""
        table = inner(self._text, self.family.text_positions)
        return (table.weight if isinstance(table, nn.Embedding) else table.weights).detach()

    def text_blocks(self, count: int) -> list[nn.Module]:
        """Return the text tower's first `count` layers.

        Raises:
            ModelError: If there are fewer.
        """
        layers = list(inner(self._text, self.family.text_layers))
        if count > len(layers):
            raise ModelError(
                f"temporal_layers={count}, but the text tower has {len(layers)} layers to copy from; use that "
                "many at most, or temporal_init='random'."
            )
        return [EncoderBlock(layer, heads=inner(layer, self.family.heads)) for layer in layers[:count]]

    def tokenize(self, texts: list[str], *, length: int, pad_id: int | None = None) -> TokenizedQueries:
        """Turn texts into ids of one length; longer texts are cut, the end-of-text token kept.

        Raises:
            SettingsError: If the tokenizer finds no token in a text.
            ModelError: If the tokenizer writes ids that the text tower does not have.
        """
        width = length - (self.pooling == "mean")
        rows = self._ids(texts, width)
        ids = torch.full((len(rows), length), pad_id if pad_id is not None else self.padding_id, device="cpu")
        content = torch.zeros(ids.shape, dtype=torch.bool, device="cpu")
        for number, row in enumerate(rows):
            start = width - len(row) if self._pads_left else 0
            ids[number, start : start + len(row)] = torch.tensor(row, device="cpu")
            content[number, start : start + len(row)] = True
        return TokenizedQueries(ids, content, content, self._pooled_positions(ids))

    @property
    def _pads_left(self) -> bool:
        # Of a tower that pools its last position and sees all of them, the tokenizer knows where it had its padding.
        return self.family.pooled == "last" and self.tokenizer.padding_side == "left"

    def _ids(self, texts: list[str], most: int) -> list[list[int]]:
        """Call the tokenizer, one thread at a time, as it keeps the length between calls.

        Names of control tokens in a text are read as text: a query cannot hold a padding.
        """
        with _TOKENIZING, own_torch():
            rows: list[list[int]] = self.tokenizer(
                texts, truncation=True, max_length=most, padding=False, split_special_tokens=True
            )["input_ids"]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise SettingsError(f"the tokenizer finds no word in the query {shown(text)}; write it in other words.")
            if max(row) >= self.vocabulary_size:
                raise ModelError(
                    f"the tokenizer writes the id {max(row)}, and the text tower has ids up to {self.vocabulary_size - 1}: "
                    "they do not belong together."
                )
        return rows

    def too_long(self, texts: list[str], *, length: int) -> list[bool]:
        """Return True for each text that loses words when it is cut to `length` tokens."""
        width = length - (self.pooling == "mean")
        return [len(row) > width for row in self._ids(texts, width + 1)]

    def _pooled_positions(self, ids: Int[Tensor, "queries query_tokens"]) -> Int[Tensor, "queries"]:
        """Positions that the text tower pools; the last one where it has the mean."""
        if self.family.pooled == "end":
            by_size = self.family.end_by_largest_id and self._end_id == 2
            return (ids if by_size else (ids == self._end_id).int()).argmax(dim=1)
        position = 0 if self.family.pooled == "first" else ids.shape[1] - 1
        return torch.full((len(ids),), position, device="cpu")

    def token_texts(self, ids: Int[Tensor, "query_tokens"], content: Bool[Tensor, "query_tokens"]) -> list[str]:
        """Return each token for people to read: words as they are, padding and control tokens in angle brackets."""
        words = [str(self.tokenizer.decode([token])).strip() for token in ids.tolist()]
        return [word if real else "<pad>" for word, real in zip(words, content.tolist(), strict=True)]

    def text_tokens(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return every text token in the shared space, before normalisation, and the mean of a tower that pools by it."""
        own = ids[:, :-1] if self.pooling == "mean" else ids
        output = self._text(input_ids=own, attention_mask=self._attention_mask(own))
        tokens, projection = output.last_hidden_state, self._text_projection  # (queries, tokens, width)
        if projection is not None:
            tokens = projection(tokens)
        return tokens if self.pooling == "token" else torch.cat([tokens, output.pooler_output[:, None]], dim=1)

    def _attention_mask(self, ids: Int[Tensor, "queries query_tokens"]) -> Tensor | None:
        if self.family.masks_padding:
            return (ids != self.padding_id).long()  # (queries, query_tokens)
        if not self.family.needs_mask:
            return None
        length = ids.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        return seen.expand(len(ids), 1, -1, -1)  # (queries, 1, query_tokens, query_tokens)

    def frame_tokens(self, pixels: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames dim"]:
        """Return what `get_image_features` gives for each frame, not normalised."""
        pixels = pixels.to(self._token_embedding.weight.dtype)
        inputs = self._as_patches(pixels) if self.family.patches else {"pixel_values": pixels}
        pooled, projection = self.towers.vision_model(**inputs).pooler_output, self._image_projection
        return pooled if projection is None else projection(pooled)

    def _as_patches(self, pixels: Float[Tensor, "frames 3 height width"]) -> dict[str, Any]:
        """Cut frames into patches, as the image processor of NaFlex models does; all have one size, so none is padded."""
        side = int(self.towers.config.vision_config.patch_size)
        rows, columns = pixels.shape[2] // side, pixels.shape[3] // side
        if (rows * side, columns * side) != pixels.shape[2:]:
            raise ValueError(f"height and width must be multiples of its patches, {side}")
        cut = pixels.unflatten(3, (columns, side)).unflatten(2, (rows, side))  # (frames, 3, rows, side, columns, side)
        patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (frames, rows * columns, side * side * 3)
        shapes = torch.tensor([[rows, columns]], device=pixels.device).expand(len(pixels), -1)
        return {"pixel_values": patches, "pixel_attention_mask": None, "spatial_shapes": shapes}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in both towers."""
        kind = "activation" if hasattr(self.towers, "activation_checkpointing_enable") else "gradient"  # its older name
        switch = getattr(self.towers, f"{kind}_checkpointing_{'enable' if enable else 'disable'}")
        switch({"use_reentrant": False}) if enable else switch()


def _described(name: str) -> tuple[ModelSource, Any, Family]:
    """Find a model, fetch its configuration alone and read it."""
    source = ModelSource.from_name(name).fetch(MODEL_FILE)
    values = source.read_json(MODEL_FILE)
    if "format" in values and "model" in values:
        plain = source.name.removeprefix(PREFIX)
        raise ModelError(f"{source.name} is a saved model of this library: leave out '{PREFIX}' ({shown(plain)}).")
    config = _config(values, source.name)
    return source, config, family_of(config.model_type, source.name)


def _config(values: Mapping[str, Any], name: str, *, most_layers: int = MAX_LAYERS) -> Any:
    """Return the configuration of transformers, made of what its class declares and nothing else.

    So it names no code, no other files, no attention kernel and no quantisation.
    """
    family_of(values.get("model_type"), name)
    if values.get("quantization_config"):
        raise ModelError(f"{name} has quantised weights (quantization_config); take the model it was made from.")
    with _quiet_transformers():
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        if values["model_type"] not in CONFIG_MAPPING:
            raise ModelError(
                f"{name} is a model of the type {shown(values['model_type'])}, which the installed transformers lacks: "
                "pip install -U transformers."
            )
        kind = CONFIG_MAPPING[values["model_type"]]
        try:
            architecture = _plain(kind.from_dict(dict(values)))
            check_bounds(architecture, name, most_layers=most_layers)
            return kind.from_dict(architecture)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{name} describes no model that transformers can build: {in_one_line(error)}.") from error


def _plain(config: Any) -> dict[str, Any]:
    """Return a configuration as plain values: the fields that its class declares, those of its towers included."""
    from transformers import PreTrainedConfig

    kinds = type(config).__mro__[: type(config).__mro__.index(PreTrainedConfig)]
    names = {name for kind in kinds for name in inspect.get_annotations(kind) if not name.startswith("_")}
    values: dict[str, Any] = {"model_type": config.model_type}
    for name in sorted(names - {"model_type"}):
        value = getattr(config, name)
        values[name] = _plain(value) if isinstance(value, PreTrainedConfig) else value
    return values


def _check_size(config: Any, shapes: Mapping[str, Sequence[int]], name: str) -> None:
    """Check that a model is no larger than its weights, before it takes memory."""
    check_no_larger(_without_memory(config, name), shapes, name, spare=len(OPTIONAL_WEIGHTS))


def _without_memory(config: Any, name: str) -> Any:
    """Build a model of shapes alone, on the device "meta"."""
    with _quiet_transformers(), shapes_alone():
        return _built(config, name)


def _built(config: Any, name: str) -> Any:
    from transformers import AutoModel

    try:
        return AutoModel.from_config(config, attn_implementation="sdpa", trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"{name} describes no model that transformers can build: {in_one_line(error)}.") from error


def _with_weights(source: ModelSource, config: Any) -> Any:
    from transformers import AutoModel

    try:
        with _quiet_transformers(), own_device("cpu"):
            towers, report = AutoModel.from_pretrained(
                source.folder,
                config=config,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # refused below, with the name of one
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        raise ModelError(f"the weights of {source.name} do not load: {in_one_line(error)}.") from error
    missing = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])} - OPTIONAL_WEIGHTS
    if missing:
        raise ModelError(
            f"the weights of {source.name} lack {len(missing)} of its configuration's, or have them in other shapes, such as "
            f"{shown(min(missing))}; download the whole model."
        )
    return towers


def _tokenizer(folder: Path | None, config: Any, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, config=config, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {name} could not be loaded: {in_one_line(error)}. Its files are missing or damaged, or need "
            "a package that is not installed: save or download it again."
        ) from error
    tokenizer.truncation_side = "right"
    return tokenizer


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Mute transformers while a model is built; our own errors say what matters. One thread at a time."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging as chatter

    with _BUILDING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verbosity, bars, downloads = (
            chatter.get_verbosity(),
            chatter.is_progress_bar_enabled(),
            are_progress_bars_disabled(),
        )
        chatter.set_verbosity_error()
        chatter.disable_progress_bar()
        try:
            yield
        finally:
            chatter.set_verbosity(verbosity)
            if bars:
                chatter.enable_progress_bar()
            if downloads:
                disable_progress_bars()
