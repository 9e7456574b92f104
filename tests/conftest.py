"""Shared fixtures: where real clips are, and guards that keep random state and switches from leaking between tests.

Nothing here imports torch before a test needs it, so that `pytest tests/video` runs without it.
"""

import importlib.util
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pytest
from paths import PROGRAMS, ROOT
from thorough import THOROUGH
from type_checks import check_cheaply

check_cheaply()  # before anything of ours is imported

from warm_workers import warm_workers  # noqa: E402

from colbert_video import progress  # noqa: E402
from colbert_video.progress import show_progress  # noqa: E402

# Models that are loaded by name compute in float32 on every processor: oneDNN may not multiply in bfloat16.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")

COMPILATION = pytest.StashKey["subprocess.Popen[bytes]"]()
REAL_FSYNC = os.fsync
STOCK_PROGRAM = PROGRAMS / "stock_colbert_scores.py"

hypothesis.settings.register_profile("colbert_video", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("colbert_video")


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real videos of many codecs, some broken; tests that need it are skipped without it."""
    folder = Path(os.environ.get("COLBERT_VIDEO_CLIPS", ROOT.parent / "shared" / "clips"))
    if not folder.is_dir():
        pytest.skip("no folder of real clips; set COLBERT_VIDEO_CLIPS to one")
    return folder


@pytest.fixture(scope="session")
def rendered_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of the synthetic world, as `clips/` of the documentation; to be read only."""
    from colbert_video.training.world import write_world

    folder = tmp_path_factory.mktemp("rendered") / "clips"
    write_world(folder, count=6, seed=3, split="test")
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Have several workers take the files in our order; xdist's own has long files of few tests at the end."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, so that all workers end together, and those with stock's C++ last: it is compiled meanwhile."""
    slow, stock = _files_marked("slow", items), _files_marked("stock", items)
    items.sort(key=lambda item: (item.path in stock, item.path not in slow))


def _files_marked(name: str, items: list[pytest.Item]) -> set[Path]:
    return {item.path for item in items if item.get_closest_marker(name) is not None}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile stock's C++ beside the other tests: it takes one core a minute or two, or a moment if it was done before."""
    items = session.items
    others = [item for item in items if item.get_closest_marker("stock") is None]
    if session.config.option.collectonly or not THOROUGH or not 0 < len(others) < len(items):
        return
    if importlib.util.find_spec("colbert"):
        session.config.stash[COMPILATION] = subprocess.Popen(
            [sys.executable, STOCK_PROGRAM],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once what fails, in a run of many minutes; workers leave it to the process that they report to."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(
            f"\n{report.when} of {report.nodeid} failed:\n{report.longreprtext[-2000:]}",
            file=sys.__stderr__,
            flush=True,
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Never kill the compilation: torch would wait for its lock without end."""
    if COMPILATION in session.config.stash:
        session.config.stash[COMPILATION].wait()


class TorchRandom:
    """Lets hypothesis replay examples that draw tensors."""

    def __init__(self, torch: ModuleType) -> None:
        self.seed = torch.manual_seed
        self.getstate = torch.get_rng_state
        self.setstate = torch.set_rng_state


TORCH_RANDOM: list[TorchRandom] = []
"""The one that hypothesis knows, which holds it by a weak reference; empty until torch is imported."""


def set_up_torch(torch: ModuleType) -> None:
    """Give torch as many threads as OMP_NUM_THREADS says, and its draws to hypothesis.

    One by default: on tensors this small, threads cost more than they bring.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    TORCH_RANDOM.append(TorchRandom(torch))
    hypothesis.register_random(TORCH_RANDOM[0])


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test draw from the global state
    torch = sys.modules.get("torch")
    if torch is not None:
        if not TORCH_RANDOM:
            set_up_torch(torch)
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def switches_stay_as_they_are() -> Iterator[None]:
    """No test mutes the log of all that follow, nor do progress bars stay on, which the command line turns on."""
    before, bars = (logging.root.level, logging.root.manager.disable), progress._enabled
    yield
    show_progress(bars)
    assert (logging.root.level, logging.root.manager.disable) == before


@pytest.fixture(scope="session", autouse=True)
def workers_stay_warm() -> Iterator[None]:
    """Pools hand their decoding processes on from test to test; tests of the processes themselves start their own."""
    with warm_workers():
        yield


@pytest.fixture(scope="session", autouse=True)
def disk_is_not_waited_for() -> Iterator[None]:
    """What is written need not outlast a power cut; tests of that it does use `real_fsync`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def real_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the disk."""
    monkeypatch.setattr(os, "fsync", REAL_FSYNC)


@pytest.fixture(scope="session")
def tiny_names(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Names under which open_clip builds the tiny models: `.clip` and `.siglip`."""
    import open_clip
    from tiny_models import TINY_NAMES

    folder = tmp_path_factory.mktemp("model_configs")
    for name, model_cfg in TINY_NAMES.items():
        (folder / f"{name}.json").write_text(json.dumps(model_cfg))
        open_clip.add_model_config(folder / f"{name}.json")
    clip, siglip = TINY_NAMES
    return SimpleNamespace(clip=clip, siglip=siglip)


@pytest.fixture(scope="session")
def tiny_model(tiny_names: SimpleNamespace) -> Iterator[Any]:
    """An untrained VideoColBERT of 64 dimensions over a tiny CLIP; 32×32 pixels, 32 query tokens."""
    from tiny_models import build_tiny, unchanged

    yield from unchanged(build_tiny(tiny_names.clip))


@pytest.fixture(scope="session")
def tiny_trained_model(tiny_names: SimpleNamespace) -> Iterator[Any]:
    """The tiny model with the same random weights, marked as trained: all tokens, both bags."""
    from tiny_models import build_tiny, unchanged

    yield from unchanged(build_tiny(tiny_names.clip, trained=True))


@pytest.fixture(scope="session")
def tiny_siglip_model(tiny_names: SimpleNamespace) -> Iterator[Any]:
    """A trained VideoColBERT over a tiny SigLIP: 16 query tokens, the words' ids from `WordTokenizer`."""
    from tiny_models import TINY_SIGLIP, WordTokenizer, build_tiny, unchanged

    model = build_tiny(tiny_names.siglip, trained=True)
    model.backbone.tokenizer = WordTokenizer(TINY_SIGLIP["text_cfg"]["vocab_size"])
    yield from unchanged(model)
