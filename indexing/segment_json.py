"""The JSON files of a bag: doclens, chunk metadata, plan and metadata, as ColBERT 0.2.22 writes and reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import ujson
from jaxtyping import Int64
from torch import Tensor

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.codec import ResidualCodec
from colbert_video.indexing.packing import NBITS

METADATA_MOST = 2**20  # bytes; real ones are below 2 KiB
DOCLEN_MOST = 24  # bytes a video takes in doclens.0.json


def write_json_files(folder: Path, codec: ResidualCodec, doclens: Int64[Tensor, "videos"]) -> None:
    """Write all JSON files of a bag into its folder.

    Args:
        folder: The bag's folder.
        codec: The codec that encoded its tokens.
        doclens: Tokens of each video.
    """
    videos, tokens = len(doclens), int(doclens.sum())
    chunk = {"passage_offset": 0, "num_passages": videos, "num_embeddings": tokens, "embedding_offset": 0}
    shared = {
        "config": _colbert_config(codec, int(doclens.max())),
        "num_chunks": 1,
        "num_partitions": codec.num_centroids,
    }
    plan = {**shared, "num_embeddings_est": float(tokens), "avg_doclen_est": tokens / videos}
    metadata = {**shared, "num_embeddings": tokens, "avg_doclen": tokens / videos}
    (folder / "doclens.0.json").write_text(ujson.dumps(doclens.tolist()))
    (folder / "0.metadata.json").write_text(ujson.dumps(chunk, indent=4) + "\n")
    (folder / "plan.json").write_text(ujson.dumps(plan, indent=4) + "\n")
    (folder / "metadata.json").write_text(ujson.dumps(metadata, indent=4) + "\n")


def _colbert_config(codec: ResidualCodec, longest: int) -> dict[str, Any]:
    """Return the settings stock ColBERT reads; it skips keys it does not know."""
    ours = {"rotated": codec.rotated, "rotation": "queries @ rotation.pt", "codec": codec.fingerprint}
    return {"dim": codec.dim, "nbits": codec.nbits, "doc_maxlen": longest, "colbert_video": ours}


def read_metadata(path: Path) -> dict[str, Any]:
    """Read metadata.json.

    Returns:
        dim, nbits, num_partitions, num_embeddings and num_chunks, positive numbers, and the codec's fingerprint.

    Raises:
        IndexFolderError: The file is missing, or something is wrong with it.
    """
    content = _read_json(path, METADATA_MOST)
    try:
        config = content["config"]
        found = {
            "dim": config["dim"],
            "nbits": config["nbits"],
            "num_partitions": content["num_partitions"],
            "num_embeddings": content["num_embeddings"],
            "num_chunks": content["num_chunks"],
        }
        fingerprint = config["colbert_video"]["codec"]
    except (KeyError, TypeError, IndexError) as error:
        raise damaged(path, f"the entry {error} is missing") from error
    wrong = {name: value for name, value in found.items() if type(value) is not int or not 1 <= value < 2**48}
    if wrong or not isinstance(fingerprint, str) or found["nbits"] not in NBITS or found["num_chunks"] != 1:
        raise damaged(path, f"unusable values {wrong or found}")
    return {**found, "codec": fingerprint}


def read_doclens(path: Path, tokens: int) -> Int64[Tensor, "videos"]:
    """Read doclens.0.json.

    Args:
        path: The file.
        tokens: How many tokens the bag has.

    Returns:
        Tokens of each video, each at least 1, together `tokens`.

    Raises:
        IndexFolderError: The file is missing, or something is wrong with it.
    """
    content = _read_json(path, DOCLEN_MOST * tokens + METADATA_MOST)  # each video has a token at least
    try:
        doclens = np.asarray(content)
    except ValueError as error:  # lists of unequal length
        raise damaged(path, "it is not a list of whole numbers") from error
    if doclens.dtype.kind != "i" or doclens.ndim != 1 or len(doclens) == 0:
        raise damaged(path, "it is not a list of whole numbers")
    if doclens.min() < 1 or doclens.max() > tokens or int(doclens.sum()) != tokens:
        raise damaged(path, f"its lengths are not positive with sum {tokens}, the tokens of the bag")
    return torch.from_numpy(doclens.astype(np.int64))


def _read_json(path: Path, most: int) -> Any:
    try:
        size = path.stat().st_size
        if size > most:
            raise damaged(path, f"{size} bytes is more than the {most} such a file can have")
        return ujson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise IndexFolderError(f"{path} is missing; restore it or rebuild the index") from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> IndexFolderError:
    """Return the error that names a damaged file."""
    return IndexFolderError(f"{path} is damaged: {reason}; restore it or rebuild the index")
