"""The stand-in for a GPU sees the faults that are planted here, and leaves right programs alone."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stand_in_gpu import GPU, GPUTensor, StandInGPU
from torch import Tensor, nn


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, device=GPU)


def _later_rows(x: Tensor) -> Tensor:
    return x + torch.arange(len(x))[:, None]  # the fault: no device


def _scaled(x: Tensor) -> Tensor:
    return x @ torch.eye(x.shape[1])


def _longer(x: Tensor) -> Tensor:
    return torch.cat([x, torch.zeros(1, x.shape[1])])


def _masked(x: Tensor) -> Tensor:
    return x.masked_fill(torch.zeros(x.shape, dtype=torch.bool), 0.0)


def _chosen(x: Tensor) -> Tensor:
    return torch.arange(10)[x[:, 0].argsort()]


def _added(x: Tensor) -> Tensor:
    return torch.zeros(x.shape).add_(x)


@pytest.mark.parametrize("fault", [_later_rows, _scaled, _longer, _masked, _chosen, _added])
def test_two_devices_in_one_operation_are_refused(gpu: StandInGPU, fault: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        fault(_numbers(4, 3))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        fault(_numbers(4, 3))


@pytest.mark.parametrize("fault", [lambda x: x.numpy(), np.asarray, np.array, lambda x: x.detach().numpy()])
def test_numpy_of_a_tensor_on_the_gpu_is_refused(gpu: StandInGPU, fault: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        fault(_numbers(3))


WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.argmax()),
    "bool": lambda x: bool((x > 0).any()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "to with a dtype": lambda x: x.to(device="cpu", dtype=torch.float64),
    "copy": lambda x: torch.zeros(x.shape).copy_(x),
    "part of a tensor on the CPU": lambda x: torch.zeros(9, x.shape[1]).__setitem__(slice(0, len(x)), x),
    "mask": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "nonzero": lambda x: (x > 0).nonzero(),
    "unique": lambda x: x.unique(),
    "unique rows": lambda x: x.unique(dim=0),
    "bincount": lambda x: x[:, 0].argsort().bincount(),
    "repeats": lambda x: x.repeat_interleave(x[:, 0].argsort(), dim=0),
    "equal": lambda x: torch.equal(x, x),
    "assigned by a mask": lambda x: x.__setitem__(x > 0, x[x > 0].detach() * 2),
}


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", WAITING)
def test_what_waits_for_the_gpu_is_counted(gpu: StandInGPU, name: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        x = _numbers(4, 3)
        with gpu.counted():
            WAITING[name](x)
    assert gpu.waits == {"tests": 2 if name == "assigned by a mask" else 1}
    assert not gpu.sent


SENDING: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda x: torch.tensor([1, 2], device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "to": lambda x: torch.ones(2).to(x.device),
    "cuda": lambda x: torch.ones(2).to(x),
    "index": lambda x: x[torch.tensor([0, 2])],
    "list as index": lambda x: x[[0, 2]],
    "copy": lambda x: x.copy_(torch.zeros(4, 3)),
}


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", SENDING)
def test_what_is_sent_to_the_gpu_is_counted(gpu: StandInGPU, name: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        x = _numbers(4, 3)
        with gpu.counted():
            SENDING[name](x)
    assert gpu.sent == {"tests": 1}
    assert not gpu.waits


QUIET: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (2 * x + 1).relu().sum(),
    "a number on the CPU": lambda x: x * torch.tensor(2.0),
    "the same device": lambda x: x.to(GPU),
    "another dtype": lambda x: x.half().float(),
    "fill by a mask": lambda x: x.__setitem__(x > 0, 0.0),
    "masked_fill": lambda x: x.masked_fill(x > 0, torch.tensor(-1.0)),
    "sort": lambda x: x.sort(dim=0).values.cumsum(0),
    "index": lambda x: x[x[:, 0].argsort()],
    "slices": lambda x: x[1:, None].expand(-1, 2, -1).flatten(0, 1),
    "shapes": lambda x: torch.zeros(x.shape, device=x.device) + torch.ones_like(x) + x.new_zeros(4, 3),
    "repeats of a known number": lambda x: x.repeat_interleave(x[:, 0].argsort(), dim=0, output_size=6),
    "ranges": lambda x: torch.arange(len(x), device=x.device) + torch.eye(4, device=x.device),
}


@pytest.mark.parametrize("name", QUIET)
def test_right_programs_neither_wait_nor_send(gpu: StandInGPU, name: str) -> None:
    for inference in (True, False):
        with torch.inference_mode(inference):
            x = _numbers(4, 3)
            with gpu.counted():
                QUIET[name](x)
        assert not gpu.waits
        assert not gpu.sent


def test_functions_of_ours_are_named(gpu: StandInGPU) -> None:
    from colbert_video.indexing.codec.kmeans import spherical_kmeans

    with gpu.counted():
        spherical_kmeans(nn.functional.normalize(_numbers(40, 8), dim=1), centroids=3, iterations=1)
    assert gpu.waits["kmeans._lloyd"] == 2  # bincount and nonzero
    assert gpu.sent == {"kmeans._drawn": 1}
    assert "tests" not in gpu.waits


def test_values_and_gradients_are_those_of_the_cpu(gpu: StandInGPU) -> None:
    torch.manual_seed(0)
    here = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True))
    attention = here[3]
    x = torch.randn(2, 5, 6)
    gradients = []
    for device in ("cpu", "cuda:0"):
        here.to(device).zero_grad()
        hidden = here[:3](x.to(device))
        hidden[:, 0] += 1
        attention(hidden, hidden, hidden, need_weights=False)[0].square().sum().backward()
        gradients.append([parameter.grad.cpu().clone() for parameter in here.parameters()])
    for cpu, stand_in in zip(*gradients, strict=True):
        torch.testing.assert_close(stand_in, cpu)


def test_a_module_keeps_its_parameters_when_it_moves(gpu: StandInGPU) -> None:
    module = nn.Linear(3, 2)
    before = list(module.parameters())
    module.to("cuda:0")
    assert all(old is new for old, new in zip(before, module.parameters(), strict=True))
    assert {parameter.device for parameter in before} == {GPU}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in before)


def test_tensors_made_inside_are_plain_where_they_are_on_the_cpu(gpu: StandInGPU) -> None:
    assert type(torch.zeros(3)) is Tensor
    assert type(torch.tensor([1.0])) is Tensor
    assert type(_numbers(2).cpu()) is Tensor
    assert type(_numbers(2)) is GPUTensor


def test_shapes_change_in_place(gpu: StandInGPU) -> None:
    x = _numbers(3, 3)
    vector = _numbers(3)
    torch.testing.assert_close((vector @ x).cpu(), vector.cpu() @ x.cpu())  # squeezes in place
    assert x.unsqueeze_(0).shape == (1, 3, 3)
    assert x.cpu().shape == (1, 3, 3)


def test_threads_are_watched_too(gpu: StandInGPU) -> None:
    x = _numbers(3)
    with gpu.counted():
        thread = threading.Thread(target=lambda: x.sum().item())
        thread.start()
        thread.join()
    assert gpu.waits == {"tests": 1}


@pytest.mark.skipif(torch.version.cuda is None, reason="a build for CPUs does not know CUDA's kernels")
def test_an_operation_that_cuda_lacks_is_refused(gpu: StandInGPU) -> None:
    with torch.library._scoped_library("colbert_video_tests", "DEF") as library:
        library.define("on_cpus_alone(Tensor x) -> Tensor")
        library.impl("on_cpus_alone", lambda x: x + 1, "CPU")
        with pytest.raises(NotImplementedError, match=r"on_cpus_alone.* has no kernel for CUDA"):
            torch.ops.colbert_video_tests.on_cpus_alone(_numbers(2))


def test_outside_nothing_is_computed() -> None:
    with StandInGPU():
        x = _numbers(2)
    with pytest.raises(RuntimeError, match="outside of StandInGPU"):
        x + 1
