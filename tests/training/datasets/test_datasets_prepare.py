"""`colbert-video prepare`: what it finds missing, the manifest it writes, and what its users read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run

from colbert_video.errors import SettingsError
from colbert_video.training.data.manifest import missing_videos, read_manifest, select_split
from colbert_video.training.datasets import prepare
from colbert_video.training.datasets.annotations import Published
from colbert_video.training.datasets.prepare import DATASETS, check_dataset, write_manifest
from colbert_video.training.evaluation.evaluate import caption_queries

CAPTIONS = {
    "train1": ["a cat", "a cat", "ein Bär"],
    "train2": ["a dog"],
    "train3": ["a cow"],
    "val1": ["a hen"],
    "test1": ["a fox", "the fox"],
    "test2": ["a fox"],
}
LISTS = {"train_list.txt": "train1\ntrain2\ntrain3\n", "val_list.txt": "val1\n", "test_list.txt": "test1\ntest2\n"}


@pytest.fixture
def msvd(tmp_path: Path) -> Path:
    """A complete download in small."""
    folder = tmp_path / "msvd"
    (folder / "YouTubeClips").mkdir(parents=True)
    (folder / "captions_msvd.json").write_text(json.dumps(CAPTIONS))
    for name, text in LISTS.items():
        (folder / name).write_text(text)
    for name in CAPTIONS:
        (folder / "YouTubeClips" / f"{name}.avi").touch()
    return folder


def test_a_complete_download_becomes_a_manifest(msvd: Path, tmp_path: Path) -> None:
    preparation = check_dataset("msvd", msvd)
    assert preparation.problems == []
    output = tmp_path / "new" / "captions.jsonl"
    assert write_manifest(preparation, output) == 9
    rows = read_manifest(output)
    assert [(row.metadata["id"], row.caption, row.split) for row in rows] == [
        (name, caption, name[:-1]) for name, captions in CAPTIONS.items() for caption in captions
    ]
    assert rows[0].video == "../msvd/YouTubeClips/train1.avi"
    assert [row.metadata["caption_id"] for row in rows[:4]] == [0, 1, 2, 0]
    assert missing_videos(rows) == []
    assert [path.name for path in output.parent.iterdir()] == ["captions.jsonl"]


def test_every_caption_is_a_query_or_only_the_first(msvd: Path, tmp_path: Path) -> None:
    write_manifest(check_dataset("msvd", msvd), tmp_path / "captions.jsonl")
    test = select_split(read_manifest(tmp_path / "captions.jsonl"), "test")
    queries, relevant = caption_queries(test)
    assert list(queries.values()) == ["a fox", "the fox", "a fox"]
    assert [next(iter(videos)) for videos in relevant.values()] == [row.video for row in test]
    assert list(caption_queries(test, "first")[0].values()) == ["a fox", "a fox"]


def test_videos_elsewhere_under_other_endings(msvd: Path, tmp_path: Path) -> None:
    videos = tmp_path / "compressed"
    (msvd / "YouTubeClips").rename(videos)
    (videos / "test1.avi").rename(videos / "test1.webm")
    (videos / "test2.mp4").touch()
    preparation = check_dataset("msvd", msvd, videos=videos)
    assert preparation.problems == []
    assert preparation.files["test1"] == videos / "test1.webm"
    assert preparation.files["test2"] == videos / "test2.mp4"
    assert preparation.notes == ["1 videos have several files, of which one is taken: test2."]


def test_counts_stand_beside_the_published_ones(msvd: Path) -> None:
    preparation = check_dataset("msvd", msvd)
    assert {split: (count.videos, count.captions, count.found) for split, count in preparation.counts.items()} == {
        "train": (3, 5, 3),
        "val": (1, 1, 1),
        "test": (2, 3, 2),
    }
    assert preparation.warnings == [
        "train has 3 videos, 5 captions; published: 1,200 videos, 48,774 captions",
        "val has 1 videos, 1 captions; published: 100 videos, 4,290 captions",
        "test has 2 videos, 3 captions; published: 670 videos, 27,763 captions",
    ]


def test_published_counts_give_no_warning(msvd: Path) -> None:
    published = {"train": Published(3, 5), "val": Published(1), "test": Published(2, 3)}
    preparation = replace(check_dataset("msvd", msvd), published=published)
    assert preparation.warnings == []
    assert not any(count.differs for count in preparation.counts.values())
    assert replace(preparation, published={"test": Published(2, 4)}).warnings == [
        "test has 2 videos, 3 captions; published: 2 videos, 4 captions"
    ]


def test_missing_videos_are_refused_or_named(msvd: Path, tmp_path: Path) -> None:
    (msvd / "YouTubeClips" / "test2.avi").unlink()
    preparation = check_dataset("msvd", msvd, videos=msvd / "YouTubeClips")
    output = tmp_path / "captions.jsonl"
    with pytest.raises(SettingsError, match=r"MSVD is incomplete: 1 of 2 videos of test have no file under .*: test2"):
        write_manifest(preparation, output)
    assert not output.exists()
    assert write_manifest(preparation, output, allow_missing=True) == 9
    assert missing_videos(read_manifest(output)) == ["msvd/YouTubeClips/test2.avi"]


def test_no_video_at_all_asks_for_the_folder(msvd: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    problems = check_dataset("msvd", msvd, videos=tmp_path / "empty").problems
    assert len(problems) == 1
    assert problems[0].startswith("no video of the dataset is under")
    assert "(--videos). They are from https://www.cs.utexas.edu" in problems[0]


def test_missing_files_are_named_with_their_source(msvd: Path, tmp_path: Path) -> None:
    (msvd / "train_list.txt").unlink()
    preparation = check_dataset("msvd", msvd)
    (problem,) = preparation.problems
    assert problem.startswith(
        f"missing file under {msvd}: train_list.txt: the train videos; from https://github.com/Ar"
    )
    assert write_manifest(preparation, tmp_path / "a.jsonl", allow_missing=True) == 4
    (msvd / "captions_msvd.json").unlink()
    with pytest.raises(SettingsError, match=r"has no captioned videos of MSVD: missing file .*raw-captions.pkl"):
        write_manifest(check_dataset("msvd", msvd), tmp_path / "b.jsonl", allow_missing=True)


def test_videos_without_captions_are_a_problem_in_the_test_list_alone(msvd: Path) -> None:
    said = {name: captions for name, captions in CAPTIONS.items() if name not in ("test2", "train3")}
    (msvd / "captions_msvd.json").write_text(json.dumps(said))
    preparation = check_dataset("msvd", msvd)
    assert preparation.problems == ["1 videos of the test list have no caption: test2"]
    assert preparation.warnings[-1] == "1 videos of the train list have no caption and are left out: train3"


def test_validation_videos_are_held_out_by_their_ids(tmp_path: Path) -> None:
    def event(word: str) -> dict[str, object]:
        return {"duration": 9, "sentences": [word], "timestamps": [[0, 9]]}

    ids = [f"v_{number}" for number in range(20)]
    (tmp_path / "train.json").write_text(json.dumps({name: event(name) for name in ids}))
    (tmp_path / "val_1.json").write_text(json.dumps({"v_t": event("t")}))
    held = check_dataset("activitynet", tmp_path, hold_out=5)
    chosen = [video.id for video in held.annotations.splits["val"]]
    assert len(chosen) == 5
    assert [video.id for video in held.annotations.splits["train"]] == [n for n in ids if n not in chosen]
    assert held.published["train"] == Published(10_004)
    assert held.notes == []
    more = check_dataset("activitynet", tmp_path, hold_out=6)
    assert set(chosen) < {video.id for video in more.annotations.splits["val"]}
    assert "hold some of train out (--hold-out N)" in check_dataset("activitynet", tmp_path).notes[-1]
    with pytest.raises(SettingsError, match="hold_out is 20; give 0, or fewer than the 20 training"):
        check_dataset("activitynet", tmp_path, hold_out=20)


def test_nothing_is_held_out_twice(msvd: Path) -> None:
    with pytest.raises(SettingsError, match="there is nothing to hold out"):
        check_dataset("msvd", msvd, hold_out=1)


def test_wrong_names_are_refused_with_the_right_ones(msvd: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'lsmdc' is not a known dataset; choose msrvtt, msvd, vatex, didemo, act"):
        check_dataset("lsmdc", msvd)
    with pytest.raises(SettingsError, match=r"MSR-VTT has no split named '1K'; choose one of 9k: .*; full: the off"):
        check_dataset("msrvtt", msvd, split_name="1K")
    with pytest.raises(SettingsError, match="is not a folder; name the one that the dataset was downloaded to"):
        check_dataset("msvd", tmp_path / "none")
    with pytest.raises(SettingsError, match=r"train_list.txt does not end in .jsonl"):
        write_manifest(check_dataset("msvd", msvd), msvd / "train_list.txt")
    (msvd / "a.jsonl").mkdir()
    with pytest.raises(SettingsError, match=r"a.jsonl cannot be written: Is a directory"):
        write_manifest(check_dataset("msvd", msvd), msvd / "a.jsonl")


def test_every_dataset_names_its_files_splits_and_counts() -> None:
    assert list(prepare.DATASETS) == ["msrvtt", "msvd", "vatex", "didemo", "activitynet"]
    for dataset in DATASETS.values():
        for protocol in dataset.protocols.values():
            assert protocol.published["test"].captions


def test_the_verb_writes_and_reports(msvd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "captions.jsonl"
    code, out, err = run(["prepare", "msvd", str(msvd), "--output", str(output)], capsys)
    assert (code, err) == (0, "")
    assert "48,774" in out
    assert f"9 rows in {output}" in out.replace("\n", "")
    assert len(read_manifest(output)) == 9


def test_the_verb_checks_without_an_output(msvd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prepare", "msvd", str(msvd)], capsys)[0] == 0
    (msvd / "val_list.txt").unlink()
    code, out, _ = run(["prepare", "msvd", str(msvd)], capsys)
    assert code == 1
    assert "missing file under" in out


def test_the_verb_refuses_or_writes_what_is_there(
    msvd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (msvd / "YouTubeClips" / "val1.avi").unlink()
    output = tmp_path / "captions.jsonl"
    arguments = ["prepare", "msvd", str(msvd), "--output", str(output)]
    code, out, err = run(arguments, capsys)
    assert code == 2
    assert "1 of 1 videos of val have no file" in out
    assert "is not written, for what is missing; get it, or write what is there with --allow-missing" in err
    assert not output.exists()
    code, out, err = run([*arguments, "--allow-missing", "--json"], capsys)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["rows"], report["manifest"]) == (9, str(output))
    assert report["missing_videos"] == {"val": ["val1"]}
    assert report["splits"]["test"] == {
        "videos": 2,
        "captions": 3,
        "found": 2,
        "published": {"videos": 670, "captions": 27763},
    }


def test_the_verb_passes_its_options_on(msvd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["prepare", "--help"], capsys)
    assert (code, "DATASET is msrvtt, msvd, vatex, didemo or activitynet" in out) == (0, True)
    code, _, err = run(["prepare", "vatex", str(msvd), "--split-name", "hgr"], capsys)
    assert code == 2
    assert "choose one of test_list: test_list.txt, the split of HGR" in err
    code, _, err = run(["prepare", "msvd", str(msvd), "--hold-out", "1"], capsys)
    assert (code, "nothing to hold out" in err) == (2, True)
    code, _, err = run(["prepare", "msvd", str(msvd), "--videos", str(tmp_path / "none")], capsys)
    assert (code, "none is not a folder" in err) == (2, True)
