"""Tokens in a collection of Qdrant, each bag a named multivector compared by MaxSim."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from colbert_video.ecosystem.databases.token_batch import (
    ABOUT,
    FIELDS,
    TableFacts,
    TokenBatch,
    TokenRows,
    entry_of,
    optional_package,
    read_facts,
    row_of,
)
from colbert_video.errors import IndexFolderError, SettingsError, in_one_line, shown

POINTS = 32
"""Points that one request carries."""


def import_qdrant() -> Any:
    """Return the module `qdrant_client`; raises as `optional_package`."""
    return optional_package("qdrant_client", package="qdrant-client", extra="qdrant")


def is_address(place: object) -> bool:
    """Return whether a place is that of a server, not a folder."""
    return isinstance(place, str) and place.startswith(("http://", "https://"))


def open_qdrant(place: str) -> Any:
    """Open a server by its address, with the key in QDRANT_API_KEY, or a folder.

    Raises:
        IndexFolderError: If the folder is in use or cannot be opened.
    """
    client = import_qdrant().QdrantClient
    if is_address(place):
        key = os.environ.get("QDRANT_API_KEY")
        return client(
            url=place, api_key=key, check_compatibility=False
        )  # which would warn of a server that is not there
    try:
        return client(path=place)
    except (RuntimeError, OSError, ValueError) as error:
        raise IndexFolderError(f"{place} cannot be opened as a folder of Qdrant: {error}") from error


@contextmanager
def qdrant_at(place: str) -> Iterator[Any]:
    """Lend a client of a place; what goes wrong there is an `IndexFolderError`."""
    exceptions = import_qdrant().http.exceptions
    with closing(open_qdrant(place)) as client:
        try:
            yield client
        except (exceptions.ApiException, OSError, ValueError) as error:
            remedy = "Is a server running there?" if is_address(place) else "Is it a folder that Qdrant wrote?"
            raise IndexFolderError(f"{place} cannot be used by Qdrant: {in_one_line(error)}. {remedy}") from error


def write_qdrant(place: str, rows: TokenRows, name: str) -> None:
    """Write a new collection; its points are numbered in the order of the index."""
    models = import_qdrant().models
    with qdrant_at(place) as client:
        if client.collection_exists(name):
            raise IndexFolderError(f"{place} has a collection {shown(name)}; choose another name, or delete it first.")
        vectors = models.VectorParams(
            size=rows.dim,
            distance=models.Distance.DOT,
            multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            datatype=models.Datatype.FLOAT16 if rows.facts.half else None,
        )
        bags = dict.fromkeys(rows.bags, vectors)
        client.create_collection(name, vectors_config=bags, metadata={ABOUT: rows.facts.to_json()})
        try:
            _write_points(client, models, name, rows)
        except BaseException:
            client.delete_collection(name)
            raise


def _write_points(client: Any, models: Any, name: str, rows: TokenRows) -> None:
    number = 0
    for batch in rows.batches():
        for start in range(0, len(batch.entries), POINTS):
            points = [
                models.PointStruct(
                    id=number + place,
                    vector={bag: batch.bags[bag][place].tolist() for bag in rows.bags},
                    payload=row_of(batch.entries[place], keep_paths=rows.keep_paths),
                )
                for place in range(start, min(start + POINTS, len(batch.entries)))
            ]
            client.upsert(name, points)
        number += len(batch.entries)


class QdrantTable:
    """A collection that is open for reading.

    Raises:
        IndexFolderError: If there is no such collection.
        SettingsError: If it holds no multivectors.
    """

    def __init__(self, place: str, name: str) -> None:
        self._place, self._name = place, name
        with qdrant_at(place) as client:
            if not client.collection_exists(name):
                known = ", ".join(each.name for each in client.get_collections().collections) or "none"
                raise IndexFolderError(f"{place} has no collection {shown(name)}; there are: {known}.")
            config = client.get_collection(name).config
        vectors = config.params.vectors
        named = vectors if isinstance(vectors, dict) else {}
        self._bags = [bag for bag, given in named.items() if given.multivector_config is not None]
        if not self._bags:
            raise SettingsError(f"the collection {shown(name)} has no named multivectors; each bag needs one.")
        about = (config.metadata or {}).get(ABOUT)
        self.facts = TableFacts(read_facts(about if about is None else str(about), f"{place}, collection {name}"))

    def batches(self) -> Iterator[TokenBatch]:
        """Yield all points, in the order of their numbers."""
        source = f"{self._place}, collection {self._name}"
        with qdrant_at(self._place) as client:
            after = None
            while True:
                points, after = client.scroll(
                    self._name, limit=POINTS, offset=after, with_payload=True, with_vectors=self._bags
                )
                if points:
                    yield self._batch(points, source)
                if after is None:
                    return

    def _batch(self, points: Sequence[Any], source: str) -> TokenBatch:
        rows = [{"id": str(point.id), **(point.payload or {})} for point in points]
        bags = {bag: [np.asarray(point.vector[bag], np.float32) for point in points] for bag in self._bags}
        return TokenBatch([entry_of(_with_metadata(row), source) for row in rows], bags)


def _with_metadata(row: dict[str, Any]) -> dict[str, Any]:
    """Return a payload with its metadata; another program's payload is the metadata itself."""
    if "metadata" in row:
        return row
    return {**row, "metadata": {key: value for key, value in row.items() if key not in ("id", *FIELDS)}}
