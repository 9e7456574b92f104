"""Which device tensors live on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import exit_code
from operations import add_tokens

from colbert_video import Searcher, VideoColBERT
from colbert_video.device import resolve_device
from colbert_video.errors import SettingsError
from colbert_video.search.queries import QueryModel
from colbert_video.training.run.distributed import build_accelerator
from colbert_video.training.run.model_recipe import ModelRecipe, build_model


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_first_gpu_is_the_default(available: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device() == torch.device(kind)


def test_a_named_device_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    assert resolve_device("cuda") == torch.device("cuda")
    assert resolve_device(1) == torch.device("cuda", 1)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0), None, "auto"])
def test_every_name_of_the_cpu_is_the_same(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(device) == torch.device("cpu")


@pytest.mark.parametrize(("count", "seen"), [(0, "no CUDA device"), (1, "1 CUDA device"), (2, "2 CUDA devices")])
def test_a_gpu_that_is_not_there_is_refused(count: int, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(SettingsError, match=f"device='cuda:2', but torch sees {seen} here; use .* 'cpu'"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "", " ", "cuda:", "cuda:-1", "cuda:x", "CPU ", "x" * 5000, True, -1])
def test_a_made_up_device_is_refused(device: Any) -> None:
    with pytest.raises(SettingsError, match=r"^device=.*; use .*'cpu'") as caught:
        resolve_device(device)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "hpu", "xla", "vulkan", "mtia", "ipu"])
def test_what_cannot_compute_here_is_refused(device: str) -> None:
    if torch.accelerator.is_available() and torch.accelerator.current_accelerator().type == device:
        pytest.skip("this machine has one")
    with pytest.raises(
        SettingsError, match=rf"^device='{device}', but torch cannot compute on .* '{device}' here; use"
    ):
        resolve_device(device)


@pytest.mark.parametrize("device", ["mps", "", "cuda:9", "meta", "gpu"])
def test_every_place_that_takes_a_device_says_the_same(device: str, tmp_path: Path) -> None:
    add_tokens(tmp_path / "i", "ab", seed=0, add=False)
    if device in ("mps",) and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    places = [
        lambda: Searcher(tmp_path / "i", device=device),
        lambda: Searcher(tmp_path / "i", device=device, engine="colbert"),
        lambda: VideoColBERT.from_pretrained("toy", device=device),
        lambda: VideoColBERT.from_backbone("ViT-B-32", device=device),
        lambda: VideoColBERT.from_hub("user/name", device=device),
        lambda: QueryModel(tmp_path, None, device),
        lambda: build_accelerator(device),
        lambda: build_model(ModelRecipe(checkpoint="toy"), device=device),
    ]
    for place in places:
        with pytest.raises(SettingsError, match=rf"^device='{device}'"):
            place()
    for verb in (["search", "x", "--index", str(tmp_path / "i")], ["evaluate", "--model", "toy", "--data", "toy"]):
        assert exit_code([*verb, "--device", device]) == 2


def test_gpus_do_not_follow_into_forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(SettingsError, match=r"device='cuda:0': this process was forked .*get_context\('spawn'\)"):
        resolve_device("cuda:0")
