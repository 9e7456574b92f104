"""Import: an index of a table that `export_tokens` wrote, or of another one with bags of vectors."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colbert_video.base.checks import whole_number
from colbert_video.base.user_files import user_path
from colbert_video.durable import new_name
from colbert_video.ecosystem.databases.lance_table import LanceTable
from colbert_video.ecosystem.databases.npz_file import NpzTable
from colbert_video.ecosystem.databases.parquet_file import ParquetTable
from colbert_video.ecosystem.databases.qdrant_collection import QdrantTable, is_address
from colbert_video.ecosystem.databases.token_batch import TokenBatch, TokenTable, check_name
from colbert_video.ecosystem.databases.token_export import DEFAULT_NAME, FORMATS, TableFormat
from colbert_video.errors import IndexFolderError, SettingsError, shown
from colbert_video.indexing.build.arrays import ArraySource
from colbert_video.indexing.build.commit import commit_segment, sync_and_describe
from colbert_video.indexing.build.segment_builder import CompressedChunk, write_segment
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import NewSegment
from colbert_video.indexing.codec.codec import EncodedTokens, ResidualCodec
from colbert_video.indexing.index.chunks import TokenChunk
from colbert_video.indexing.index.folder import (
    CODECS,
    SEGMENTS,
    SETTINGS_KEY,
    check_can_begin,
    check_not_finished,
    sweep,
    writing,
)
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.progress import progress_bar


@dataclass(frozen=True)
class TokenImportReport:
    """What `import_tokens` made."""

    path: str
    """The new index."""
    format: TableFormat
    videos: int
    """Rows: videos, and each window of a long one."""
    tokens: dict[str, int]
    """Tokens by bag."""
    exact: bool
    """True if codes were copied, so that scores are those of the index they came from."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def import_tokens(
    source: str | Path,
    index: str | Path,
    *,
    kind: TableFormat | None = None,
    name: str = DEFAULT_NAME,
    nbits: int | None = None,
) -> TokenImportReport:
    """Make an index of a table.

    Codes are copied as they are. Vectors are compressed by a new codec: a score then differs by no more than the
    largest distance of a token from what is stored of it, weighted as the bags are.

    Args:
        source: The file or folder, or the address of a Qdrant server.
        index: The new index folder.
        kind: "lance", "qdrant", "parquet" or "npz"; None to tell it from the source.
        name: Name of the table or collection.
        nbits: Bits kept of each residual dimension; None for those of the index that was exported, else 4.

    Raises:
        DependencyError: If the package of the format is not installed.
        IndexFolderError: If the source is damaged, or the index exists or cannot be written.
        SettingsError: If the source holds no tokens, or values that an index cannot hold.
    """
    target = user_path(index, "the index")
    check_name(name)
    kind, table = _open(source, kind, name)
    check_not_finished(target)
    check_can_begin(target)
    rows = _Rows(table, str(source))
    settings = _settings(table, rows, nbits)
    with writing(target, create=True) as catalog:
        check_not_finished(target)
        exact = {codec.nbits for codec in table.facts.codecs.values()} == {settings.nbits}
        if exact:
            _copy_codes(catalog, rows, settings, table.facts.codecs)
        else:
            commit_segment(catalog, rows, settings, replace_all=True)
    return TokenImportReport(str(target), kind, len(rows), rows.counts(), exact)


def find_format(source: str | Path, name: str = DEFAULT_NAME) -> TableFormat | None:
    """Return the format of a table; None if a place holds none."""
    if is_address(source):
        return "qdrant"
    path = user_path(source, "the source")
    with suppress(OSError):
        if path.suffix in (".npz", ".parquet") and path.is_file():
            return "npz" if path.suffix == ".npz" else "parquet"
        if path.is_dir() and any(path.glob("*.lance")):
            return "lance"
        if (path / "meta.json").is_file() and (path / "collection").is_dir():
            return "qdrant"
        if path.is_dir() and any(path.glob("*.parquet")):
            return "parquet"
    return None


def _open(source: str | Path, kind: TableFormat | None, name: str) -> tuple[TableFormat, TokenTable]:
    if kind is not None and kind not in FORMATS:
        raise SettingsError(f"kind={shown(kind)}: choose one of {', '.join(FORMATS)}.")
    found = kind or find_format(source, name)
    if found is None:
        raise SettingsError(
            f"{shown(str(source))} is not a table of tokens: give a .parquet or .npz file, a folder of LanceDB or Qdrant, or the "
            "address of a Qdrant server."
        )
    if found == "qdrant":
        return found, QdrantTable(source if isinstance(source, str) and is_address(source) else _existing(source), name)
    path = Path(_existing(source))
    if found == "lance":
        return found, LanceTable(path, name)
    return found, NpzTable(path) if found == "npz" else ParquetTable(path)


def _existing(source: str | Path) -> str:
    path = user_path(source, "the source")
    if not path.exists():
        raise IndexFolderError(f"there is no {path}: check the path.")
    return str(path)


class _Rows:
    """The rows of a table as a `TokenSource`, checked as tokens of another encoder are."""

    def __init__(self, table: TokenTable, source: str) -> None:
        self._table = table
        self._counts: dict[str, int] = {}
        self.dims: dict[str, int] = {bag: codec.dim for bag, codec in table.facts.codecs.items()}
        self._number = 0
        seen: set[str] = set()
        for batch in table.batches():
            self._look_through(batch, seen, source)
        if not self._number:
            raise SettingsError(f"{source} has no rows; at least one video is needed.")

    def _look_through(self, batch: TokenBatch, seen: set[str], source: str) -> None:
        for entry in batch.entries:
            if entry.id in seen:
                raise SettingsError(f"{source} has the id {shown(entry.id)} twice; ids must be unique.")
            seen.add(entry.id)
        self._number += len(batch.entries)
        for bag, arrays in (batch.codes or batch.bags).items():
            self._counts[bag] = self._counts.get(bag, 0) + sum(map(len, arrays))
        for bag, arrays in batch.bags.items():
            self.dims.setdefault(bag, next((each.shape[1] for each in arrays if each.ndim == 2), 0))

    def counts(self) -> dict[str, int]:
        """Return the number of tokens in each bag."""
        return self._counts

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[TokenChunk]:
        codecs = self._table.facts.codecs
        for batch in self._table.batches():
            bags = {bag: _decode(codecs[bag], batch, bag) for bag in batch.codes} if codecs else batch.bags
            names = [entry.id for entry in batch.entries]
            dim = next(iter(self.dims.values()))
            start = 0
            for chunk in ArraySource(names, {bag: list(arrays) for bag, arrays in bags.items()}, dim=dim):
                entries = batch.entries[start : start + len(chunk.entries)]
                start += len(entries)
                yield TokenChunk(entries, chunk.tokens, chunk.doclens)

    def compressed(self, codecs: Mapping[str, ResidualCodec]) -> Iterator[CompressedChunk]:
        """Yield all videos as they were stored."""
        for batch in self._table.batches():
            tokens = {bag: _encoded(codec, batch, bag) for bag, codec in codecs.items()}
            lengths = {bag: torch.tensor([len(each) for each in batch.codes[bag]]) for bag in codecs}
            yield CompressedChunk(batch.entries, tokens, lengths)


def _encoded(codec: ResidualCodec, batch: TokenBatch, bag: str) -> EncodedTokens:
    """Return the codes of a batch, checked: they come from elsewhere.

    Raises:
        SettingsError: If they are not those of the codec.
    """
    codes, residuals = np.concatenate([*batch.codes[bag]]), np.concatenate([*batch.residuals[bag]])
    width = codec.dim * codec.nbits // 8
    short = [len(each) for each in batch.codes[bag]] != [len(each) for each in batch.residuals[bag]]
    if short or residuals.shape != (len(codes), width) or codes.ndim != 1 or min(map(len, batch.codes[bag])) == 0:
        raise SettingsError(
            f"the codes of the {bag} tokens and their residuals do not belong together; export them again."
        )
    if codes.min() < 0 or codes.max() >= codec.num_centroids:
        raise SettingsError(
            f"a code of the {bag} tokens is not one of {codec.num_centroids} centroids; export them again."
        )
    return EncodedTokens(torch.from_numpy(codes.astype(np.int32)), torch.from_numpy(residuals.astype(np.uint8)))


def _decode(codec: ResidualCodec, batch: TokenBatch, bag: str) -> list[np.ndarray]:
    stored = _encoded(codec, batch, bag)
    tokens = (codec.decode(stored.codes, stored.residuals) @ codec.rotation.T).numpy()
    return np.split(tokens, np.cumsum([len(each) for each in batch.codes[bag]])[:-1])


def _settings(table: TokenTable, rows: _Rows, nbits: int | None) -> IndexSettings:
    """Return the settings of the new index."""
    given = [codec.nbits for codec in table.facts.codecs.values()] if nbits is None else [nbits]
    bits: dict[str, Any] = {"nbits": whole_number("nbits", given[0], least=1)} if given else {}
    if table.facts.settings is not None:
        settings = IndexSettings.from_dict(table.facts.settings)
        if set(settings.bags) != set(rows.counts()):
            raise IndexFolderError(
                f"the table holds the bags {(*rows.counts(),)}, its description {settings.bags}; export it again."
            )
        return replace(settings, **bits)
    return IndexSettings(dim=next(iter(rows.dims.values())), bags=tuple(sorted(rows.counts())), **bits)


def _copy_codes(catalog: Catalog, rows: _Rows, settings: IndexSettings, codecs: Mapping[str, ResidualCodec]) -> None:
    """Write a segment of stored codes, and make it visible."""
    folder, codec, name = catalog.folder, new_name(), new_name()
    ordered = {bag: codecs[bag] for bag in settings.bags}
    for bag, each in ordered.items():
        each.save(folder / CODECS / codec / bag)
    with progress_bar("copying videos", total=len(rows)) as bar:
        chunks = rows.compressed(ordered)
        entries = write_segment(
            folder / SEGMENTS / name, chunks, ordered, codec_folder=folder / CODECS / codec, bar=bar
        )
    files = sync_and_describe(folder, [folder / CODECS / codec, folder / SEGMENTS / name])
    segment = NewSegment(name, codec, entries, files)
    catalog.replace_everything([segment], settings={SETTINGS_KEY: settings.to_dict()}, forget_failures=True)
    sweep(catalog)
