"""What a program has set in torch changes no token, index, score or training, or it is refused in a sentence."""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thorough import amount, cases
from tiny_models import build_tiny
from training_fakes import PLAIN, FakeData

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.base.torch_state import plain_torch, shapes_alone
from colbert_video.model.interaction import INTERACTIONS
from colbert_video.training.run.trainer import Trainer

QUERY = "a red circle moves"
FRAMES = [np.random.default_rng(row).integers(0, 256, (3, 40, 30, 3), dtype=np.uint8) for row in range(3)]


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_type(torch.float64),
    "float16": lambda: default_type(torch.float16),
    "bfloat16": lambda: default_type(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "cpu": lambda: default_device("cpu"),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "deterministic": deterministic,
}
SOME = ["float16", "meta", "autocast"]
states = pytest.mark.parametrize("state", amount(SOME, thorough=list(STATES)))


@pytest.fixture(scope="module")
def built(tiny_trained_model: VideoColBERT, rendered_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "i"
    Indexer(path, model=tiny_trained_model, workers=1).index(rendered_clips)
    return path


@pytest.fixture(scope="module")
def retrained(built: Path, tiny_trained_model: VideoColBERT, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What is found once the codec was trained again."""
    path = shutil.copytree(built, tmp_path_factory.mktemp("retrained") / "i")
    Indexer(path, model=tiny_trained_model).compact(retrain="stored")
    return results(path, tiny_trained_model)


def results(path: Path, model: VideoColBERT) -> list[Any]:
    """Everything that searching an index gives."""
    with Searcher(path, model=model) as searcher:
        explained = searcher.explain(QUERY, searcher.search(QUERY, k=1)[0].id)
        tokens = model.encode_queries(QUERY)[0]
        return [
            [hit.to_dict() for hit in searcher.search(QUERY, k=4)],
            [hit.to_dict() for hit in searcher.search(QUERY, k=4, exact=True, where={"duration": {">": 0}})],
            [hit.to_dict() for hit in searcher.search_tokens(tokens, k=3)],
            [hit.to_dict() for hit in searcher.search_image(FRAMES[0][0], k=3)],
            searcher.search_all([QUERY, "blue"], k=3).settled().todict(),
            explained.to_dict(),
        ]


@states
def test_tokens_and_scores_are_the_same(state: str, tiny_trained_model: VideoColBERT) -> None:
    model = tiny_trained_model
    queries, videos = model.encode_queries([QUERY, "blue"]), model.encode_videos(FRAMES)
    scores = {name: model.score(queries, videos, interaction=name) for name in INTERACTIONS}  # type: ignore[arg-type]
    with STATES[state]():
        again, frames = model.encode_queries([QUERY, "blue"]), model.encode_videos(FRAMES)
        assert torch.equal(again.tokens, queries.tokens)
        assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(frames, videos, strict=True) if a and b)
        for name, expected in scores.items():
            found = model.score(again, frames, interaction=name)  # type: ignore[arg-type]
            assert found.dtype == torch.float32
            assert torch.equal(found, expected)


@states
def test_an_index_is_built_and_searched_the_same(
    state: str,
    built: Path,
    retrained: list[Any],
    tiny_trained_model: VideoColBERT,
    rendered_clips: Path,
    tmp_path: Path,
) -> None:
    expected = results(built, tiny_trained_model)
    with STATES[state]():
        assert results(built, tiny_trained_model) == expected
        Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(rendered_clips)
        assert results(tmp_path / "i", tiny_trained_model) == expected
        Indexer(tmp_path / "i", model=tiny_trained_model).compact(retrain="stored")
    assert results(tmp_path / "i", tiny_trained_model) == retrained


@states
def test_models_are_built_and_loaded_the_same(
    state: str, tiny_names: Any, tiny_trained_model: VideoColBERT, tmp_path: Path
) -> None:
    expected = tiny_trained_model.encode_queries(QUERY).tokens
    with STATES[state]():
        tiny_trained_model.save_pretrained(tmp_path / "model")
        loaded = VideoColBERT.from_pretrained(tmp_path / "model", device="cpu")
        built = build_tiny(tiny_names.clip)
    assert loaded.fingerprint() == tiny_trained_model.fingerprint()
    assert torch.equal(loaded.encode_queries(QUERY).tokens, expected)
    for model in (loaded, built):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
        model.embed_queries(model.tokenize([QUERY]).ids).sum().backward()  # no inference tensors


@states
def test_training_is_the_same(state: str, tiny_names: Any, tmp_path: Path) -> None:
    config, losses = replace(PLAIN, epochs=1), []
    for name, context in (("plain", nullcontext()), ("set", STATES[state]())):
        model = build_tiny(tiny_names.clip)
        with context:
            losses.append(Trainer(model, config, FakeData(), output=tmp_path / name, device="cpu").train().loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("dtype", "nearness"), [(torch.float16, 1e-4), (torch.bfloat16, 1e-3), (torch.float64, 1e-6)])
@pytest.mark.parametrize("trained", [True, False])
def test_models_of_other_precision_make_unit_vectors_of_float32(
    dtype: torch.dtype, nearness: float, trained: bool, tiny_trained_model: VideoColBERT, tmp_path: Path
) -> None:
    model = copy.deepcopy(tiny_trained_model)
    model.mark_trained(trained)
    queries, videos = model.encode_queries([QUERY, "blue"]), model.encode_videos(FRAMES)
    model = model.to(dtype)
    again, frames = model.encode_queries([QUERY, "blue"]), model.encode_videos(FRAMES)
    pairs = [
        (again.tokens, queries.tokens),
        *((a.tokens, b.tokens) for a, b in zip(frames, videos, strict=True) if a and b),
    ]
    for found, expected in pairs:
        assert found.dtype == torch.float32
        assert torch.allclose(found.norm(dim=-1), torch.ones(()), atol=1e-6)
        assert float((found * expected).sum(-1).min()) > 1 - nearness
    assert model.score(again, frames).dtype == torch.float32
    Indexer(tmp_path / "i", model=model, dim=64).index_tokens(["a", "b", "c"], frames.frame.unpadded())


@pytest.mark.parametrize("threads", cases([2], thorough=[1, 4]))
def test_the_number_of_threads_changes_no_order(threads: int, built: Path, tiny_trained_model: VideoColBERT) -> None:
    expected = results(built, tiny_trained_model)[0]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = results(built, tiny_trained_model)[0]
    finally:
        torch.set_num_threads(before)
    assert [hit["id"] for hit in found] == [hit["id"] for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit["score"] for hit in expected], abs=1e-5)


def test_shapes_take_no_memory_whatever_the_default_device_is() -> None:
    with torch.device("cpu"), plain_torch():
        with shapes_alone():
            assert torch.nn.Linear(10**6, 10**6).weight.is_meta  # 4 TB
        assert torch.zeros(1).device.type == "cpu"
