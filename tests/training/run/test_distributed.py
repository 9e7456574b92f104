"""Negatives across processes: on two and three gloo processes, loss and gradients are those of one."""

import os
from pathlib import Path
from typing import Any

import distributed_checks
import pytest
import torch
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.model.tokens import TokenBags
from colbert_video.training.run.distributed import (
    _chosen_device,
    _single_device,
    build_accelerator,
    check_processes_agree,
    from_first,
    gather_bags,
    gather_rows,
    gather_strings,
    processes_here,
    rank,
    world_size,
)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what two and then three processes found."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(distributed_checks.run, args=([2, 3], str(folder)), nprocs=3)
    return folder


@pytest.fixture(params=[2, 3], ids=["two", "three"])
def processes(request: pytest.FixtureRequest, worlds: Path) -> list[dict[str, Any]]:
    """What each of several processes found."""
    files = [worlds / f"result-{request.param}-{number}.pt" for number in range(request.param)]
    return [torch.load(file, weights_only=True) for file in files]


def relative_error(found: Tensor, right: Tensor) -> float:
    return ((found - right).norm() / right.norm()).item()


@pytest.mark.parametrize("loss", ["sigmoid", "infonce"])
@pytest.mark.parametrize("chunk", [None, 2], ids=["plain", "gradcache"])
@pytest.mark.parametrize("uneven", [False, True], ids=["equal", "uneven"])
def test_loss_and_gradients_equal_one_process(
    processes: list[dict[str, Any]], loss: str, chunk: int | None, uneven: bool
) -> None:
    right_loss, right_gradient = distributed_checks.whole_batch(loss)
    for process in processes:
        found = process[f"{loss}-{chunk}-{uneven}"]
        assert found["ids_in_order"]
        assert found["loss"].item() == pytest.approx(right_loss.item(), rel=1e-6)
        assert relative_error(found["gradient"], right_gradient) < 1e-5


def test_the_comparison_finds_a_backward_that_slices_without_adding(processes: list[dict[str, Any]]) -> None:
    _, right = distributed_checks.whole_batch("sigmoid")
    assert all(relative_error(process["wrong"], right) > 0.1 for process in processes)


def test_gradients_that_are_not_contiguous(processes: list[dict[str, Any]]) -> None:
    world = len(processes)
    weights = torch.arange(6.0 * world).reshape(3, -1) + 1
    total = sum((weights + number).T for number in range(world))  # (all rows, 3)
    for number, process in enumerate(processes):
        layout = process["layout"]
        assert torch.equal(layout["rows"], torch.cat([torch.arange(6.0).reshape(2, 3) + 10 * r for r in range(world)]))
        assert torch.equal(layout["transposed"], total[2 * number : 2 * number + 2])
        assert torch.equal(layout["expanded"], torch.full((2, 3), float(world)))


def test_bags_of_unequal_length_are_padded(processes: list[dict[str, Any]]) -> None:
    world = len(processes)
    for process in processes:
        bags = TokenBags(**process["bags"])
        assert bags.shape == (sum(1 + number for number in range(world)), 1 + world, 3)
        expected = [torch.full((2 + r, 3), float(r + 1)) for r in range(world) for _ in range(1 + r)]
        assert all(torch.equal(bag, right) for bag, right in zip(bags.unpadded(), expected, strict=True))


def test_processes_that_see_different_things_are_refused(processes: list[dict[str, Any]]) -> None:
    for process in processes:
        last = len(processes) - 1
        assert process["refused"].startswith(
            f"folders differ between processes: process 0 sees step 3, process {last} sees nothing. All machines must"
        )
        assert process["first"] == "from 0"


def test_a_single_process_keeps_what_it_has() -> None:
    tensor = torch.rand(2, 3, requires_grad=True)
    bags = TokenBags(torch.rand(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    assert (world_size(), rank()) == (1, 0)
    assert gather_rows(tensor) is tensor
    assert gather_bags(bags) is bags
    assert gather_strings(("a", "b")) == ["a", "b"]
    assert from_first("a") == "a"
    check_processes_agree("folders", "mine")


def test_processes_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert processes_here() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert processes_here() == 4


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:1", 1):
        with pytest.raises(SettingsError, match=r"but torch sees no CUDA device here; use .* 'cpu'"):
            build_accelerator(device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), None, "auto"])
def test_the_device_of_a_training(device: Any) -> None:
    assert build_accelerator(device).device.type == (
        "cuda" if torch.cuda.is_available() and device in (None, "auto") else "cpu"
    )


def test_a_single_process_may_name_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert _single_device("cuda:1") == torch.device("cuda", 1)
    assert _single_device(1) == torch.device("cuda", 1)
    assert _single_device("cuda") is None  # each process has its own
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match=r"device='cuda:1': several processes train together.*CUDA_VISIBLE_DEVICES"):
        build_accelerator("cuda:1")


def test_accelerate_takes_the_device_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    with _chosen_device(torch.device("cuda", 1)):
        assert os.environ["ACCELERATE_TORCH_DEVICE"] == "cuda:1"
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cuda:0")
    with _chosen_device(torch.device("cuda", 1)):
        assert os.environ["ACCELERATE_TORCH_DEVICE"] == "cuda:1"
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == "cuda:0"  # what was set for the whole process stays
    assert chosen == [torch.device("cuda", 1)] * 2
