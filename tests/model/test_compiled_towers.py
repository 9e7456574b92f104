"""Compiled towers: few shapes, no graph breaks, the tokens and weights of the model that is not compiled."""

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from paths import PROGRAMS, ROOT
from thorough import thorough_only
from tiny_models import TINY_SIGLIP, WordTokenizer, build_tiny

from colbert_video.errors import DependencyError
from colbert_video.model import compiled_towers
from colbert_video.model.compiled_towers import CompiledTowers
from colbert_video.model.loading import ModelChoice, load_encoder
from colbert_video.model.video_colbert import VideoColBERT

TEXTS = [f"a dog runs {'very ' * count}fast" for count in range(19)]


@pytest.fixture(autouse=True)
def _nothing_compiled_yet() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def tiny(name: str, **settings: Any) -> VideoColBERT:
    """Build a tiny model; that of SigLIP's shape with a tokenizer that needs no network."""
    model = build_tiny(name, **settings)
    if name == "tiny-sigmoid":
        model.backbone.tokenizer = WordTokenizer(TINY_SIGLIP["text_cfg"]["vocab_size"])
    return model


def random_frames(counts: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for count in counts]


def trained(name: str, **settings: Any) -> VideoColBERT:
    return tiny(name, num_frames=4, trained=True, **settings)


@pytest.mark.slow
@thorough_only
@pytest.mark.parametrize("name", ["tiny-clip", "tiny-sigmoid"])
def test_compiled_towers_make_the_same_tokens_whatever_the_batch(tiny_names: SimpleNamespace, name: str) -> None:
    model = trained(name)
    compiled = copy.deepcopy(model)
    compiled.compile(backend="eager")
    for texts in (TEXTS, TEXTS[:1]):
        torch.testing.assert_close(compiled.encode_queries(texts).tokens, model.encode_queries(texts).tokens)
    for counts in ([4] * 17, [1, 7, 3]):
        ours, theirs = compiled.encode_videos(random_frames(counts)), model.encode_videos(random_frames(counts))
        for mine, other in ((ours.frame, theirs.frame), (ours.video, theirs.video)):
            assert mine is not None
            assert other is not None
            assert torch.equal(mine.mask, other.mask)
            torch.testing.assert_close(mine.tokens, other.tokens)


@thorough_only
def test_an_untrained_model_pads_its_queries_to_few_lengths(
    tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("tiny-clip")
    compiled = copy.deepcopy(model)
    monkeypatch.setattr(compiled_towers, "TOKENS_STEP", 16)
    compiled.compile(backend="eager")
    shapes: set[tuple[int, ...]] = set()
    towers: Any = compiled._computing
    text = towers._text
    monkeypatch.setattr(towers, "_text", lambda ids: shapes.add(tuple(ids.shape)) or text(ids))
    for count in (1, 3, 18):
        for number in (0, 5, 12):
            torch.testing.assert_close(
                compiled.encode_queries([TEXTS[number]] * count).tokens,
                model.encode_queries([TEXTS[number]] * count).tokens,
            )
    assert shapes == {(1, 16), (16, 16), (1, 32), (16, 32)}


@pytest.mark.slow
@thorough_only
def test_towers_are_compiled_whole() -> None:
    command = [sys.executable, str(PROGRAMS / "graph_breaks.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    whole = {"text": [1, 0], "frames": [1, 0], "temporal": [1, 0]}  # one graph, no break
    assert found["towers"] == dict.fromkeys(("tiny-clip", "tiny-sigmoid", "clip", "siglip"), whole)
    assert all(graphs == {"whole": [1, 0], "padded": [1, 0]} for graphs in found["forward"].values())
    assert all(graphs == [1, 0] for graphs in found["scores"].values()), found["scores"]
    assert len(found["scores"]) == 10 + 8 * 2 + 2 * 2  # interactions; losses with and without labels, and calibrated


def test_names_of_weights_stay_and_copies_compile_again(tiny_names: SimpleNamespace, tmp_path: Path) -> None:
    model = trained("tiny-clip")
    names = list(model.state_dict())
    model.compile(backend="eager")
    before = model.encode_queries(TEXTS[:2]).tokens
    assert list(model.state_dict()) == names
    model.save_pretrained(tmp_path / "saved")
    loaded = VideoColBERT.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded._computing is None
    torch.testing.assert_close(loaded.encode_queries(TEXTS[:2]).tokens, before)
    assert loaded.fingerprint() == model.fingerprint()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.at_precision("bf16")):
        assert isinstance(other._computing, CompiledTowers)
        assert other._computing is not model._computing
        assert float((other.encode_queries(TEXTS[:2]).tokens * before).sum(dim=-1).min()) > 0.99


@thorough_only
def test_gradients_of_compiled_towers_are_those_of_the_others(tiny_names: SimpleNamespace) -> None:
    model = trained("tiny-clip")
    compiled = copy.deepcopy(model)
    compiled.compile(backend="eager")
    ids = model.tokenize(TEXTS[:3]).ids
    pixels = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True] * 4])
    for one in (model, compiled):
        queries, videos = one(ids, pixels, mask)
        (queries.sum() + videos.frame.tokens[mask].sum() + videos.video.tokens[videos.video.mask].sum()).backward()
    for (name, mine), other in zip(compiled.named_parameters(), model.parameters(), strict=True):
        if other.grad is not None and mine.requires_grad:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_a_missing_compiler_is_one_sentence(tiny_trained_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    for load in (
        lambda: load_encoder("no-such-model", device="cpu", compile=True),
        lambda: VideoColBERT.from_backbone("no-such-model", device="cpu", compile=True),
        lambda: ModelChoice.from_given(tiny_trained_model, compile=True).load(None),
        tiny_trained_model.compile,
    ):
        with pytest.raises(
            DependencyError, match="compile=True needs a C\\+\\+ compiler, and there is no no-such-compiler"
        ):
            load()


def test_a_compiler_that_fails_is_one_sentence(tiny_names: SimpleNamespace) -> None:
    def broken_compiler(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no space left")

    torch._dynamo.register_backend(broken_compiler)
    model = trained("tiny-clip")
    model.compile(backend="broken_compiler")
    with pytest.raises(DependencyError, match=r"torch cannot compile the model on this machine: .*no space left"):
        model.encode_queries(TEXTS[:1])
