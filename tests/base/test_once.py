"""Values that many threads and forked processes ask for at the same time."""

import copy
import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from colbert_video.base.once import ForkLock, Once, PerProcess, once_property

THREADS = 8
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")


def at_once(call: Any) -> list[Any]:
    """What a call returns, or raises, in each of several threads that start together."""
    together = threading.Barrier(THREADS)

    def one(_: int) -> Any:
        together.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(one, range(THREADS)))


def in_child(call: Any) -> int:
    """Exit code of a forked process that makes a call."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = 0 if call() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_many_threads_make_one_value() -> None:
    once, made = Once[object](), []

    def make() -> object:
        made.append(1)
        time.sleep(0.02)
        return object()

    found = at_once(lambda: once.get("key", make))
    assert len(made) == 1
    assert len(set(map(id, found))) == 1
    assert once.get("other", lambda: 7) == 7
    once.clear()
    assert once.get("key", lambda: 8) == 8


def test_a_failure_reaches_every_thread_and_may_be_tried_again() -> None:
    once, made = Once[int](), []

    def fail() -> int:
        made.append(1)
        time.sleep(0.02)
        raise ValueError("no such model")

    found = at_once(lambda: once.get("key", fail))
    assert [str(error) for error in found] == ["no such model"] * THREADS
    assert len(made) == 1
    assert once.get("key", lambda: 3) == 3


def test_an_interrupted_thread_leaves_the_work_to_another() -> None:
    once, begun, go_on = Once[int](), threading.Event(), threading.Event()

    def interrupted() -> int:
        begun.set()
        go_on.wait(10)
        raise KeyboardInterrupt

    def first() -> None:
        with pytest.raises(KeyboardInterrupt):
            once.get("key", interrupted)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(10)
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(once.get, "key", lambda: 5)
        go_on.set()
        assert other.result(10) == 5
    thread.join()


def test_the_oldest_value_goes_first() -> None:
    once, made = Once[int](2), []
    for key in (1, 2, 2, 3, 1):
        once.get(key, lambda key=key: made.append(key) or key)
    assert made == [1, 2, 3, 1]


class Counted:
    def __init__(self) -> None:
        self.made = 0

    @once_property
    def value(self) -> int:
        """A number."""
        made = self.made
        time.sleep(0.02)
        self.made = made + 1
        return 11


def test_a_property_is_computed_once() -> None:
    counted = Counted()
    assert at_once(lambda: counted.value) == [11] * THREADS
    assert counted.made == 1
    assert isinstance(Counted.value, once_property)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda lock: pickle.loads(pickle.dumps(lock))])
def test_copies_of_a_lock_are_free(copied: Any) -> None:
    lock = ForkLock()
    with lock, lock, copied(lock):
        pass


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_did_not_follow() -> None:
    once, lock, held, end = Once[int](), ForkLock(), threading.Event(), threading.Event()

    def hold() -> int:
        with lock:
            held.set()
            end.wait(10)
        return 1

    thread = threading.Thread(target=once.get, args=("key", hold))
    thread.start()
    held.wait(10)

    def child() -> bool:
        with lock:
            return once.get("key", lambda: 2) == 2

    try:
        assert in_child(child) == 0
    finally:
        end.set()
        thread.join()
    assert once.get("key", lambda: 3) == 1
    assert in_child(lambda: once.get("key", lambda: 3) == 1) == 0  # what was made before the fork is kept


@forks
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_each_process_opens_its_own() -> None:
    opened = PerProcess(os.getpid)
    assert opened.value == os.getpid()
    assert not opened.inherited
    assert in_child(lambda: opened.inherited and opened.value == os.getpid() and not opened.inherited) == 0
    assert opened.value == os.getpid()


def test_this_runs_where_switches_are_many() -> None:
    """Threads that take turns often find what a lock would have kept apart."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            once, made = Once[int](), []
            at_once(lambda once=once, made=made: once.get("key", lambda: made.append(1) or 1))
            assert len(made) == 1
    finally:
        sys.setswitchinterval(before)
