"""Text towers in ONNX Runtime and OpenVINO: the tokens of torch, and clear words where they cannot be had."""

import copy
import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import TINY_SIGLIP, WordTokenizer, build_tiny
from tiny_transformers import save_tiny

from colbert_video import Indexer, Searcher
from colbert_video.errors import DependencyError, SettingsError
from colbert_video.model import query_runtime as runtimes
from colbert_video.model.encoders.function_encoder import FunctionEncoder
from colbert_video.model.loading import ModelChoice, load_encoder
from colbert_video.model.text_limits import is_causal
from colbert_video.model.video_colbert import VideoColBERT

TEXTS = ["a dog runs", "two people cook pasta in a kitchen while a cat looks on", "rain"]
INSTALLED = [
    name
    for name, packages in runtimes.PACKAGES.items()
    if all(importlib.util.find_spec(package) is not None for package in packages)
]


def tiny(name: str, **settings: Any) -> VideoColBERT:
    """Build a tiny model; that of SigLIP's shape with a tokenizer that needs no network."""
    model = build_tiny(name, **settings)
    if name == "tiny-sigmoid":
        model.backbone.tokenizer = WordTokenizer(TINY_SIGLIP["text_cfg"]["vocab_size"])
    return model


def need(runtime: str) -> Any:
    if runtime not in INSTALLED:
        pytest.skip(f"{runtime} is not installed")
    return runtime


def check_same(one: VideoColBERT, other: VideoColBERT) -> None:
    """Check that two models make the same scored tokens, one query at a time and several at once."""
    for texts in (TEXTS, TEXTS[1:2]):
        ours, theirs = one.encode_queries(texts), other.encode_queries(texts)
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.equal(ours.pooled, theirs.pooled)
        cosines = (ours.tokens * theirs.tokens).sum(dim=-1)[ours.mask]
        assert float(cosines.min()) > 0.9999


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["tiny-clip", "tiny-sigmoid"])
@pytest.mark.parametrize("trained", [True, False])
def test_a_runtime_makes_the_tokens_of_torch(
    tiny_names: SimpleNamespace, name: str, trained: bool, runtime: str
) -> None:
    model = tiny(name, trained=trained)
    exported = model.with_query_runtime(need(runtime))
    assert model._text_runtime is None
    check_same(model, exported)
    assert exported.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "metaclip_2", "tipsv2"])
def test_towers_of_transformers_are_exported_too(tmp_path: Path, kind: str, runtime: str) -> None:
    need(runtime)
    save_tiny(kind, tmp_path)
    model = VideoColBERT.from_pretrained(f"hf:{tmp_path}", device="cpu")
    check_same(model, model.with_query_runtime(runtime))  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_copies_and_other_processes_encode_with_torch(
    tiny_trained_model: VideoColBERT, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_trained_model.with_query_runtime(need(runtime))
    assert model._text_runtime is not None
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other._text_runtime is None
        check_same(model, other)
    assert model.at_precision("bf16")._text_runtime.name == runtime  # type: ignore[union-attr]
    monkeypatch.setattr(runtimes.os, "getpid", lambda: -1)
    assert torch.equal(model.encode_queries(TEXTS).tokens, tiny_trained_model.encode_queries(TEXTS).tokens)


def test_a_searcher_finds_the_same_with_a_runtime(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    if not INSTALLED:
        pytest.skip("no runtime is installed")
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8) for _ in range(5)]
    tokens = tiny_trained_model.encode_videos(frames)
    assert tokens.video is not None
    tiny_trained_model.save_pretrained(tmp_path / "model")
    indexer = Indexer(tmp_path / "i", model=tmp_path / "model", device="cpu")
    indexer.index_tokens(list("abcde"), tokens.frame.unpadded(), tokens.video.unpadded())
    runtime: Any = INSTALLED[0]
    with (
        Searcher(tmp_path / "i", device="cpu") as plain,
        Searcher(tmp_path / "i", device="cpu", query_runtime=runtime) as fast,
    ):
        ours, theirs = plain.search(TEXTS[0]), fast.search(TEXTS[0])
        assert {hit.id: hit.score for hit in theirs} == pytest.approx({hit.id: hit.score for hit in ours}, abs=1e-4)
        assert fast.model._text_runtime is not None  # type: ignore[union-attr]
        assert plain.model._text_runtime is None  # type: ignore[union-attr]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_missing_runtime_names_its_extra_before_a_model_is_loaded(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sentence = rf'query_runtime=.{runtime}. needs: pip install "colbert_video\[{runtime}\]"'
    with pytest.raises(DependencyError, match=sentence):
        load_encoder("no-such-model", query_runtime=runtime)
    with pytest.raises(DependencyError, match=sentence):
        ModelChoice.from_given(None, query_runtime=runtime)


def test_an_unknown_runtime_or_another_encoder_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="query_runtime='tensorrt' is unknown; choose from 'torch', 'onnx', 'openvino'"
    ):
        runtimes.check_query_runtime("tensorrt")
    other = FunctionEncoder(
        encode_queries=lambda texts: torch.ones(len(texts), 1, 2),
        encode_frames=lambda frames: torch.ones(len(frames), 2),
        dim=2,
        fingerprint="ones",
    )
    with pytest.raises(
        SettingsError, match="query_runtime='torch' is for models of this library, and a FunctionEncoder"
    ):
        ModelChoice.from_given(other, query_runtime="torch").load(None)


def test_padding_that_no_token_sees_is_not_encoded(
    tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("tiny-clip")
    lengths: list[int] = []
    embed = model.embed_queries
    monkeypatch.setattr(model, "embed_queries", lambda ids: lengths.append(ids.shape[1]) or embed(ids))
    pooled = model.encode_queries(["a dog runs"]).tokens
    whole = model.tokenize(["a dog runs"])
    torch.testing.assert_close(pooled[0, 0], embed(whole.ids)[0, whole.pooled[0]])
    assert lengths == [5]  # start, three words, end
    model.config = replace(model.config, trained=True)
    assert model.encode_queries(["a dog runs"]).tokens.shape[1] == model.config.query_length
    assert lengths == [5, model.config.query_length]  # padding expands the query


def test_towers_whose_tokens_see_later_ones_keep_their_padding(tiny_names: SimpleNamespace) -> None:
    assert is_causal(tiny("tiny-clip").backbone)
    assert not is_causal(tiny("tiny-sigmoid").backbone)
