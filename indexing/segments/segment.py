"""A segment's bag on disk: a complete ColBERT 0.2.22 PLAID index of one chunk, readable by stock colbert-ai.

File by file as colbert/indexing/collection_indexer.py and index_saver.py write them, except that the inverted lists
carry no padding and metadata.json says under "colbert_video" that tokens are rotated: queries must be multiplied by
rotation.pt (`queries @ rotation`) before stock code scores them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
import ujson
from jaxtyping import Float, Int32, Int64, UInt8
from torch import Tensor

from colbert_video.base.access import os_problem, read_problem
from colbert_video.base.once import once_property
from colbert_video.device import Device
from colbert_video.durable import RESTORE, link_or_copy, naming
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.codec.codec import CENTROID_TYPES, ResidualCodec
from colbert_video.indexing.codec.packing import NBITS
from colbert_video.indexing.codec.tensors import read_tensor, read_tensor_pair, write_tensors

ROTATION_FILE = "rotation.pt"
CODEC_FILES = ("centroids.pt", "buckets.pt", "avg_residual.pt", ROTATION_FILE)
BAG_FILES = (
    *CODEC_FILES,
    "0.codes.pt",
    "0.residuals.pt",
    "ivf.pid.pt",
    "doclens.0.json",
    "0.metadata.json",
    "plan.json",
    "metadata.json",
)
MAX_METADATA_BYTES = 2**20
"""Real ones are below 2 KiB."""
MAX_DOCLEN_BYTES = 24
"""What a video takes in doclens.0.json."""
TOKENS_AT_ONCE = 2**20


class BagWriter:
    """Writes one bag chunk by chunk.

    Codes and residuals go to disk as they come, so memory stays flat; `finish` turns them into ColBERT's files
    through memory maps. The files are not synced: sync the folder before relying on it.

        with BagWriter(folder, codec=codec) as writer:
            for codes, residuals, doclens in chunks:
                writer.append(codes, residuals, doclens)
            writer.finish()
    """

    def __init__(self, folder: Path, *, codec: ResidualCodec, codec_folder: Path | None = None) -> None:
        """Start a bag.

        Args:
            folder: The bag's folder; made if missing, must be empty.
            codec: The codec that encoded the tokens.
            codec_folder: Folder in which `codec` is saved already: its files are linked instead of written again.

        Raises:
            IndexFolderError: If `folder` holds files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise IndexFolderError(f"{folder} is not empty; a bag needs its own folder")
        self._folder, self._codec, self._codec_folder = folder, codec, codec_folder
        self._doclens: list[Tensor] = []
        self._codes = (folder / "codes.tmp").open("wb")
        self._residuals = (folder / "residuals.tmp").open("wb")

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._codes.close()
        self._residuals.close()

    def append(
        self, codes: Int32[Tensor, "tokens"], residuals: UInt8[Tensor, "tokens bytes"], doclens: Int64[Tensor, "videos"]
    ) -> None:
        """Add the tokens of some videos.

        Args:
            codes: Centroid of each token.
            residuals: Packed residuals of each token.
            doclens: Tokens of each video, at least one; they sum to the tokens given.

        Raises:
            SettingsError: If the three do not fit each other or the codec.
        """
        width = self._codec.dim * self._codec.nbits // 8
        if residuals.shape != (len(codes), width):
            raise SettingsError(f"residuals have shape {tuple(residuals.shape)}; {(len(codes), width)} is needed")
        if int(doclens.sum()) != len(codes) or bool((doclens < 1).any()):
            raise SettingsError(
                f"doclens sum to {int(doclens.sum())} for {len(codes)} tokens, the least is "
                f"{int(doclens.min()) if len(doclens) else 'missing'}: each video needs a token, together all tokens"
            )
        check_codes(codes, self._codec.num_centroids)
        for file, values in ((self._codes, codes), (self._residuals, residuals)):
            with naming(Path(file.name)):
                file.write(values.contiguous().numpy().data)
        self._doclens.append(doclens.clone())

    def finish(self) -> None:
        """Write all files of the bag.

        Raises:
            SettingsError: If nothing was appended.
        """
        doclens = torch.cat([torch.zeros(0, dtype=torch.int64, device="cpu"), *self._doclens])
        if len(doclens) == 0:
            raise SettingsError(f"no videos were written to {self._folder}; a bag holds at least one")
        tokens = int(doclens.sum())
        codes = self._spooled(self._codes, torch.int32, (tokens,))
        write_tensors(codes, self._folder / "0.codes.pt")
        residuals = self._spooled(self._residuals, torch.uint8, (tokens, self._codec.dim * self._codec.nbits // 8))
        write_tensors(residuals, self._folder / "0.residuals.pt")
        lists = inverted_lists(codes, doclens, self._codec.num_centroids)
        write_tensors(lists, self._folder / "ivf.pid.pt")
        self._write_codec()
        with naming(self._folder):
            write_json_files(self._folder, self._codec, doclens)
        del codes, residuals  # unmap before unlinking
        (self._folder / "codes.tmp").unlink()
        (self._folder / "residuals.tmp").unlink()

    def _spooled(self, file: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """Close a spool and map it as a tensor."""
        with naming(Path(file.name)):
            file.close()
            flat = torch.from_file(file.name, shared=False, size=int(np.prod(shape)), dtype=dtype)
        return flat.view(shape)

    def _write_codec(self) -> None:
        if self._codec_folder is None:
            self._codec.save(self._folder)
            return
        for name in CODEC_FILES:
            link_or_copy(self._codec_folder / name, self._folder / name)


def write_bag(
    folder: Path,
    *,
    codec: ResidualCodec,
    codes: Int32[Tensor, "tokens"],
    residuals: UInt8[Tensor, "tokens bytes"],
    doclens: Int64[Tensor, "videos"],
) -> None:
    """Write a bag that is in memory as a whole; the arguments are those of `BagWriter`."""
    with BagWriter(folder, codec=codec) as writer:
        writer.append(codes, residuals, doclens)
        writer.finish()


@dataclass(frozen=True, eq=False)
class StoredBag:
    """One bag of a segment, checked and mapped into memory."""

    folder: Path
    dim: int
    nbits: int
    num_centroids: int
    codec_fingerprint: str
    """`ResidualCodec.fingerprint` of the codec that encoded it."""
    codes: Int32[Tensor, "tokens"]
    """Centroid of each token."""
    residuals: UInt8[Tensor, "tokens bytes"]
    """Packed residuals, dim * nbits // 8 bytes per token."""
    doclens: Int64[Tensor, "videos"]
    """Tokens of each video, at least one."""
    offsets: Int64[Tensor, "videos+1"]
    """Where each video's tokens start; the last entry is the number of tokens."""
    inverse_lengths: Float[Tensor, "tokens"] = field(init=False)
    """1 / length of each decoded token; 0 until the compiled kernels first decode it and store it here."""

    def __post_init__(self) -> None:
        # Made at once, not when first wanted: all threads must write into the same memory. NumPy's zeros, unlike
        # torch's, take room only when they are written.
        lengths = torch.from_numpy(np.zeros(len(self.codes), dtype=np.float32))
        object.__setattr__(self, "inverse_lengths", lengths)

    def token_rows(self, rows: Int64[Tensor, "videos"]) -> tuple[Int64[Tensor, "tokens"], Int64[Tensor, "videos"]]:
        """Return the rows of some videos' tokens, video by video, and how many tokens each has."""
        lengths = self.doclens[rows]
        starts = lengths.cumsum(0) - lengths  # where each video's run begins in the result
        shifts = (self.offsets[rows] - starts).repeat_interleave(lengths)  # (tokens,)
        return torch.arange(len(shifts), device=shifts.device) + shifts, lengths

    def to(self, device: Device) -> "StoredBag":
        """Return this bag in the memory of `device`, still compressed."""
        return replace(
            self,
            codes=self.codes.to(device),
            residuals=self.residuals.to(device),
            doclens=self.doclens.to(device),
            offsets=self.offsets.to(device),
        )

    @property
    def ivf(self) -> Int32[Tensor, "entries"]:
        """Videos of each centroid, the lists one after the other."""
        return self._lists[0]

    @property
    def ivf_lengths(self) -> Int64[Tensor, "centroids"]:
        """Length of each centroid's list."""
        return self._lists[1]

    @once_property
    def _lists(self) -> tuple[Int32[Tensor, "entries"], Int64[Tensor, "centroids"]]:
        path = self.folder / "ivf.pid.pt"
        ivf, lengths = read_tensor_pair(path, (torch.int32, torch.int64), ((None,), (self.num_centroids,)), mmap=True)
        if bool((lengths < 0).any()) or bool((lengths > len(ivf)).any()) or int(lengths.sum()) != len(ivf):
            raise damaged(path, f"its lengths do not add up to its {len(ivf)} entries")
        if len(ivf) == 0 or int(ivf.min()) < 0 or int(ivf.max()) >= len(self.doclens):
            raise damaged(path, f"it names videos outside 0 to {len(self.doclens) - 1}")
        return ivf, lengths


def open_bag(folder: Path) -> StoredBag:
    """Open a bag and check it before anything is computed from it.

    Codes and residuals stay on disk, mapped into memory; every code is read once to check its range.

    Args:
        folder: A folder that `BagWriter` wrote.

    Returns:
        The bag.

    Raises:
        IndexFolderError: If a file is missing or damaged, or files contradict each other; the message names the file.
    """
    metadata = read_metadata(folder / "metadata.json")
    dim, nbits, centroids = metadata["dim"], metadata["nbits"], metadata["num_partitions"]
    read_tensor(folder / "centroids.pt", CENTROID_TYPES, (centroids, dim), mmap=True)
    tokens = metadata["num_embeddings"]
    codes = read_tensor(folder / "0.codes.pt", torch.int32, (tokens,), mmap=True)
    residuals = read_tensor(folder / "0.residuals.pt", torch.uint8, (tokens, dim * nbits // 8), mmap=True)
    doclens = read_doclens(folder / "doclens.0.json", tokens)
    try:
        check_codes(codes, centroids)
    except SettingsError as error:
        raise damaged(folder / "0.codes.pt", str(error)) from error
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), doclens.cumsum(0)])
    fingerprint = metadata["codec"]
    return StoredBag(folder, dim, nbits, centroids, fingerprint, codes, residuals, doclens, offsets)


def check_bag(stored: StoredBag, codec: ResidualCodec, videos: int) -> None:
    """Check that a bag belongs to a codec, beyond whose centroids its codes could lead, and holds so many videos.

    Raises:
        IndexFolderError: If it does not.
    """
    path = stored.folder / "metadata.json"
    ours = codec.dim, codec.nbits, codec.num_centroids, codec.fingerprint
    theirs = stored.dim, stored.nbits, stored.num_centroids, stored.codec_fingerprint
    if ours != theirs:
        raise damaged(path, f"dim, nbits, centroids and codec are {theirs} instead of {ours}")
    if len(stored.doclens) != videos:
        raise damaged(path, f"the bag holds {len(stored.doclens)} videos instead of {videos}")


def check_codes(codes: Int32[Tensor, "tokens"], centroids: int) -> None:
    """Check that every code names a centroid.

    Raises:
        SettingsError: If a code is outside [0, centroids).
    """
    if len(codes) == 0:
        return
    least, most = (int(value) for value in codes.aminmax())
    if least < 0 or most >= centroids:
        raise SettingsError(
            f"codes run from {least} to {most}, but there are {centroids} centroids: 0 to {centroids - 1}"
        )


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
        IndexFolderError: If the file is missing, or an entry is missing or unusable.
    """
    content = _read_json(path, MAX_METADATA_BYTES)
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
        tokens: Number of tokens in the bag.

    Returns:
        Tokens of each video, each at least 1, together `tokens`.

    Raises:
        IndexFolderError: If the file is missing, or does not hold such numbers.
    """
    content = _read_json(path, MAX_DOCLEN_BYTES * tokens + MAX_METADATA_BYTES)  # each video has a token at least
    try:
        doclens = np.asarray(content)
    except ValueError as error:  # lists of unequal length
        raise damaged(path, "it is not a list of whole numbers") from error
    if doclens.dtype.kind != "i" or doclens.ndim != 1 or len(doclens) == 0:
        raise damaged(path, "it is not a list of whole numbers")
    if doclens.min() < 1 or doclens.max() > tokens or int(doclens.sum()) != tokens:
        raise damaged(path, f"its lengths are not positive with sum {tokens}, the tokens of the bag")
    return torch.from_numpy(doclens.astype(np.int64))


def _read_json(path: Path, max_bytes: int) -> Any:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise damaged(path, f"{size} bytes is more than the {max_bytes} such a file can have")
        return ujson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise IndexFolderError(f"{path} is missing; {RESTORE}") from error
    except OSError as error:
        raise IndexFolderError(f"{path} cannot be read: {read_problem(path) or os_problem(error)}") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> IndexFolderError:
    """Return the error that names a damaged file."""
    return IndexFolderError(f"{path} is damaged: {reason}; {RESTORE}")


def inverted_lists(
    codes: Int32[Tensor, "tokens"],
    doclens: Int64[Tensor, "videos"],
    centroids: int,
    *,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> tuple[Int32[Tensor, "entries"], Int64[Tensor, "centroids"]]:
    """List the videos of each centroid, as ColBERT's `optimize_ivf` does, without padding at the end.

    Counts first, then fills: memory beyond the result is bounded by `tokens_at_once`.

    Args:
        codes: Centroid of each token, in [0, centroids).
        doclens: Tokens of each video, in order.
        centroids: Number of centroids.
        tokens_at_once: Tokens sorted in one go, rounded to whole videos.

    Returns:
        Video numbers (pids), the lists one after the other, unique and ascending in each; and each list's length.
    """
    lengths = torch.zeros(centroids, dtype=torch.int64, device="cpu")
    for pairs, _ in _centroid_video_pairs(codes, doclens, tokens_at_once):
        lengths += torch.bincount(pairs[:, 0], minlength=centroids)
    videos = torch.empty(int(lengths.sum()), dtype=torch.int32, device="cpu")
    free = lengths.cumsum(0) - lengths  # next free place of each list
    for pairs, first_video in _centroid_video_pairs(codes, doclens, tokens_at_once):
        counts = torch.bincount(pairs[:, 0], minlength=centroids)
        rank = torch.arange(len(pairs), device="cpu") - (counts.cumsum(0) - counts)[pairs[:, 0]]
        videos[free[pairs[:, 0]] + rank] = (pairs[:, 1] + first_video).int()
        free += counts
    return videos, lengths


def _centroid_video_pairs(
    codes: Int32[Tensor, "tokens"], doclens: Int64[Tensor, "videos"], tokens_at_once: int
) -> Iterator[tuple[Int64[Tensor, "pairs 2"], int]]:
    """Yield unique (centroid, video) pairs in ascending order, chunk by chunk, with the chunk's first video."""
    ends = doclens.cumsum(0).numpy()
    first = start = 0
    while first < len(doclens):
        stop = max(first + 1, int(np.searchsorted(ends, start + tokens_at_once, side="right")))
        lengths = doclens[first:stop]
        video = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
        keys = (codes[start : int(ends[stop - 1])].long() * len(lengths) + video).unique()
        yield torch.stack([keys // len(lengths), keys % len(lengths)], dim=1), first
        first, start = stop, int(ends[stop - 1])
