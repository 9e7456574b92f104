"""A GPU for machines without one: tensors that say they are on cuda:0, while the CPU computes their values.

Inside `StandInGPU()`, tensors made or moved there with the device "cuda:0" behave as on a GPU where programs go wrong:
an operation on both devices raises, `.numpy()` raises, and whatever makes the program wait for the GPU is noted. The
values are those of the CPU, so results can be compared too. What only a GPU shows stays untested: kernels, their
speed and their rounding, autocast, and several streams.

To torch's C++ the tensors are wrappers on the device "meta", which runs everywhere; only Python sees cuda:0. So name the
GPU with its number: "cuda" alone asks the driver which one is meant.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

GPU = torch.device("cuda", 0)
SOURCES = tuple(f"{ROOT / room}/" for room in ("colbert_video", "indexing", "training"))
"""Folders of the code that is watched."""
WAITING = {
    "_local_scalar_dense",
    "bincount",
    "equal",
    "histc",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "segment_reduce",
    "unique_consecutive",
    "unique_dim",
    "_unique2",
}
"""Operations whose result, or its shape, must be known on the CPU before the program goes on."""
TAKES_CPU_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
TAKES_CPU_SCALARS = {"masked_fill", "masked_fill_", "fill_", "index_put", "index_put_"}
PYTHON = torch._C.DispatchKeySet(torch._C.DispatchKey.Python).add(torch._C.DispatchKey.PythonTLSSnapshot)
BETWEEN_DEVICES = {"_to_copy", "copy_"}


ENTERED: "list[StandInGPU]" = []
"""Those whose blocks are running."""


class GPUTensor(Tensor):
    """A tensor that says it is on the GPU, around the CPU tensor that holds its values."""

    values: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: type["GPUTensor"], values: Tensor) -> "GPUTensor":
        """Wrap values, which stay where they are; a view of a tensor from outside of inference mode is none of it."""
        with torch.inference_mode(values.is_inference()):
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                values.shape,
                strides=values.stride(),
                storage_offset=values.storage_offset(),
                dtype=values.dtype,
                device="meta",
            )
        made.values = values
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:  # type: ignore[override]
        """Make it here, not where C++ believes this tensor to be."""
        return torch.tensor(data, dtype=dtype or self.dtype, device=GPU)

    def tolist(self) -> Any:
        """Copy to the CPU, as for a tensor on a GPU."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, in the words of torch."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {GPU} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"GPUTensor({self.values!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Let `Module.to` swap parameters, so that they stay the same objects, as on a GPU."""
        return ["values"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: Any) -> "GPUTensor":
        return GPUTensor(inner["values"])

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute in threads that the mode does not reach; theirs is the one that was entered last."""
        if not ENTERED:
            raise RuntimeError(f"{func} of a tensor on the stand-in for a GPU, outside of StandInGPU")
        return ENTERED[-1].__torch_dispatch__(func, types, args, kwargs)


class StandInGPU(TorchDispatchMode):
    """Runs all operations of the block, and notes which of them waited for the GPU or sent values there.

    Attributes:
        waits: How often each function of ours made the program wait for the GPU.
        sent: How often each function of ours copied a tensor to the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        # In this slot of torch, "cuda" as the device of a new tensor does not look for a driver.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self.waits: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._counting = True
        self._stack = ExitStack()

    def __enter__(self) -> "StandInGPU":
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda:0") comes by here, too
        self._stack.callback(torch._C._set_only_lift_cpu_tensors, before)
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        ENTERED.append(self)
        self._stack.callback(ENTERED.remove, self)
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)
        self._stack.close()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count in the block alone, from zero."""
        self.waits, self.sent = Counter(), Counter()
        self._counting = True
        yield
        self._counting = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._can_decompose():  # in inference mode, composed operations arrive whole
            with self._again():
                return func.decompose(*args, **kwargs)
        name = func.overloadpacket.__name__
        tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, GPUTensor)]
        on_gpu = _is_gpu(kwargs["device"]) if kwargs.get("device") is not None else bool(ours)
        if ours:
            _check_one_device(func, name, args, kwargs, tensors)
            _check_kernel(func)
        if self._counting:
            self._note(name, args, kwargs, on_gpu)
        result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        if name == "copy_":
            return args[0]
        if torch.Tag.inplace_view in func.tags:  # the shape of the wrapper changes, too
            with torch._C._ExcludeDispatchKeyGuard(PYTHON):
                return func(*args, **kwargs)
        known = {id(tensor.values): tensor for tensor in ours}
        return tree_map(lambda made: _wrapped(made, known) if on_gpu else made, result)

    @contextmanager
    def _again(self) -> Iterator[None]:
        """Watch the parts of an operation, too: torch leaves a mode while it is called."""
        TorchDispatchMode.__enter__(self)
        try:
            yield
        finally:
            TorchDispatchMode.__exit__(self, None, None, None)

    def _note(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], on_gpu: bool) -> None:
        if name in BETWEEN_DEVICES:
            target, source = (args[0], args[1]) if name == "copy_" else (None, args[0])
            to_gpu = isinstance(target, GPUTensor) if name == "copy_" else on_gpu
            from_gpu = isinstance(source, GPUTensor)
            if from_gpu and not to_gpu:
                self.waits[_caller()] += 1
            elif to_gpu and not from_gpu:
                self.sent[_caller()] += 1
        elif name in WAITING and any(isinstance(item, GPUTensor) for item in tree_iter(args)):
            if name != "repeat_interleave" or kwargs.get("output_size") is None:
                self.waits[_caller()] += 1
        elif name in TAKES_CPU_INDICES and isinstance(args[0], GPUTensor):
            indices = [index for index in args[1] if index is not None]
            masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
            filling = name != "index" and args[2].numel() == 1  # a fill by a mask, whose places nobody counts
            if masks and not filling:
                self.waits[_caller()] += 1
            if not all(isinstance(index, GPUTensor) for index in indices):
                self.sent[_caller()] += 1


def _is_gpu(device: Any) -> bool:
    return torch.device(device).type in ("cuda", "meta")  # what C++ makes like a tensor of ours it makes on "meta"


def _values(item: Any) -> Any:
    if isinstance(item, GPUTensor):
        return item.values
    return torch.device("cpu") if isinstance(item, torch.device) else item


def _wrapped(made: Any, known: Mapping[int, GPUTensor]) -> Any:
    if not isinstance(made, Tensor) or isinstance(made, GPUTensor):
        return made
    return known[id(made)] if id(made) in known else GPUTensor(made)  # known: of an operation in place


def _check_one_device(
    func: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], tensors: list[Tensor]
) -> None:
    """Check that all tensors are on the GPU but those that torch takes from the CPU, too."""
    if name in BETWEEN_DEVICES:
        return
    if name in TAKES_CPU_INDICES and isinstance(args[0], GPUTensor):
        tensors = [tensor for tensor in tree_iter((args[0], args[2:])) if isinstance(tensor, Tensor)]
    scalars = name in TAKES_CPU_SCALARS or torch.Tag.pointwise in func.tags
    for tensor in tensors:
        if not isinstance(tensor, GPUTensor) and not (scalars and tensor.ndim == 0):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {GPU} and "
                f"{tensor.device}! ({func}, in {_caller()})"
            )


def _check_kernel(func: Any) -> None:
    """Check that torch has a kernel of the operation for GPUs; builds for CPUs alone do not know."""
    if torch.version.cuda and not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "CUDA"):
        raise NotImplementedError(f"{func} has no kernel for CUDA (in {_caller()})")


def _caller() -> str:
    """Return the innermost function of ours that is running; "tests" if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(SOURCES):
            return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"
        frame = frame.f_back  # type: ignore[assignment]
    return "tests"
