"""No file can stop, kill or outlive a run, and no result is lost."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import PROGRAMS
from video_writer import write_clip

from colbert_video.base.threads import available_cores
from colbert_video.errors import ClosedError, ColBERTVideoError, FailureKind, SettingsError, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.workers.pool import FramePool, FrameRequest, FrameResult, TimeBudget
from colbert_video.video.workers.process import death, worker_environment

FAKE = (sys.executable, str(PROGRAMS / "fake_worker.py"))
QUICK = SamplingSettings(timeout=1.0)
posix = pytest.mark.skipif(os.name != "posix", reason="signals and file descriptors of POSIX systems")


def fake_pool(workers: int = 2, *, grace: float = 0.5) -> FramePool:
    return FramePool(QUICK, workers=workers, grace=grace, command=FAKE)


def outcomes(results: list[FrameResult]) -> dict[str, str]:
    return {result.request.path: "frames" if result.error is None else result.error.kind.value for result in results}


def test_results_of_real_workers(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{i}.mp4", 20 + i) for i in range(5)]
    (tmp_path / "text.mp4").write_text("no video")
    requests = [FrameRequest(str(path), tag=("mine", path)) for path in paths]
    with FramePool(SamplingSettings(num_frames=4), workers=2) as pool:
        results = list(
            pool.read_many([*requests, FrameRequest(str(tmp_path / "text.mp4")), FrameRequest("no/such.mp4")])
        )
    assert len(results) == 7
    by_path = {result.request.path: result for result in results}
    for path, request in zip(paths, requests, strict=True):
        result = by_path[str(path)]
        assert result.request is request
        assert result.frames is not None
        here = read_frames(path, SamplingSettings(num_frames=4))
        assert (result.frames.pixels == here.pixels).all()
        assert result.frames.times.tolist() == here.times.tolist()
        assert repr(result.frames) == repr(here)
    refused = by_path[str(tmp_path / "text.mp4")]
    assert refused.frames is None
    assert refused.error is not None
    assert refused.error.kind is FailureKind.UNREADABLE
    assert outcomes(results)["no/such.mp4"] == "missing"


def test_requests_bring_windows_and_seeds(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 60))
    settings = SamplingSettings(num_frames=2, placement="random", seed=1)
    requests = [FrameRequest(path), FrameRequest(path, window=(1.0, 2.0)), FrameRequest(path, seed=2)]
    with FramePool(settings, workers=1) as pool:
        times = [result.frames.times.tolist() for result in pool.read_many(requests) if result.frames]
    expected = [settings, settings.with_request((1.0, 2.0), None), settings.with_request(None, 2)]
    assert sorted(times) == sorted(read_frames(path, one).times.tolist() for one in expected)


def test_headers_are_read_in_workers_too(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    (tmp_path / "text.mp4").write_text("no video")
    with FramePool(workers=1) as pool:
        header = pool.read_header(str(path))
        assert (header.container, header.codec, header.refused) == ("mov,mp4,m4a,3gp,3g2,mj2", "h264", None)
        with pytest.raises(VideoError) as refused:
            pool.read_header(str(tmp_path / "text.mp4"))
        assert refused.value.kind is FailureKind.UNREADABLE
        assert outcomes(list(pool.read_many([FrameRequest(str(path))]))) == {str(path): "frames"}


@posix
def test_a_header_that_hangs_or_crashes_its_worker_costs_one_file() -> None:
    with fake_pool(1) as pool:
        for name, kind in (("sleep-60", FailureKind.TIMEOUT), ("signal-SIGSEGV", FailureKind.CRASHED)):
            with pytest.raises(VideoError) as refused:
                pool.read_header(name)
            assert refused.value.kind is kind
        assert outcomes(list(pool.read_many([FrameRequest("a")]))) == {"a": "frames"}


@posix
def test_crashes_are_named_and_the_run_goes_on() -> None:
    names = ["a", "signal-SIGSEGV", "b", "signal-SIGABRT", "exit-3", "refuse-1", "c", "signal-SIGKILL", "half-1", "d"]
    with fake_pool() as pool:
        results = list(pool.read_many([FrameRequest(name) for name in names]))
    found = outcomes(results)
    assert len(results) == len(names)
    assert [name for name in names if found[name] == "frames"] == ["a", "b", "c", "d"]
    assert found["refuse-1"] == "no_video"
    details = {result.request.path: result.error.detail for result in results if result.error}
    assert details["signal-SIGSEGV"] == "the decoder was killed by SIGSEGV; its last words: double free or corruption"
    assert "SIGABRT" in details["signal-SIGABRT"]
    assert details["signal-SIGKILL"].startswith("the decoder was killed by SIGKILL (out of memory?)")
    assert details["exit-3"] == "the decoder ended with exit code 3"
    assert details["half-1"] == "the decoder ended with exit code 0"
    assert {found[name] for name in names if "-" in name} == {"crashed", "no_video"}


def test_a_hang_is_killed_after_its_time() -> None:
    started = time.monotonic()
    with fake_pool() as pool:
        results = list(pool.read_many([FrameRequest("sleep-60"), FrameRequest("a"), FrameRequest("b")]))
    assert outcomes(results) == {"sleep-60": "timeout", "a": "frames", "b": "frames"}
    error = next(result.error for result in results if result.error)
    assert error.detail == "the decoder hung and was killed after 1 + 0.5 seconds"
    assert 1.5 <= time.monotonic() - started < 20


@posix
@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "refuse-1", "exit-1", "signal-SIGSEGV", "half-1"]), max_size=12),
    st.integers(1, 3),
)
def test_every_request_has_exactly_one_result(names: list[str], workers: int) -> None:
    requests = [FrameRequest(name, tag=number) for number, name in enumerate(names)]
    with fake_pool(workers) as pool:
        results = list(pool.read_many(iter(requests)))
    assert sorted(result.request.tag for result in results) == list(range(len(names)))
    for result in results:
        assert (result.frames is None) != (result.error is None)
        assert (result.error is None) == (result.request.path in "ab")


def test_requests_are_taken_as_results_are_handed_out() -> None:
    taken = 0

    def endless() -> Iterator[FrameRequest]:
        nonlocal taken
        while True:
            taken += 1
            yield FrameRequest(f"file{taken}")

    with fake_pool(2) as pool:
        results = pool.read_many(endless())
        for received in range(1, 40):
            next(results)
            assert taken - received <= 4


@pytest.mark.parametrize("ahead", [1, 9])
def test_files_are_read_ahead_while_the_taker_is_busy(ahead: int) -> None:
    with fake_pool(2) as pool:
        taken = 0

        def endless() -> Iterator[FrameRequest]:
            nonlocal taken
            while True:
                taken += 1
                yield FrameRequest(f"file{taken}")

        results = pool.read_many(endless(), ahead=ahead)
        for received in range(1, 20):
            next(results)
            assert taken - received == 2 + ahead
        deadline = time.monotonic() + 20
        while pool._threads._work_queue.qsize() and time.monotonic() < deadline:
            time.sleep(0.01)  # Nobody takes a result meanwhile.
        assert pool._threads._work_queue.qsize() == 0


def test_abandoning_the_results_leaves_the_pool_usable() -> None:
    with fake_pool(2) as pool:
        for _ in range(3):
            assert next(pool.read_many([FrameRequest(str(i)) for i in range(9)])).frames is not None
        assert len(list(pool.read_many([FrameRequest("a")]))) == 1


def test_nothing_to_read() -> None:
    with fake_pool() as pool:
        assert list(pool.read_many([])) == []


@posix
def test_a_worker_that_died_between_two_files_is_replaced() -> None:
    with fake_pool(1) as pool:
        (first,) = pool.read_many([FrameRequest("a")])
        assert first.frames is not None
        running = pool._processes[0]._running
        assert running is not None
        assert running.process.pid == int(first.frames.codec)
        running.process.kill()
        running.process.wait(10)
        (second,) = pool.read_many([FrameRequest("b")])
        assert second.frames is not None
        assert second.frames.codec != first.frames.codec


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors through /proc")
def test_closing_leaves_no_process_and_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with fake_pool(3) as pool:
        names = ["a", "exit-1", "b", "c", "signal-SIGSEGV", "d"]
        results = list(pool.read_many([FrameRequest(name) for name in names]))
        pids = {int(result.frames.codec) for result in results if result.frames}
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # A zombie would still be there.


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A file that keeps a fake worker busy for a minute; opening it for reading waits until a worker has begun."""
    path = tmp_path / "pipe-60"
    os.mkfifo(path)
    return path


@posix
def test_closing_interrupts_a_decoder(busy: Path) -> None:
    pool = FramePool(SamplingSettings(timeout=60.0), workers=2, command=FAKE)
    errors: list[Exception] = []

    def read() -> None:
        try:
            list(pool.read_many([FrameRequest(str(busy))]))
        except ClosedError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    busy.open("rb").close()
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 3
    reader.join(3)
    assert not reader.is_alive()
    assert [str(error) for error in errors] == ["this FramePool is closed: open a new one."]
    pool.close()  # A second time does no harm.


def test_a_closed_pool_refuses() -> None:
    pool = fake_pool()
    pool.close()
    with pytest.raises(ClosedError, match="this FramePool is closed: open a new one"):
        list(pool.read_many([FrameRequest("a")]))
    with pytest.raises(ClosedError, match="this FramePool is closed: open a new one"):
        pool.read_header("a")


def test_a_pool_that_is_closed_while_results_are_taken_says_so() -> None:
    """Its processes are ended; the files that they were reading are not to blame."""
    pool = fake_pool()
    results = pool.read_many(FrameRequest(name) for name in "abcdefgh")
    next(results)
    pool.close()
    with pytest.raises(ClosedError, match="this FramePool is closed"):
        next(results)


def test_a_worker_that_cannot_start_is_no_fault_of_the_file() -> None:
    with (
        FramePool(QUICK, workers=1, command=(*FAKE, "--broken")) as pool,
        pytest.raises(ColBERTVideoError, match=r"did not start but ended with exit code 1(.|\n)*no decoder here"),
    ):
        list(pool.read_many([FrameRequest("a")]))


def test_settings_out_of_range() -> None:
    with pytest.raises(SettingsError, match="workers=0 must be at least 1"):
        FramePool(workers=0)
    with fake_pool() as pool, pytest.raises(SettingsError, match="ahead=0 must be at least 1"):
        next(pool.read_many([FrameRequest("a")], ahead=0))
    with pytest.raises(SettingsError, match="0 <= start < end"):
        FrameRequest("a", window=(2.0, 1.0))
    random = SamplingSettings(placement="random")
    with FramePool(random, workers=1, command=FAKE) as pool, pytest.raises(SettingsError, match="needs a seed"):
        list(pool.read_many([FrameRequest("a")]))
    assert available_cores() >= 1


@posix
def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    clip = write_clip(tmp_path / "a.mp4", 20)
    script.write_text(
        "import sys, time\n"
        "from colbert_video.video import FramePool, FrameRequest\n"
        "pool = FramePool(workers=1)\n"
        f"list(pool.read_many([FrameRequest({str(clip)!r})]))\n"
        "print(pool._processes[0]._running.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=worker_environment(), text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ends_within(pid, 10.0)


@posix
def test_an_interrupt_ends_the_workers(tmp_path: Path, busy: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import signal\n"
        "from colbert_video.video import FramePool, FrameRequest, SamplingSettings\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with it ignored\n"
        f"with FramePool(SamplingSettings(timeout=60.0), workers=1, command={FAKE!r}) as pool:\n"
        f"    results = pool.read_many([FrameRequest('a'), FrameRequest({str(busy)!r})])\n"
        "    print(next(results).frames.codec, flush=True)\n"
        "    next(results)\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=worker_environment(), text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        pid = int(parent.stdout.readline())
        busy.open("rb").close()
        parent.send_signal(2)
        assert "KeyboardInterrupt" in parent.stderr.read()
        assert parent.wait(10) != 0
    assert ends_within(pid, 5.0)


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True  # Dead, but not yet collected by its new parent.
        time.sleep(0.05)
    return False


@posix
def test_how_processes_die() -> None:
    assert death(0) == "ended with exit code 0"
    assert death(-11) == "was killed by SIGSEGV"
    assert death(-9) == "was killed by SIGKILL (out of memory?)"
    assert death(-250) == "was killed by signal 250"


def test_workers_find_the_package_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "a.mp4", 20)
    (tmp_path / "av.py").write_text("raise SystemExit('the working folder must not be imported from')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with FramePool(workers=1) as pool:
        (result,) = pool.read_many([FrameRequest(str(clip))])
    assert result.frames is not None


def test_parts_of_one_file_share_a_budget() -> None:
    """A file whose every part hangs costs its budget, not the time limit of each part."""
    budget = TimeBudget(QUICK.timeout, 40.0)
    with fake_pool(1) as pool:
        started = time.monotonic()
        requests = [
            FrameRequest("sleep-100", window=(float(second), second + 1.0), budget=budget) for second in range(40)
        ]
        results = list(pool.read_many(requests))
    assert time.monotonic() - started < 15.0
    assert {result.error.kind for result in results if result.error} == {FailureKind.TIMEOUT}
    assert len(results) == 40
    assert "took longer than 1 seconds together; raise timeout" in str(results[-1].error)


def test_a_budget_grows_with_what_is_read() -> None:
    assert TimeBudget(4.0, 144.0).seconds == pytest.approx(9.6)
    assert TimeBudget(60.0, 10.0).seconds == 60.0
