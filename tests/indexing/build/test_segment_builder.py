"""What codecs are trained on: a bounded, spread and seeded sample, read once, which knows the videos of its tokens."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jaxtyping import Float
from token_corpus import DIM, unit_tokens
from torch import Tensor

from colbert_video.errors import SettingsError
from colbert_video.indexing.build import arrays
from colbert_video.indexing.build import segment_builder as build
from colbert_video.indexing.build.arrays import ArraySource
from colbert_video.indexing.build.segment_builder import train_codecs
from colbert_video.indexing.codec.fit import FittedCodec, Sample, fit_codec
from colbert_video.indexing.index.chunks import TokenChunk
from colbert_video.indexing.index.index_settings import IndexSettings

OPTIONS = {"nbits": 4, "buckets": "lloyd_max", "rotate": True, "seed": 3, "sample_bytes": 2**30}


class CountingSource(ArraySource):
    """Counts how often it is read."""

    reads = 0

    def __iter__(self) -> Iterator[TokenChunk]:
        self.reads += 1
        return super().__iter__()


def source(videos: int, **bags: Float[Tensor, "videos tokens dim"]) -> CountingSource:
    return CountingSource([str(number) for number in range(videos)], bags, dim=DIM)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """The samples that codecs are fitted to."""
    samples: list[Sample] = []

    def spy(sample: Sample, **options: Any) -> FittedCodec:
        samples.append(sample)
        return fit_codec(sample, **options)

    monkeypatch.setattr(build, "fit_codec", spy)
    return samples


def rows_found(sample: Float[Tensor, "sample dim"], tokens: Float[Tensor, "tokens dim"]) -> list[int]:
    """Row of each sampled token, which must be there once."""
    same = (sample[:, None] == tokens).all(2)
    assert bool((same.sum(1) == 1).all())
    return same.int().argmax(1).tolist()


def test_a_small_corpus_is_sampled_whole_in_one_reading(seen: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "VIDEOS_PER_CHUNK", 7)
    frame, video = unit_tokens(30, 4, DIM, seed=1), unit_tokens(30, 5, DIM, seed=2)
    corpus = source(30, frame=frame, video=video)
    codecs = train_codecs(corpus, **OPTIONS)
    assert corpus.reads == 1
    assert {bag: known.codec.num_centroids for bag, known in codecs.items()} == {"frame": 30, "video": 37}
    for sample, tokens in zip(seen, (frame, video), strict=True):
        found = rows_found(sample.tokens, tokens.flatten(0, 1))
        assert sorted(found) == list(range(len(found)))
        assert found != sorted(found)  # in random order
        assert sample.owners.tolist() == [row // tokens.shape[1] for row in found]


def test_the_sample_is_bounded_spread_and_seeded(seen: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "VIDEOS_PER_CHUNK", 9)
    tokens = unit_tokens(100, 6, DIM, seed=1)
    options = {**OPTIONS, "sample_bytes": 200 * 4 * DIM}
    first = train_codecs(source(100, frame=tokens), **options)["frame"].codec
    again = train_codecs(source(100, frame=tokens), **options)["frame"].codec
    other = train_codecs(source(100, frame=tokens), **{**options, "seed": 4})["frame"].codec
    assert [len(sample.tokens) for sample in seen] == [200, 200, 200]
    found = rows_found(seen[0].tokens, tokens.flatten(0, 1))
    assert len(set(found)) == 200
    assert 230 < sum(found) / 200 < 370  # from all chunks alike
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.num_centroids == 150


def test_centroids_and_least_sample_decide_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MIN_SAMPLE", 1000)
    monkeypatch.setattr(build, "SAMPLE_PER_CENTROID", 8)
    assert build._sample_size(500, 100, DIM, 2**30) == 500
    assert build._sample_size(5000, 100, DIM, 2**30) == 1000
    assert build._sample_size(5000, 200, DIM, 2**30) == 1600
    assert build._sample_size(5000, 200, DIM, 900 * 4 * DIM) == 900


class WindowSource(CountingSource):
    """Each three videos are windows of one."""

    def __iter__(self) -> Iterator[TokenChunk]:
        for chunk in super().__iter__():
            entries = [replace(entry, parent=f"p{int(entry.id) // 3}") for entry in chunk.entries]
            yield replace(chunk, entries=entries)


def test_windows_of_one_video_belong_together(seen: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "VIDEOS_PER_CHUNK", 6)
    tokens = unit_tokens(30, 4, DIM, seed=1)
    train_codecs(WindowSource([str(number) for number in range(30)], {"frame": tokens}, dim=DIM), **OPTIONS)
    found = rows_found(seen[0].tokens, tokens.flatten(0, 1))
    assert seen[0].owners.tolist() == [row // 12 for row in found]


def test_one_token_is_enough() -> None:
    codecs = train_codecs(source(1, frame=unit_tokens(1, 1, DIM, seed=0)), **OPTIONS)
    assert codecs["frame"].codec.num_centroids == 1
    assert codecs["frame"].unseen_error < 1e-5


def test_a_sample_too_small_for_a_codec_is_refused() -> None:
    with pytest.raises(SettingsError, match="sample_bytes=1000 is too little"):
        IndexSettings(dim=DIM, bags=("frame",), sample_bytes=1000)
