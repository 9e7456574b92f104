import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount

from colbert_video.indexing.segments.segment import inverted_lists


def naive_lists(codes: list[int], doclens: list[int], centroids: int) -> tuple[list[int], list[int]]:
    videos = [video for video, length in enumerate(doclens) for _ in range(length)]
    lists = [
        sorted({video for video, code in zip(videos, codes, strict=True) if code == centroid})
        for centroid in range(centroids)
    ]
    return [video for videos in lists for video in videos], [len(one) for one in lists]


@given(st.data(), st.integers(1, 6), st.integers(1, 30))
@settings(max_examples=amount(26, thorough=80), deadline=None)
def test_lists_are_the_naive_ones_in_chunks_of_any_size(data: st.DataObject, centroids: int, chunk: int) -> None:
    doclens = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=12))
    code = st.integers(0, centroids - 1)
    codes = data.draw(st.lists(code, min_size=sum(doclens), max_size=sum(doclens)))
    videos, lengths = inverted_lists(
        torch.tensor(codes, dtype=torch.int32), torch.tensor(doclens), centroids, tokens_at_once=chunk
    )
    assert (videos.dtype, lengths.dtype) == (torch.int32, torch.int64)
    assert (videos.tolist(), lengths.tolist()) == naive_lists(codes, doclens, centroids)


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_by_hand(chunk: int) -> None:
    codes = torch.tensor([2, 2, 0, 2, 0], dtype=torch.int32)
    videos, lengths = inverted_lists(codes, torch.tensor([3, 1, 1]), 4, tokens_at_once=chunk)
    assert videos.tolist() == [0, 2, 0, 1]  # centroid 0: videos 0 and 2; centroid 2: videos 0 and 1
    assert lengths.tolist() == [2, 0, 2, 0]
