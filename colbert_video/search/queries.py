"""Queries of every kind become query tokens: texts, pictures, clips, and tokens that the caller has made."""

import io
import logging
import math
import os
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from colbert_video.base.access import read_problem
from colbert_video.base.checks import id_text, shape_of, truth_value
from colbert_video.base.once import Once
from colbert_video.base.user_files import user_path
from colbert_video.device import Device, resolve_device
from colbert_video.errors import FailureKind, ModelError, SettingsError, VideoError, in_one_line, shown
from colbert_video.indexing.index.index_settings import IndexSettings, check_model
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.model.bags import FRAME_BAGS, bags_by_name
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.encoders.first_dims import fitted_encoder
from colbert_video.model.loading import Model, ModelChoice
from colbert_video.model.tokens import TokenBags, as_tensor, float_tokens
from colbert_video.search.asking.encoded_question import AnyQuery, QuestionEncoder
from colbert_video.search.explain import PADDING
from colbert_video.search.question import Question, are_weighted_texts
from colbert_video.video.files import native_name
from colbert_video.video.frames import SampledFrames
from colbert_video.video.windows import Span
from colbert_video.video.workers.pool import FramePool, FrameRequest

if TYPE_CHECKING:
    import PIL.Image

logger = logging.getLogger(__name__)
Picture = str | os.PathLike[str] | bytes | UInt8[np.ndarray, "height width 3"] | Any
"""An image file, its content, an open file, RGB pixels as array or tensor, or a PIL image."""
MAX_PICTURE_SIDE = 2**15
"""Pixels; Pillow's resizing takes memory in proportion to the longer side, however few pixels there are."""
BAD_PICTURE = (OSError, ValueError, SyntaxError, TypeError, EOFError, OverflowError, IndexError, MemoryError)
"""What PIL raises for damaged files."""
MIN_LENGTH, MAX_LENGTH = 1e-6, 1e6
"""Of given query tokens: the longest must have more than the first, none more than the second."""
AnyTokens = Float[np.ndarray, "query_tokens dim"] | Float[Tensor, "query_tokens dim"]
Queries = (
    Mapping[str, str | Question] | Iterable[str | Question] | Mapping[str, AnyTokens] | Iterable[AnyTokens] | TokenBags
)
"""Texts, or the tokens of each query, by their ids or in order."""


class QueryModel:
    """The model that encodes queries, loaded at the first of them, and again if another model's index replaces this one.

    Args:
        path: The index folder, for errors.
        given: An encoder, or a name for `load_encoder`; None for the model that the index names.
        device: Where a model given by name runs.
        options: How the model computes: other arguments of `ModelChoice.from_given`.
    """

    def __init__(self, path: Path, given: Model | None, device: Device | None, **options: Any) -> None:
        self._path = path
        target = None if device is None else resolve_device(device)
        self._choice = ModelChoice.from_given(given, target, **options)
        self._loaded: Once[VideoEncoder] = Once(most=1)
        self._kept: Once[list[Float[Tensor, "_ dim"]]] = Once(most=1)

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of a searcher that chooses the same model."""
        choice = self._choice
        return {
            "model": choice.given,
            "precision": choice.precision,
            "compile": choice.compile,
            "query_runtime": choice.query_runtime,
        }

    def use(self, model: VideoEncoder) -> None:
        """Encode with a model that is in memory already instead of what was given."""
        self._choice = ModelChoice.from_given(model)
        self._loaded.clear()
        self._kept.clear()

    def encode(self, texts: list[str], settings: IndexSettings) -> list[Float[Tensor, "_ dim"]]:
        """Return the scored tokens of each text, on the CPU, for an index of these settings; raises as `load`."""
        encoded = self.load(settings).encode_queries(texts).to("cpu")
        return [encoded[row] for row in range(len(texts))]

    def encode_once(self, texts: tuple[str, ...], settings: IndexSettings) -> list[Float[Tensor, "_ dim"]]:
        """Return the scored tokens of texts that are asked for again and again; raises as `load`."""
        return self._kept.get((texts, settings), lambda: self.encode(list(texts), settings))

    def prepare(self, text: str, settings: IndexSettings) -> PreparedQuery:
        """Return one text encoded, with which of its tokens are padding; raises as `load`."""
        (tokens,) = self.encode([text], settings)
        return PreparedQuery(tokens, padding_of(self.load(settings), text))

    def ask(self, question: str | Question, settings: IndexSettings, weights: Mapping[str, float]) -> AnyQuery:
        """Return a question encoded, its texts in one batch; raises as `load`.

        Args:
            question: A question, or a plain text.
            settings: Of the index that is searched.
            weights: How much each bag counts that is looked at.
        """
        if isinstance(question, str):
            return self.prepare(question, settings)
        texts, model = list(dict.fromkeys(question.plain_texts())), self.load(settings)
        tokens = dict(zip(texts, self.encode(texts, settings), strict=True)) if texts else {}
        picture = partial(image_query, model, settings=settings, weights=weights)
        return QuestionEncoder(tokens, model.query_token_texts, picture, weights).encode(question)

    def token_texts(self, text: str, settings: IndexSettings) -> list[str]:
        """Return what each token of a text stands for; raises as `load`."""
        return self.load(settings).query_token_texts(text)

    def load(self, settings: IndexSettings) -> VideoEncoder:
        """Return the model for an index of these settings; it stays in memory, and is loaded once for all threads.

        Raises:
            IndexFolderError: If it did not make this index.
            ModelError: If it cannot be loaded.
            SettingsError: If the index names no model and none was given.
        """
        return self._loaded.get(settings, lambda: self._checked(settings))

    def _checked(self, settings: IndexSettings) -> VideoEncoder:
        model = fitted_encoder(self._load(settings), settings.dim, settings.model_fingerprint)
        check_model(model, settings, self._path)
        return model

    def _load(self, settings: IndexSettings) -> VideoEncoder:
        try:
            model = self._choice.load(settings.model)
        except ModelError as error:
            if self._choice.given is not None:
                raise
            raise ModelError(
                f"the model that made {self._path} cannot be loaded: {error} If it moved, name its new place with model= "
                "(--model)."
            ) from error
        if model is None:
            raise SettingsError(
                f"{self._path} names no model: pass Searcher(path, model=...), or search with search_tokens."
            )
        return model


def padding_of(model: VideoEncoder, text: str) -> tuple[bool, ...]:
    """Return which tokens of an encoded text are padding."""
    return tuple(token == PADDING for token in model.query_token_texts(text))


class ReadText:
    """How a model reads one text, whose tokens are counted once.

    Args:
        model: Encodes it.
        text: The text.
    """

    def __init__(self, model: VideoEncoder, text: str) -> None:
        self._model, self._text = model, text

    @cached_property
    def padding(self) -> tuple[bool, ...]:
        """True for each query token that is padding."""
        return padding_of(self._model, self._text)

    def is_cut(self) -> bool:
        """Return True if the text is longer than the model reads: one that leaves room for padding never is."""
        return not any(self.padding) and is_cut(self._model, self._text)


def is_cut(model: VideoEncoder, question: str | Question) -> bool:
    """Return True if a text of a question, as it is encoded, is longer than a model reads; False where the model does not say."""
    reads_all = getattr(model, "reads_all", None)
    texts = [question] if isinstance(question, str) else dict.fromkeys(question.plain_texts())
    return reads_all is not None and not all(map(reads_all, texts))


def checked_padding(padding: Sequence[bool], tokens: int) -> tuple[bool, ...]:
    """Return which query tokens are padding.

    Raises:
        SettingsError: If there is a value for more or fewer than all tokens, or one that is not True or False.
    """
    values = tuple(truth_value("padding", value) for value in padding)
    if len(values) not in (0, tokens):
        raise SettingsError(f"padding has {len(values)} values for {tokens} query tokens; give one for each, or none.")
    return values


def check_query(query: object, method: str) -> None:
    """Check that a query of `Searcher.search` or `explain` is one text, a question, or texts with weights.

    Raises:
        SettingsError: If it is anything else; the sentence names the method, and `search_all` for several.
    """
    if isinstance(query, str | Question) or are_weighted_texts(query):
        return
    if isinstance(query, (list, tuple, set, dict)):
        given, remedy = f"a {type(query).__name__} of {len(query)}", "use search_all for several"
    else:
        given, remedy = f"a value of type {type(query).__name__}", "give it as str; search_all takes several"
    raise SettingsError(f"{method} takes one query as text, and {given} was given: {remedy}.")


def numbered_queries(queries: object) -> dict[str, Any]:
    """Return the queries of `Searcher.search_all` by their ids, all texts or all tokens; those of a list are "0", "1", ...

    Raises:
        SettingsError: If there is no query, one is neither a text nor tokens, or some are texts and others tokens.
    """
    if isinstance(queries, TokenBags):
        queries = queries.to("cpu").unpadded()
    if isinstance(queries, (str, bytes, Set)) or not isinstance(queries, Iterable):
        raise SettingsError(
            f"search_all takes texts or query tokens, by id or as a list, and a value of type {type(queries).__name__} was "
            "given: use search for one query, and a list where a set has no order."
        )
    named = isinstance(queries, Mapping) or hasattr(queries, "items")  # a Series of pandas has ids too
    pairs = list(queries.items() if named else enumerate(queries))  # type: ignore[attr-defined]
    found = {
        id_text(name, "the id of a query"): Question(query) if are_weighted_texts(query) else query  # type: ignore[arg-type]
        for name, query in pairs
    }
    if not found:
        raise SettingsError("no queries were given; at least one is needed.")
    if len(found) < len(pairs):
        raise SettingsError("two query ids are the same text; give each query its own id.")
    texts = any(isinstance(query, str | Question) for query in found.values())
    for name, query in found.items():
        if isinstance(query, str | Question) is not texts or not (texts or _may_be_tokens(query)):
            raise SettingsError(
                f"query {shown(name)} is a value of type {type(query).__name__}: give the text of each query as str, or the "
                "tokens of each as an array."
            )
    return found


def _may_be_tokens(query: object) -> bool:
    return isinstance(query, Tensor | np.ndarray | list | tuple) or len(shape_of(query) or ()) == 2


def check_tokens(query_tokens: Any, dim: int, name: str) -> Float[Tensor, "query_tokens dim"]:
    """Return the query tokens that a caller has made; one of length w counts w times.

    Args:
        query_tokens: A tensor, an array, or rows of numbers.
        dim: Dimensions that they must have.
        name: What they are, for errors.

    Raises:
        SettingsError: If there is none, they are not finite or of other dimensions, or all are zero or one is very long.
    """
    query = float_tokens(query_tokens, name)
    if query.ndim != 2 or query.shape[1] != dim or not len(query):
        raise SettingsError(f"{name} have shape {tuple(query.shape)}; (query_tokens, {dim}) is needed.")
    longest = float(torch.linalg.vector_norm(query.double(), dim=1).max())
    if not math.isfinite(longest):
        raise SettingsError(f"{name} hold NaN or infinity; check the model that made them.")
    if not MIN_LENGTH < longest <= MAX_LENGTH:
        raise SettingsError(
            f"the longest of {name} has length {longest:.3g}: a token of length w counts w times, and at most {MAX_LENGTH:g}; "
            "give unit vectors where all count the same."
        )
    return query


def image_query(
    model: VideoEncoder, image: Picture, settings: IndexSettings, weights: Mapping[str, float] | None = None
) -> dict[str, PreparedQuery]:
    """Encode a picture for one bag: the frame bag, or the video bag where that does not count.

    Args:
        model: Encodes it.
        image: An image file, RGB pixels uint8 (height, width, 3), or a PIL image.
        settings: Of the index that is searched.
        weights: How much each bag counts that is looked at; None for the index's weights.

    Returns:
        The query tokens by bag.

    Raises:
        SettingsError: If it is not an image, or no bag that counts has tokens of frames.
    """
    from PIL import Image

    bag = _frame_bags(settings, weights)[0]
    wanted = model.sampling()
    # By Pillow, as bytes: the model could do it too, in twelve times the memory.
    size, filter_ = (wanted.width, wanted.height), Image.Resampling[wanted.interpolation.upper()]
    picture = np.array(read_picture(image).resize(size, filter_))
    return _encode_frames(model, picture[None], (bag,))


def clip_query(
    model: VideoEncoder,
    path: str | os.PathLike[str],
    settings: IndexSettings,
    weights: Mapping[str, float] | None = None,
    *,
    window: Span | None,
) -> dict[str, PreparedQuery]:
    """Encode a clip for each bag of an index that has tokens of frames, "frame" and "video".

    Args:
        model: Encodes it.
        path: The file.
        settings: Of the index that is searched: as many frames are read, for the bags that it stores, of the same
            stream if the clip has as many.
        weights: How much each bag counts that is looked at; None for the index's weights.
        window: Only this part of the file, [start, end) in seconds.

    Returns:
        The query tokens by bag.

    Raises:
        SettingsError: If no bag that counts has tokens of frames.
        VideoError: If the file cannot be read.
    """
    bags = _frame_bags(settings, weights)
    return _encode_frames(model, _read_clip(model, path, settings, window).pixels, bags)


def _frame_bags(settings: IndexSettings, weights: Mapping[str, float] | None) -> list[str]:
    """Return the bags in which tokens of frames are looked for, the frame bag first.

    Raises:
        SettingsError: If there are none.
    """
    counting = settings.weights() if weights is None else weights
    both = [bag for bag in FRAME_BAGS if bag in counting]
    if not both:
        raise SettingsError(
            "pictures and clips are compared with the bags 'frame' and 'video', and the bags that count in this search are "
            f"{', '.join(counting)}: of the index's, {', '.join(settings.bags)}."
        )
    return both


def read_picture(image: Picture) -> "PIL.Image.Image":
    """Return an image in RGB, upright and read whole.

    Raises:
        SettingsError: If it is not an image.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, np.ndarray | Tensor):
        pixels = _rgb(image)
        _check_sides(pixels.shape[1], pixels.shape[0])
        return Image.fromarray(pixels)
    source = image if isinstance(image, Image.Image) else _image_file(image)
    try:
        if isinstance(source, Image.Image):
            return upright(source)
        with Image.open(source) as opened:
            return upright(opened)
    except FileNotFoundError as error:
        raise SettingsError(f"there is no image file {shown(image)}; check the name.") from error
    except SettingsError:
        raise
    except UnidentifiedImageError as error:
        raise SettingsError(
            f"{_named(image)} is not a picture that can be read: give JPEG, PNG, WebP, GIF or BMP."
        ) from error
    except (Image.DecompressionBombError, *BAD_PICTURE) as error:
        raise SettingsError(f"{shown(image)} cannot be read as an image: {in_one_line(error)}.") from error


def _named(image: Any) -> str:
    """Return the name of a picture's file; what was given may be its content, too."""
    return shown(image) if isinstance(image, str | os.PathLike) else "what was given"


def _image_file(image: Any) -> Any:
    """Return what Pillow opens: the name of a file, its content, or an open file."""
    if isinstance(image, str | os.PathLike):
        path = Path(native_name(str(user_path(image, "the image"))))
        if path.exists() and (problem := read_problem(path)) is not None:  # a named pipe would be waited for
            raise SettingsError(f"{shown(image)} cannot be read: {problem}.")
        return path
    if isinstance(image, bytes | bytearray | memoryview):
        return io.BytesIO(image)
    if callable(getattr(image, "read", None)):
        return image
    raise SettingsError(
        f"{shown(image)} is not an image; give a file's name or content, an open file, RGB pixels, or a PIL image."
    )


def _rgb(image: np.ndarray | Tensor) -> UInt8[np.ndarray, "height width 3"]:
    """Return pixels as bytes, channels last.

    Floats are 0 to 1. Where both ends have three values, arrays are taken for (height, width, 3), tensors for
    (3, height, width), which is how each is usually held.
    """
    pixels = as_tensor(image, "the pixels of the image").cpu()
    shape, first = tuple(pixels.shape), isinstance(image, Tensor)
    if len(shape) != 3 or 3 not in (shape[0], shape[2]) or 0 in shape:
        raise _not_rgb(pixels)
    if shape[0] == 3 and (first or shape[2] != 3):
        pixels = pixels.permute(1, 2, 0)  # (height, width, 3)
    if pixels.is_floating_point():
        if not bool((pixels >= 0).all() and (pixels <= 1).all()):  # NaN is refused too
            raise _not_rgb(pixels)
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise _not_rgb(pixels)
    return pixels.contiguous().numpy()


def _not_rgb(pixels: Tensor) -> SettingsError:
    return SettingsError(
        f"the image is {str(pixels.dtype).removeprefix('torch.')} of shape {tuple(pixels.shape)}; give RGB pixels, "
        "(height, width, 3) or (3, height, width), uint8 or floats from 0 to 1."
    )


def _check_sides(width: int, height: int) -> None:
    if max(width, height) > MAX_PICTURE_SIDE:
        raise SettingsError(
            f"the image has {width}×{height} pixels; give one of at most {MAX_PICTURE_SIDE} on each side: resizing "
            "longer ones takes gigabytes."
        )


def upright(image: "PIL.Image.Image") -> "PIL.Image.Image":
    """Return an image in RGB, turned as its EXIF data say if they can be read; the given one if nothing is to be done."""
    from PIL import ExifTags, ImageOps

    _check_sides(*image.size)
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else a copy would be made
            image = ImageOps.exif_transpose(image)
    except struct.error:
        logger.info("a picture's EXIF data are damaged; it is not turned")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _read_clip(
    model: VideoEncoder, path: str | os.PathLike[str], settings: IndexSettings, window: Span | None
) -> SampledFrames:
    streams = dict.fromkeys((settings.video_stream, None))
    name = str(user_path(path, "the clip"))
    with FramePool(model.sampling(settings.num_frames), workers=1) as pool:
        for stream in streams:  # the second is read only if the first is not there
            (result,) = pool.read_many([FrameRequest(name, window=window, stream=stream)])
            if result.error is None or result.error.kind is not FailureKind.NO_VIDEO:
                break
    if result.frames is None:
        raise result.error or VideoError(str(path), FailureKind.UNREADABLE, "no frames came back")
    return result.frames


def _encode_frames(
    model: VideoEncoder, pixels: UInt8[np.ndarray, "frames height width 3"], bags: Collection[str]
) -> dict[str, PreparedQuery]:
    found = bags_by_name(model.encode_videos([pixels]), bags)
    tokens = {bag: made[0] if bag == "frame" else made[0][: len(pixels)] for bag, made in found.items()}
    return {bag: PreparedQuery(own.cpu()) for bag, own in tokens.items()}  # expansion tokens come after the frames
