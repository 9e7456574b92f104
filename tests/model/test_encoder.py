"""Encoders that are no `VideoColBERT`: two functions, and what satisfies the protocol."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving import write_colour

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.model import FunctionEncoder, VideoColBERT, VideoEncoder
from colbert_video.model.encoder import MEMBERS, check_encoder
from colbert_video.training.data.manifest import ManifestRow
from colbert_video.training.evaluation.evaluate import evaluate_model

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
DIM = 64


def encode_words(texts: list[str]) -> list[np.ndarray]:
    """One token per known word: its colour; grey for a text without any."""
    known = [[COLOURS[word] for word in text.split() if word in COLOURS] for text in texts]
    return [padded(colours or [(1, 1, 1)]) for colours in known]


def encode_frames(frames: Any) -> Any:
    return padded(np.asarray(frames, np.float64).mean(axis=(1, 2)))


def padded(colours: Any) -> Any:
    """Colours as tokens of more dimensions, as an index needs them."""
    rows = np.asarray(colours, np.float64).reshape(-1, 3)
    return np.pad(rows, ((0, 0), (0, DIM - 3)))


def colour_encoder(**settings: Any) -> FunctionEncoder:
    usual: dict[str, Any] = {
        "encode_queries": encode_words,
        "encode_frames": encode_frames,
        "dim": DIM,
        "fingerprint": "colours@1",
        "num_frames": 4,
        "height": 16,
        "width": 16,
    }
    return FunctionEncoder(**(usual | settings))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, colour in COLOURS.items():
        write_colour(folder / f"{name}.mp4", colour)
    return folder


def test_two_functions_index_search_explain_and_evaluate(films: Path, tmp_path: Path) -> None:
    encoder = colour_encoder(token_texts=lambda text: [word for word in text.split() if word in COLOURS])
    report = Indexer(tmp_path / "i", model=encoder, nbits=8, workers=1).index(films)
    assert (report.videos, report.failures) == (3, ())
    with Searcher(tmp_path / "i", model=encoder) as searcher:
        for name in COLOURS:
            hits = searcher.search(f"a {name} wall", k=3)
            assert hits[0].id == f"{name}.mp4"
            assert hits[0].score > 0.9
        both = searcher.search("red and blue", k=3)
        assert {hit.id for hit in both[:2]} == {"red.mp4", "blue.mp4"}
        explanation = searcher.explain("red and blue", "blue.mp4")
        assert [token.token for token in explanation.tokens] == ["red", "blue"]
        assert searcher.search_video(films / "green.mp4", k=1)[0].id == "green.mp4"
    rows = [ManifestRow(f"{name}.mp4", films / f"{name}.mp4", name, "test") for name in COLOURS]
    result = evaluate_model(encoder, rows, workers=0)
    assert set(result.interactions) == {"mms_f", "mp_f"}
    assert result.interactions["mms_f"]["R@1"] == 1.0


def test_tokens_are_unit_vectors_of_any_number_a_query() -> None:
    tokens = colour_encoder().encode_queries(["red", "red green blue", "blue blue"])
    assert tokens.mask.sum(dim=1).tolist() == [1, 3, 2]
    assert tokens.pooled.tolist() == [0, 2, 1]
    torch.testing.assert_close(tokens[1].norm(dim=1), torch.ones(3))
    assert colour_encoder().query_token_texts("red blue") == ["token 1", "token 2"]


def test_an_index_refuses_the_encoder_of_other_weights(films: Path, tmp_path: Path) -> None:
    Indexer(tmp_path / "i", model=colour_encoder(), workers=1).index(films / "red.mp4")
    other = colour_encoder(fingerprint="colours@2")
    with Searcher(tmp_path / "i", model=other) as searcher, pytest.raises(IndexFolderError, match="by another model"):
        searcher.search("red")
    with Searcher(tmp_path / "i") as searcher, pytest.raises(SettingsError, match="names no model"):
        searcher.search("red")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dim": 0}, "dim=0"),
        ({"fingerprint": ""}, "fingerprint='' must be 1 to 256"),
        ({"num_frames": 0}, "num_frames"),
    ],
)
def test_unusable_functions_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        colour_encoder(**settings)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda texts: [], "returned 0 bags for 1 texts"),
        (lambda texts: [np.zeros((2, 4))], r"shape \(2, 4\); return \(tokens, 64\)"),
        (lambda texts: [np.zeros((0, DIM))], r"shape \(0, 64\)"),
        (lambda texts: [np.zeros((1, DIM))], "zero or not finite"),
        (lambda texts: [np.full((1, DIM), np.nan)], "zero or not finite"),
    ],
)
def test_functions_that_return_no_tokens_are_named(made: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        colour_encoder(encode_queries=made).encode_queries(["red"])


def test_as_many_tokens_as_frames_are_needed() -> None:
    stack = np.zeros((4, 16, 16, 3), np.uint8) + 1
    with pytest.raises(SettingsError, match="returned 3 tokens for 4 frames"):
        colour_encoder(encode_frames=lambda frames: encode_frames(frames)[:3]).encode_videos([stack])


def test_every_member_of_the_protocol_is_checked() -> None:
    assert {name for name in vars(VideoEncoder) if not name.startswith("_")} == set(MEMBERS)


def test_models_are_encoders_and_other_objects_are_named(tiny_model: VideoColBERT) -> None:
    assert isinstance(tiny_model, VideoEncoder)
    assert isinstance(colour_encoder(), VideoEncoder)
    for wrong in (7, object(), tiny_model.backbone, ["toy"]):
        with pytest.raises(SettingsError, match=r"is not an encoder: a \w+ has no .*Give a name, a VideoColBERT, or"):
            check_encoder(wrong)
