"""The model on the stand-in for a GPU: the tokens and scores of the CPU, and no more waiting than must be."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from stand_in_gpu import GPU, GPUTensor, StandInGPU
from torch.nn.functional import normalize

from colbert_video.errors import ModelError, SettingsError
from colbert_video.indexing.build.query_direction import typical_direction
from colbert_video.model.interaction import INTERACTIONS, best_first, fuse, mean_max_sim, settle_ties
from colbert_video.model.pooling import Pooling, pool
from colbert_video.model.text_limits import is_causal
from colbert_video.model.tokens import TokenBags
from colbert_video.model.video_colbert import VideoColBERT

QUERIES = ["a red dog", "two squares turn around and around", "yes"]


def frame_stacks(*lengths: int, size: tuple[int, int] = (40, 48)) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (length, *size, 3), dtype=np.uint8) for length in lengths]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), device="cpu"), dim=-1)


def assert_same_bags(there: TokenBags | None, here: TokenBags | None) -> None:
    assert (there is None) == (here is None)
    if there is not None and here is not None:
        assert there.tokens.device == there.mask.device == GPU
        assert torch.equal(there.mask.cpu(), here.mask)
        mask = here.mask[..., None]
        torch.testing.assert_close(there.tokens.cpu() * mask, here.tokens * mask, atol=2e-6, rtol=0)


def cut_off(model: VideoColBERT) -> dict[str, int]:
    """The wait of a causal tower: how many tokens count decides how many are encoded."""
    return {"video_colbert.VideoColBERT._needed_ids": 1} if is_causal(model.backbone) else {}


def test_queries_are_encoded_with_one_wait_a_call(gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT]) -> None:
    here, there = both
    with gpu.counted():
        queries = there.encode_queries(QUERIES, batch_size=2)
    assert gpu.waits == {"video_colbert._check_directions": 1, **cut_off(there)}
    assert gpu.sent.total() == 4  # ids and three masks
    expected = here.encode_queries(QUERIES, batch_size=2)
    assert_same_bags(queries, expected)
    assert torch.equal(queries.pooled.cpu(), expected.pooled)
    if there.backbone.start_id is not None:  # the tokenizer that stands in for SigLIP's decodes nothing
        assert there.query_token_texts(QUERIES[1]) == here.query_token_texts(QUERIES[1])


@pytest.mark.parametrize("lengths", [(4, 4, 4), (4, 6, 3), (1,)])
def test_videos_wait_a_few_times_a_batch_however_many_they_are(
    gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT], lengths: tuple[int, ...]
) -> None:
    here, there = both
    bags = 2 if there.config.trained else 1
    with gpu.counted():
        videos = there.encode_videos(frame_stacks(*lengths))
    assert gpu.waits.pop("tokens.TokenBags.unpadded") == 2 * bags
    assert gpu.waits.pop("video_colbert._check_directions") == bags
    assert gpu.waits.total() <= 2  # which frames are real, for the image tower and for the temporal transformer
    expected = here.encode_videos(frame_stacks(*lengths))
    assert_same_bags(videos.frame, expected.frame)
    assert_same_bags(videos.video, expected.video)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_make_float32_tokens(
    gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT], dtype: torch.dtype
) -> None:
    here, there = both
    there = there.to(dtype)
    stacks = frame_stacks(4, 6, 3)  # of several lengths: the mask is of the weights' type, too
    pairs = [
        (there.encode_queries(QUERIES), here.encode_queries(QUERIES)),
        *zip(there.encode_videos(stacks), here.encode_videos(stacks), strict=True),
    ]
    for found, expected in pairs:
        if expected is not None:
            assert found.tokens.dtype == torch.float32
            cosines = (found.tokens.cpu() * expected.tokens).sum(dim=-1)[expected.mask]
            assert cosines.min() > 0.99


def test_videos_whose_tokens_are_on_the_gpu_already(gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT]) -> None:
    here, there = both
    stacks = [torch.from_numpy(frames) for frames in frame_stacks(3, 3)]
    videos = there.encode_videos([frames.to(GPU) for frames in stacks])
    assert_same_bags(videos.frame, here.encode_videos(stacks).frame)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_scores(gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT], interaction: Any) -> None:
    here, there = both
    if not here.config.trained and interaction not in ("mms_f", "mp_f"):
        pytest.skip("needs video tokens")
    stacks = frame_stacks(4, 6, 3)
    expected = here.score(here.encode_queries(QUERIES), here.encode_videos(stacks), interaction=interaction)
    queries, videos = there.encode_queries(QUERIES), there.encode_videos(stacks)
    with gpu.counted():
        scores = fuse(queries, videos, interaction)
    matrices = 2 if interaction in ("mms_fv", "rrf") else 1
    assert gpu.waits.pop("interaction._check_scorable") == matrices
    assert gpu.waits == ({"interaction.reciprocal_rank_fusion": 2} if interaction == "rrf" else {})
    assert not gpu.sent
    assert scores.device == GPU
    torch.testing.assert_close(scores.cpu(), expected, atol=2e-6, rtol=0)


def test_scores_of_many_chunks(gpu: StandInGPU, monkeypatch: pytest.MonkeyPatch) -> None:
    from colbert_video.model import interaction

    queries = TokenBags.from_list([unit(5, 8, seed=1), unit(3, 8, seed=2)])
    bags = TokenBags.from_list([unit(length, 8, seed=length) for length in (2, 7, 4, 3)])
    expected = mean_max_sim(queries, bags)
    monkeypatch.setattr(interaction, "SIMILARITY_BUDGET", 100)
    torch.testing.assert_close(mean_max_sim(queries.to(GPU), bags.to(GPU)).cpu(), expected)


@pytest.mark.parametrize(("empty", "name"), [("queries", "query 1"), ("bags", "video 2")])
def test_a_bag_without_tokens_is_named(gpu: StandInGPU, empty: str, name: str) -> None:
    given = {"queries": TokenBags.from_list([unit(2, 8)] * 2), "bags": TokenBags.from_list([unit(3, 8)] * 4)}
    given[empty].mask[int(name[-1])] = False
    with pytest.raises(SettingsError, match=f"^{name} has no unmasked token"):
        mean_max_sim(given["queries"].to(GPU), given["bags"].to(GPU))


def test_ties_and_orders(gpu: StandInGPU) -> None:
    scores = torch.tensor([0.5, 0.7, 0.7 + 5e-7, 0.2, 0.7])
    assert best_first(scores.to(GPU), 3).tolist() == best_first(scores, 3).tolist() == [1, 2, 4]
    torch.testing.assert_close(settle_ties(scores.to(GPU)).cpu(), settle_ties(scores), atol=0, rtol=0)


@pytest.mark.parametrize("mask", [None, "some"])
def test_gradients_reach_every_tower(
    gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT], mask: str | None
) -> None:
    gradients = []
    pixels = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    given = None if mask is None else torch.tensor([[True, True, False], [True, True, True]])
    for model in both:
        copied = copy.deepcopy(both[0]).to(model.device).train()
        ids = copied.tokenize(QUERIES).to(copied.device)
        tokens, videos = copied(ids.ids, pixels.to(copied.device), None if given is None else given.to(copied.device))
        (tokens.square().sum() + videos.frame.tokens[:, 0].sum() + videos.video.tokens[:, -1].sum()).backward()
        gradients.append([p.grad.cpu() for p in copied.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (40, 48)])
def test_pixels_travel_as_bytes(gpu: StandInGPU, tiny_model: VideoColBERT, size: tuple[int, int]) -> None:
    prepare = tiny_model.config.preprocess.to_pixels
    (frames,) = frame_stacks(3, size=size)
    with gpu.counted():
        pixels = prepare(frames, device=GPU)
    assert gpu.sent == {"backbone.Preprocess.to_pixels": 1}  # the frames
    assert not gpu.waits
    assert pixels.device == GPU
    torch.testing.assert_close(pixels.cpu(), prepare(frames, device=torch.device("cpu")), atol=0, rtol=0)


def test_damaged_weights_are_noticed(gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT]) -> None:
    there = both[1]
    with torch.no_grad():
        there.backbone.clip.visual.conv1.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="frame token of length nan"):
        there.encode_videos(frame_stacks(3, 2))


def test_a_fingerprint_does_not_depend_on_the_device(both: tuple[VideoColBERT, VideoColBERT]) -> None:
    here, there = both
    assert there.fingerprint() == here.fingerprint()


def test_the_direction_of_queries_is_fetched_at_once(gpu: StandInGPU, both: tuple[VideoColBERT, VideoColBERT]) -> None:
    here, there = both
    with gpu.counted():
        direction = typical_direction(there)
    assert direction is not None
    assert type(direction) is torch.Tensor
    torch.testing.assert_close(direction, typical_direction(here), atol=2e-6, rtol=0)
    sent = {"tokens.TokenBags.to.<locals>.<dictcomp>": 3}
    assert gpu.waits == {"video_colbert._check_directions": 1, **sent, **cut_off(there)}


@pytest.mark.parametrize("rules", [Pooling(factor=2), Pooling(similarity=0.1)])
def test_frames_are_pooled_where_they_are(gpu: StandInGPU, rules: Pooling) -> None:
    bags = {"frame": unit(6, 8, seed=1), "video": unit(8, 8, seed=2)}
    groups = rules.group(bags, 6)
    there = {bag: tokens.to(GPU) for bag, tokens in bags.items()}
    assert torch.equal(rules.group(there, 6), groups)
    for bag, tokens in there.items():
        pooled = pool(tokens, groups)
        assert isinstance(pooled, GPUTensor)
        torch.testing.assert_close(pooled.cpu(), pool(bags[bag], groups))


def test_tokens_of_two_devices_are_refused(gpu: StandInGPU) -> None:
    with pytest.raises(SettingsError, match="tokens are on cuda:0, their mask on cpu"):
        TokenBags(unit(2, 3, 8).to(GPU), torch.ones(2, 3, dtype=torch.bool))
    bags = TokenBags.from_list([unit(3, 8), unit(2, 8)])
    with pytest.raises(RuntimeError, match="same device"):
        mean_max_sim(bags, bags.to(GPU))
