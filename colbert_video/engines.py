"""What searches an index: the native engine, or stock colbert-ai."""

from pathlib import Path
from typing import Literal

import torch

from colbert_video.device import resolve_device
from colbert_video.errors import SettingsError
from colbert_video.indexing.colbert import PlaidSettings, StockEngine
from colbert_video.indexing.reader import IndexReader
from colbert_video.indexing.scan import search_segment
from colbert_video.view import SearchView

Engine = Literal["native", "colbert"]
"""Who scores."""


def open_view(
    path: Path, *, device: str | torch.device | None, engine: Engine, plaid: PlaidSettings | None
) -> SearchView:
    """Open the last commit of an index for an engine.

    Args:
        path: The index folder.
        device: Where to score; see `Searcher`.
        engine: Who scores.
        plaid: How stock ColBERT looks for candidates.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        DependencyError: If engine="colbert" and colbert-ai or a C++ compiler is missing.
    """
    reader = IndexReader.open(path, device=_index_device(device) if engine == "native" else None)
    try:
        if engine == "native":
            return SearchView(reader, search_segment)
        stock = StockEngine(reader, device=device, settings=plaid)
        return SearchView(reader, stock.search_segment)
    except BaseException:
        reader.close()
        raise


def check_engine(engine: str, plaid: PlaidSettings | None) -> None:
    """Refuse an engine that does not exist, and settings that it does not have.

    Raises:
        SettingsError: If so.
    """
    if engine not in ("native", "colbert"):
        raise SettingsError(f"engine={engine!r} must be 'native' or 'colbert'.")
    if plaid is not None and engine != "colbert":
        raise SettingsError(f"plaid settings are for engine='colbert'; engine={engine!r} has none.")


def _index_device(device: str | torch.device | None) -> torch.device | None:
    """The GPU that keeps the index; None to leave it on disk, as other accelerators do: they lack operations."""
    if device is None:
        return None
    resolved = resolve_device(device)
    return resolved if resolved.type == "cuda" else None
