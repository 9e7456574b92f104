"""Importing colbert-ai without what its import does to the process.

Its import takes seconds, forces multiprocessing's "spawn" on the whole process (colbert/infra/launcher.py) and sets
TOKENIZERS_PARALLELISM (colbert/infra/run.py). Scoring on CPUs needs four C++ functions, which torch compiles and keeps
in its extension folder (TORCH_EXTENSIONS_DIR, else ~/.cache/torch_extensions). Its text side fails with recent
transformers only when a checkpoint is loaded; scoring loads none.
"""

import importlib
import io
import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from threading import Timer

from colbert_video.errors import DependencyError

NEEDED = ("colbert.search.index_storage", "colbert.modeling.colbert", "colbert.infra")
TOKENIZERS = "TOKENIZERS_PARALLELISM"
SLOW = 5.0
"""Seconds after which loading must be a compilation, and says so."""
logger = logging.getLogger(__name__)


def import_colbert() -> None:
    """Import the parts of colbert-ai that score, and leave the process's settings as they were.

    Raises:
        DependencyError: If colbert-ai, or something it needs, is missing.
    """
    try:
        with settings_kept():
            for module in NEEDED:
                importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"engine='colbert' needs the package colbert-ai, and its import failed: {error}. Install it (pip install "
            "'colbert-ai>=0.2.22'; it also needs the program git), or use engine='native'."
        ) from error


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back multiprocessing's start method, which progress bars fix too, and TOKENIZERS_PARALLELISM."""
    start_method = multiprocessing.get_start_method(allow_none=True)
    tokenizers = os.environ.get(TOKENIZERS)
    try:
        yield
    finally:
        multiprocessing.set_start_method(start_method, force=True)
        os.environ.pop(TOKENIZERS, None)
        if tokenizers is not None:
            os.environ[TOKENIZERS] = tokenizers


def load_kernels(*, use_gpu: bool) -> None:
    """Import colbert-ai and load its compiled functions, compiling them where that has not been done.

    Args:
        use_gpu: Load the CUDA functions instead of those for CPUs.

    Raises:
        DependencyError: If colbert-ai is missing, or the compilation fails.
    """
    import_colbert()
    from colbert.indexing.codecs.residual import ResidualCodec
    from colbert.modeling.colbert import ColBERT
    from colbert.search.index_storage import IndexScorer
    from colbert.search.strided_tensor import StridedTensor

    notice = Timer(SLOW, logger.warning, ("compiling colbert-ai's C++; once on a machine, for minutes",))
    notice.start()
    try:
        with quiet(logger):
            for owner in (IndexScorer, StridedTensor, ColBERT, ResidualCodec):
                owner.try_load_torch_extensions(use_gpu)
    except (RuntimeError, OSError, ImportError) as error:
        compiler = "nvcc of the CUDA toolkit" if use_gpu else "a C++ compiler (g++ or clang)"
        reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
        raise DependencyError(
            f"engine='colbert' compiles C++ of colbert-ai, and that failed: {reason}. Install {compiler} and ninja (pip "
            "install ninja), or use engine='native', which compiles nothing."
        ) from error
    finally:
        notice.cancel()


@contextmanager
def visible_gpus(count: int) -> Iterator[None]:
    """Let stock count this many GPUs: its codec otherwise uses a GPU whenever the machine has one."""
    from colbert.infra.config.settings import RunSettings

    before = RunSettings.total_visible_gpus
    RunSettings.total_visible_gpus = count
    try:
        yield
    finally:
        RunSettings.total_visible_gpus = before


@contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    """Log what stock prints and its progress bars, at debug level, instead of showing them."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            log.debug("colbert-ai: %s", line)
