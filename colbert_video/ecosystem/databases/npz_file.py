"""Tokens in a file of NumPy arrays, which `numpy.load` opens.

`BAG.tokens` is (tokens, dim) and `BAG.lengths` (videos,); with codes there are `BAG.codes` and `BAG.residuals` instead of the
tokens, and the arrays of the codec, `codec.BAG.centroids` and so on. `ids` has the ids, `videos.jsonl` one JSON object for each video with
the rest. Tokens are written and read piece by piece.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colbert_video.ecosystem.databases.codec_bytes import ARRAYS, DIRECTION, codec_from_arrays
from colbert_video.ecosystem.databases.token_batch import (
    ABOUT,
    TableFacts,
    TokenBatch,
    TokenRows,
    entry_of,
    read_facts,
    row_of,
)
from colbert_video.errors import ColBERTVideoError, IndexFolderError, SettingsError, shown
from colbert_video.indexing.codec.codec import ResidualCodec

VIDEOS = "videos.jsonl"
ROWS = 1024
"""Videos that are read at once."""
READ = 2**22
"""Bytes that are read at once."""


def write_npz(path: Path, rows: TokenRows) -> None:
    """Write one file; the batches are read once for each array."""
    facts, batches = rows.facts, rows.batches
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        ids, lengths = _write_videos(archive, rows)
        archive.writestr(f"{ABOUT}.json", facts.to_json())
        _write_array(archive, "ids", np.array(ids))
        for bag in rows.bags:
            _write_array(archive, f"{bag}.lengths", np.array(lengths[bag], np.int64))
            total = sum(lengths[bag])
            if not facts.codecs:
                kind = np.dtype(np.float16 if facts.half else np.float32)
                _write_parts(archive, f"{bag}.tokens", (b.bags[bag] for b in batches()), (total, rows.dim), kind)
                continue
            codec = facts.codecs[bag]
            width = codec.dim * codec.nbits // 8
            _write_parts(archive, f"{bag}.codes", (b.codes[bag] for b in batches()), (total,), np.dtype(np.int32))
            _write_parts(
                archive, f"{bag}.residuals", (b.residuals[bag] for b in batches()), (total, width), np.dtype(np.uint8)
            )
            _write_codec(archive, bag, codec)


def _write_videos(archive: zipfile.ZipFile, rows: TokenRows) -> tuple[list[str], dict[str, list[int]]]:
    """Write what is known of each video; return the ids and the numbers of tokens."""
    ids: list[str] = []
    lengths: dict[str, list[int]] = {bag: [] for bag in rows.bags}
    with archive.open(VIDEOS, "w", force_zip64=True) as file:
        for batch in rows.batches():
            for entry in batch.entries:
                ids.append(entry.id)
                file.write((json.dumps(row_of(entry, keep_paths=rows.keep_paths)) + "\n").encode())
            for bag in rows.bags:
                lengths[bag] += map(len, (batch.codes or batch.bags)[bag])
    return ids, lengths


def _write_codec(archive: zipfile.ZipFile, bag: str, codec: ResidualCodec) -> None:
    for name in ARRAYS:
        _write_array(archive, f"codec.{bag}.{name}", getattr(codec, name).cpu().numpy())
    if codec.query_direction is not None:
        _write_array(archive, f"codec.{bag}.{DIRECTION}", codec.query_direction.cpu().numpy())
    _write_array(archive, f"codec.{bag}.avg_residual", np.array(codec.avg_residual))
    _write_array(archive, f"codec.{bag}.nbits", np.array(codec.nbits))


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _write_parts(
    archive: zipfile.ZipFile, name: str, parts: Iterable[Sequence[np.ndarray]], shape: tuple[int, ...], kind: np.dtype
) -> None:
    """Write an array that comes in parts, one after the other."""
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for arrays in parts:
            file.write(np.concatenate(list(arrays)).astype(kind, copy=False).tobytes())


class NpzTable:
    """A file of arrays that is open for reading: one of `write_npz`, or another with `ids` and `BAG.tokens`.

    Another's `BAG.tokens` may be (videos, tokens, dim), which needs no `BAG.lengths`.

    Raises:
        IndexFolderError: If it is damaged.
        SettingsError: If it holds no tokens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._opened() as archive:
            names = set(archive.namelist())
            about = archive.read(f"{ABOUT}.json") if f"{ABOUT}.json" in names else None
            ends = {".tokens.npy", ".codes.npy"}
            self._bags = sorted({name.removesuffix(end) for name in names for end in ends if name.endswith(end)})
            self._described = VIDEOS in names
            if not self._bags or "ids.npy" not in names:
                raise SettingsError(
                    f"{path} holds {shown(', '.join(sorted(names)))}; needed are 'ids', and for each bag 'BAG.tokens' "
                    "with 'BAG.lengths'."
                )
            self._lengths = {b: self._array(archive, f"{b}.lengths") for b in self._bags if f"{b}.lengths.npy" in names}
            codecs = {bag: self._codec(archive, bag) for bag in self._bags if f"codec.{bag}.nbits.npy" in names}
        self.facts = TableFacts(read_facts(about, str(path)), codecs)

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile) as error:
            raise IndexFolderError(f"{self._path} cannot be read as npz: {error}") from error

    def _array(self, archive: zipfile.ZipFile, name: str) -> np.ndarray:
        try:
            return np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise IndexFolderError(f"{self._path} is damaged: its array {name} cannot be read: {error}") from error

    def _codec(self, archive: zipfile.ZipFile, bag: str) -> ResidualCodec:
        names = [
            name for name in (*ARRAYS, DIRECTION, "avg_residual", "nbits") if _member(bag, name) in archive.namelist()
        ]
        arrays = {name: torch.from_numpy(self._array(archive, f"codec.{bag}.{name}")) for name in names}
        try:
            return codec_from_arrays(arrays)
        except (ValueError, KeyError, TypeError, RuntimeError, ColBERTVideoError) as error:
            raise IndexFolderError(f"{self._path} is damaged: the codec of {bag}: {error}") from error

    def batches(self) -> Iterator[TokenBatch]:
        """Yield all videos, in order."""
        with self._opened() as archive:
            ids = [str(name) for name in self._array(archive, "ids").tolist()]
            rows = self._rows(archive, ids)
            kinds = ("codes", "residuals") if self.facts.codecs else ("tokens",)
            streams = {(bag, kind): _Stream.open(archive, f"{bag}.{kind}") for bag in self._bags for kind in kinds}
            for start in range(0, len(ids), ROWS):
                chosen = slice(start, min(start + ROWS, len(ids)))
                read = {key: self._read(stream, key[0], chosen) for key, stream in streams.items()}
                entries = [entry_of(row, str(self._path)) for row in islice(rows, chosen.stop - start)]
                yield TokenBatch(
                    entries,
                    *(
                        {bag: read[bag, kind] for bag in self._bags if (bag, kind) in read}
                        for kind in ("tokens", "codes", "residuals")
                    ),
                )

    def _rows(self, archive: zipfile.ZipFile, ids: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        if not self._described:
            yield from ({"id": name} for name in ids)
            return
        with archive.open(VIDEOS) as file:
            for name, line in zip(ids, file, strict=False):
                try:
                    row = json.loads(line)
                    if row["id"] != name:
                        raise ValueError("its ids are in another order")
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise IndexFolderError(
                        f"{self._path} is damaged: {VIDEOS}, video {shown(name)}: {error}"
                    ) from error
                yield row

    def _read(self, stream: "_Stream", bag: str, rows: slice) -> list[np.ndarray]:
        """Return the arrays of some videos of a bag."""
        try:
            if len(stream.shape) == 3:
                return list(stream.read(rows.stop - rows.start))
            lengths = self._lengths[bag][rows]
            if len(lengths) != rows.stop - rows.start or (lengths < 0).any():
                raise ValueError("there are not as many lengths as ids")
            return np.split(stream.read(int(lengths.sum())), np.cumsum(lengths)[:-1])
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise IndexFolderError(f"{self._path} is damaged: the {bag} tokens cannot be read: {error}") from error


def _member(bag: str, name: str) -> str:
    return f"codec.{bag}.{name}.npy"


@dataclass
class _Stream:
    """An array that is read from its beginning, some rows at a time."""

    file: zipfile.ZipExtFile
    shape: tuple[int, ...]
    kind: np.dtype

    @classmethod
    def open(cls, archive: zipfile.ZipFile, name: str) -> "_Stream":
        try:
            file: Any = archive.open(f"{name}.npy")
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, kind = header(file)
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise IndexFolderError(f"{archive.filename} is damaged: its array {name}: {error}") from error
        if fortran or kind.hasobject:
            raise SettingsError(f"{archive.filename}, {name}: save plain arrays in C order (numpy.ascontiguousarray).")
        return cls(file, shape, kind)

    def read(self, rows: int) -> np.ndarray:
        """Return the next rows."""
        shape = (rows, *self.shape[1:])
        size = int(np.prod(shape)) * self.kind.itemsize
        data = bytearray()
        while len(data) < size:
            part = self.file.read(min(READ, size - len(data)))
            if not part:
                raise ValueError("the array is shorter than the lengths say")
            data += part
        return np.frombuffer(data, self.kind).reshape(shape)
