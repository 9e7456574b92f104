"""Models in bfloat16 and float16: what converts, what stays, what is refused."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colbert_video import Indexer, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.model import precision as precisions
from colbert_video.model.precision import choose_precision
from colbert_video.model.video_colbert import VideoColBERT

TEXTS = ["a dog runs", "two people cook pasta in a kitchen"]
CPU = torch.device("cpu")


@pytest.fixture
def frames() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for count in (3, 5, 3)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_tokens_of_a_converted_model_are_float32_unit_vectors_beside_those_of_float32(
    tiny_trained_model: VideoColBERT, frames: list[np.ndarray], precision: Any
) -> None:
    converted = tiny_trained_model.at_precision(precision)
    assert converted.precision == precision
    assert {weights.dtype for weights in converted.parameters()} == {precisions.DTYPES[precision]}
    ours, theirs = tiny_trained_model.encode_queries(TEXTS), converted.encode_queries(TEXTS)
    pairs = [(ours.tokens, theirs.tokens, ours.mask)]
    for mine, other in zip(tiny_trained_model.encode_videos(frames), converted.encode_videos(frames), strict=True):
        assert mine is not None
        assert other is not None
        assert torch.equal(mine.mask, other.mask)
        pairs.append((mine.tokens, other.tokens, mine.mask))
    for full, half, mask in pairs:
        assert half.dtype == torch.float32
        torch.testing.assert_close(half[mask].norm(dim=1), torch.ones(int(mask.sum())), rtol=0, atol=1e-5)
        assert float((full * half).sum(-1)[mask].min()) > 0.995
        assert not torch.equal(full, half)  # it did compute otherwise


def test_a_converted_copy_leaves_the_model_as_it_was(tiny_trained_model: VideoColBERT) -> None:
    before = tiny_trained_model.encode_queries(TEXTS).tokens
    converted = tiny_trained_model.at_precision("bf16")
    assert converted is not tiny_trained_model
    assert converted.fingerprint() == tiny_trained_model.fingerprint()
    assert copy.deepcopy(converted).fingerprint() == pickle.loads(pickle.dumps(converted)).fingerprint()
    assert tiny_trained_model.precision == "fp32"
    assert tiny_trained_model.at_precision("fp32") is tiny_trained_model
    assert torch.equal(tiny_trained_model.encode_queries(TEXTS).tokens, before)
    assert all(weights.requires_grad is False for weights in converted.parameters())


def test_a_model_of_another_precision_searches_an_index(
    tiny_trained_model: VideoColBERT, tmp_path: Path, frames: list[np.ndarray]
) -> None:
    folder = tmp_path / "model"
    tiny_trained_model.save_pretrained(folder)
    converted = VideoColBERT.from_pretrained(folder, device="cpu", precision="bf16")
    assert converted.precision == "bf16"
    tokens = converted.encode_videos(frames)
    assert tokens.video is not None
    indexer = Indexer(tmp_path / "i", model=folder, precision="bf16")
    indexer.index_tokens(["a", "b", "c"], tokens.frame.unpadded(), tokens.video.unpadded())
    found = [
        [hit.id for hit in Searcher(tmp_path / "i", precision=precision, device="cpu").search("a dog runs", exact=True)]
        for precision in ("fp32", "bf16")
    ]
    assert set(found[0]) == {"a", "b", "c"}
    with Searcher(tmp_path / "i", precision="bf16") as searcher:
        assert searcher.model.precision == "bf16"
        again = pickle.loads(pickle.dumps(searcher))
        assert again.model.precision == "bf16"
    with Searcher(tmp_path / "i", model=tiny_trained_model) as searcher:
        assert searcher.model is tiny_trained_model
    with Searcher(tmp_path / "i", model=tiny_trained_model, precision="fp16") as searcher:
        assert searcher.model.precision == "fp16"
        assert tiny_trained_model.precision == "fp32"


def test_an_index_notes_the_precision_of_its_tokens() -> None:
    made = {"dim": 64, "bags": ("frame",)}
    assert "precision" not in IndexSettings(**made, precision="fp32").to_dict()  # older releases read such an index
    stored = IndexSettings(**made, precision="bf16").to_dict()
    assert stored["precision"] == "bf16"
    assert IndexSettings.from_dict(stored).precision == "bf16"


def test_what_needs_all_digits_is_refused(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    converted = tiny_trained_model.at_precision("bf16")
    for call in (
        lambda: converted.save_pretrained(tmp_path / "m"),
        lambda: converted.push_to_hub("a/b"),
        lambda: converted.mark_trained(False),
        lambda: converted.check_full_precision("training"),
    ):
        with pytest.raises(SettingsError, match=r"needs weights in fp32, and this model is in bf16.*precision='fp32'"):
            call()
    with pytest.raises(SettingsError, match="has lost the digits of its weights"):
        converted.at_precision("fp32")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("precision", ["fp8", "half", "bfloat16", ""])
def test_unknown_precisions_are_refused(precision: str) -> None:
    with pytest.raises(SettingsError, match=r"precision='.*' is unknown; choose from 'auto', 'fp32', 'bf16', 'fp16'"):
        choose_precision(precision, CPU)


@pytest.mark.parametrize(
    ("capabilities", "torch_says", "allowed", "chosen"),
    [
        ({"amx_bf16": True}, "AVX512", "", "bf16"),
        ({"avx512_bf16": True}, "AVX512", "", "bf16"),
        ({"avx512_bf16": True}, "AVX512", "AVX512_CORE_BF16", "bf16"),
        ({"amx_bf16": True, "avx512_bf16": True}, "AVX512", "AVX512_CORE_VNNI", "fp32"),
        ({"amx_bf16": True, "avx512_bf16": True}, "AVX2", "", "fp32"),
        ({"bf16": True}, "NO AVX", "", "bf16"),  # ARM
        ({"avx2": True}, "AVX2", "", "fp32"),
        ({}, "DEFAULT", "", "fp32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], torch_says: str, allowed: str, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: torch_says)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed or "ALL")
    assert choose_precision("auto", CPU) == chosen


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_on_gpus(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla")
    gpu = torch.device("cuda", 0)
    assert choose_precision("auto", gpu) == chosen
    assert choose_precision("fp16", gpu) == "fp16"
    assert choose_precision("auto", torch.device("mps")) == "fp16"
    if capability < (8, 0):
        with pytest.raises(SettingsError, match="Tesla does not multiply bfloat16; use 'fp16' or 'auto'"):
            choose_precision("bf16", gpu)


def test_a_slow_precision_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert choose_precision("bf16", CPU) == "bf16"
    assert "does not multiply bf16 in hardware" in caplog.text
