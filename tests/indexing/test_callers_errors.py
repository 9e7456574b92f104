"""What the caller's own objects raise is passed on as it is, and never called a fault of the index or its disk."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from token_corpus import DIM, random_bags, unit_tokens
from video_writer import write_clip

from colbert_video import Indexer, Searcher, VideoColBERT

ERRORS = [
    OSError("the store is gone"),
    OSError(errno.ENOSPC, "No space left on device", "/their/disk"),
    ConnectionResetError("peer"),
    TimeoutError("slow"),
    FileNotFoundError(errno.ENOENT, "No such file", "theirs"),
    KeyError("row"),
    RuntimeError("theirs"),
]


class Source:
    """Tokens of ten videos that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error, self.tokens = error, unit_tokens(10, 4, DIM, seed=0).numpy()
        self.shape = self.tokens.shape

    def __len__(self) -> int:
        return 10

    def __getitem__(self, rows: Any) -> Any:
        raise self.error


def raising(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("add", [False, True])
def test_errors_of_a_token_source(tmp_path: Path, error: Exception, add: bool) -> None:
    indexer = Indexer(tmp_path / "i", dim=DIM)
    if add:
        indexer.index_tokens(["x"], random_bags(1, seed=1))
    with pytest.raises(type(error)) as caught:
        indexer.index_tokens([str(row) for row in range(10)], Source(error), add=add)
    assert caught.value is error
    assert (tmp_path / "i").exists() is add
    if add:
        with Searcher(tmp_path / "i") as searcher:
            assert len(searcher) == 1


def test_errors_of_query_tokens_and_ids(tmp_path: Path) -> None:
    error = OSError("theirs")
    with pytest.raises(OSError, match=r"^theirs$"):
        Indexer(tmp_path / "i", dim=DIM).index_tokens(
            list("abcdefghij"), random_bags(10, seed=0), query_tokens=Source(error)
        )


@pytest.mark.parametrize("method", ["encode_videos", "encode_queries"])
def test_errors_of_a_model(
    tmp_path: Path, tiny_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    error = OSError(errno.EIO, "Input/output error", "/their/weights")
    clip = write_clip(tmp_path / "a.mp4", 10)
    monkeypatch.setattr(type(tiny_model), method, raising(error))
    with pytest.raises(OSError, match="their/weights") as caught:
        Indexer(tmp_path / "i", model=tiny_model, workers=1).index([clip])
    assert caught.value is error


def test_errors_of_iterables(tmp_path: Path, tiny_model: VideoColBERT) -> None:
    def videos() -> Iterator[str]:
        yield "a.mp4"
        raise OSError("theirs")

    indexer = Indexer(tmp_path / "i", model=tiny_model)
    for use in (indexer.index, indexer.sync, indexer.add):
        with pytest.raises(OSError, match=r"^theirs$"):
            use(videos())
    Indexer(tmp_path / "t", dim=DIM).index_tokens(["x"], random_bags(1, seed=1))
    with pytest.raises(OSError, match=r"^theirs$"), Searcher(tmp_path / "t", model=tiny_model) as searcher:
        searcher.search_all(videos())


def test_errors_of_the_index_folder_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the library does itself passes as the caller's."""
    from colbert_video.errors import IndexFolderError
    from colbert_video.indexing.segments import segment

    monkeypatch.setattr(segment, "link_or_copy", raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(IndexFolderError, match=r"cannot be written .*: the disk is full: free space"):
        Indexer(tmp_path / "i", dim=DIM).index_tokens(["x"], random_bags(1, seed=1))
