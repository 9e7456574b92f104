"""A codec as bytes, in the form of safetensors."""

import base64

import torch

from colbert_video.errors import ColBERTVideoError, IndexFolderError
from colbert_video.indexing.codec.codec import ResidualCodec

ARRAYS = ("rotation", "centroids", "cutoffs", "weights")
DIRECTION = "query_direction"


def codec_to_bytes(codec: ResidualCodec) -> bytes:
    """Return a codec's arrays as a safetensors file."""
    from safetensors.torch import save

    arrays = {name: getattr(codec, name).cpu().contiguous() for name in ARRAYS}
    if codec.query_direction is not None:
        arrays[DIRECTION] = codec.query_direction.cpu().contiguous()
    scalars = {
        "avg_residual": torch.tensor(codec.avg_residual, dtype=torch.float64),
        "nbits": torch.tensor(codec.nbits),
    }
    return save({**arrays, **scalars})


def codec_from_bytes(text: bytes, source: str) -> ResidualCodec:
    """Return the codec in a text that holds `codec_to_bytes` in base 85.

    Raises:
        IndexFolderError: If it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return codec_from_arrays(load(base64.b85decode(text)))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, SafetensorError, ColBERTVideoError) as error:
        raise IndexFolderError(f"{source} is damaged: {error}") from error


def codec_from_arrays(arrays: dict[str, torch.Tensor]) -> ResidualCodec:
    """Return a codec of the arrays of `codec_to_bytes`."""
    return ResidualCodec(
        **{name: arrays[name] for name in ARRAYS},
        avg_residual=float(arrays["avg_residual"]),
        nbits=int(arrays["nbits"]),
        query_direction=arrays.get(DIRECTION),
    )
