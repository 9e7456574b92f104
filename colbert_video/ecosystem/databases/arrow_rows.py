"""Batches of tokens as Arrow tables, which Parquet and LanceDB store.

A bag is a column of lists of vectors, `list<fixed_size_list<float>[dim]>`; with codes there are `BAG_codes`
(`list<int32>`) and `BAG_residuals` (`list<fixed_size_binary>`) instead. The metadata are a column of JSON texts, and those
of its keys whose values are all of one plain kind are columns too, to filter by.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from colbert_video.ecosystem.databases.codec_bytes import codec_from_bytes, codec_to_bytes
from colbert_video.ecosystem.databases.token_batch import (
    ABOUT,
    FIELDS,
    TableFacts,
    TokenBatch,
    entry_of,
    optional_package,
    read_facts,
    row_of,
)
from colbert_video.errors import SettingsError, shown

COLUMN = re.compile(r"[^\W\d_][\w ]*")
"""Keys that may be columns: databases keep some others for themselves."""
CODES, RESIDUALS, CODEC = "_codes", "_residuals", "colbert_video.codec."


def import_arrow() -> Any:
    """Return the module `pyarrow`; raises as `optional_package`."""
    return optional_package("pyarrow", package="pyarrow", extra="parquet")


def arrow_schema(facts: TableFacts, bags: Sequence[str], dim: int) -> Any:
    """Return the schema of the tables that `to_arrow` makes."""
    pa = import_arrow()
    kinds = {"text": pa.string(), "number": pa.float64(), "boolean": pa.bool_()}
    columns = {
        "id": pa.string(),
        **dict.fromkeys(("path", "parent"), pa.string()),
        **dict.fromkeys(("start", "end", "duration"), pa.float64()),
        "frame_times": pa.list_(pa.float64()),
        "frame_tokens": pa.list_(pa.int32()),
        **dict.fromkeys(("source_size", "source_mtime_ns"), pa.int64()),
        "metadata": pa.string(),
    }
    about = {ABOUT: facts.to_json()}
    for bag in bags:
        if not facts.codecs:
            columns[bag] = pa.list_(pa.list_(pa.float16() if facts.half else pa.float32(), dim))
            continue
        codec = facts.codecs[bag]
        columns[bag + CODES] = pa.list_(pa.int32())
        columns[bag + RESIDUALS] = pa.list_(pa.binary(codec.dim * codec.nbits // 8))
        about[CODEC + bag] = base64.b85encode(codec_to_bytes(codec)).decode()
    columns |= {name: kinds[kind] for name, kind in facts.columns if name not in columns}
    return pa.schema(list(columns.items()), metadata=about)


def to_arrow(batch: TokenBatch, schema: Any, *, keep_paths: bool) -> Any:
    """Return a batch as an Arrow record batch."""
    pa = import_arrow()
    rows = [row_of(entry, keep_paths=keep_paths) for entry in batch.entries]
    columns: dict[str, Any] = {}
    for name in schema.names:
        bag, _, part = name.rpartition("_")
        if name in ("id", *FIELDS):
            columns[name] = pa.array([row[name] for row in rows], schema.field(name).type)
        elif name == "metadata":
            columns[name] = pa.array([json.dumps(row[name], ensure_ascii=False) for row in rows], pa.string())
        elif name in batch.bags:
            columns[name] = _nested(pa, batch.bags[name], schema.field(name).type)
        elif bag in batch.codes:
            arrays = batch.codes[bag] if f"_{part}" == CODES else batch.residuals[bag]
            columns[name] = _nested(pa, arrays, schema.field(name).type)
        else:
            kind = schema.field(name).type
            values = [row["metadata"].get(name) for row in rows]
            numbers = pa.types.is_floating(kind)  # of which large whole ones are rounded; the metadata have them all
            columns[name] = pa.array([float(v) if numbers and v is not None else v for v in values], kind)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _nested(pa: Any, arrays: Sequence[np.ndarray], kind: Any) -> Any:
    """Return arrays of one row per token as an Arrow array of lists."""
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    flat, inner = np.ascontiguousarray(np.concatenate(list(arrays))), kind.value_type
    if pa.types.is_fixed_size_binary(inner):
        values = pa.FixedSizeBinaryArray.from_buffers(inner, len(flat), [None, pa.py_buffer(flat.tobytes())])
    elif pa.types.is_fixed_size_list(inner):
        plain = pa.array(flat.reshape(-1).astype(inner.value_type.to_pandas_dtype()), inner.value_type)
        values = pa.FixedSizeListArray.from_arrays(plain, type=inner)
    else:
        values = pa.array(flat, inner)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def facts_of(schema: Any, source: str) -> TableFacts:
    """Return what the schema of a table says.

    Raises:
        SettingsError: If it has no id or no bags.
        IndexFolderError: If the description or a codec is damaged.
    """
    about = {key.decode(): value for key, value in (schema.metadata or {}).items()}
    bags = bag_columns(schema)
    if "id" not in schema.names or not bags:
        raise SettingsError(
            f"{source} has the columns {shown(', '.join(schema.names))}; needed are 'id', and for each bag a column of "
            "lists of vectors."
        )
    codecs = {
        bag: codec_from_bytes(about[CODEC + bag], f"{source}, codec of {bag}") for bag in bags if CODEC + bag in about
    }
    return TableFacts(read_facts(about.get(ABOUT), source), codecs)


def bag_columns(schema: Any) -> list[str]:
    """Return the names of the bags: columns of lists of vectors, and those with codes."""
    pa = import_arrow()
    found = []
    for column in schema:
        inner = column.type.value_type if _is_list(pa, column.type) else None
        if inner is not None and _is_list(pa, inner) and pa.types.is_floating(inner.value_type):
            found.append(column.name)
        elif column.name.endswith(CODES) and column.name.removesuffix(CODES) + RESIDUALS in schema.names:
            found.append(column.name.removesuffix(CODES))
    return found


def _is_list(pa: Any, kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def from_arrow(table: Any, facts: TableFacts, source: str) -> TokenBatch:
    """Return an Arrow table or record batch as a batch of tokens.

    Raises:
        SettingsError: If a value is missing or none that a video may have.
    """
    bags = bag_columns(table.schema)
    taken = {name for bag in bags for name in (bag, bag + CODES, bag + RESIDUALS)}
    rest = [name for name in table.schema.names if name not in taken]
    rows = table.select(rest).to_pylist()
    own = {"id", "metadata", *FIELDS}
    if "metadata" not in rest:  # a table of another program: its further columns are the metadata
        rows = [{**row, "metadata": {key: value for key, value in row.items() if key not in own}} for row in rows]
    coded = [bag for bag in bags if facts.codecs]
    return TokenBatch(
        [entry_of(row, source) for row in rows],
        {bag: _vectors(table.column(bag), f"{source}, column {bag}") for bag in bags if not facts.codecs},
        {bag: _split(table.column(bag + CODES), f"{source}, column {bag}{CODES}") for bag in coded},
        {bag: _split(table.column(bag + RESIDUALS), f"{source}, column {bag}{RESIDUALS}") for bag in coded},
    )


def _split(column: Any, where: str) -> list[np.ndarray]:
    """Return the values of each row of a column of lists."""
    pa = import_arrow()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = column.flatten()
    if column.null_count or values.null_count:
        raise SettingsError(f"{where} has missing values; each video needs all its tokens.")
    lengths = np.asarray(column.value_lengths())
    if pa.types.is_fixed_size_binary(values.type):
        width = values.type.byte_width
        start = values.offset * width
        flat = np.frombuffer(values.buffers()[1], np.uint8)[start : start + len(values) * width].reshape(-1, width)
    else:
        flat = values.to_numpy(zero_copy_only=False)
    return np.split(flat, np.cumsum(lengths)[:-1])


def _vectors(column: Any, where: str) -> list[np.ndarray]:
    """Return the vectors of each row, (tokens, dim)."""
    pa = import_arrow()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    vectors = column.flatten()  # of all tokens
    if column.null_count or vectors.null_count:
        raise SettingsError(f"{where} has missing values; each video needs all its tokens.")
    widths = (
        {vectors.type.list_size}
        if pa.types.is_fixed_size_list(vectors.type)
        else {*np.asarray(vectors.value_lengths())}
    )
    numbers = vectors.flatten()
    if len(widths) > 1 or numbers.null_count:
        raise SettingsError(
            f"{where} has vectors of {shown(sorted(map(int, widths)))} numbers; all need the same number."
        )
    flat = numbers.to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
    lengths = column.type.list_size if pa.types.is_fixed_size_list(column.type) else np.asarray(column.value_lengths())
    ends = np.cumsum(np.broadcast_to(lengths, len(column)))
    return np.split(flat, ends[:-1])


def table_columns(fields: Mapping[str, Mapping[str, int]], taken: Sequence[str]) -> list[tuple[str, str]]:
    """Return keys of the metadata whose values are all texts, numbers or booleans, with their kinds.

    Args:
        fields: How many values of each kind a key has, by key.
        taken: Names that columns have already.
    """
    folded, found = {name.casefold() for name in taken}, []
    for name, counts in fields.items():
        kinds = [kind for kind in counts if kind != "null"]
        if len(kinds) == 1 and kinds[0] in ("text", "number", "boolean") and COLUMN.fullmatch(name):
            if name.casefold() not in folded:
                found.append((name, kinds[0]))
            folded.add(name.casefold())
    return found
