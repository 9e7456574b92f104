"""Everything that waits for a first GPU, in one command that goes on after any interruption.

    runs/first_gpu.sh --annotations MSRVTT --videos MSRVTT/videos --output first-gpu --price-per-hour 2.50
    runs/first_gpu.sh --annotations MSRVTT --videos MSRVTT/videos --output first-gpu --check    # what is missing
    runs/first_gpu.sh --tiny --output tried                                                    # on a CPU, in minutes

First it checks the GPU, packages, data, weights and free disk, and says what is missing. Then, cheap steps first:
zero-shot rows of CLIP ViT-B/32 on MSR-VTT 1K-A; timings of the paper's Table 11 (benchmarks/gpu.py); the B/32 row of the
paper from three seeds; MTEB's text-to-video tasks with the first of these models. Tables are in OUTPUT/tables after each step.

If the zero-shot row is far from the known figures, data or weights are wrong, and nothing is trained.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from first_gpu_checks import Findings, check_everything, text_to_video_tasks
from first_gpu_clock import Clock, Times, in_words, left_in_words
from first_gpu_plan import FirstGpuPlan
from first_gpu_stand_ins import TASK, write_stand_ins
from first_gpu_steps import Step, all_steps, baseline_gap
from first_gpu_tables import write_tables

from colbert_video.errors import ColBERTVideoError, SettingsError, printable
from colbert_video.training.evaluation.seed_spread import parse_seeds

MAX_BASELINE_GAP = 3.0
"""Points of R@1 by which the zero-shot row may differ from the first known figure, whose frames are chosen otherwise."""
POLL_SECONDS = 5.0
"""How often a running step is looked at, and its time written down."""
LAST_LINES = 20
"""Lines of a failed step's log that are shown."""
FAILED, USAGE, INTERRUPTED = 1, 2, 130


class FirstGpuRun:
    """Runs the steps that are not finished.

    Args:
        plan: What is run.
        found: What the checks found.
        price: Of an hour, in any currency; None if it is not known.
        say_every: Seconds between two lines of progress.
        any_baseline: True to train whatever the zero-shot row says.
    """

    def __init__(
        self, plan: FirstGpuPlan, found: Findings, *, price: float | None, say_every: float, any_baseline: bool
    ) -> None:
        self.plan, self.price, self.say_every, self.any_baseline = plan, price, say_every, any_baseline
        self.steps = all_steps(plan)
        self.times = Times(plan.output / "times.json")
        self.clock = Clock(plan, self.times, found)

    def run(self, lock: int) -> int:
        """Run to the end, or to a step that fails and that others need.

        Args:
            lock: Descriptor of the folder's lock, which the steps inherit.

        Returns:
            Exit code.
        """
        failed = []
        for step in self.steps:
            if self.times.finished(step.name):
                print(f"{step.title}: done before, in {in_words(self.times.seconds(step.name))}", flush=True)
            elif not self._succeeds(step, lock):
                failed.append(step.title)
                if not step.optional:
                    break
            if step.name == "zero-shot" and not failed and not self._baseline_holds():
                failed.append("the zero-shot row is not the known one")
                break
        self._report(failed)
        return FAILED if failed else 0

    def _succeeds(self, step: Step, lock: int) -> bool:
        log = self.plan.output / "logs" / f"{step.name}.log"
        log.parent.mkdir(exist_ok=True)
        print(f"{step.title}: {self._left()}; its log is {printable(str(log))}", flush=True)
        script = Path(__file__).with_name("first_gpu_steps.py")
        before, started = self.times.seconds(step.name), time.monotonic()
        with log.open("ab") as file:
            command = [sys.executable, str(script), str(self.plan.output), step.name]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, pass_fds=(lock,))
            try:
                self._wait(process, step, before, started)
            finally:
                if process.poll() is None:  # interrupted: the step has the signal too, and may write its last words
                    process.wait()
                seconds = before + time.monotonic() - started
                self.times.note(step.name, seconds, finished=process.returncode == 0)
        if process.returncode:
            print(f"{step.title} FAILED with exit code {process.returncode}:", flush=True)
            print(printable(_last_lines(log), lines=True), flush=True)
            return False
        print(f"{step.title}: done in {in_words(seconds)}; {self._cost()}", flush=True)
        write_tables(self.plan)
        return True

    def _wait(self, process: "subprocess.Popen[bytes]", step: Step, before: float, started: float) -> None:
        said = started
        while True:
            try:
                process.wait(timeout=min(POLL_SECONDS, self.say_every))
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                self.times.note(step.name, before + now - started)
                if now - said >= self.say_every:
                    said = now
                    print(f"  {self._progress(step)}", flush=True)
            else:
                return

    def _progress(self, step: Step) -> str:
        done = self.clock.progress(step.name)
        share = "" if done is None else f", {100 * done:.0f} % of the steps"
        return f"{step.title}{share}, {in_words(self.times.seconds(step.name))}; {self._left()}; {self._cost()}"

    def _left(self) -> str:
        return left_in_words(self.clock.left([step.name for step in self.steps]), self.price)

    def _cost(self) -> str:
        spent = self.times.spent
        cost = "" if self.price is None else f", cost {spent / 3600 * self.price:.2f}"
        return f"{in_words(spent)} in all{cost}"

    def _baseline_holds(self) -> bool:
        gap = None if self.plan.tiny else baseline_gap(self.plan)
        if gap is None or abs(gap) <= MAX_BASELINE_GAP or self.any_baseline:
            return True
        print(
            f"R@1 of the zero-shot row is {gap:+.1f} points from the known figure, more than {MAX_BASELINE_GAP}: videos, "
            "annotations or weights are not those of the paper. Nothing is trained; --any-baseline trains all the same.",
            flush=True,
        )
        return False

    def _report(self, failed: list[str]) -> None:
        print(f"{self._cost()}; tables: {printable(str(self.plan.tables))}", flush=True)
        if failed:
            print(f"NOT DONE: {'; '.join(failed)}. Repeat the command to go on.", flush=True)


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])


def options_given(arguments: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the run; repeat the command to go on")
    parser.add_argument("--annotations", type=Path, help="folder of MSR-VTT's annotation files")
    parser.add_argument("--videos", type=Path, help="folder of its videos; by default that of the annotations")
    parser.add_argument("--weights", help="folder or file of CLIP's weights, instead of a download")
    parser.add_argument("--cache", type=Path, help="folder of decoded frames, 54 GB; by default in the output")
    parser.add_argument("--seeds", default="3", help="3 for the seeds 0, 1 and 2, or a list such as 0,7,11")
    parser.add_argument("--tasks", default="all", help="MTEB's tasks, with commas; all text-to-video ones, or none")
    parser.add_argument("--price-per-hour", type=float, help="of the machine, in any currency: costs are printed too")
    parser.add_argument("--device", help="cpu, or a GPU such as cuda:1; by default the first GPU")
    parser.add_argument("--workers", type=int, help="decoding processes; by default one per core")
    parser.add_argument("--allow-missing", action="store_true", help="go on without missing videos, and mark the rows")
    parser.add_argument("--any-baseline", action="store_true", help="train whatever the zero-shot row says")
    parser.add_argument("--check", action="store_true", help="check what is needed, and stop")
    parser.add_argument("--tiny", action="store_true", help="try all of it on stand-ins, on the CPU")
    parser.add_argument("--say-every", type=float, default=60.0, help="seconds between two lines of progress")
    return parser.parse_args(arguments)


def planned(options: argparse.Namespace) -> FirstGpuPlan:
    """Return the request of a command line; a trial makes its files.

    Raises:
        SettingsError: If an option is missing or no value of its kind.
    """
    if options.price_per_hour is not None and not options.price_per_hour >= 0:
        raise SettingsError(f"--price-per-hour is {options.price_per_hour}; give a price, 0 or more.")
    if not options.say_every > 0:
        raise SettingsError(f"--say-every is {options.say_every}; give seconds, more than 0.")
    shared: dict[str, Any] = {"output": options.output, "seeds": parse_seeds(options.seeds)}
    if options.tiny:
        download, weights = write_stand_ins(options.output.resolve().with_name(f"{options.output.name}.stand-ins"))
        tasks = () if options.tasks == "none" else (TASK,)
        shared |= {"annotations": download, "videos": download / "videos", "weights": str(weights)}
        return FirstGpuPlan(**shared, tasks=tasks, device="cpu", workers=0, tiny=True)
    if options.annotations is None:
        raise SettingsError("name the folder of MSR-VTT's annotation files, --annotations; --tiny needs none.")
    return FirstGpuPlan(
        **shared,
        annotations=options.annotations,
        videos=options.videos or options.annotations,
        tasks=_tasks(options.tasks),
        weights=options.weights,
        cache=options.cache,
        device=options.device,
        workers=options.workers,
        allow_missing=options.allow_missing,
    )


def _tasks(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    if text != "all":
        return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    try:
        return text_to_video_tasks()
    except ImportError as error:
        raise SettingsError("mteb is not installed: pip install 'colbert_video[mteb]', or --tasks none.") from error


def run(arguments: list[str] | None = None) -> int:
    """Check, then run.

    Returns:
        Exit code: 0, 1 if a step failed, 2 if something is missing, 130 if it was interrupted.
    """
    options = options_given(arguments)
    try:
        plan = planned(options)
        plan.check_folder()  # before a lock is laid into a folder of others
        with plan.locked() as lock:
            plan.check_folder()
            found = check_everything(plan)
            for note in found.notes:
                print(f"checked: {printable(note)}", flush=True)
            for problem in found.problems:
                print(f"MISSING: {printable(problem)}.", flush=True)
            if found.problems or options.check:
                return USAGE if found.problems else 0
            plan.claim()
            first = FirstGpuRun(
                plan,
                found,
                price=options.price_per_hour,
                say_every=options.say_every,
                any_baseline=options.any_baseline,
            )
            return first.run(lock)
    except ColBERTVideoError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; repeat the command to go on.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
