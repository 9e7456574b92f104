"""Stock colbert-ai reads our bags, byte for byte and score for score."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from paths import PROGRAMS
from thorough import thorough_only
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.indexing.codec.codec import EncodedTokens, ResidualCodec
from colbert_video.indexing.codec.packing import unpack
from colbert_video.indexing.codec.residuals import MULTIPLES
from colbert_video.indexing.segments.segment import write_bag

pytestmark = [
    pytest.mark.stock,
    thorough_only,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("colbert") is None, reason="colbert-ai is not installed"),
]

SCRIPT = PROGRAMS / "stock_colbert_scores.py"
CASES = [(64, 1), (64, 2), (64, 4), (64, 8), (512, 1), (512, 2), (512, 4), (512, 8)]
DOCLENS = torch.tensor([12, 1, 7, 14, 2, 12, 12, 5] * 5)
NCELLS = 2


def video_like(count: int, dim: int, seed: int) -> Float[Tensor, "tokens dim"]:
    """Tokens in a narrow cone, so that every query token's best match is positive: stock clamps at zero on CPUs."""
    cone = normalize(torch.randn(dim, generator=torch.Generator().manual_seed(0)), dim=0)
    noise = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) / dim**0.5
    return normalize(1.5 * cone + noise, dim=1)


def swap_packing_order(residuals: Tensor) -> Tensor:
    """The two four-bit halves of each byte exchanged: what packing from the wrong end would write."""
    return (residuals << 4) | (residuals >> 4)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Written bags with their codec and tokens, and what stock ColBERT makes of them."""
    folder = tmp_path_factory.mktemp("stock")
    made: dict[str, dict[str, Any]] = {}
    for dim, nbits in CASES:
        tokens, query = video_like(int(DOCLENS.sum()), dim, 1), video_like(9, dim, 2)
        codec = ResidualCodec.train(tokens, nbits=nbits)
        made[f"{dim}/{nbits}"] = {"codec": codec, "encoded": codec.encode(tokens), "query": query, "tokens": tokens}
    mutant = dict(made["64/4"])
    mutant["encoded"] = EncodedTokens(mutant["encoded"].codes, swap_packing_order(mutant["encoded"].residuals))
    made["mutant"] = mutant
    for number, case in enumerate(made.values()):
        case["folder"] = str(folder / str(number))
        encoded = case["encoded"]
        write_bag(
            Path(case["folder"]), codec=case["codec"], codes=encoded.codes, residuals=encoded.residuals, doclens=DOCLENS
        )
    for name, answer in ask_stock(folder, made).items():
        made[name]["stock"] = answer
    return made


def ask_stock(folder: Path, made: dict[str, dict[str, Any]]) -> dict[str, dict[str, Tensor]]:
    requests = {
        name: {
            "folder": case["folder"],
            "query": case["codec"].rotate(case["query"]),
            "rotated": torch.cat([multiple * case["codec"].rotate(case["tokens"]) for multiple in MULTIPLES]),
            "ncells": NCELLS,
        }
        for name, case in made.items()
    }
    torch.save(requests, folder / "request.pt")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(SCRIPT), str(folder / "request.pt"), str(folder / "answer.pt")]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    answers: dict[str, dict[str, Tensor]] = torch.load(folder / "answer.pt")
    return answers


def naive_tokens(case: dict[str, Any]) -> Float[Tensor, "tokens dim"]:
    codec, encoded = case["codec"], case["encoded"]
    tokens = codec.centroids[encoded.codes.long()] + codec.weights[unpack(encoded.residuals, codec.nbits).long()]
    return normalize(tokens, dim=1)


def naive_maxsim(query: Float[Tensor, "query_tokens dim"], tokens: Float[Tensor, "tokens dim"]) -> list[float]:
    parts = tokens.split(DOCLENS.tolist())
    maxima = [(part @ query.T).amax(0) for part in parts]
    assert min(float(row.min()) for row in maxima) > 0  # or stock's clamp would show
    return [float(row.sum()) for row in maxima]


@pytest.mark.parametrize(("dim", "nbits"), CASES)
def test_stock_scores_are_our_naive_ones(cases: dict[str, dict[str, Any]], dim: int, nbits: int) -> None:
    case = cases[f"{dim}/{nbits}"]
    expected = naive_maxsim(case["codec"].rotate(case["query"]), naive_tokens(case))
    torch.testing.assert_close(case["stock"]["scores"], torch.tensor(expected), rtol=1e-5, atol=1e-5)
    # and rotation changed nothing: they are the scores of the original tokens, as far as compression allows
    original = naive_maxsim(case["query"], case["tokens"])
    allowed = {1: 2.0, 2: 0.8, 4: 0.2, 8: 0.05}[nbits]
    torch.testing.assert_close(torch.tensor(expected), torch.tensor(original), rtol=0, atol=allowed)


@pytest.mark.parametrize(("dim", "nbits"), CASES)
def test_stock_decompresses_to_our_tokens(cases: dict[str, dict[str, Any]], dim: int, nbits: int) -> None:
    case = cases[f"{dim}/{nbits}"]
    decoded = case["codec"].decode(case["encoded"].codes, case["encoded"].residuals)
    torch.testing.assert_close(case["stock"]["tokens"], decoded)


@pytest.mark.parametrize(("dim", "nbits"), CASES)
def test_stock_compresses_to_our_bytes(cases: dict[str, dict[str, Any]], dim: int, nbits: int) -> None:
    """Of the multiples that a token may be compressed at, one gives these bytes."""
    case = cases[f"{dim}/{nbits}"]
    codes = case["stock"]["codes"].unflatten(0, (len(MULTIPLES), -1))  # (multiples, tokens)
    assert torch.equal(codes, case["encoded"].codes.expand_as(codes))
    residuals = case["stock"]["residuals"].unflatten(0, (len(MULTIPLES), -1))  # (multiples, tokens, bytes)
    same = (residuals == case["encoded"].residuals).all(dim=2)
    assert bool(same.any(dim=0).all())
    assert len(set(same.int().argmax(dim=0).tolist())) > 1  # not always the same one


@pytest.mark.parametrize(("dim", "nbits"), CASES)
def test_stock_retrieves_through_our_inverted_lists(cases: dict[str, dict[str, Any]], dim: int, nbits: int) -> None:
    case = cases[f"{dim}/{nbits}"]
    scores = case["codec"].centroids @ case["codec"].rotate(case["query"]).T
    cells = set(scores.topk(NCELLS, dim=0).indices.flatten().tolist())
    videos = torch.arange(len(DOCLENS)).repeat_interleave(DOCLENS).tolist()
    codes = case["encoded"].codes.tolist()
    expected = sorted({video for video, code in zip(videos, codes, strict=True) if code in cells})
    assert case["stock"]["retrieved"].tolist() == expected
    assert 0 < len(expected) < len(DOCLENS)


def test_parity_notices_a_wrong_packing_order(cases: dict[str, dict[str, Any]]) -> None:
    sound, mutant = cases["64/4"], cases["mutant"]
    expected = naive_maxsim(sound["codec"].rotate(sound["query"]), naive_tokens(sound))
    worst = (mutant["stock"]["scores"] - torch.tensor(expected)).abs().max()
    assert float(worst) > 0.1
    assert not torch.equal(mutant["stock"]["residuals"], mutant["encoded"].residuals)
