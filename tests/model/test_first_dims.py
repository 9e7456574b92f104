"""Tokens cut to their first dimensions: equal to a naive reference, and all dimensions are no cut."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from colbert_video.errors import SettingsError
from colbert_video.model.encoder import check_encoder
from colbert_video.model.encoders.first_dims import FirstDims, fitted_encoder, whole_encoder, with_first_dims
from colbert_video.model.encoders.function_encoder import FunctionEncoder
from colbert_video.model.interaction import fuse
from colbert_video.model.loading import in_precision, made_faster
from colbert_video.model.tokens import QueryTokens, TokenBags, VideoTokens

FRAMES = [np.random.default_rng(seed).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8) for seed in range(4)]


def naive(tokens: torch.Tensor, dim: int) -> torch.Tensor:
    """One token at a time."""
    rows = [[token[:dim] / sum(float(x) ** 2 for x in token[:dim]) ** 0.5 for token in bag] for bag in tokens]
    return torch.stack([torch.stack(bag) for bag in rows])


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 8), st.data())
def test_bags_are_cut_and_normalised(seed: int, bags: int, tokens: int, dim: int, data: Any) -> None:
    keep = data.draw(st.integers(1, dim))
    drawn = torch.randn(bags, tokens, dim, generator=torch.Generator().manual_seed(seed))
    whole = TokenBags(torch.nn.functional.normalize(drawn, dim=-1), torch.ones(bags, tokens, dtype=torch.bool))
    cut = whole.first_dims(keep)
    torch.testing.assert_close(cut.tokens, naive(whole.tokens, keep))
    torch.testing.assert_close(cut.tokens.norm(dim=-1), torch.ones(bags, tokens))
    assert cut.mask is whole.mask
    assert whole.first_dims(dim) is whole


def test_queries_keep_their_pooled_token() -> None:
    queries = QueryTokens(torch.eye(4)[None], torch.ones(1, 4, dtype=torch.bool), torch.tensor([1]))
    cut = queries.first_dims(2)
    assert type(cut) is QueryTokens
    assert cut.pooled_tokens().tolist() == [[0.0, 1.0]]
    assert cut.tokens[0, 3].tolist() == [0.0, 0.0]  # a token without these dimensions matches nothing, and is no NaN
    for dim in (0, 5):
        with pytest.raises(SettingsError, match=rf"dim={dim}: tokens have 4 dimensions; give 1 or more of them"):
            queries.first_dims(dim)


def test_an_encoder_cuts_queries_and_both_bags_alike(tiny_trained_model: Any) -> None:
    encoder = FirstDims(tiny_trained_model, 16)
    check_encoder(encoder)
    assert (encoder.dim, encoder.bags, encoder.precision) == (16, tiny_trained_model.bags, "fp32")
    assert encoder.fingerprint() == tiny_trained_model.fingerprint()
    assert encoder.sampling(5) == tiny_trained_model.sampling(5)
    texts = ["a red circle", "a dog"]
    queries, videos = encoder.encode_queries(texts), encoder.encode_videos(FRAMES)
    whole_queries, whole_videos = tiny_trained_model.encode_queries(texts), tiny_trained_model.encode_videos(FRAMES)
    assert isinstance(videos, VideoTokens)
    torch.testing.assert_close(queries.tokens, naive(whole_queries.tokens, 16))
    for bag, whole in zip(videos, whole_videos, strict=True):
        torch.testing.assert_close(bag.tokens, naive(whole.tokens, 16))
    assert fuse(queries, videos, "mms_fv").shape == (2, 4)
    assert encoder.query_token_texts("a dog") == tiny_trained_model.query_token_texts("a dog")
    assert encoder.reads_all("a dog")
    assert not encoder.reads_all("word " * 200)


def test_an_untrained_model_has_frame_tokens_alone(tiny_model: Any) -> None:
    frame, video = FirstDims(tiny_model, 8).encode_videos(FRAMES)
    assert (frame.shape[-1], video) == (8, None)


def test_encoders_with_other_bags_are_cut_too() -> None:
    bags = {"speech": TokenBags(torch.eye(4)[None], torch.ones(1, 4, dtype=torch.bool))}

    class Named(FunctionEncoder):
        bags = ("speech",)

        def encode_videos(self, videos: Any) -> Any:
            return bags

    named = Named(encode_queries=lambda texts: [], encode_frames=lambda frames: None, dim=4, fingerprint="a")
    assert FirstDims(named, 2).encode_videos(FRAMES[:1])["speech"].shape == (1, 4, 2)
    assert FirstDims(named, 2).reads_all("anything")  # it does not say


def test_what_is_cut_is_the_whole_encoder(tiny_trained_model: Any) -> None:
    once = with_first_dims(tiny_trained_model, 32)
    assert whole_encoder(with_first_dims(once, 48)) is tiny_trained_model
    assert with_first_dims(once, 48).dim == 48
    assert with_first_dims(once, None) is tiny_trained_model
    assert with_first_dims(tiny_trained_model, tiny_trained_model.dim) is tiny_trained_model
    with pytest.raises(
        SettingsError, match="dim=65 was given, but the model makes tokens of 64 dimensions: give fewer"
    ):
        with_first_dims(tiny_trained_model, 65)


def test_only_the_model_of_an_index_is_cut_for_it(tiny_trained_model: Any) -> None:
    own = tiny_trained_model.fingerprint()
    assert fitted_encoder(tiny_trained_model, 64, own) is tiny_trained_model
    assert fitted_encoder(tiny_trained_model, 16, own).dim == 16
    assert fitted_encoder(FirstDims(tiny_trained_model, 32), 16, own).dim == 16
    assert fitted_encoder(FirstDims(tiny_trained_model, 32), 64, own) is tiny_trained_model
    for dim, fingerprint in ((16, None), (16, "another"), (128, own)):
        assert fitted_encoder(tiny_trained_model, dim, fingerprint) is tiny_trained_model


def test_precision_is_that_of_the_whole_encoder(tiny_trained_model: Any) -> None:
    half = in_precision(FirstDims(tiny_trained_model, 16), "bf16")
    assert isinstance(half, FirstDims)
    assert (half.precision, half.dim, half.whole.precision) == ("bf16", 16, "bf16")
    assert tiny_trained_model.precision == "fp32"
    same = made_faster(half, compile=False, query_runtime=None)
    assert same is half
