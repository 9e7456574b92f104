"""Whether an address answers, asked before a download: libraries that download try again for a minute without a network."""

import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Timeout
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from colbert_video.errors import in_one_line

PATIENCE_SECONDS = 4.4
"""How long a slow network may take to answer."""
CACHED_PATIENCE_SECONDS = 2.0
"""How long it may take where a copy in the cache will do."""
NO_NETWORK = ("LocalEntryNotFoundError", "OfflineModeIsEnabled")
"""Errors of huggingface_hub that say what the user has chosen: to work offline."""


def hub_problem(endpoint: str | None = None, *, patience: float = PATIENCE_SECONDS) -> str | None:
    """Return why the Hugging Face Hub does not answer, in words that follow "and"; None if it answers anything.

    It is asked as huggingface_hub will ask: through its proxy, its client and its certificates.

    Args:
        endpoint: Address of another Hub; None for that of HF_ENDPOINT or huggingface.co.
        patience: Seconds to wait for an answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import get_session

    address = HfApi(endpoint=endpoint).endpoint
    return _problem(address, lambda: get_session().head(address, timeout=patience), patience)


def address_problem(url: str, *, patience: float = PATIENCE_SECONDS) -> str | None:
    """Return why an address does not answer Python's `urllib`, in words that follow "and"; None if it answers anything."""

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience).close()
        except HTTPError as refused:  # which is an answer
            refused.close()

    return _problem(url, ask, patience)


def _problem(url: str, ask: Callable[[], Any], patience: float) -> str | None:
    error = _failure(ask, patience)
    if error is None:
        return None
    if type(error).__name__ in NO_NETWORK:
        return "HF_HUB_OFFLINE forbids to fetch it"
    return f"{urlsplit(url).hostname or 'its address'} cannot be reached ({in_one_line(error)})"


def _failure(ask: Callable[[], Any], seconds: float) -> Exception | None:
    """Return the error of a call, or that it took too long: looking up a name may, whatever limits are set for the rest."""
    answer: Future[Any] = Future()

    def wait() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=wait, name="colbert_video-network", daemon=True).start()
    try:
        error = answer.exception(timeout=seconds)
    except Timeout:
        return TimeoutError(f"no answer in {seconds:g} seconds")
    return error if isinstance(error, Exception) else None
