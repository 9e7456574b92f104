from dataclasses import replace
from pathlib import Path

import pytest
import torch
from token_corpus import random_bags

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import Failure, VideoEntry
from colbert_video.indexing.index import staging
from colbert_video.indexing.index.staging import (
    NOTES,
    EncodedVideo,
    Note,
    StagedSource,
    StagingWriter,
    remove_unlisted_chunks,
    staged_notes,
    unpack_notes,
)


def _videos(count: int, seed: int = 0) -> list[EncodedVideo]:
    frames, videos = random_bags(count, seed=seed), random_bags(count, seed=seed + 50)
    return [
        EncodedVideo(VideoEntry(id=f"v{number}"), {"frame": frames[number], "video": videos[number]})
        for number in range(count)
    ]


def test_staged_videos_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "VIDEOS_PER_CHUNK", 4)
    videos = _videos(10)
    with Catalog.create(tmp_path) as catalog:
        with StagingWriter(catalog) as writer:
            for video in videos:
                writer.add(video)
        source = StagedSource(catalog, ids=[video.entry.id for video in videos])
        chunks = list(source)
        assert [len(chunk.entries) for chunk in chunks] == [4, 4, 2]
        assert [entry.id for chunk in chunks for entry in chunk.entries] == [video.entry.id for video in videos]
        assert source.counts()["video"] == sum(len(video.bags["video"]) for video in videos)
        joined = torch.cat([chunk.tokens["frame"] for chunk in chunks]).float()
        assert torch.allclose(joined, torch.cat([video.bags["frame"] for video in videos]), atol=1e-3)


def test_they_come_in_the_order_that_is_asked_for_however_they_got_ready(tmp_path: Path) -> None:
    videos = _videos(7)
    ready = [[2, 0, 3], [5, 1], [6, 4]]  # as several processes, or several runs, stage them
    with Catalog.create(tmp_path) as catalog:
        for chunk in ready:
            with StagingWriter(catalog) as writer:
                writer.add(*(videos[number] for number in chunk))
        source = StagedSource(catalog, ids=[video.entry.id for video in videos])
        chunks = list(source)
        assert [[entry.id for entry in chunk.entries] for chunk in chunks] == [
            ["v0"], ["v1"], ["v2", "v3"], ["v4"], ["v5"], ["v6"],
        ]  # fmt: skip
        for bag in ("frame", "video"):
            joined = torch.cat([chunk.tokens[bag] for chunk in chunks]).float()
            assert torch.allclose(joined, torch.cat([video.bags[bag] for video in videos]), atol=1e-3)
            assert source.counts()[bag] == len(joined)
        assert len(source) == 7


def test_what_was_added_before_an_error_is_staged(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        with pytest.raises(KeyboardInterrupt):
            _stage_and_interrupt(catalog)
        assert catalog.staged_ids() == {"v0"}


def _stage_and_interrupt(catalog: Catalog) -> None:
    with StagingWriter(catalog) as writer:
        writer.add(_videos(1)[0])
        raise KeyboardInterrupt


def test_notes_come_back_with_the_rows_that_count(tmp_path: Path) -> None:
    lost = (Failure("v0#t=0,6", "v0.mp4", "timeout", "60 s"),)
    first, second, third = (replace(video, note=Note((f"of {video.entry.id}",))) for video in _videos(3))
    with Catalog.create(tmp_path) as catalog:
        for batch in ([replace(first, note=Note(("of v0",), lost)), second], [replace(second, note=Note()), third]):
            with StagingWriter(catalog) as writer:
                writer.add(*batch)
        assert staged_notes(catalog, {"v0", "v1"}) == {"v0": Note(("of v0",), lost)}
        assert staged_notes(catalog, {"v2"}) == {"v2": Note(("of v2",))}


@pytest.mark.parametrize("text", ["[", "[]", '{"x": {}}', '{"0": {"damage": []}}', '{"0": null}', "[" * 9999])
def test_crafted_notes_are_refused(text: str) -> None:
    with pytest.raises(IndexFolderError, match="its notes are damaged"):
        unpack_notes({NOTES: text})


def test_a_video_staged_again_counts_once(tmp_path: Path) -> None:
    older, newer = _videos(3, seed=1), _videos(2, seed=2)
    with Catalog.create(tmp_path) as catalog:
        for batch in (older, newer):
            with StagingWriter(catalog) as writer:
                for video in batch:
                    writer.add(video)
        chunks = list(StagedSource(catalog, ids=sorted(catalog.staged_ids())))
        ids = [entry.id for chunk in chunks for entry in chunk.entries]
        assert sorted(ids) == ["v0", "v1", "v2"]
        kept = {
            entry.id: run
            for chunk in chunks
            for entry, run in zip(
                chunk.entries, chunk.tokens["frame"].split(chunk.doclens["frame"].tolist()), strict=True
            )
        }
        assert torch.allclose(kept["v0"].float(), newer[0].bags["frame"], atol=1e-3)
        assert torch.allclose(kept["v2"].float(), older[2].bags["frame"], atol=1e-3)


def test_unlisted_chunk_files_are_removed(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        with StagingWriter(catalog) as writer:
            writer.add(_videos(1)[0])
        stray = tmp_path / "staging" / "stray.safetensors"
        stray.write_bytes(b"half a chunk")
        remove_unlisted_chunks(catalog)
        assert not stray.exists()
        assert len(list(StagedSource(catalog, ids=sorted(catalog.staged_ids())))) == 1


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        with StagingWriter(catalog) as writer:
            writer.add(_videos(1)[0])
        path = next((tmp_path / "staging").iterdir())
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(IndexFolderError, match=path.name):
            list(StagedSource(catalog, ids=sorted(catalog.staged_ids())))


def test_only_the_wanted_videos_are_read(tmp_path: Path) -> None:
    videos = _videos(5)
    with Catalog.create(tmp_path) as catalog:
        with StagingWriter(catalog) as writer:
            for video in videos:
                writer.add(video)
        source = StagedSource(catalog, ids=["v1", "v3", "unknown"])
        (chunk,) = source
        assert (len(source), [entry.id for entry in chunk.entries]) == (2, ["v1", "v3"])
        assert source.counts()["frame"] == len(videos[1].bags["frame"]) + len(videos[3].bags["frame"])
        assert len(chunk.tokens["frame"]) == source.counts()["frame"]
