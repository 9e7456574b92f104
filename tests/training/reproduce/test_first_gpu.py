"""The run that waits for a first GPU: its checks, its clock and its tables, and all of it on stand-ins in the thorough run."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from thorough import thorough_only

from colbert_video.errors import SettingsError

RUNS = ROOT / "runs"
pytestmark = [
    pytest.mark.skipif(not RUNS.is_dir(), reason="needs the sources, not a wheel"),
    pytest.mark.skipif(sys.platform == "win32", reason="a shell script, and locks of POSIX"),
]


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """Imports a module of the run as its script does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RUNS))
        yield importlib.import_module


@pytest.fixture
def plan(load: Any, tmp_path: Path) -> Any:
    folder = tmp_path / "msrvtt"
    folder.mkdir()
    return load("first_gpu_plan").FirstGpuPlan(
        output=tmp_path / "run", annotations=folder, videos=folder, tasks=("MSVDT2VRetrieval",)
    )


def write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def report(r1: float, **changes: Any) -> dict[str, Any]:
    ours = {"R@1": r1, "R@5": 75.0, "R@10": 84.0, "nDCG@10": 0.65, "MdR": 2.0, "MnR": 11.0}
    compared = {"interaction": "mms_fv", "source": "paper, main results", "published": {"R@1": 48.1}}
    compared |= {"difference": {"R@1": r1 - 48.1}}
    return {"ours": {"mms_fv": ours}, "comparisons": [compared], "reservations": [], **changes}


@thorough_only
@pytest.mark.timeout(600)
def test_all_of_it_on_stand_ins_and_again_after_a_kill(tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = [RUNS / "first_gpu.sh", "--tiny", "--output", output, "--price-per-hour", "2", "--seeds", "2"]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, start_new_session=True)
    finished: dict[str, Any] = {}
    while not finished.get("zero-shot", {}).get("finished"):
        assert first.poll() is None
        time.sleep(0.2)
        if (output / "times.json").is_file():
            finished = json.loads((output / "times.json").read_text(encoding="utf-8"))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    zero_shot = (output / "zero-shot" / "report.json").stat().st_mtime_ns
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "zero-shot rows: done before" in done.stdout
    assert "MTEB, StandInT2VRetrieval: done in" in done.stdout
    assert "cost" in done.stdout
    assert (output / "zero-shot" / "report.json").stat().st_mtime_ns == zero_shot
    tables = {path.name: path.read_text(encoding="utf-8") for path in (output / "tables").glob("*.md")}
    assert {*tables} == {"zero-shot.md", "timings.md", "paper-row.md", "mteb.md"}
    assert all("these figures mean nothing" in table for table in tables.values())
    assert "ours, mean of seeds 0, 1" in tables["paper-row.md"]
    assert "| the paper | 9.64 | 11.2 |" in tables["timings.md"]
    assert "StandInT2VRetrieval" in tables["mteb.md"]
    again = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 5


class TestChecks:
    def test_say_what_is_missing_and_what_helps(
        self, load: Any, plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checks = load("first_gpu_checks")
        monkeypatch.setattr(checks, "hub_problem", lambda: "the Hub cannot be reached")
        monkeypatch.setattr(checks, "_is_cached", lambda *_: False)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        problems = "\n".join(checks.check_everything(plan).problems)
        assert "sees no GPU. If nvidia-smi shows one, install torch for its CUDA version" in problems
        assert f"missing file under {tmp_path / 'msrvtt'}: MSRVTT_JSFUSION_test.csv" in problems
        assert "docs/datasets.md" in problems
        assert checks.check_everything(plan).videos == 10_000  # published: what is missing needs disk too
        if load("importlib.util").find_spec("mteb"):
            assert "the Hub cannot be reached. Where there is a network: hf download --repo-type dataset" in problems

    def test_packages_are_named_with_their_extras(self, load: Any, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        checks = load("first_gpu_checks")
        monkeypatch.setattr(checks, "find_spec", lambda name: None if name in ("mteb", "accelerate") else object())
        found = checks.Findings()
        checks._check_packages(plan, found)
        (problem,) = found.problems
        assert "accelerate, mteb" in problem
        assert "'.[train,mteb]'" in problem

    def test_disk_is_counted_and_what_is_written_already_is_not(
        self, load: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checks = load("first_gpu_checks")
        found = checks.Findings(videos=10_000)
        needed = checks.needed_bytes(plan, found)
        frame = 3 * 224 * 224 + 4
        assert needed[plan.frames] == 10_000 * 36 * frame  # 54 GB
        assert needed[plan.output] == 4 * 180_000_000 * (6 + 3)
        plan.frames.mkdir(parents=True)
        (plan.frames / "a").write_bytes(b"x" * 1000)
        assert checks.needed_bytes(plan, found)[plan.frames] == 10_000 * 36 * frame - 1000
        for free, problems in ((10**9, 1), (10**12, 0)):
            monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
            found = checks.Findings(videos=10_000)
            checks._check_disk(plan, found)
            assert len(found.problems) == problems
        assert "56." in found.notes[0]


class TestClock:
    @pytest.fixture
    def times(self, load: Any, plan: Any) -> Any:
        plan.output.mkdir()
        return load("first_gpu_clock").Times(plan.output / "times.json")

    def clock(self, load: Any, plan: Any, times: Any) -> Any:
        found = load("first_gpu_checks").Findings(
            train_captions=180_000, test_videos=1000, task_videos={"MSVDT2VRetrieval": 660}
        )
        return load("first_gpu_clock").Clock(plan, times, found)

    def test_nothing_is_claimed_before_something_is_measured(self, load: Any, plan: Any, times: Any) -> None:
        clock = self.clock(load, plan, times)
        words = load("first_gpu_clock").left_in_words
        assert words(clock.left(["seed-0"]), 2.0) == "time left not known yet"
        assert words(clock.left(["timings", "seed-0"]), 2.0) == "at least 8 min left, cost at least 0.27"

    def test_a_training_is_estimated_by_timings_then_by_itself_then_by_the_one_before(
        self, load: Any, plan: Any, times: Any
    ) -> None:
        clock = self.clock(load, plan, times)
        steps = 5 * (180_000 // 256)
        write(plan.timings, {"parts": {"training": {"figures": {"seconds_per_step": 0.5}}}})
        plan.choose_chunk_size()
        assert plan.chunk_size is None
        assert clock.left(["seed-0"]) == load("first_gpu_clock").Left(0.5 * steps, at_least=True)
        log = plan.paper / "seed-0" / "training" / "log.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({"step": steps // 5, "epoch": 1, "loss": 1.0}) + "\n", encoding="utf-8")
        times.note("seed-0", 100.0)
        left = clock.left(["seed-0"])
        assert not left.at_least
        assert left.seconds == pytest.approx(400.0)
        times.note("seed-0", 480.0, finished=True)
        assert clock.left(["seed-0", "seed-1"]).seconds == pytest.approx(480.0)

    def test_a_training_taken_up_again_counts_its_own_pace(self, load: Any, plan: Any, times: Any) -> None:
        steps = 5 * (180_000 // 256)
        log = plan.paper / "seed-0" / "training" / "log.jsonl"
        log.parent.mkdir(parents=True)
        times.note("seed-0", 1000.0)
        for done in (0.5, 0.6):
            log.write_text(json.dumps({"step": round(done * steps), "epoch": 3, "loss": 1.0}) + "\n", encoding="utf-8")
            if done == 0.5:
                clock = self.clock(load, plan, times)
                clock.progress("seed-0")
        times.note("seed-0", 1050.0)
        assert clock.left(["seed-0"]).seconds == pytest.approx(200.0, rel=0.01)

    def test_tasks_go_at_the_pace_of_the_zero_shot_row(self, load: Any, plan: Any, times: Any) -> None:
        clock = self.clock(load, plan, times)
        assert clock.left(["mteb-MSVDT2VRetrieval"]).seconds == 0
        times.note("zero-shot", 100.0, finished=True)
        assert clock.left(["mteb-MSVDT2VRetrieval"]) == load("first_gpu_clock").Left(66.0, at_least=True)

    def test_times_outlive_the_process(self, load: Any, plan: Any, times: Any) -> None:
        times.note("timings", 12.5)
        again = load("first_gpu_clock").Times(plan.output / "times.json")
        assert (again.spent, again.finished("timings")) == (12.5, False)

    @pytest.mark.parametrize(("seconds", "words"), [(59.6, "60 s"), (300, "5 min"), (3900, "1 h 05 min")])
    def test_words(self, load: Any, seconds: float, words: str) -> None:
        assert load("first_gpu_clock").in_words(seconds) == words


class TestSteps:
    def run(self, load: Any, plan: Any, monkeypatch: pytest.MonkeyPatch, failing: str = "", gap: float = 0.0) -> Any:
        """Runs with steps that do nothing; returns the exit code and the steps that were started."""
        first = load("first_gpu")
        plan.output.mkdir(exist_ok=True)
        started = []

        def succeeds(self: Any, step: Any, lock: int) -> bool:
            started.append(step.name)
            self.times.note(step.name, 1.0, finished=step.name != failing)
            return bool(step.name != failing)

        monkeypatch.setattr(first.FirstGpuRun, "_succeeds", succeeds)
        monkeypatch.setattr(first, "baseline_gap", lambda plan: gap)
        found = load("first_gpu_checks").Findings(train_captions=180_000)
        run = first.FirstGpuRun(plan, found, price=None, say_every=60.0, any_baseline=False)
        return run.run(0), started

    def test_cheap_ones_come_first_and_finished_ones_are_not_repeated(
        self, load: Any, plan: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        every = ["zero-shot", "timings", "seed-0", "seed-1", "seed-2", "mteb-MSVDT2VRetrieval"]
        assert self.run(load, plan, monkeypatch, failing="seed-1") == (1, every[:4])
        assert "NOT DONE: the paper's row, seed 1. Repeat the command" in capsys.readouterr().out
        assert self.run(load, plan, monkeypatch) == (0, every[3:])

    def test_what_others_do_not_need_may_fail(self, load: Any, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        code, started = self.run(load, plan, monkeypatch, failing="timings")
        assert (code, len(started)) == (1, 6)

    def test_nothing_is_trained_on_wrong_data(
        self, load: Any, plan: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(2):  # the check is made at each start
            code, started = self.run(load, plan, monkeypatch, gap=-12.5)
            assert code == 1
            assert "seed-0" not in started
            assert "-12.5 points from the known figure" in capsys.readouterr().out

    def test_a_folder_belongs_to_one_request_and_one_run(self, load: Any, plan: Any) -> None:
        import dataclasses

        with plan.locked(), pytest.raises(SettingsError, match="another run is at work"), plan.locked():
            pass
        plan.check_folder()
        plan.claim()
        plan.check_folder()
        assert load("first_gpu_plan").load_plan(plan.output) == plan
        with pytest.raises(SettingsError, match=r"holds another run: seeds .* choose another --output"):
            dataclasses.replace(plan, seeds=(7,)).check_folder()

    def test_batches_are_cut_where_whole_ones_do_not_fit(self, load: Any, plan: Any) -> None:
        plan.output.mkdir()
        write(plan.timings, {"parts": {"training": {"seconds": 9.0, "error": "out of memory"}}})
        plan.choose_chunk_size()
        assert plan.row().settings["training.chunk_size"] == 32
        write(plan.timings, {"parts": {"training": {"figures": {}}}})
        plan.choose_chunk_size()
        assert plan.chunk_size == 32  # a training goes on as it was begun
        assert plan.row().departures() == []
        assert plan.row(zero_shot=True).departures() == []


class TestTables:
    def test_have_our_figures_beside_the_published_ones(self, load: Any, plan: Any) -> None:
        tables = load("first_gpu_tables")
        plan.output.mkdir()
        assert tables.write_tables(plan) == []
        spread = {"R@1": {"mean": 47.5, "std": 0.3, "values": {}}}
        runs = {"0": report(47.2), "1": report(47.8, reservations=["incomplete: 990 of 1,000 videos"])}
        write(plan.paper / "seeds.json", {"ours": {"mms_fv": spread}, "seeds": runs})
        write(plan.mteb(plan.tasks[0]), {"task": plan.tasks[0], "main": 0.5, "ndcg_at_10": 0.5, "refused": {"a": "b"}})
        row = {"precision": "bf16", "ms_per_video_on_device": 1.234, "ms_one_query": 5.0}
        parts = {"encoding": {"figures": {"rows": [row]}}, "search": {"error": "words\nout of memory"}}
        write(plan.timings, {"gpu": {"name": "GPU X"}, "parts": parts})
        written = {path.name: path.read_text(encoding="utf-8") for path in tables.write_tables(plan)}
        assert "| ours, mean of seeds 0, 1 | 47.5 |" in written["paper-row.md"]
        assert "| paper, main results | 48.1 |" in written["paper-row.md"]
        assert "- incomplete: 990 of 1,000 videos" in written["paper-row.md"]
        assert "| MSVDT2VRetrieval | 50.00 | 1 |" in written["mteb.md"]
        assert "| ours, bf16 | 1.23 | 5.00 |" in written["timings.md"]
        assert "Part search failed: out of memory" in written["timings.md"]
        assert json.loads((plan.tables / "mteb.json").read_text(encoding="utf-8"))[0]["main"] == 0.5
        assert "mean nothing" not in "".join(written.values())


def test_a_folder_is_not_taken_before_all_is_there(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    arguments = ["--output", str(tmp_path / "run"), "--annotations", str(tmp_path), "--tasks"]
    assert load("first_gpu").run([*arguments, "none"]) == 2
    assert load("first_gpu").run([*arguments, "none", "--seeds", "7,"]) == 2  # another request, and no error of that
    said = capsys.readouterr()
    assert said.out.count("MISSING: torch") == 2
    assert said.err == ""


def test_options_that_are_missing_or_wrong_are_said(load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = load("first_gpu").run
    assert run(["--output", "somewhere"]) == 2
    assert "name the folder of MSR-VTT's annotation files, --annotations" in capsys.readouterr().err
    assert run(["--output", "somewhere", "--tiny", "--price-per-hour", "-1"]) == 2
    assert "--price-per-hour is -1.0" in capsys.readouterr().err
