"""VideoColBERT: a dual encoder that turns queries and videos into bags of token vectors (Reddy et al., CVPR 2025)."""

import copy
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from colbert_video.base.checks import check_flags, text_list, whole_number
from colbert_video.base.torch_state import encoding_on, plain_torch
from colbert_video.base.user_files import user_path
from colbert_video.base.weight_files import weights_digest
from colbert_video.device import Device, resolve_device
from colbert_video.errors import MAX_SHOWN, ModelError, SettingsError, shown
from colbert_video.hub import HubRepository
from colbert_video.model.backbone import Backbone, Preprocess, TokenizedQueries
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.backbones.transformers_backbone import TransformersBackbone
from colbert_video.model.backbones.transformers_files import PREFIX
from colbert_video.model.checkpoint import (
    Checkpoint,
    backbone_name,
    check_weights,
    fetch_checkpoint,
    find_checkpoint,
    model_card,
    save_checkpoint,
    weights_name,
)
from colbert_video.model.compiled_towers import CompiledTowers, check_compiler
from colbert_video.model.config import MAXIMA, ModelConfig
from colbert_video.model.encoder import FrameStack, check_words
from colbert_video.model.interaction import Interaction, fuse
from colbert_video.model.precision import DTYPES, Precision, choose_precision, precision_of
from colbert_video.model.query_runtime import QueryRuntime, TextRuntime, check_query_runtime
from colbert_video.model.temporal import TemporalEncoder
from colbert_video.model.text_limits import (
    are_cut,
    beginning,
    check_queries_fit,
    default_settings,
    is_causal,
    pools_mean,
    warn_of_cuts,
)
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens
from colbert_video.video.frames import SamplingSettings

logger = logging.getLogger(__name__)
FRAMES_PER_BATCH = 256
"""Frames that `encode_videos` sends through the backbone at once by default."""


class VideoColBERT(nn.Module):
    """A model that encodes queries and videos into bags of tokens, which MeanMaxSim compares.

    Args:
        config: The model's settings.
        backbone: The dual encoder, an `nn.Module`.

    Attributes:
        name: What `from_pretrained` loads this model by; None if it is in memory alone. An index stores the name, so that
            it can be searched without passing the model. Saving a model does not name it: load it from where it was saved.

    Raises:
        ModelError: If the query length or the padding id does not fit the backbone.
        SettingsError: If there are more frame positions or expansion tokens than a model can have.
    """

    def __init__(self, config: ModelConfig, backbone: Backbone) -> None:
        super().__init__()
        for name, maximum in MAXIMA.items():
            whole_number(name, getattr(config, name), most=maximum)
        check_queries_fit(config, backbone)
        self.config = config
        self.backbone = backbone
        self.name: str | None = None
        self._fingerprint: str | None = None
        self._text_runtime: TextRuntime | None = None
        self._compiling: str | None = None
        self._compiled: CompiledTowers | None = None
        with plain_torch():
            self.temporal = TemporalEncoder.from_config(config, backbone)

    @classmethod
    def from_backbone(
        cls,
        name: str,
        pretrained: str | None = None,
        *,
        preprocess: Preprocess | None = None,
        device: Device | None = None,
        precision: Precision = "fp32",
        compile: bool = False,
        **settings: Any,
    ) -> "VideoColBERT":
        """Start from a model of open_clip or Hugging Face transformers, with the paper's configuration.

        The result is untrained: until it is trained, it searches over frame tokens with the pooled query token, or with all
        words where the text tower pools their mean.

        Args:
            name: open_clip model, such as "ViT-B-32-quickgelu", "ViT-B-16-SigLIP" or "PE-Core-B-16"; or a model of
                transformers with its weights, as "hf:user/model", "hf:user/model@revision" or "hf:FOLDER".
            pretrained: Tag of an open_clip model's weights or a weight file; None for random weights, and for "hf:".
            preprocess: Overrides the preprocessing that the weights' tag prescribes.
            device: Where to put the model; None for the first GPU, else the CPU.
            precision: As for `from_pretrained`.
            compile: As for `from_pretrained`.
            **settings: Fields of `ModelConfig`.

        Raises:
            ModelError: If the backbone cannot be built or does not fit the settings.
            SettingsError: If a setting is out of range.
            DependencyError: If `compile` lacks a compiler.
        """
        target = _target(device, compile)
        chosen = choose_precision(precision, target)
        unknown = settings.keys() - ModelConfig.__dataclass_fields__.keys()
        if unknown:
            raise SettingsError(f"unknown model settings: {', '.join(sorted(unknown))[:MAX_SHOWN]}; see ModelConfig.")
        pretrained = None if pretrained is None else weights_name(pretrained)
        family = TransformersBackbone if name.startswith(PREFIX) else OpenClipBackbone
        with plain_torch():
            name = backbone_name(name)
            if settings:  # a wrong one should cost no download
                with torch.random.fork_rng(devices=[]):
                    cls._on_backbone(family.outline(name, preprocess), name, pretrained, settings)
            backbone = family.from_name(name, pretrained, preprocess=preprocess)
            weights = name if family is TransformersBackbone else pretrained
            if weights is not None:
                check_weights(backbone, f"the weights {shown(weights)}")
            model = cls._on_backbone(backbone, name, pretrained, settings).eval()
        model.name = f"{name}:{pretrained}" if pretrained else weights
        return model._converted(chosen).to(target)._compiled_if(compile)

    @classmethod
    def _on_backbone(
        cls, backbone: Backbone, name: str, pretrained: str | None, settings: Mapping[str, Any]
    ) -> "VideoColBERT":
        chosen = {**default_settings(backbone), **settings}
        config = ModelConfig(backbone=name, pretrained=pretrained, preprocess=backbone.preprocess, **chosen)
        return cls(config, backbone)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, device: Device | None = None, precision: Precision = "fp32", compile: bool = False
    ) -> "VideoColBERT":
        """Load a saved model: "toy" (shipped), a folder, a Hub id "user/model[@revision]", or a backbone.

        A backbone with its weights is an untrained model: "BACKBONE:TAG" of open_clip, or "hf:NAME" of Hugging Face
        transformers.

        Args:
            name: The model.
            device: Where to put it; None for the first GPU, else the CPU.
            precision: Of weights and products: "fp32", which training needs, "bf16", "fp16", or "auto" for the fastest that
                the device multiplies in hardware and that keeps tokens as they are but for noise. Tokens are float32 in
                each.
            compile: True to compile towers and temporal transformer with `torch.compile`, for services and long runs; see
                `compile`.

        Raises:
            ModelError: If there is no such model or it cannot be used.
            SettingsError: If the device does not compute in the precision.
            DependencyError: If `compile` lacks a compiler.
        """
        target = _target(device, compile)
        chosen = choose_precision(precision, target)
        with plain_torch():
            checkpoint = find_checkpoint(name)
        if checkpoint is not None:
            return cls._from_checkpoint(checkpoint, target, chosen)._compiled_if(compile)
        if str(name).startswith(PREFIX):
            return cls.from_backbone(str(name), device=target, precision=precision, compile=compile)
        backbone, _, tag = str(name).partition(":")
        return cls.from_backbone(backbone, pretrained=tag, device=target, precision=precision, compile=compile)

    @classmethod
    def from_hub(
        cls,
        repository: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        endpoint: str | None = None,
        device: Device | None = None,
        precision: Precision = "fp32",
        compile: bool = False,
    ) -> "VideoColBERT":
        """Load a model from the Hugging Face Hub; `from_pretrained` does the same where no token or folder is needed.

        Args:
            repository: "user/name".
            revision: Branch, tag or commit; None for the main branch.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            cache_dir: Where downloads are kept; None for huggingface_hub's cache.
            endpoint: Address of another Hub than huggingface.co.
            device: Where to put the model; None for the first GPU, else the CPU.
            precision: As for `from_pretrained`.
            compile: As for `from_pretrained`.

        Raises:
            HubError: If there is no such repository, it may not be read, or the Hub cannot be reached.
            ModelError: If it holds no usable model.
            DependencyError: If `compile` lacks a compiler.
        """
        target = _target(device, compile)
        chosen = choose_precision(precision, target)
        where = HubRepository(repository, "model", revision, token, endpoint)
        folder = None if cache_dir is None else user_path(cache_dir, "cache_dir")
        with plain_torch():
            checkpoint = fetch_checkpoint(where, cache_dir=folder)
        return cls._from_checkpoint(checkpoint, target, chosen)._compiled_if(compile)

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, device: torch.device, precision: str) -> "VideoColBERT":
        with plain_torch():
            model = cls(checkpoint.config, checkpoint.backbone)
            checkpoint.load_weights(model)
            model.name = checkpoint.name
            return model.eval()._converted(precision).to(device)

    def at_precision(self, precision: Precision) -> "VideoColBERT":
        """Return the model in another precision, to encode with: itself if it has that one, else a converted copy.

        Args:
            precision: As for `from_pretrained`; "auto" is chosen for the device of the weights.

        Raises:
            SettingsError: If the device does not compute in it, or the weights have lost the digits that it needs.
        """
        chosen = choose_precision(precision, self.device)
        if chosen == self.precision:
            return self
        if self.precision != "fp32":
            raise SettingsError(
                f"precision={shown(precision)}: this model is in {self.precision} and has lost the digits of its weights; load it "
                "again, in fp32 or in the wanted precision."
            )
        with plain_torch():
            converted = copy.deepcopy(self).eval()._converted(chosen)
        return converted if self._text_runtime is None else converted.with_query_runtime(self._text_runtime.name)

    def with_query_runtime(self, runtime: QueryRuntime | None) -> "VideoColBERT":
        """Return the model with its text tower exported to a runtime, which `encode_queries` uses from then on.

        For the few rows of a query, runtimes multiply faster than torch on CPUs. The export takes from several seconds to
        half a minute, and keeps the weights as they are now; the given model shares its weights with the returned one and
        stays as it is. Copies, pickled and forked models encode with torch.

        Args:
            runtime: "onnx" for ONNX Runtime, "openvino" for OpenVINO; "torch" or None for torch itself.

        Raises:
            SettingsError: If there is no such runtime, or the model is on a GPU.
            DependencyError: If the runtime is not installed.
            ModelError: If the text tower cannot be exported.
        """
        check_query_runtime(runtime)
        other = copy.copy(self)
        if runtime in (None, "torch"):
            return other
        if self.device.type != "cpu":
            raise SettingsError(
                f"query_runtime={shown(runtime)} computes on the CPU, and this model is on {self.device}: leave it out, or load "
                "the model with device='cpu'."
            )
        other._text_runtime = TextRuntime(self.backbone, runtime, self.precision)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what other processes and copies make themselves."""
        return {**self.__dict__, "_text_runtime": None, "_compiled": None}

    def compile(self, *, backend: str = "inductor") -> None:  # type: ignore[override]
        """Compile towers and temporal transformer with `torch.compile`, in place, at their first use.

        Each shape takes a minute or more then. To keep shapes few, batches are encoded in parts of a few sizes. Names of weights
        stay as they are, and copies, pickled and forked models compile again when they are used.

        Args:
            backend: As for `torch.compile`.

        Raises:
            DependencyError: If the compiler is missing.
        """
        if backend == "inductor":
            check_compiler(self.device)
        self.compile_with(backend)

    @property
    def compiling(self) -> str | None:
        """The backend that the model compiles with; None if it does not."""
        return self._compiling

    def compile_with(self, backend: str | None) -> None:
        """Compile with a backend from now on, or with None no more; what is compiled with it already stays."""
        if backend != self._compiling:
            self._compiling, self._compiled = backend, None

    def _compiled_if(self, wanted: bool) -> "VideoColBERT":
        if wanted:
            self.compile()
        return self

    @property
    def _computing(self) -> CompiledTowers | None:
        """The compiled towers; None to compute without."""
        if self._compiling is not None and self._compiled is None:
            self._compiled = CompiledTowers(
                self.backbone, self.temporal, frames=self.config.num_frames, backend=self._compiling
            )
        return self._compiled

    def _converted(self, precision: str) -> "VideoColBERT":
        """Convert the weights in place, for encoding alone; the fingerprint stays that of the weights as they were."""
        if precision != self.precision:
            self._fingerprint = self.fingerprint()
            self.requires_grad_(False).to(DTYPES[precision])
        return self

    def check_full_precision(self, purpose: str) -> None:
        """Check that the weights have all their digits.

        Args:
            purpose: What needs them, for the error: "training", for example.

        Raises:
            SettingsError: If they were converted.
        """
        if self.precision != "fp32":
            raise SettingsError(
                f"{purpose} needs weights in fp32, and this model is in {self.precision}, only for encoding; load it with "
                "precision='fp32'."
            )

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write weights, configuration and tokenizer to a folder that `from_pretrained` reads.

        The model in memory keeps its name. To index with the saved model, pass the folder: `Indexer(path, model=folder)`.

        Args:
            folder: Target; an existing checkpoint there is replaced.
            half: True to store weights in half precision, at half the size; what is loaded back makes slightly other
                tokens.

        Raises:
            ModelError: If the folder cannot be written, or holds files that are no checkpoint's.
            SettingsError: If the model was converted to another precision.
        """
        check_flags(half=half)
        self.check_full_precision("saving")
        save_checkpoint(user_path(folder, "the folder"), self.config, self.backbone, self.state_dict(), half=half)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = True,
        revision: str | None = None,
        message: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Push the model to the Hugging Face Hub in one commit, with a model card where there is none.

        Args:
            repository: "user/name"; made if it is missing.
            private: True to make a new repository private; one that exists stays as it is.
            revision: Branch, made if it is missing; None for the main branch.
            message: The commit's message.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            endpoint: Address of another Hub than huggingface.co.

        Returns:
            The address of the commit.

        Raises:
            HubError: If the Hub cannot be reached or refuses.
            ModelError: If the disk for temporary files is full.
            SettingsError: If the model was converted to another precision.
        """
        check_flags(private=private)
        self.check_full_precision("pushing")
        where = HubRepository(repository, "model", revision, token, endpoint)
        card = model_card(self.config, self.dim, repository)
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "model"
            self.save_pretrained(folder)
            return where.push(folder, card=card, private=private, message=message or "Push a model")

    @property
    def dim(self) -> int:
        """Dimensions of every token."""
        return self.backbone.dim

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.backbone.device

    @property
    def searches_pooled(self) -> bool:
        """True if a query is its pooled token alone: before training, unless its words' mean is what is pooled."""
        return not self.config.trained and not pools_mean(self.backbone)

    @property
    def bags(self) -> tuple[str, ...]:
        """Bags that the model's interaction reads: "frame", "video" or both."""
        return self.config.bags

    @property
    def precision(self) -> str:
        """Precision of the weights: "fp32", "bf16" or "fp16"."""
        return precision_of(self.temporal.expansion.dtype)

    def sampling(self, num_frames: int | None = None, **settings: Any) -> SamplingSettings:
        """Return how frames of a video are taken for the model; see `ModelConfig.sampling`."""
        return self.config.sampling(num_frames, **settings)

    def mark_trained(self, trained: bool = True) -> None:
        """Switch between all tokens in both bags (trained) and the zero-shot pooled token (untrained).

        Raises:
            SettingsError: If the model was converted to another precision.
        """
        if trained != self.config.trained:
            self.check_full_precision("marking a model as trained")
            self.config = replace(self.config, trained=trained)
            self.name = None  # by its name, the model as it was would be loaded

    def fingerprint(self) -> str:
        """Return a hex digest of configuration and weights: models with equal fingerprints make equal tokens.

        A model that was converted to another precision keeps the digest of its weights as they were. The temporal
        transformer of an untrained model is left out: it makes no tokens, and its random start would give one backbone a new
        fingerprint at every load.
        """
        if self._fingerprint is not None:
            return self._fingerprint
        settings, weights = self.config.to_dict(), self.state_dict()
        if not self.config.trained:
            settings = {name: settings[name] for name in ("preprocess", "pad_id", "trained")}
            weights = self.backbone.state_dict()
        return weights_digest(sorted(settings.items()), weights)

    def forward(
        self,
        query_ids: Int[Tensor, "queries query_tokens"] | None = None,
        pixels: Float[Tensor, "videos frames 3 height width"] | None = None,
        frame_mask: Bool[Tensor, "videos frames"] | None = None,
    ) -> tuple[Float[Tensor, "queries query_tokens dim"] | None, VideoTokens | None]:
        """Embed queries, videos or both, with gradients; the entry point for wrappers such as DistributedDataParallel."""
        queries = None if query_ids is None else self.embed_queries(query_ids)
        videos = None if pixels is None else self.embed_videos(pixels, frame_mask)
        return queries, videos

    def embed_queries(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return every query token, normalised; padding too, whether or not it is scored."""
        towers = self._computing or self.backbone
        return nn.functional.normalize(towers.text_tokens(ids).float(), dim=-1)

    def embed_videos(
        self,
        pixels: Float[Tensor, "videos frames 3 height width"],
        frame_mask: Bool[Tensor, "videos frames"] | None = None,
    ) -> VideoTokens:
        """Return frame tokens and video tokens, both normalised.

        Args:
            pixels: Preprocessed frames, padded to the longest video.
            frame_mask: True where a frame is real; None if all are, which is faster.
        """
        compiling = torch.compiler.is_compiling()
        if frame_mask is not None and frame_mask.device.type == "cpu" and not compiling and bool(frame_mask.all()):
            frame_mask = None  # on a GPU, looking would wait for it
        features = self._frame_features(pixels, frame_mask)
        temporal = self.temporal if self._computing is None else self._computing.temporal
        return VideoTokens(_unit_bags(features, frame_mask), _unit_bags(*temporal(features, frame_mask)))

    def _frame_features(
        self, pixels: Float[Tensor, "videos frames 3 height width"], mask: Bool[Tensor, "videos frames"] | None
    ) -> Float[Tensor, "videos frames dim"]:
        towers = self._computing or self.backbone
        if mask is None:
            return towers.frame_tokens(pixels.flatten(0, 1)).float().unflatten(0, pixels.shape[:2])
        one_shape = self._compiling is not None and torch.is_grad_enabled()
        if one_shape or torch.compiler.is_compiling():  # whatever is padded
            features = towers.frame_tokens(pixels.flatten(0, 1)).float().unflatten(0, pixels.shape[:2])
            return features.masked_fill(~mask[..., None], 0)
        encoded = towers.frame_tokens(pixels[mask]).float()  # (real frames, dim)
        return encoded.new_zeros(*mask.shape, self.dim).masked_scatter(mask[..., None], encoded)

    def tokenize(self, texts: Sequence[str]) -> TokenizedQueries:
        """Turn queries into ids, masks of the words and of the scored tokens, and the position of the pooled token.

        Raises:
            SettingsError: If a query is empty.
        """
        check_words(texts)
        config, backbone = self.config, self.backbone
        # An untrained model scores the pooled token alone: padding adds nothing, so queries keep the full context.
        length = config.query_length if config.trained else backbone.context_length
        batch = backbone.tokenize([beginning(text) for text in texts], length=length, pad_id=config.pad_id)
        means = pools_mean(backbone)
        augmented = config.query_augmentation and (config.trained or not means)
        scored = torch.ones_like(batch.content) if augmented else batch.content.clone()
        if means:
            scored.scatter_(1, batch.pooled[:, None], False)  # the mean is no word
        starts = backbone.start_id is not None and not backbone.bidirectional
        if starts and not config.score_start_token:
            scored[:, 0] = False
        return replace(batch, scored=scored)

    def query_token_texts(self, text: str) -> list[str]:
        """Return what each token of `encode_queries(text)` stands for, in the same order."""
        batch = self.tokenize([text])
        if self.searches_pooled:
            return [text.strip()]
        words = self.backbone.token_texts(batch.ids[0], batch.content[0])
        return [word for word, scored in zip(words, batch.scored[0].tolist(), strict=True) if scored]

    def reads_all(self, text: str) -> bool:
        """Return False if a query is longer than this model reads; its last words then do not count."""
        if len(text) < self.config.query_length // 2:  # no tokenizer makes more tokens than characters
            return True
        return not are_cut([text], self.backbone, length=self.tokenize([text]).ids.shape[1])[0]

    def encode_queries(self, texts: str | Sequence[str], *, batch_size: int = 64) -> QueryTokens:
        """Encode queries for search.

        Args:
            texts: One query or several.
            batch_size: Queries sent through the text tower at once.

        Returns:
            Query tokens (queries, query_tokens, dim): all tokens of a trained model, the pooled one of an untrained; its
            words if their mean is what its text tower pools.

        Raises:
            SettingsError: If there is no query or one is empty.
            ModelError: If the weights make tokens that are no unit vectors.
        """
        texts = text_list("texts", texts, ordered=True)
        batch_size = whole_number("batch_size", batch_size, least=1)
        if not texts:
            raise SettingsError("no query was given; at least one is needed.")
        with encoding_on(self.device):
            batch = self.tokenize(texts).to(self.device)
            warn_of_cuts(texts, self.backbone, length=batch.ids.shape[1])
            tokens = self._query_tokens(self._needed_ids(batch), batch_size)
            if self.searches_pooled:
                queries = _pooled_only(tokens, batch.pooled)
            else:
                padding = batch.ids.shape[1] - tokens.shape[1]
                queries = QueryTokens(nn.functional.pad(tokens, (0, 0, 0, padding)), batch.scored, batch.pooled)
            _check_directions(queries, "query")
            return queries

    def _needed_ids(self, batch: TokenizedQueries) -> Int[Tensor, "queries needed"]:
        """Cut off the padding behind the last token that counts, where no token sees a later one."""
        if not is_causal(self.backbone):
            return batch.ids
        wanted = nn.functional.one_hot(batch.pooled, batch.ids.shape[1]).bool()  # (queries, query_tokens)
        if not self.searches_pooled:
            wanted |= batch.scored
        places = torch.arange(1, batch.ids.shape[1] + 1, device=batch.ids.device)  # (query_tokens,)
        return batch.ids[:, : int((wanted.any(dim=0) * places).max())]

    def _query_tokens(
        self, ids: Int[Tensor, "queries query_tokens"], batch_size: int
    ) -> Float[Tensor, "queries query_tokens dim"]:
        runtime = self._text_runtime
        embed = runtime if runtime is not None and runtime.usable else self.embed_queries
        return torch.cat([embed(part) for part in ids.split(batch_size)])

    def encode_videos(self, videos: Sequence[FrameStack], *, frames_per_batch: int = FRAMES_PER_BATCH) -> VideoTokens:
        """Encode videos for an index.

        Args:
            videos: RGB frames of each video, uint8 (frames, height, width, 3); resized if need be.
            frames_per_batch: Frames sent through the backbone at once.

        Returns:
            Frame tokens (videos, frames, dim) and video tokens (videos, frames + expansion tokens, dim), padded where
            videos differ in length; an untrained model gives no video tokens.

        Raises:
            SettingsError: If there is no video, or one has no frame or more frames than the model has positions for.
            ModelError: If the weights make tokens that are no unit vectors.
        """
        if not isinstance(videos, Iterable):
            raise SettingsError(f"videos={shown(videos)} must be a list with the frames of each video.")
        videos, frames_per_batch = list(videos), whole_number("frames_per_batch", frames_per_batch, least=1)
        if not videos:
            raise SettingsError("no video was given; at least one is needed.")
        for row, frames in enumerate(videos):
            if not 1 <= len(frames) <= self.config.max_frames:
                raise SettingsError(
                    f"video {row} has {len(frames)} frames; between 1 and max_frames={self.config.max_frames} "
                    "are needed."
                )
        frame_bags: list[Tensor] = []
        video_bags: list[Tensor] = []
        with encoding_on(self.device):
            for batch in _batches(videos, frames_per_batch):
                frame, video = self._encode_batch(batch)
                for kind, bags in (("frame", frame), ("video", video)):
                    if bags is not None:
                        _check_directions(bags, kind)
                frame_bags += frame.unpadded()
                video_bags += video.unpadded() if video is not None else []
            video_tokens = TokenBags.from_list(video_bags) if self.config.trained else None
            return VideoTokens(TokenBags.from_list(frame_bags), video_tokens)

    def _encode_batch(self, videos: Sequence[FrameStack]) -> VideoTokens:
        prepare = self.config.preprocess.to_pixels
        pixels = [prepare(frames, device=self.device) for frames in videos]  # (frames, 3, height, width) each
        padded = nn.utils.rnn.pad_sequence(pixels, batch_first=True)  # (videos, frames, 3, height, width)
        mask = None
        if len({len(stack) for stack in pixels}) > 1:
            lengths = torch.tensor([len(stack) for stack in pixels], device=self.device)
            mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]  # (videos, frames)
        if self.config.trained:
            return self.embed_videos(padded, mask)
        return VideoTokens(_unit_bags(self._frame_features(padded, mask), mask), None)

    def score(
        self, queries: QueryTokens, videos: VideoTokens, *, interaction: Interaction | None = None
    ) -> Float[Tensor, "queries videos"]:
        """Return the reference score of every query against every video.

        Args:
            queries: From `encode_queries`.
            videos: From `encode_videos`.
            interaction: None for the model's own; an untrained model uses `mms_f`.
        """
        own: Interaction = self.config.interaction if self.config.trained else "mms_f"
        return fuse(queries, videos, interaction or own)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in training."""
        self.backbone.set_grad_checkpointing(enable)
        self.temporal.grad_checkpointing = enable


def _target(device: Device | None, compile: bool) -> torch.device:
    """Return the device of a model, and check what `compile` needs there before anything is loaded."""
    check_flags(compile=compile)
    target = resolve_device(device)
    if compile:
        check_compiler(target)
    return target


def _unit_bags(
    features: Float[Tensor, "videos tokens dim"], mask: Bool[Tensor, "videos tokens"] | None = None
) -> TokenBags:
    if mask is None:
        mask = features.new_ones(features.shape[:2], dtype=torch.bool)
    return TokenBags(nn.functional.normalize(features.float(), dim=-1), mask)


def _check_directions(bags: TokenBags, kind: str) -> None:
    """Check that tokens have the length 1: sums of huge weights overflow, and infinities have no direction."""
    lengths = torch.linalg.vector_norm(bags.tokens, dim=-1)  # (bags, tokens)
    broken = bags.mask & ~(lengths > 0.5)  # true for NaN, too
    if bool(broken.any()):
        length = float(lengths[broken][0])
        raise ModelError(
            f"the model makes a {kind} token of length {length:.3g}, which must be 1: its weights are damaged, or "
            "overflow their precision. Load its weights again, or use float32."
        )


def _pooled_only(tokens: Float[Tensor, "queries query_tokens dim"], pooled: Int[Tensor, "queries"]) -> QueryTokens:
    pooled_tokens = tokens[torch.arange(len(tokens), device=tokens.device), pooled][:, None]  # (queries, 1, dim)
    scored = torch.ones_like(pooled_tokens[..., 0], dtype=torch.bool)
    return QueryTokens(pooled_tokens, scored, torch.zeros_like(pooled))


def _batches(videos: Sequence[FrameStack], frames_per_batch: int) -> Iterator[list[FrameStack]]:
    """Yield consecutive videos whose padded size stays within the budget; at least one video each."""
    batch: list[FrameStack] = []
    longest = 0
    for frames in videos:
        longest = max(longest, len(frames))
        if batch and longest * (len(batch) + 1) > frames_per_batch:
            yield batch
            batch, longest = [], len(frames)
        batch.append(frames)
    if batch:
        yield batch
