"""Shared fixtures: where real clips are, and guards that keep random state and switches from leaking between tests."""

import importlib.util
import json
import logging
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pytest
import stock_colbert_scores
import torch
from paths import ROOT
from stock_colbert_scores import compiler_found

from colbert_video import progress
from colbert_video.progress import show_progress


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real videos of many codecs, some broken; tests that need it are skipped without it."""
    folder = Path(os.environ.get("COLBERT_VIDEO_CLIPS", ROOT.parent / "shared" / "clips"))
    if not folder.is_dir():
        pytest.skip("no folder of real clips; set COLBERT_VIDEO_CLIPS to one")
    return folder


@pytest.fixture(scope="session")
def rendered_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of the synthetic world, as `clips/` of the documentation; to be read only."""
    from colbert_video.training.world import write_world

    folder = tmp_path_factory.mktemp("rendered") / "clips"
    write_world(folder, count=6, seed=3, split="test")
    return folder


COMPILATION = pytest.StashKey["subprocess.Popen[bytes]"]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with the stock colbert-ai package come last: its C++ is compiled meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("stock") is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile stock's C++ beside the other tests: it takes one core a minute or two, or a moment if it was done before."""
    items = session.items
    others = [item for item in items if item.get_closest_marker("stock") is None]
    if session.config.option.collectonly or not 0 < len(others) < len(items):
        return
    if importlib.util.find_spec("colbert") and compiler_found():
        session.config.stash[COMPILATION] = subprocess.Popen(
            [sys.executable, stock_colbert_scores.__file__],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Never kill the compilation: torch would wait for its lock for ever."""
    if COMPILATION in session.config.stash:
        session.config.stash[COMPILATION].wait()


torch.set_num_threads(1)  # on tensors this small, threads cost more than they bring


class TorchRandom:
    """Lets hypothesis replay examples that draw tensors."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()
hypothesis.register_random(TORCH_RANDOM)
hypothesis.settings.register_profile("colbert_video", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("colbert_video")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test draw from the global state
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def switches_stay_as_they_are() -> Iterator[None]:
    """No test mutes the log of all that follow, nor do progress bars stay on, which the command line turns on."""
    before, bars = (logging.root.level, logging.root.manager.disable), progress._enabled
    yield
    show_progress(bars)
    assert (logging.root.level, logging.root.manager.disable) == before


TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
}
"""CLIP's shape (causal text, pooled at the end of text), with its whole vocabulary."""
TINY_SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 64,
        "head_width": 32,
        "patch_size": 8,
        "pool_type": "avg",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 1000,
        "width": 64,
        "heads": 2,
        "layers": 4,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}
"""SigLIP's shape: bidirectional text, pooled at the last token; frames pooled without a class token."""


class WordTokenizer:
    """Stands in for open_clip's HFTokenizer: one id a word, end of text 1, padded with end of text as SigLIP is."""

    tokenizer = SimpleNamespace(eos_token_id=1, pad_token_id=1, bos_token_id=None)

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def __call__(self, texts: list[str], context_length: int) -> Any:
        ids = torch.full((len(texts), context_length), self.tokenizer.pad_token_id)
        for row, text in enumerate(texts):
            words = text.lower().split()[: context_length - 1]
            ids[row, : len(words)] = torch.tensor(
                [2 + zlib.crc32(word.encode()) % (self.vocabulary_size - 2) for word in words]
            )
        return ids


@pytest.fixture(scope="session")
def tiny_names(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Names under which open_clip builds the tiny models: `.clip` and `.siglip`."""
    import open_clip

    folder = tmp_path_factory.mktemp("model_configs")
    for name, model_cfg in (("tiny-clip", TINY_CLIP), ("tiny-sigmoid", TINY_SIGLIP)):
        (folder / f"{name}.json").write_text(json.dumps(model_cfg))
        open_clip.add_model_config(folder / f"{name}.json")
    return SimpleNamespace(clip="tiny-clip", siglip="tiny-sigmoid")


def unchanged(model: Any) -> Iterator[Any]:
    """Lend a model to the session; tests that change one, or save it, which names it, must copy it first."""
    before = model.name, model.fingerprint()
    yield model
    assert (model.name, model.fingerprint()) == before, "a test changed a shared model"


def build_tiny(name: str, **settings: Any) -> Any:
    """A tiny model with weights that are the same in every run."""
    from colbert_video.model.video_colbert import VideoColBERT

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VideoColBERT.from_backbone(name, device="cpu", **settings)


@pytest.fixture(scope="session")
def tiny_model(tiny_names: SimpleNamespace) -> Iterator[Any]:
    """An untrained VideoColBERT of 64 dimensions over a tiny CLIP; 32×32 pixels, 32 query tokens."""
    yield from unchanged(build_tiny(tiny_names.clip))


@pytest.fixture(scope="session")
def tiny_trained_model(tiny_names: SimpleNamespace) -> Iterator[Any]:
    """The tiny model with the same random weights, marked as trained: all tokens, both bags."""
    yield from unchanged(build_tiny(tiny_names.clip, trained=True))


@pytest.fixture(scope="session")
def tiny_siglip_model(tiny_names: SimpleNamespace) -> Iterator[Any]:
    """A trained VideoColBERT over a tiny SigLIP: 16 query tokens, the words' ids from `WordTokenizer`."""
    model = build_tiny(tiny_names.siglip, trained=True)
    model.backbone.tokenizer = WordTokenizer(TINY_SIGLIP["text_cfg"]["vocab_size"])
    yield from unchanged(model)
