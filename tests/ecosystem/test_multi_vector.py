"""Models of sentence-transformers as encoders, and a Video-ColBERT as a module of sentence-transformers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving import write_colour

from colbert_video import Indexer, Searcher, ecosystem
from colbert_video.errors import ModelError, SettingsError
from colbert_video.model import VideoColBERT, VideoEncoder, fuse

pytestmark = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="needs sentence-transformers, whose import takes long"
)
DIM = 64
TEXTS = ["a red wall", "green grass and a blue sky"]


def patches(**settings: Any) -> Any:
    from patch_tokens import patches  # collected by all workers, and imported by the one that runs it

    return patches(DIM, **settings)


@pytest.fixture(scope="module")
def videos() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 200, (frames, 16, 16, 3), dtype=np.uint8) for frames in (3, 2, 4)]


def test_scores_of_whole_tokens_are_those_of_the_model(videos: list[np.ndarray]) -> None:
    from PIL import Image

    model = patches()
    encoder = ecosystem.SentenceTransformersEncoder(model, num_frames=3)
    assert isinstance(encoder, VideoEncoder)
    assert (encoder.dim, encoder.device.type, encoder.precision) == (DIM, "cpu", "fp32")
    found = encoder.encode_videos(videos)
    assert found.frame.mask.sum(dim=1).tolist() == [12, 8, 16]
    documents = [torch.cat(model.encode_document([Image.fromarray(frame) for frame in video])) for video in videos]
    theirs = model.similarity(model.encode_query(TEXTS), documents)
    ours = fuse(encoder.encode_queries(TEXTS), found, "mms_f")
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_tokens_of_a_frame_are_pooled_to_a_number(videos: list[np.ndarray], number: int) -> None:
    whole = ecosystem.SentenceTransformersEncoder(patches()).encode_videos(videos).frame
    pooled = ecosystem.SentenceTransformersEncoder(patches(), tokens_per_frame=number).encode_videos(videos).frame
    assert pooled.mask.sum(dim=1).tolist() == [3 * number, 2 * number, 4 * number]
    torch.testing.assert_close(pooled[0].norm(dim=1), torch.ones(3 * number))
    if number == 1:
        mean = torch.nn.functional.normalize(whole[0][:4].mean(dim=0), dim=0)
        torch.testing.assert_close(pooled[0][0], mean)


def test_a_model_of_images_indexes_and_searches_videos(tmp_path: Path) -> None:
    colours = {"red": (200, 0, 0), "blue": (0, 0, 200)}
    for name, colour in colours.items():
        write_colour(tmp_path / "films" / f"{name}.mp4", colour)
    encoder = ecosystem.SentenceTransformersEncoder(patches(), num_frames=3, height=16, width=16)
    Indexer(tmp_path / "i", model=encoder, workers=1, nbits=8).index(tmp_path / "films")
    with Searcher(tmp_path / "i", model=encoder) as searcher:
        for name in colours:
            assert searcher.search_video(tmp_path / "films" / f"{name}.mp4", k=1)[0].id == f"{name}.mp4"
        hit = searcher.search("red", k=1)[0]
        explanation = searcher.explain("red wall", hit.id)
        assert [token.token for token in explanation.tokens] == ["token 1", "token 2"]
        assert len(explanation.times) == 12  # four tokens at each of three times
        assert len(set(explanation.times)) == 3
        assert abs(sum(explanation.scores.values()) - searcher.search("red wall", ids=[hit.id])[0].score) < 0.05
    other = ecosystem.SentenceTransformersEncoder(patches(), tokens_per_frame=2)
    assert other.fingerprint() != encoder.fingerprint()
    assert (
        ecosystem.SentenceTransformersEncoder(patches(), num_frames=3, height=16, width=16).fingerprint()
        == encoder.fingerprint()
    )


def test_frames_of_unequal_numbers_of_tokens_need_a_number(videos: list[np.ndarray]) -> None:
    video = videos[0].copy()
    video[1, 0, 0] = 255
    with pytest.raises(SettingsError, match=r"have 4 to 8 tokens; set tokens_per_frame= to a number of at most 4"):
        ecosystem.SentenceTransformersEncoder(patches()).encode_videos([video])
    pooled = ecosystem.SentenceTransformersEncoder(patches(), tokens_per_frame=4).encode_videos([video])
    assert pooled.frame.mask.sum().item() == 12


def test_unusable_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes text and no images"):
        ecosystem.SentenceTransformersEncoder(patches(pictures=False))
    with pytest.raises(SettingsError, match="is not a MultiVectorEncoder"):
        ecosystem.SentenceTransformersEncoder(torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="cannot be loaded"):
        ecosystem.SentenceTransformersEncoder(tmp_path / "missing", device="cpu")
    with pytest.raises(SettingsError, match="tokens_per_frame"):
        ecosystem.SentenceTransformersEncoder(patches(), tokens_per_frame=0)


def wrapped(model: VideoColBERT) -> Any:
    module = ecosystem.VideoColBERTModule(model)
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(modules=[module], device="cpu", similarity_fn_name="meanmaxsim")


@pytest.mark.parametrize("name", ["tiny_trained_model", "tiny_model"])
def test_a_video_colbert_is_a_multi_vector_encoder(
    name: str, request: pytest.FixtureRequest, videos: list[np.ndarray], tmp_path: Path
) -> None:
    model = request.getfixturevalue(name)
    other = wrapped(model)
    queries, found = model.encode_queries(TEXTS), model.encode_videos(videos)
    for ours, theirs in zip(queries.unpadded(), other.encode_query(TEXTS), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(found.frame.unpadded(), other.encode_document(videos), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    scores = other.similarity(other.encode_query(TEXTS), other.encode_document(videos))
    torch.testing.assert_close(scores.float(), fuse(queries, found, "mms_f"), rtol=0, atol=1e-5)
    assert other.get_embedding_dimension() == model.dim
    other[0].save(str(tmp_path / "saved"))
    again = ecosystem.VideoColBERTModule.load(str(tmp_path / "saved"))
    assert again.model.fingerprint() == model.fingerprint()


def test_losses_of_sentence_transformers_train_it(tiny_trained_model: VideoColBERT, videos: list[np.ndarray]) -> None:
    import copy

    from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss

    model = copy.deepcopy(tiny_trained_model)
    other = wrapped(model)
    loss = MultiVectorMultipleNegativesRankingLoss(other)
    columns = [other.preprocess(TEXTS, task="query"), other.preprocess(videos[:2], task="document")]
    value = loss(columns, torch.zeros(2))
    value.backward()
    assert torch.isfinite(value)
    gradients = {name for name, weights in model.named_parameters() if weights.grad is not None}
    assert any(name.startswith("backbone.clip.visual") for name in gradients)
    assert any("token_embedding" in name for name in gradients)
