"""Pictures that were searched by, kept for a while so that such a search has an address."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from colbert_video.errors import shown
from colbert_video.serve.http_errors import ServiceError

NAME_LENGTH = 32
"""Hexadecimal digits of a picture's name."""


@dataclass(frozen=True)
class KeptPicture:
    """A picture's file."""

    name: str
    content: bytes
    content_type: str


class KeptPictures:
    """The pictures used last, up to a number of bytes; safe to share between threads.

    A picture is named by its content, so whoever knows the name has seen the picture or was given its address.

    Args:
        most_bytes: Limit of their sizes together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, KeptPicture] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, content: bytes, content_type: str) -> KeptPicture:
        """Keep a picture, and forget those not used for longest; one that is larger than all may be is not kept."""
        name = hashlib.sha256(content).hexdigest()[:NAME_LENGTH]
        with self._lock:
            picture = self._kept[name] = KeptPicture(name, content, content_type)
            self._kept.move_to_end(name)
            while sum(len(one.content) for one in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)
        return picture

    def get(self, name: str) -> KeptPicture:
        """Return a picture.

        Raises:
            ServiceError: 404, if it is not kept, or no longer.
        """
        with self._lock:
            if name not in self._kept:
                message = f"the picture {shown(name)} is not kept here, or no longer."
                raise ServiceError(404, "no_such_picture", message, "Choose the picture again.")
            self._kept.move_to_end(name)
            return self._kept[name]
