"""Export: the tokens of an index as a table of another system."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from colbert_video.base.checks import check_flags
from colbert_video.base.user_files import user_path
from colbert_video.durable import check_files, fsync_file, fsync_folder, sync_tree
from colbert_video.ecosystem.databases.arrow_rows import table_columns
from colbert_video.ecosystem.databases.lance_table import write_lance
from colbert_video.ecosystem.databases.npz_file import write_npz
from colbert_video.ecosystem.databases.parquet_file import write_parquet
from colbert_video.ecosystem.databases.qdrant_collection import is_address, write_qdrant
from colbert_video.ecosystem.databases.token_batch import FIELDS, TableFacts, TokenBatch, TokenRows, check_name
from colbert_video.errors import SettingsError, shown
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import IndexView
from colbert_video.indexing.catalog.fields import list_fields
from colbert_video.indexing.index.folder import load_settings
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.export import names_a_path
from colbert_video.indexing.upkeep.sharding import is_corpus
from colbert_video.indexing.upkeep.stored import StoredSegment, open_segments
from colbert_video.indexing.upkeep.workplace import workplace
from colbert_video.progress import progress_bar

TableFormat = Literal["lance", "npz", "parquet", "qdrant"]
FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)
DEFAULT_NAME = "videos"
WITH_CODES = ("npz", "parquet")
ROWS = 256
"""Videos that are decoded at once."""


@dataclass(frozen=True)
class TokenExportReport:
    """What `export_tokens` wrote."""

    path: str
    """The new file or folder, or the address of the server."""
    format: TableFormat
    videos: int
    """Rows: videos, and each window of a long one."""
    tokens: dict[str, int]
    """Tokens by bag."""
    codes: bool
    """True if tokens are stored as the index has them, not decoded."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def export_tokens(
    index: str | Path,
    target: str | Path,
    *,
    to: TableFormat,
    name: str = DEFAULT_NAME,
    codes: bool = False,
    half: bool = False,
    keep_paths: bool = True,
) -> TokenExportReport:
    """Write all bags of an index, with ids, times and metadata, for another system.

    Tokens are decoded and not rotated: their inner products with query tokens are the ones that an exact search of the
    index takes. Rows are those that can be found, as of one commit, in the order of the index.

    Args:
        index: The index folder.
        target: A new file ("parquet", "npz") or folder ("lance", "qdrant"); for "qdrant" also the address of a server,
            whose key is in QDRANT_API_KEY.
        to: "lance", "qdrant", "parquet" or "npz".
        name: Name of the table or collection, for "lance" and "qdrant".
        codes: Store codes, residuals and codecs instead of decoded tokens ("parquet" and "npz"): as small as the index,
            and imported without loss.
        half: Store tokens in float16, half as large; scores then differ by up to 1e-3.
        keep_paths: Keep the paths of video files, and that of a model in a folder.

    Raises:
        DependencyError: If the package of the format is not installed.
        IndexFolderError: If there is no finished index, it is damaged, or the target exists or cannot be written.
        SettingsError: If the format is unknown, or cannot hold codes.
    """
    check_flags(codes=codes, half=half, keep_paths=keep_paths)
    if to not in FORMATS:
        raise SettingsError(f"to={shown(to)}: choose one of {', '.join(FORMATS)}.")
    if codes and (to not in WITH_CODES or half):
        raise SettingsError(f"codes=True is for {' and '.join(WITH_CODES)}, without half: others compare vectors.")
    check_name(name)
    folder = user_path(index, "the index")
    if is_corpus(folder):
        raise SettingsError(
            f"{folder} is a corpus of shards: export each of them; of a folder of .parquet files one index is imported."
        )
    with Catalog.open(folder) as catalog:
        start = partial(_Export, catalog, load_settings(catalog), codes=codes, half=half, keep_paths=keep_paths)
        if to == "qdrant" and is_address(target):
            return start().write(to, str(target), name)
        return _to_disk(catalog, user_path(target, "target"), to, name, start)


def _to_disk(
    catalog: Catalog, target: Path, kind: TableFormat, name: str, start: Callable[[], "_Export"]
) -> TokenExportReport:
    """Write a file or folder that appears when it is complete."""
    with workplace(target) as place:

        def write(view: IndexView) -> TokenExportReport:
            new = place / f"new.{kind}"
            shutil.rmtree(new, ignore_errors=True)
            new.unlink(missing_ok=True)
            report = start().write(kind, str(new), name)
            (sync_tree if new.is_dir() else fsync_file)(new)
            new.rename(target)
            fsync_folder(target.parent)
            return replace(report, path=str(target))

        return catalog.read_commit(write)


class _Export:
    """One commit of an index, ready to be written."""

    def __init__(self, catalog: Catalog, settings: IndexSettings, *, codes: bool, half: bool, keep_paths: bool) -> None:
        check_files(catalog.folder, catalog.files())
        self._catalog, self._settings, self._keep_paths, self._codes = catalog, settings, keep_paths, codes
        self._segments = open_segments(catalog, settings)
        fields = {each.name: each.kinds for each in list_fields([catalog])}
        taken = [
            "id",
            "metadata",
            *FIELDS,
            *(f"{bag}{end}" for bag in settings.bags for end in ("", "_codes", "_residuals")),
        ]
        codecs = self._segments[0].codecs if codes and self._segments else {}
        self._check_one_codec(codes)
        values = settings.to_dict()
        if not keep_paths and settings.model is not None and names_a_path(settings.model):
            values |= {"model": None}
        self._facts = TableFacts(values, codecs, table_columns(fields, taken), half)

    def __len__(self) -> int:
        return sum(len(segment.live) for segment in self._segments)

    def _check_one_codec(self, codes: bool) -> None:
        prints = {tuple(codec.fingerprint for codec in segment.codecs.values()) for segment in self._segments}
        if codes and len(prints) > 1:
            raise SettingsError(
                f"{self._catalog.folder} has segments of {len(prints)} codecs: `colbert-video compact` gives all the newest."
            )

    def write(self, kind: TableFormat, place: str, name: str) -> TokenExportReport:
        """Write all rows to a path, or to the address of a server."""
        bags = self._settings.bags
        with progress_bar("exporting tokens", total=None if kind == "npz" else len(self)) as bar:

            def batches() -> Iterator[TokenBatch]:
                for batch in self._batches():
                    yield batch
                    bar.advance(len(batch.entries) if kind != "npz" else 0)

            rows = TokenRows(batches, self._facts, bags, self._settings.dim, self._keep_paths)
            if kind == "parquet":
                write_parquet(Path(place), rows)
            elif kind == "npz":
                write_npz(Path(place), rows)
            elif kind == "lance":
                write_lance(Path(place), rows, name)
            else:
                write_qdrant(place, rows, name)
        counts = {bag: sum(int(each.bags[bag].doclens[each.live].sum()) for each in self._segments) for bag in bags}
        return TokenExportReport(place, kind, len(self), counts, self._codes)

    def _batches(self) -> Iterator[TokenBatch]:
        for segment in self._segments:
            for rows in segment.live.split(ROWS) if len(segment.live) else ():
                known = self._catalog.entries_at(segment.row.name, rows.tolist())
                entries = [known[row] for row in rows.tolist()]
                if self._facts.codecs:
                    chunk = segment.stored(rows)
                    lengths = chunk.doclens
                    codes = {bag: _split(tokens.codes, lengths[bag]) for bag, tokens in chunk.tokens.items()}
                    residuals = {bag: _split(tokens.residuals, lengths[bag]) for bag, tokens in chunk.tokens.items()}
                    yield TokenBatch(entries, {}, codes, residuals)
                else:
                    yield TokenBatch(entries, _decoded(segment, rows))


def _decoded(segment: StoredSegment, rows: torch.Tensor) -> dict[str, list[np.ndarray]]:
    chunk = segment.decoded(rows)
    return {bag: _split(tokens, chunk.doclens[bag]) for bag, tokens in chunk.tokens.items()}


def _split(tokens: torch.Tensor, lengths: torch.Tensor) -> list[np.ndarray]:
    ends = [0, *lengths.cumsum(0).tolist()]
    flat = tokens.numpy()
    return [flat[start:end] for start, end in pairwise(ends)]
