"""What the training split shares with others: copies of files, sources of clips, and captions."""

import json
import logging
from pathlib import Path

import pytest

from colbert_video.training.data.leaks import find_leaks
from colbert_video.training.data.manifest import ManifestRow
from colbert_video.training.run.source import ManifestData
from colbert_video.training.run.training_config import DataConfig


def row(
    folder: Path, video: str, split: str, *, caption: str = "", content: bytes = b"", **metadata: str
) -> ManifestRow:
    path = folder / video
    if content:
        path.write_bytes(content)
    return ManifestRow(video, path, caption or f"what {video} shows", split, metadata=metadata)


def test_copies_under_other_names_are_found(tmp_path: Path) -> None:
    rows = [
        row(tmp_path, "a.mp4", "train", content=b"same"),
        row(tmp_path, "b.mp4", "train", content=b"more"),  # of the same size, and another
        row(tmp_path, "c.mp4", "test", content=b"same"),
        row(tmp_path, "d.mp4", "test", content=b"other"),
        row(tmp_path, "gone.mp4", "test"),
        row(tmp_path, "e.mp4", "val", content=b"more"),
    ]
    test, val = find_leaks(rows)
    assert test.startswith("1 videos of the split 'test' are copies of videos of 'train', such as 'c.mp4' and 'a.mp4'")
    assert val.startswith("1 videos of the split 'val' are copies of videos of 'train', such as 'e.mp4' and 'b.mp4'")
    assert find_leaks(rows, "learning") == []
    assert find_leaks([one for one in rows if one.split != "train"]) == []


def test_empty_files_are_no_copies(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    assert find_leaks([row(tmp_path, "a.mp4", "train"), row(tmp_path, "b.mp4", "test")]) == []


def test_clips_of_one_source_are_found(tmp_path: Path) -> None:
    by_name = [row(tmp_path, "xY-1_2_0_10.avi", "train"), row(tmp_path, "xY-1_2_12.5_20.avi", "test")]
    (found,) = find_leaks(by_name)
    assert found.startswith("1 videos of the split 'test' were cut from a source that videos of the training split")
    by_column = [row(tmp_path, "a.mp4", "train", video_id="s"), row(tmp_path, "b.mp4", "test", video_id="s")]
    assert "'b.mp4'" in find_leaks(by_column)[0]
    others = [row(tmp_path, "clip_1.mp4", "train"), row(tmp_path, "clip_2.mp4", "test")]  # numbered, not cut
    assert find_leaks([*others, row(tmp_path, "b_0_3.mp4", "train"), row(tmp_path, "c_0_3.mp4", "test")]) == []


def test_captions_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    trained = [row(tmp_path, f"{number}.mp4", "train", caption=f"A dog  jumps {number}.") for number in range(3)]
    tested = [row(tmp_path, f"t{number}.mp4", "test", caption=f"a dog jumps {number}") for number in range(2, 6)]
    (found,) = find_leaks([*trained, *tested])
    assert found.startswith("1 of 4 captions of the split 'test' are captions of the training split word for word")
    many = [row(tmp_path, f"m{number}.mp4", "test", caption=f"cat {number}") for number in range(200)]
    assert find_leaks([*trained, *tested, *many]) == []  # fewer than one in a hundred


def test_training_says_what_it_finds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("a.mp4", "train"), ("b.mp4", "val")]
    for video, _ in rows:
        (tmp_path / video).write_bytes(b"the same")
    manifest = tmp_path / "captions.jsonl"
    lines = [json.dumps({"video": video, "caption": f"a {video}", "split": split}) for video, split in rows]
    manifest.write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        data = ManifestData(DataConfig(str(manifest)))
    assert "1 videos of the split 'val' are copies" in caplog.text
    recorded = data.provenance()
    assert recorded["leaks"] == data.leaks
    assert (recorded["videos"]["files"], recorded["videos"]["bytes"]) == (2, 16)
    before = recorded["videos"]["edges_sha256"]
    (tmp_path / "b.mp4").write_bytes(b"the sane")
    assert data.provenance()["videos"]["edges_sha256"] != before
