"""What only a GPU can show: its own kernels, precisions and random numbers give what the CPU gives, to their accuracy."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_gpu import needs_cuda
from torch import nn
from torch.nn.functional import normalize
from training_fakes import PLAIN, training_batch

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.model.tokens import TokenBags
from colbert_video.training.data.loader import _empty
from colbert_video.training.data.sending import sent_ahead
from colbert_video.training.run.distributed import build_accelerator
from colbert_video.training.run.gradcache import cached_backward, random_state
from colbert_video.training.run.learner import Learner

QUERIES = ["a red dog", "two squares turn around and around"]


def frame_stacks(*lengths: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (length, 40, 48, 3), dtype=np.uint8) for length in lengths]


def least_cosine(there: TokenBags, here: TokenBags) -> float:
    """Smallest cosine of scored tokens."""
    return float((there.tokens.cpu() * here.tokens).sum(dim=-1)[here.mask].min())


@needs_cuda
@pytest.mark.parametrize(("precision", "cosine"), [("fp32", 0.9999), ("auto", 0.995), ("bf16", 0.995), ("fp16", 0.999)])
@pytest.mark.parametrize("name", ["tiny_trained_model", "tiny_siglip_model"])
def test_tokens_are_those_of_the_cpu(request: pytest.FixtureRequest, name: str, precision: Any, cosine: float) -> None:
    here: VideoColBERT = request.getfixturevalue(name)
    there = copy.deepcopy(here).to("cuda").at_precision(precision)
    expected, videos = here.encode_videos(frame_stacks(4, 6)), there.encode_videos(frame_stacks(4, 6))
    assert least_cosine(there.encode_queries(QUERIES), here.encode_queries(QUERIES)) > cosine
    assert least_cosine(videos.frame, expected.frame) > cosine
    assert videos.video is not None
    assert expected.video is not None
    assert least_cosine(videos.video, expected.video) > cosine


@needs_cuda
@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_that_of_the_cpu(tiny_model: VideoColBERT, precision: Any, chunk_size: int | None) -> None:
    config = replace(PLAIN, chunk_size=chunk_size, precision=precision)
    learner = Learner(copy.deepcopy(tiny_model), config, build_accelerator())
    with learner.prepared():
        report = learner.step(training_batch(4, 1), learning_rate_factor=1.0, where="step 1")
    assert {parameter.device.type for parameter in learner.model.parameters()} == {"cuda"}
    with torch.no_grad():
        model = copy.deepcopy(tiny_model)
        model.mark_trained()
        batch = training_batch(4, 1)
        scores = [
            model.score(model.encode_queries(batch.captions), model.encode_videos(list(batch.pixels)), interaction=name)
            for name in ("mms_f", "mms_v")
        ]
        expected = float(config.build_loss()(*scores))
    assert report.loss == pytest.approx(expected, rel=1e-3 if precision == "fp32" else 0.1)


@needs_cuda
def test_both_passes_of_a_chunk_draw_the_same_numbers() -> None:
    layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).to("cuda").train()
    x = torch.randn(6, 8, device="cuda")
    drawn: list[torch.Tensor] = []

    def encode(rows: slice) -> tuple[torch.Tensor, ...]:
        drawn.append(layer(x[rows]))
        return (drawn[-1],)

    cached_backward(encode, lambda tokens: tokens[0].square().sum(), rows=6, chunk_size=2)
    assert len(random_state()) == 2
    assert len(drawn) == 6
    assert all(torch.equal(first, second) for first, second in zip(drawn[:3], drawn[3:], strict=True))


@needs_cuda
@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_tokens_are_compressed_as_on_the_cpu(nbits: int) -> None:
    tokens = normalize(torch.randn(3000, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    codec = ResidualCodec.train(tokens, nbits=nbits, query_direction=normalize(torch.ones(64), dim=0))
    here, there = codec.encode(tokens), codec.to("cuda").encode(tokens.to("cuda"))
    assert (here.codes == there.codes).float().mean() > 0.999  # ties may go either way
    decoded = codec.decode(here.codes, here.residuals), codec.to("cuda").decode(there.codes, there.residuals).cpu()
    assert float((decoded[0] * decoded[1]).sum(dim=1).quantile(0.01)) > 0.9999
    trained = ResidualCodec.train(tokens.to("cuda"), nbits=nbits)
    assert trained.reconstruction_error(tokens.to("cuda")) == pytest.approx(codec.reconstruction_error(tokens), rel=0.1)


@needs_cuda
def test_clips_are_indexed_and_found(tmp_path: Path, rendered_clips: Path, tiny_trained_model: VideoColBERT) -> None:
    there = copy.deepcopy(tiny_trained_model).to("cuda")
    Indexer(tmp_path / "here", model=tiny_trained_model).index(rendered_clips)
    Indexer(tmp_path / "there", model=there).index(rendered_clips)
    with (
        Searcher(tmp_path / "here", model=tiny_trained_model) as plain,
        Searcher(tmp_path / "there", model=there, device="cuda") as searcher,
    ):
        expected, found = (one.search("a red circle", k=4) for one in (plain, searcher))
    assert {hit.id for hit in found} == {hit.id for hit in expected}
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-2)


@needs_cuda
def test_batches_are_pinned_and_travel_ahead() -> None:
    device = torch.device("cuda", 0)
    torch.zeros(1, device=device)
    pinned = torch.from_numpy(_empty((2, 3, 8, 8, 3)))
    assert pinned.is_pinned()
    read = [training_batch(2, seed) for seed in range(4)]

    def loader() -> Any:
        for batch in read:
            yield replace(batch, pixels=batch.pixels.pin_memory())

    for sent, batch in zip(sent_ahead(loader(), device), read, strict=True):
        assert sent.pixels.device == device
        assert torch.equal(sent.pixels.cpu(), batch.pixels)
        assert sent.captions == batch.captions
