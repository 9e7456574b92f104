"""Videos out of Hugging Face datasets and WebDataset archives: what is listed, indexed, trained on, and told."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from tar_writer import write_tar
from video_writer import write_clip

from colbert_video.ecosystem.captions import captioned_videos, write_captions
from colbert_video.ecosystem.huggingface import dataset_videos
from colbert_video.ecosystem.media import MediaFolder
from colbert_video.errors import SettingsError
from colbert_video.indexing.indexer import Indexer
from colbert_video.search.hits import Hits
from colbert_video.search.searcher import Searcher
from colbert_video.training.data.loader import CaptionLoader
from colbert_video.training.data.manifest import missing_videos, read_manifest
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord, find_videos


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ecosystem-clips")
    return [write_clip(folder / f"{name}.mp4", 12 + number) for number, name in enumerate("abc")]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> str:
    folder = tmp_path_factory.mktemp("ecosystem-shards")
    one = {"0.mp4": clips[0].read_bytes(), "0.json": b'{"caption": ["red", "circle"], "fps": 25}'}
    two = {"1.mp4": clips[1].read_bytes(), "1.txt": b"blue", "2.mp4": b"broken"}
    write_tar(folder / "v-0.tar", one)
    write_tar(folder / "v-1.tar", two)
    return str(folder / "v-{0..1}.tar")


def test_archives_are_indexed_and_shown_where_they_lie(
    shards: str, tmp_path: Path, tiny_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    index, model = tmp_path / "my.index", tmp_path / "model"
    tiny_model.save_pretrained(model)
    code, out, _ = run(
        ["index", shards, "--index", str(index), "--model", str(model), "--workers", "1", "--json"], capsys
    )
    report = json.loads(out)
    assert (code, report["indexed"]) == (1, 2)
    assert [(failure["id"], failure["kind"]) for failure in report["failures"]] == [("2.mp4", "unreadable")]
    code, out, _ = run(["add", shards, "--index", str(index), "--workers", "1", "--json"], capsys)
    assert (json.loads(out)["indexed"], json.loads(out)["unchanged"]) == (0, 2)
    with Searcher(index) as searcher:
        hits = searcher.search("red", where={"fps": 25})
    assert isinstance(hits, Hits)
    assert [hit.id for hit in hits] == ["0.mp4"]
    assert hits[0].path == shards.replace("{0..1}", "0") + "/0.mp4"
    assert hits[0].metadata["caption"] == ["red", "circle"]
    assert "data:image/jpeg;base64," in hits._repr_html_()


def test_a_folder_that_loses_no_archive_loses_no_video(clips: list[Path], tmp_path: Path, tiny_model: Any) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clips[0].read_bytes())
    write_tar(folder / "x.tar", {"b.mp4": clips[1].read_bytes()})
    indexer = Indexer(tmp_path / "i", model=tiny_model, workers=1)
    indexer.index([folder, folder / "x.tar"])
    assert indexer.add(folder, sync=True).vanished == ()
    (folder / "x.tar").unlink()
    assert indexer.add(folder, sync=True).removed == ("b.mp4",)


def test_the_verb_prepares_a_manifest(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "train.jsonl"
    arguments = ["prepare", "webdataset", shards, "--output", str(output)]
    code, out, err = run(arguments, capsys)
    assert code == 2
    assert "2.mp4: no caption in 'caption'" in out
    assert "--allow-missing" in err
    assert not output.exists()
    code, out, _ = run([*arguments, "--allow-missing", "--json"], capsys)
    assert code == 0
    assert json.loads(out) == {
        "videos": 2,
        "captions": 3,
        "without": {"2.mp4": "no caption in 'caption'"},
        "manifest": str(output),
        "rows": 3,
    }
    rows = read_manifest(output)
    assert [(row.caption, row.split, row.metadata["id"]) for row in rows] == [
        ("red", "train", "0.mp4"),
        ("circle", "train", "0.mp4"),
        ("blue", "train", "1.mp4"),
    ]
    assert missing_videos(rows) == []


def test_training_reads_members(shards: str, tmp_path: Path) -> None:
    videos = captioned_videos(find_videos(shards).records)
    write_captions(videos, tmp_path / "m.jsonl", allow_missing=True)
    sampling = SamplingSettings(num_frames=2, height=32, width=32)
    rows = [row for row in read_manifest(tmp_path / "m.jsonl") if row.caption != "circle"]
    (batch,) = CaptionLoader(rows, sampling=sampling, batch_size=2, seed=0, workers=0).iterate()
    assert batch.pixels.shape == (2, 2, 32, 32, 3)
    assert sorted(batch.captions) == ["blue", "red"]


def test_wrong_options_of_prepare(shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave --videos out" in run(["prepare", "webdataset", shards, "--videos", "x"], capsys)[2]
    assert "--caption is for webdataset" in run(["prepare", "msvd", str(tmp_path), "--caption", "x"], capsys)[2]
    code, out, _ = run(["prepare", "webdataset", shards], capsys)
    assert (code, out.splitlines()[0]) == (1, "2 videos with 3 captions")
    code, out, _ = run(["prepare", "webdataset", str(tmp_path / "none-{0..1}.tar")], capsys)
    assert (code, out.count("there is no such archive; check the name")) == (1, 2)


def test_videos_held_out_depend_on_their_ids(tmp_path: Path) -> None:
    records = [VideoRecord(f"{number}", f"/v/{number}.mp4", {"caption": "x"}) for number in range(20)]
    splits = []
    for chosen in (records, records[::-1]):
        write_captions(captioned_videos(chosen), tmp_path / "m.jsonl", hold_out=5)
        splits.append({row.metadata["id"] for row in read_manifest(tmp_path / "m.jsonl") if row.split == "val"})
    assert splits[0] == splits[1]
    assert len(splits[0]) == 5
    with pytest.raises(SettingsError, match="hold_out is 20; give 0, or fewer than the 20"):
        write_captions(captioned_videos(records), tmp_path / "m.jsonl", hold_out=20)


def test_no_captions_at_all_are_refused(tmp_path: Path) -> None:
    videos = captioned_videos([VideoRecord("a", "/a.mp4", {"text": "x"})])
    with pytest.raises(SettingsError, match=r"1 video cannot be trained on: a \(no caption in 'caption'\)"):
        write_captions(videos, tmp_path / "m.jsonl")
    with pytest.raises(SettingsError, match="name the key with the captions"):
        write_captions(videos, tmp_path / "m.jsonl", allow_missing=True)
    with pytest.raises(SettingsError, match=r"does not end in .jsonl"):
        write_captions(videos, tmp_path / "m.csv")


def test_plain_rows_of_every_kind(clips: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = clips[1].read_bytes()
    rows = [
        {"video": str(clips[0]), "n": 1, "bad": object()},
        {"video": {"bytes": data, "path": "x/b.mp4"}, "n": 2},
        {"video": data, "n": 3},
        {"video": {"bytes": None, "path": str(clips[2])}},
        {"video": None},
        {"video": "/gone/d.mp4"},
    ]
    records = dataset_videos(rows, media=tmp_path / "media")
    assert [record.id for record in records] == ["a.mp4", "b.mp4", "row-000002", "c.mp4", "row-000004", "d.mp4"]
    assert [record.metadata for record in records[:3]] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [Path(record.path).is_file() for record in records] == [True, True, True, True, False, False]
    assert records[0].path == str(clips[0])
    assert Path(records[1].path).read_bytes() == Path(records[2].path).read_bytes() == data
    assert Path(records[1].path).suffix == ".mp4"
    assert dataset_videos(rows[1:2], media=tmp_path / "media", metadata=[])[0].metadata == {}


def test_columns_are_named_when_they_are_missing(tmp_path: Path) -> None:
    rows = [{"clip": "a.mp4", "name": "x"}]
    with pytest.raises(SettingsError, match="no column 'video'; it has clip, name"):
        dataset_videos(rows, media=tmp_path)
    with pytest.raises(SettingsError, match="no column 'key'; it has clip, name"):
        dataset_videos(rows, media=tmp_path, video="clip", id="key")


def test_a_dataset_with_a_video_column(clips: list[Path], tmp_path: Path, tiny_model: Any) -> None:
    datasets = pytest.importorskip("datasets")
    values = {"video": [str(clips[0]), {"bytes": clips[1].read_bytes(), "path": None}], "key": ["x", "y"]}
    features = datasets.Features({"video": datasets.Video(), "key": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict(values, features=features)
    for given in (dataset, dataset.to_iterable_dataset()):
        records = dataset_videos(given, media=tmp_path / "media", id="key")
        assert [record.id for record in records] == ["x", "y"]
        assert [record.metadata for record in records] == [{"key": "x"}, {"key": "y"}]
        assert records[0].path == str(clips[0])
        assert Path(records[1].path).read_bytes() == clips[1].read_bytes()
    report = Indexer(tmp_path / "i", model=tiny_model, workers=1).index([*records, ("z", tmp_path / "none.mp4")])
    assert (report.indexed, [failure.id for failure in report.failures]) == (2, ["z"])
    with pytest.raises(SettingsError, match="no column 'clip'; it has video, key"):
        dataset_videos(dataset, media=tmp_path, video="clip")


def test_media_are_kept_once_and_bounded(tmp_path: Path) -> None:
    folder = MediaFolder(tmp_path / "m", most_bytes=10)
    one = folder.keep(b"123456", name="a.MKV")
    assert one.suffix == ".mkv"
    assert folder.keep(b"123456", name="b.mkv") == one
    with pytest.raises(SettingsError, match="take more than most_bytes=10"):
        folder.keep(b"abcdef")
    one.write_bytes(b"12")  # torn
    assert MediaFolder(tmp_path / "m").keep(b"123456", name="a.mkv").read_bytes() == b"123456"
    assert [path.name for path in (tmp_path / "m").iterdir()] == [one.name]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="cannot be used"):
        MediaFolder(tmp_path / "file")
