"""The indexes of a service: opened once, looked after while it runs, closed at its end."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from colbert_video.errors import SettingsError
from colbert_video.model import VideoColBERT
from colbert_video.serve.errors import ServiceError
from colbert_video.serve.served_index import ServedIndex

Opener = Callable[..., ServedIndex]
"""`ServedIndex`, or what makes one of the same arguments."""


class IndexRegistry:
    """All indexes of a service, in order; the first is the default.

    Args:
        indexes: The opened indexes.
        refresh_seconds: How often to look for new commits.
    """

    def __init__(self, indexes: Sequence[ServedIndex], *, refresh_seconds: float = 1.0) -> None:
        self._indexes = {index.name: index for index in indexes}
        self._refresh_seconds = refresh_seconds
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def open(
        cls,
        folders: Sequence[str],
        *,
        model: VideoColBERT | str | None = None,
        device: str | None = None,
        refresh_seconds: float = 1.0,
        opened: Opener = ServedIndex,
    ) -> "IndexRegistry":
        """Open indexes.

        Args:
            folders: Index folders, or NAME=FOLDER to choose the name; else it is the folder's.
            model: Encodes queries; None for the models that the indexes name.
            device: Where models run.
            refresh_seconds: How often to look for new commits.
            opened: Opens one.

        Raises:
            SettingsError: If there is none, or two have one name.
            IndexFolderError: If one cannot be opened.
        """
        named = _named_folders(folders)
        indexes: list[ServedIndex] = []
        try:
            for name, path in named.items():
                indexes.append(opened(name, path, model=model, device=device))
        except BaseException:
            for index in indexes:
                index.close()
            raise
        return cls(indexes, refresh_seconds=refresh_seconds)

    def __iter__(self) -> Iterator[ServedIndex]:
        return iter(self._indexes.values())

    def get(self, name: str | None) -> ServedIndex:
        """An index by name; the first without one.

        Raises:
            ServiceError: 404, if there is none of that name.
        """
        if not name:
            return next(iter(self._indexes.values()))
        if name not in self._indexes:
            raise ServiceError(
                404,
                "no_such_index",
                f"there is no index {name[:200]!r}.",
                f"There are: {', '.join(self._indexes)}.",
            )
        return self._indexes[name]

    @property
    def ready(self) -> bool:
        """Whether every index can be searched."""
        return all(index.state == "ready" for index in self)

    def start(self, forget: Callable[[VideoColBERT], None]) -> None:
        """Read files into memory where that is wanted, load models and watch for commits, in threads of the running event loop.

        Args:
            forget: Called with each model that no index uses any more.
        """
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._look_after(forget)))

    async def close(self) -> None:
        """Stop watching and close every index."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for index in self:
            index.close()

    async def _look_after(self, forget: Callable[[VideoColBERT], None]) -> None:
        loaded: dict[str, VideoColBERT] = {}
        for index in self:
            await asyncio.to_thread(index.preload)
            await asyncio.to_thread(index.load_model, loaded)
            if index.model is not None and index.fingerprint is not None:
                loaded[index.fingerprint] = index.model
        del loaded
        while True:
            await asyncio.sleep(self._refresh_seconds)
            for index in self:
                before = index.model
                await asyncio.to_thread(index.refresh)
                if before is not None and all(other.model is not before for other in self):
                    forget(before)
                del before


def _named_folders(folders: Sequence[str]) -> dict[str, Path]:
    if not folders:
        raise SettingsError("no index was given; at least one is needed.")
    named: dict[str, Path] = {}
    for folder in folders:
        name, separator, rest = folder.partition("=")
        chosen = bool(separator and name) and not Path(folder).exists()
        path = Path(rest if chosen else folder)
        name = name if chosen else path.resolve().name
        if "/" in name:
            raise SettingsError(f"the index name {name!r} holds a slash; choose one without.")
        if name in named:
            raise SettingsError(f"two indexes are called {name!r}; name one of them: other={path}.")
        named[name] = path
    return named
