"""Values that are made once, however many threads ask for them at the same time."""

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from functools import cached_property
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Once(Generic[Value]):
    """Makes a value for each key at the first call; other threads wait for it, and all of them get it.

    Where making it fails, each thread that waits gets the error, and the next call tries again. A forked process keeps
    what was made before the fork.

    Args:
        most: Values that are kept; the oldest goes first. None for all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._made: dict[Hashable, tuple[int, Future[Value]]] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key; `make` makes it if there is none."""
        while True:
            mine: tuple[int, Future[Value]] = os.getpid(), Future()
            found = self._made.setdefault(key, mine)  # one step, which no other thread can come between
            if found is mine:
                return self._make(key, mine[1], make)
            if found[0] != mine[0] and not found[1].done():
                self._forget(key, found)  # the thread that makes it did not follow into this forked process
                continue
            try:
                return found[1].result()
            except CancelledError:
                continue  # whoever was making it was interrupted

    def clear(self) -> None:
        """Forget all values."""
        self._made.clear()

    def _make(self, key: Hashable, future: "Future[Value]", make: Callable[[], Value]) -> Value:
        try:
            value = make()
        except BaseException as error:
            self._forget(key, (os.getpid(), future))
            future.set_exception(error) if isinstance(error, Exception) else future.cancel()
            raise
        future.set_result(value)
        while self._most is not None and len(self._made) > self._most:
            self._made.pop(next(iter(self._made)), None)
        return value

    def _forget(self, key: Hashable, found: "tuple[int, Future[Value]]") -> None:
        if self._made.get(key) == found:
            self._made.pop(key, None)


class ForkLock:
    """A lock that the thread which holds it may take again, and that is free in a forked process.

    The thread that held it before the fork is not there. Copies, pickled ones too, are locks of their own.
    """

    def __init__(self) -> None:
        self._process, self._lock = os.getpid(), threading.RLock()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def __reduce__(self) -> "tuple[type[ForkLock], tuple[()]]":
        return ForkLock, ()


class PerProcess(Generic[Value]):
    """What each process opens for itself: connections to databases and locks must not be used on both sides of a fork.

    Args:
        opened: Opens it: here at once, in a forked process when it is first used there.
    """

    def __init__(self, opened: Callable[[], Value]) -> None:
        self._opened = opened
        self._opening = ForkLock()
        self._process, self._value = os.getpid(), opened()

    @property
    def inherited(self) -> bool:
        """True in a forked process that has not used it yet."""
        return self._process != os.getpid()

    @property
    def value(self) -> Value:
        """What this process has opened."""
        if self.inherited:
            with self._opening:
                if self.inherited:
                    _KEPT.append(self._value)
                    self._value = self._opened()
                    self._process = os.getpid()
        return self._value


_KEPT: list[Any] = []
"""What was inherited over a fork: to close it here would take locks away from the process that opened it."""


class once_property(cached_property[Value]):  # noqa: N801 - used like `cached_property`
    """A `cached_property` that threads compute once: since Python 3.12 its own lock is gone."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        super().__init__(function)
        self._computing = ForkLock()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the value, which is computed first if it is not there yet."""
        if instance is None:
            return self
        with self._computing:
            return super().__get__(instance, owner)
