"""Members of tar archives are read as the files that they are, and archives that are not whole say so."""

import io
import tarfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tar_writer import write_tar
from thorough import amount
from video_writer import read_numbers, write_clip

from colbert_video.errors import FailureKind, SettingsError, VideoError
from colbert_video.video.decode.read import read_frames
from colbert_video.video.files import RangeReader, exists, input_of, locate, open_range, read_archive
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.sources import VideoRecord, expand_braces, find_videos
from colbert_video.video.workers.pool import FramePool, FrameRequest

FOUR = SamplingSettings(num_frames=4, height=64, width=64)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("members")
    names = ["a.mp4", "b.mkv", "c.avi"]
    return {name: write_clip(folder / name, 20 + 4 * n).read_bytes() for n, name in enumerate(names)}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, bytes]) -> Path:
    files = {
        "0000.json": b'{"channel": "news", "seconds": 3}',
        "0000.mp4": clips["a.mp4"],
        "0000.txt": "größer\n".encode(),
        "deep/0001.mkv": clips["b.mkv"],
        "deep/0001.cls": b"7",
        "0002.avi": clips["c.avi"],
        "0002.json": b"[1]",
        "0003.txt": b"no video",
        ".hidden.mp4": clips["a.mp4"],
    }
    return write_tar(tmp_path_factory.mktemp("shards") / "videos-0000.tar", files)


@pytest.mark.parametrize(("member", "name"), [("0000.mp4", "a.mp4"), ("deep/0001.mkv", "b.mkv"), ("0002.avi", "c.avi")])
def test_members_decode_as_the_files_they_are(
    shard: Path, clips: dict[str, bytes], tmp_path: Path, member: str, name: str
) -> None:
    (tmp_path / name).write_bytes(clips[name])
    inside, outside = read_frames(f"{shard}/{member}", FOUR), read_frames(tmp_path / name, FOUR)
    assert read_numbers(inside) == read_numbers(outside)
    assert inside.times.tolist() == outside.times.tolist()
    with open_range(locate(f"{shard}/{member}")) as file:
        assert file.read() == clips[name]


def test_workers_decode_members(shard: Path) -> None:
    with FramePool(FOUR, workers=1) as pool:
        results = {
            r.request.path: r for r in pool.read_many([FrameRequest(f"{shard}/{n}") for n in ("0000.mp4", "no")])
        }
    assert results[f"{shard}/0000.mp4"].frames is not None
    error = results[f"{shard}/no"].error
    assert error is not None
    assert error.kind is FailureKind.MISSING
    assert "the archive videos-0000.tar has no such member" in error.detail


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_other_decoders_refuse_members(shard: Path, decoder: str) -> None:
    pytest.importorskip(decoder)
    settings = SamplingSettings(num_frames=4, decoder=decoder)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="cannot read files inside archives; use decoder='pyav'"):
        read_frames(f"{shard}/0000.mp4", settings)


def test_the_records_of_an_archive(shard: Path) -> None:
    sources = find_videos(shard)
    assert [record.id for record in sources.records] == ["0000.mp4", "deep/0001.mkv", "0002.avi"]
    assert [record.metadata for record in sources.records] == [
        {"channel": "news", "seconds": 3, "caption": "größer"},
        {},
        {},
    ]
    assert sources.ignored == 2  # 0003.txt and .hidden.mp4
    assert sources.records[1].path == f"{shard}/deep/0001.mkv"


def test_unreadable_texts_are_logged(shard: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_videos(shard).records[2].metadata == {}
    assert "1 texts cannot be read and are left out: 0002.json: no JSON object" in caplog.text


def test_a_member_changes_with_its_archive(tmp_path: Path, clips: dict[str, bytes]) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": clips["a.mp4"]})
    record = VideoRecord("a", f"{path}/a.mp4")
    assert record.stamp() == (len(clips["a.mp4"]), path.stat().st_mtime_ns)
    write_tar(path, {"a.mp4": clips["b.mkv"]})
    assert record.stamp()[0] == len(clips["b.mkv"])
    path.unlink()
    assert record.stamp() == (None, None)
    assert not exists(record.path)


def test_several_archives(tmp_path: Path, clips: dict[str, bytes]) -> None:
    for number in range(3):
        write_tar(tmp_path / f"v-{number:02d}.tar", {f"{number}.mp4": clips["a.mp4"]})
    by_range = find_videos(str(tmp_path / "v-{00..02}.tar"))
    assert [record.id for record in by_range.records] == ["0.mp4", "1.mp4", "2.mp4"]
    assert find_videos(str(tmp_path / "v-*.tar")).records == by_range.records
    assert find_videos([tmp_path / f"v-{n:02d}.tar" for n in range(3)]).records == by_range.records
    gone = find_videos(str(tmp_path / "v-{02..03}.tar")).records[-1]
    with pytest.raises(VideoError, match="missing: No such file"):
        read_frames(gone.path)


def test_repeated_keys_are_refused(tmp_path: Path, clips: dict[str, bytes]) -> None:
    one = write_tar(tmp_path / "one.tar", {"a.mp4": clips["a.mp4"]})
    write_tar(tmp_path / "two.tar", {"a.mp4": clips["a.mp4"]})
    with pytest.raises(SettingsError, match=r"two videos have the id 'a.mp4': .*one.tar/a.mp4 and .*two.tar/a.mp4"):
        find_videos(str(tmp_path / "{one,two}.tar"))
    with tarfile.open(one, "a") as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(SettingsError, match=r"holds several members named 'a.mp4' \(1 names are repeated\)"):
        find_videos(one)


def test_a_damaged_archive_says_what_is_lost(tmp_path: Path, clips: dict[str, bytes]) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": clips["a.mp4"], "b.mkv": clips["b.mkv"]})
    header = read_archive(path).members["b.mkv"][0] - 512
    data = bytearray(path.read_bytes())
    data[header : header + 512] = b"\xff" * 512
    path.write_bytes(data)
    first, rest = find_videos(path).records
    assert (first.id, rest.id) == ("a.mp4", "x.tar")
    assert len(read_frames(first.path, FOUR)) == 4
    with pytest.raises(VideoError, match=f"unreadable: damaged at byte {header}; what follows is lost"):
        read_frames(rest.path, FOUR)


def test_a_torn_archive_says_what_is_lost(tmp_path: Path, clips: dict[str, bytes]) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.mp4": clips["a.mp4"], "b.mkv": clips["b.mkv"]})
    path.write_bytes(path.read_bytes()[: read_archive(path).members["b.mkv"][0] + 100])
    first, torn, rest = find_videos(path).records
    assert len(read_frames(first.path, FOUR)) == 4
    with pytest.raises(VideoError, match=r"the archive x\.tar ends before this member does"):
        read_frames(torn.path, FOUR)
    with pytest.raises(VideoError, match="what follows is lost"):
        read_frames(rest.path, FOUR)


def test_compressed_and_empty_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"x.tar.gz is compressed.*uncompress it to a .tar first"):
        find_videos(write_tar(tmp_path / "x.tar.gz", {"a.mp4": b"x"}, "w:gz"))
    with pytest.raises(SettingsError, match=r"holds no videos \(1 other members\)"):
        find_videos(write_tar(tmp_path / "y.tar", {"a.txt": b"x"}))
    (tmp_path / "z.tar").write_bytes(b"no archive at all" * 100)
    (record,) = find_videos(tmp_path / "z.tar").records
    with pytest.raises(VideoError, match="unreadable: no tar archive that can be read"):
        read_frames(record.path)


def test_links_in_archives_lead_nowhere(tmp_path: Path, clips: dict[str, bytes]) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clips["a.mp4"])
    path = write_tar(tmp_path / "x.tar", {"a.mp4": clips["a.mp4"]})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    sources = find_videos(path)
    assert [record.id for record in sources.records] == ["a.mp4"]
    assert sources.ignored == 1
    assert not exists(f"{path}/link.mp4")
    assert not exists(f"{path}/../secret.mp4")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("v-{08..11}.tar", ["v-08.tar", "v-09.tar", "v-10.tar", "v-11.tar"]),
        ("{train,test}/{0..1}", ["train/0", "train/1", "test/0", "test/1"]),
        ("{}{x}", ["{}{x}"]),
    ],
)
def test_braces(name: str, names: list[str]) -> None:
    assert expand_braces(name) == names


@pytest.mark.parametrize(
    ("name", "message"),
    [("{9..1}", "runs backwards"), ("{0..999999}", "longer than"), ("{0..999}{0..999}", "more than 100000 names")],
)
def test_senseless_braces_are_refused(name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        expand_braces(name)


@settings(max_examples=amount(10, thorough=30))
@given(
    data=st.binary(max_size=40),
    start=st.integers(0, 20),
    size=st.integers(0, 30),
    reads=st.lists(st.tuples(st.integers(0, 40), st.integers(-1, 40)), max_size=5),
)
def test_a_range_reads_as_its_bytes_do(data: bytes, start: int, size: int, reads: list[tuple[int, int]]) -> None:
    whole = io.BytesIO(data[start : start + size])
    part = io.BufferedReader(RangeReader(io.BytesIO(data), start, min(size, max(len(data) - start, 0))))
    for place, count in reads:
        assert part.seek(place) == whole.seek(place)
        assert part.read(count) == whole.read(count)
    assert part.seek(0, io.SEEK_END) == len(whole.getvalue())


def test_what_ffmpeg_opens(shard: Path) -> None:
    place, size = read_archive(shard).members["0000.mp4"]
    assert input_of(f"{shard}/0000.mp4") == (
        f"subfile,,start,{place},end,{place + size},,:file:{shard}",
        "file,subfile",
    )
    assert input_of("/no/such.mp4") == ("file:/no/such.mp4", "file")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"score": NaN}', "NaN is not JSON"),
        ('{"score": 1e999}', "the number 1e999 is too large"),
        ('{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ("[" * 100_000, "nested more than 100 deep"),
        (f'{{"n": {"9" * 5000}}}', "a whole number has 5000 digits"),
    ],
)
def test_a_text_that_cannot_be_stored_costs_only_itself(tmp_path: Path, text: str, reason: str) -> None:
    members = {"a.mp4": b"x", "a.json": text.encode(), "a.txt": b"a dog", "b.mp4": b"x", "b.json": b'{"score": 1}'}
    sources = find_videos(write_tar(tmp_path / "v.tar", members))
    assert [record.metadata for record in sources.records] == [{"caption": "a dog"}, {"score": 1}]
    assert list(sources.unreadable) == ["a.mp4"]
    (problem,) = sources.unreadable["a.mp4"]
    assert problem.startswith("a.json: ")
    assert reason in problem
