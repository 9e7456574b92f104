"""Which device tensors live on."""

import pytest
import torch

from colbert_video.device import resolve_device
from colbert_video.errors import SettingsError


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_first_gpu_is_the_default(available: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device() == torch.device(kind)


def test_a_named_device_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    assert resolve_device("cuda") == torch.device("cuda")


@pytest.mark.parametrize(("count", "seen"), [(0, "no CUDA device"), (1, "1 CUDA device"), (2, "2 CUDA devices")])
def test_a_gpu_that_is_not_there_is_refused(count: int, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(SettingsError, match=f"device='cuda:2', but torch sees {seen} here; use .* 'cpu'"):
        resolve_device("cuda:2")


def test_a_made_up_device_is_refused() -> None:
    with pytest.raises(SettingsError, match="device='gpu' is not a device that torch knows; use 'cpu' or 'cuda:0'"):
        resolve_device("gpu")
