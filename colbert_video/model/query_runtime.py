"""Text towers that ONNX Runtime or OpenVINO runs: for the few rows of a query they multiply faster than torch on CPUs.

The tower is exported once, when a model is loaded for searching, which takes from several seconds to half a minute; images
stay with torch, which is as fast for them.
"""

import importlib
import importlib.util
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from colbert_video.base.once import ForkLock
from colbert_video.base.torch_state import plain_torch
from colbert_video.errors import DependencyError, ModelError, SettingsError, in_one_line, shown
from colbert_video.model.backbone import Backbone

logger = logging.getLogger(__name__)
QueryRuntime = Literal["torch", "onnx", "openvino"]
"""What runs the text tower for queries: torch, ONNX Runtime, or OpenVINO."""
PACKAGES = {"onnx": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
"""What each needs; the extra has the name of the runtime."""
MIN_COSINE = 0.999
"""Between tokens of the exported tower and of torch's, checked when it is made; in bfloat16 they differ a little."""
Run = Callable[[Int[Tensor, "queries query_tokens"]], Tensor]
_EXPORTING = ForkLock()


def check_query_runtime(runtime: str | None) -> None:
    """Check the name of a runtime and that it is installed, before anything is loaded for it; None stands for torch.

    Raises:
        SettingsError: If it is unknown.
        DependencyError: If its packages are missing.
    """
    if runtime is not None and runtime not in get_args(QueryRuntime):
        known = ", ".join(map(repr, get_args(QueryRuntime)))
        raise SettingsError(f"query_runtime={shown(runtime)} is unknown; choose from {known}.")
    for package in PACKAGES.get(runtime or "torch", ()):
        if importlib.util.find_spec(package) is None:
            raise DependencyError(
                f"{package} is not installed, which query_runtime={shown(runtime)} needs: "
                f'pip install "colbert_video[{runtime}]"'
            )


class TextTower(nn.Module):
    """The part of a model that is exported: ids become query tokens, normalised."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone: Any = backbone

    def forward(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return every query token."""
        return nn.functional.normalize(self.backbone.text_tokens(ids).float(), dim=-1)


class TextRuntime:
    """The text tower of a model in a runtime, with the weights that it had when this was made.

    Args:
        backbone: Owns the tower, on the CPU.
        runtime: "onnx" or "openvino".
        precision: Of the model. OpenVINO multiplies in bfloat16 for "bf16"; else runtimes compute in float32.

    Raises:
        DependencyError: If a package is missing.
        ModelError: If the tower cannot be exported, or makes other tokens then.
    """

    def __init__(self, backbone: Backbone, runtime: QueryRuntime, precision: str) -> None:
        check_query_runtime(runtime)
        self.name = runtime
        started = time.perf_counter()
        self._process = os.getpid()
        tower = TextTower(_in_float32(backbone)).eval()
        with _EXPORTING, plain_torch(), torch.no_grad():
            self._run = _exported(tower, runtime, precision)
            self._check(tower)
        logger.info("the text tower was exported to %s in %.1f s", runtime, time.perf_counter() - started)

    @property
    def usable(self) -> bool:
        """True in the process that made it; the threads of a runtime do not survive a fork."""
        return os.getpid() == self._process

    def __call__(self, ids: Int[Tensor, "queries query_tokens"]) -> Float[Tensor, "queries query_tokens dim"]:
        """Return the tokens of queries, normalised; safe in several threads."""
        return self._run(ids)

    def _check(self, tower: TextTower) -> None:
        """Compare with torch, in a shape that was not exported."""
        ids = torch.tensor(_example(tower.backbone, queries=3, most=9), device="cpu")
        found, true = self._run(ids), tower(ids)
        cosine = float((found * true).sum(dim=-1).min()) if found.shape == true.shape else float("nan")
        if not cosine > MIN_COSINE:
            raise ModelError(
                f"the text tower makes other tokens in {self.name} than in torch (cosine {cosine:.4f}); leave "
                "query_runtime out for this model."
            )


def _in_float32(backbone: Any) -> Any:
    """Return the backbone, or a copy of it in float32: weights in half precision are rounded, and runtimes widen them."""
    import copy

    weights = next(backbone.parameters())
    return backbone if weights.dtype == torch.float32 else copy.deepcopy(backbone).float()


def _example(backbone: Any, *, queries: int, most: int) -> list[list[int]]:
    length = min(most, backbone.context_length)
    return [[(row + column) % backbone.vocabulary_size for column in range(length)] for row in range(1, queries + 1)]


def _exported(tower: TextTower, runtime: QueryRuntime, precision: str) -> Run:
    # The sizes of the example are neither 0 nor 1, which export would take for constants.
    ids = torch.tensor(_example(tower.backbone, queries=2, most=7), device="cpu")
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    build = _in_onnx if runtime == "onnx" else _in_openvino
    try:
        program = torch.export.export(tower, (ids,), dynamic_shapes={"ids": sizes})
        return build(program, precision)
    except Exception as error:
        kind = type(tower.backbone).__name__
        raise ModelError(
            f"the text tower of this {kind} cannot be exported to {runtime}: {in_one_line(error)}. Leave query_runtime out "
            "for this model."
        ) from error


def _in_onnx(program: Any, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a service waits most of the time
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work, _quiet_export():
        path = str(Path(work) / "text.onnx")
        torch.onnx.export(program, (), path, input_names=["ids"], dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids: torch.from_numpy(session.run(None, {"ids": ids.numpy()})[0])


def _in_openvino(program: Any, precision: str) -> Run:
    with _no_reports():
        openvino = importlib.import_module("openvino")
        model = openvino.convert_model(program)
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = openvino.compile_model(model, "CPU", settings)
    requests = threading.local()

    def run(ids: Int[Tensor, "queries query_tokens"]) -> Tensor:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        return torch.from_numpy(requests.own.infer([ids.numpy()])[0].copy())

    return run


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Mute the exporter's warnings; one thread at a time exports."""
    import warnings

    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


@contextmanager
def _no_reports() -> Iterator[None]:
    """Keep OpenVINO from reporting its use over the network, as it does by itself when it is imported.

    It goes without the package that reports where that is missing.
    """
    reporter = "openvino_telemetry"
    blocked = reporter not in sys.modules
    if blocked:
        sys.modules[reporter] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if blocked:
            del sys.modules[reporter]
