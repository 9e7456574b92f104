from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from operations import add_tokens
from token_corpus import DIM, random_bags, unit_tokens
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Indexer, VideoColBERT
from colbert_video.errors import SettingsError
from colbert_video.indexing import indexer as module
from colbert_video.indexing.build.query_direction import (
    TYPICAL_QUERIES,
    direction_of_tokens,
    shared_direction,
    typical_direction,
)
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.training.world import write_world

QUERIES = [
    normalize(unit_tokens(3 + number, DIM, seed=number) + unit_tokens(1, DIM, seed=99), dim=1) for number in range(4)
]


def stored_directions(path: Path) -> list[Tensor | None]:
    """What the codec of each bag in the newest segment knows."""
    reader = IndexReader.open(path)
    try:
        return [codec.query_direction for codec in reader.codecs(reader.segments[-1]).values()]
    finally:
        reader.close()


def test_every_query_counts_the_same_however_long_it_is() -> None:
    expected = normalize(sum(query.mean(0) for query in QUERIES), dim=0)
    direction = direction_of_tokens(QUERIES, DIM)
    assert direction is not None
    torch.testing.assert_close(direction, expected)
    longer = [QUERIES[0].repeat(5, 1), *QUERIES[1:]]
    torch.testing.assert_close(shared_direction(longer), expected)


def test_queries_that_share_nothing_have_no_direction() -> None:
    one = unit_tokens(2, DIM, seed=1)
    assert shared_direction([one, -one]) is None
    assert direction_of_tokens(None, DIM) is None


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], "no query"),
        ([torch.ones(2, DIM + 8)], r"shape \(2, 72\)"),
        ([torch.ones(DIM)], r"shape \(64,\)"),
        ([torch.ones(0, DIM)], r"shape \(0, 64\)"),
        ([torch.full((2, DIM), torch.nan)], "query 0 hold NaN"),
    ],
)
def test_unusable_queries_are_refused(queries: list[Tensor], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        direction_of_tokens(queries, DIM)


def test_typical_queries_are_those_of_the_models_own_text_tower() -> None:
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    direction = typical_direction(model)
    assert direction is not None
    tokens = model.encode_queries(TYPICAL_QUERIES)
    means = torch.stack([query.mean(0) for query in tokens.unpadded()])
    torch.testing.assert_close(direction, normalize(means.mean(0), dim=0))
    assert len(set(TYPICAL_QUERIES)) == len(TYPICAL_QUERIES)


def test_an_index_of_tokens_remembers_the_direction_of_its_queries(tmp_path: Path) -> None:
    bags = [random_bags(9, seed=seed) for seed in (1, 2)]
    ids = list("abcdefghi")
    Indexer(tmp_path / "i", dim=DIM).index_tokens(ids, *bags, query_tokens=QUERIES)
    expected = direction_of_tokens(QUERIES, DIM)
    assert expected is not None
    for known in stored_directions(tmp_path / "i"):
        assert known is not None
        assert torch.equal(known, expected)
    Indexer(tmp_path / "plain", dim=DIM).index_tokens(ids, *bags)
    assert stored_directions(tmp_path / "plain") == [None, None]
    array = np.stack([query[:3].numpy() for query in QUERIES])
    Indexer(tmp_path / "array", dim=DIM).index_tokens(ids, *bags, query_tokens=array)
    assert all(known is not None for known in stored_directions(tmp_path / "array"))


def test_what_is_added_and_retrained_is_stored_along_the_same_direction(tmp_path: Path) -> None:
    path = tmp_path / "i"
    Indexer(path, dim=DIM).index_tokens(
        list("abcde"), random_bags(5, seed=1), random_bags(5, seed=2), query_tokens=QUERIES
    )
    (expected, _) = stored_directions(path)
    assert expected is not None
    add_tokens(path, "xyz", seed=3)
    for retrain in (None, "stored"):
        assert Indexer(path).compact(retrain=retrain).compacted  # type: ignore[arg-type]
        for known in stored_directions(path):
            assert known is not None
            assert torch.equal(known, expected)


def test_queries_are_refused_where_they_would_change_nothing(tmp_path: Path) -> None:
    add_tokens(tmp_path / "i", "ab", seed=0, add=False)
    with pytest.raises(SettingsError, match="query_tokens is for a new index"):
        Indexer(tmp_path / "i").index_tokens(
            ["c"], random_bags(1, seed=1), random_bags(1, seed=2), query_tokens=QUERIES, add=True
        )


def test_an_index_of_videos_knows_the_direction_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that an earlier version made, once its videos are encoded again."""
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    clips = tmp_path / "clips"
    write_world(clips, count=3, seed=5, split="test", frames=6)
    with monkeypatch.context() as patch:
        patch.setattr(module, "typical_direction", lambda model: None)
        Indexer(tmp_path / "i", model=model, workers=1).index(clips)
    assert stored_directions(tmp_path / "i") == [None, None]
    Indexer(tmp_path / "i", model=model, workers=1).compact(retrain="paths")
    expected: Any = typical_direction(model)
    for known in stored_directions(tmp_path / "i"):
        assert known is not None
        assert torch.equal(known, expected)
    Indexer(tmp_path / "j", model=model, workers=1).index(clips)
    assert all(known is not None for known in stored_directions(tmp_path / "j"))
