"""A shard in a process of the cluster, which Ray starts again if it dies."""

import logging
import os
from pathlib import Path
from typing import Any

from colbert_video.errors import IndexFolderError
from colbert_video.search.sharded.shard import Shard

logger = logging.getLogger(__name__)


class ShardActor:
    """Opens a shard and answers for it.

    A shard that cannot be opened, for instance because the storage is not there yet, is tried again at each call: an
    actor whose constructor fails would never be started again.

    Args:
        path: The shard's folder, as this machine sees it.
        preload: Ask the system to read its files ahead, also when the actor is started again.
    """

    def __init__(self, path: str, preload: bool = False) -> None:
        self._path = path
        self._preload = preload
        self._shard: Shard | None = None
        try:
            self._opened()
        except (IndexFolderError, OSError) as error:
            logger.warning("shard %s cannot be opened now: %s", path, error)

    def ready(self) -> int:
        """Return the process id, once the shard is open.

        Raises:
            IndexFolderError: If it cannot be opened.
        """
        self._opened()
        return os.getpid()

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the shard.

        Raises:
            IndexFolderError: If it cannot be opened.
        """
        return getattr(self._opened(), method)(*arguments)

    def _opened(self) -> Shard:
        if self._shard is None:
            shard = Shard(Path(self._path))
            if self._preload:
                shard.preload()
            self._shard = shard
        return self._shard
