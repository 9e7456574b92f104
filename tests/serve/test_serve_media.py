"""Videos over HTTP: ranges as RFC 9110 has them, pictures of moments, copies, and only the files of the catalog."""

import asyncio
import base64
import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from serving import ODD_ID, build_index, error_of, serving, stand_in, wait_until, write_colour
from starlette.requests import ClientDisconnect
from video_writer import FILM_COLOURS, write_two_films

from colbert_video import Indexer, Searcher
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media.copies import CopyMaker
from colbert_video.serve.media.ffmpeg_command import ffmpeg_arguments
from colbert_video.serve.media.media_files import MediaFiles
from colbert_video.serve.media.ranges import ByteRange, asked_range
from colbert_video.serve.media.thumbnails import ThumbnailCache
from colbert_video.serve.routes.media_routes import CHUNK, FilePart
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings, SourcePicture
from colbert_video.video.workers.pictures import picture_of, picture_settings
from colbert_video.video.workers.pool import FramePool

MEDIA = "/api/video/media"
THUMBNAIL = "/api/video/thumbnail"
CLIP = "/api/video/clip"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-media")
    return build_index(folder / "my.index", tiny_trained_model, folder / "clips")


@pytest.fixture(scope="module")
def corpus(index: Path) -> Path:
    return index.parent / "clips"


@pytest.fixture(scope="module")
def client(index: Path, tiny_trained_model: Any) -> Iterator[Any]:
    with serving(index, model=tiny_trained_model) as client:
        yield client


def ask(client: Any, video: str = ODD_ID, *, method: str = "GET", copy: str | None = None, **headers: str) -> Any:
    parameters = {"id": video} | ({} if copy is None else {"copy": copy})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, MEDIA, params=parameters, headers=named)


def test_the_whole_file(client: Any, corpus: Path) -> None:
    answer = ask(client)
    assert answer.status_code == 200
    assert answer.content == (corpus / "red.mp4").read_bytes()
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(answer.content))


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=5-9", 5, 10),
    ("BYTES= 5 - 9", 5, 10),
    ("bytes=100-", 100, None),
    ("bytes=-7", -7, None),
    ("bytes=-999999999", 0, None),
    ("bytes=7-999999999", 7, None),
]


@pytest.mark.parametrize(("header", "start", "end"), RANGES, ids=[case[0] for case in RANGES])
def test_parts_of_the_file(client: Any, corpus: Path, header: str, start: int, end: int | None) -> None:
    data = (corpus / "red.mp4").read_bytes()
    answer = ask(client, range=header)
    first = start % len(data) if start < 0 else start
    assert answer.status_code == 206
    assert answer.content == data[start:end]
    last = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"


@pytest.mark.parametrize(
    "header", ["bytes=9-5", "bytes=a-b", "bytes=-", "items=0-5", "bytes 0-5", "bytes=" + "9" * 99 + "-"]
)
def test_senseless_ranges_are_ignored(client: Any, header: str) -> None:
    assert ask(client, range=header).status_code == 200


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0", "bytes=0-1,3-4", "bytes=" + "0-," * 1000])
def test_ranges_that_cannot_be_served(client: Any, corpus: Path, header: str) -> None:
    answer = ask(client, range=header)
    assert error_of(answer) == (416, "bad_range")
    assert answer.headers["content-range"] == f"bytes */{(corpus / 'red.mp4').stat().st_size}"


def test_a_range_counts_only_while_the_file_is_the_same(client: Any) -> None:
    headers = ask(client, method="HEAD").headers
    assert ask(client, range="bytes=0-4", if_range=headers["etag"]).status_code == 206
    assert ask(client, range="bytes=0-4", if_range=headers["last-modified"]).status_code == 206
    assert ask(client, range="bytes=0-4", if_range='"other"').status_code == 200
    assert ask(client, range="bytes=0-4", if_range="W/" + headers["etag"]).status_code == 200
    assert ask(client, if_none_match=f'"x", {headers["etag"]}').status_code == 304
    assert ask(client, if_none_match='"x"').status_code == 200


def test_head_tells_the_length_and_sends_nothing(client: Any, corpus: Path) -> None:
    answer = ask(client, method="HEAD", range="bytes=0-4")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str((corpus / "red.mp4").stat().st_size)


@given(size=st.integers(0, 50), header=st.from_regex(r"bytes=[0-9]{0,2}-[0-9]{0,2}", fullmatch=True))
def test_a_part_always_lies_within_the_file(size: int, header: str) -> None:
    try:
        part = asked_range(header, size)
    except ServiceError:
        return
    if part is not None:
        assert 0 <= part.start < part.end <= size
        assert len(range(size)[part.start : part.end]) == part.length


def test_a_large_part_passes_in_small_chunks_and_the_file_is_closed(tmp_path: Path) -> None:
    size = 3 * CHUNK + 17
    (tmp_path / "large").write_bytes(bytes(size))
    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}
    sizes: list[int] = []

    async def taken(message: Any) -> None:
        sizes.append(len(message.get("body", b"")))

    async def gone(message: Any) -> None:
        raise OSError

    def part() -> Any:
        file = (tmp_path / "large").open("rb")
        return file, FilePart(file, ByteRange(10, size, size), 206, {}, "video/mp4")

    file, answer = part()
    asyncio.run(answer(scope, None, taken))
    assert sum(sizes) == size - 10
    assert max(sizes) == CHUNK
    assert file.closed
    file, answer = part()
    with pytest.raises(ClientDisconnect):
        asyncio.run(answer(scope, None, gone))
    assert file.closed


def test_a_video_s_page(client: Any, corpus: Path) -> None:
    found = client.get("/api/video", params={"id": "green"}).json()
    assert (found["playable"], found["reason"]) == (False, "browsers do not play AVI files")
    assert (found["container"], found["content_type"]) == ("avi", "video/x-msvideo")
    assert found["bytes"] == (corpus / "green.avi").stat().st_size
    assert found["duration"] == pytest.approx(3, abs=0.1)
    assert found["metadata"] == {"channel": "sport"}
    assert len(found["frame_times"]) == 12
    assert found["windows"] == []
    plain = client.get("/api/video", params={"id": "blue"}).json()
    assert (plain["playable"], plain["codec"], plain["copy"]) == (True, "h264", None)
    assert plain["metadata"]["odd"] == "\ud800"
    assert str(corpus) not in client.get("/api/video", params={"id": "blue"}).text


# --- files -----------------------------------------------------------------------------------------------------------


def status_of(files: MediaFiles, path: Path | str) -> int:
    try:
        files.locate(str(path))
    except ServiceError as error:
        return error.status
    return 200


def test_only_videos_are_served_whatever_an_index_names(corpus: Path, tmp_path: Path, media_files: Any) -> None:
    files = media_files()
    (tmp_path / "secrets.mp4").write_text("GET my secrets")
    (tmp_path / "boxes.mp4").write_bytes(b"\0\0\0\x08free" * 100_000)
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    assert status_of(files, corpus / "red.mp4") == 200
    for name in ("secrets.mp4", "boxes.mp4", "empty.mp4", "pipe.mp4", "nothing.mp4", "", "a\0b"):
        assert status_of(files, f"{tmp_path}/{name}") == 404
    assert status_of(files, "/etc/passwd") == 404
    assert status_of(files, "/dev/zero") == 404


def test_links_are_followed_only_within_the_media_roots(corpus: Path, tmp_path: Path, media_files: Any) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copy(corpus / "red.mp4", inside / "red.mp4")
    (inside / "near.mp4").symlink_to("red.mp4")
    (inside / "far.mp4").symlink_to(corpus / "red.mp4")
    (tmp_path / "inside-not.mp4").symlink_to(corpus / "red.mp4")
    root = tmp_path / "root"
    root.symlink_to(inside)
    names = ("red.mp4", "near.mp4", "far.mp4")
    assert status_of(media_files(), inside / "far.mp4") == 200
    assert [status_of(media_files(root), inside / name) for name in names] == [200, 200, 404]
    assert status_of(media_files(inside), inside / ".." / "inside-not.mp4") == 404
    assert status_of(media_files(inside, corpus), corpus / "red.mp4") == 200


@pytest.mark.parametrize("video", ["../red.mp4", "/etc/passwd", "red.mp4", "..%2fred.mp4", "news/../blue", "\0"])
def test_clients_name_ids_and_never_paths(client: Any, video: str) -> None:
    for address in (MEDIA, THUMBNAIL, "/api/video"):
        assert error_of(client.get(address, params={"id": video})) == (404, "no_such_video")


def test_static_files_stay_in_their_folder(client: Any) -> None:
    assert client.get("/static/docs.js").status_code == 200
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"):
        assert client.get(path).status_code == 404


def test_files_that_moved_are_told_of(index: Path, tiny_trained_model: Any, tmp_path: Path) -> None:
    own = shutil.copytree(index, tmp_path / "own.index")
    with Catalog.open(own, writable=True) as catalog, catalog._transaction("BEGIN IMMEDIATE"):
        catalog._connection.execute("UPDATE videos SET path = '/moved/' || id")
    with serving(own, model=tiny_trained_model) as client:
        found = client.get("/api/search", params={"query": "red"}).json()["topk"]
        assert len(found) == 3
        for one in found:
            assert (one["playable"], one["media"], one["thumbnail"]) == (False, None, None)
            assert one["reason"] == "the video's file is not where it was when it was indexed."
        for address in (MEDIA, THUMBNAIL):
            assert error_of(client.get(address, params={"id": ODD_ID})) == (404, "media_missing")


KINDS = [
    ("a.mp4", "libx264", ("mp4", "h264", True)),
    ("a.mov", "libx264", ("mp4", "h264", True)),
    ("a.mp4", "mpeg4", ("mp4", "mpeg-4 part 2", False)),
    ("a.mkv", "libx264", ("matroska", "h264", False)),
    ("a.webm", "libvpx-vp9", ("webm", "vp9", True)),
    ("a.avi", "mpeg4", ("avi", "mpeg-4 part 2", False)),
    ("a.ts", "mpeg2video", ("mpegts", "mpeg2video", False)),
    ("a.flv", "flv1", ("flv", "flv1", False)),
    ("a.mpg", "mpeg1video", ("mpeg", "mpeg1video", False)),
    ("a.h264", "libx264", ("h264", "h264", False)),
    ("a.hevc", "libx265", ("hevc", "hevc", False)),
    ("a.ivf", "libvpx", ("ivf", "vp8", False)),
    ("a.nut", "mpeg4", ("nut", "mpeg-4 part 2", False)),
    ("a.y4m", "rawvideo", ("y4m", "rawvideo", False)),
    ("a.obu", "libsvtav1", ("obu", "av1", False)),
    ("a.m2ts", "libx264", ("mpegts", "h264", False)),
    ("junk.ts", "libx264", ("mpegts", "h264", False)),
]


@pytest.mark.parametrize(("name", "codec", "expected"), KINDS, ids=[f"{case[0]}-{case[1]}" for case in KINDS])
def test_kinds_of_files(
    name: str, codec: str, expected: tuple[str, str, bool], tmp_path: Path, media_files: Any
) -> None:
    path = tmp_path / name
    if codec == "mpeg1video" or codec == "mpeg2video":
        write_rate_25(path, codec)
    else:
        write_colour(path, (0, 200, 0), codec=codec, frames=3)
    if path.name == "junk.ts":
        path.write_bytes(bytes(range(1, 256)) * 4 + path.read_bytes())
    kind = media_files().locate(str(path)).kind
    assert (kind.container, kind.codec, kind.reason is None) == expected
    with FramePool(picture_settings(64, seconds=30.0), workers=1) as pool:
        shown = np.asarray(Image.open(io.BytesIO(picture_of(pool, str(path), 0.0, 64))))
        assert shown.any() == (codec not in ("mpeg1video", "mpeg2video"))
        assert pool.read_source(str(path)).stream == 0  # what a copy begins with


def write_rate_25(path: Path, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        container.mux(stream.encode())


def test_real_files_are_recognised(clips: Path, media_files: Any) -> None:
    found: dict[str, Any] = {}
    for path in clips.iterdir():
        media, reason = media_files().find(str(path))
        found[path.name] = (media and media.kind.container, reason)
    assert found["tc_h264_10bit.mp4"] == ("mp4", "browsers do not play H.264 of profile High 10")
    assert found["sk_scene_cuts.mp4"] == ("mp4", "browsers do not play H.264 of profile High 4:4:4 Predictive")
    assert found["exo_h265_meta.mp4"] == ("mp4", "browsers do not play HEVC")
    assert found["exo_audio_ac3.mp4"] == ("mp4", "there is nothing to play: no video stream")
    assert found["tc_nasa.mp4"] == ("mp4", "browsers play another of its video streams")
    assert found["mdn_rabbit320.webm"] == ("webm", None)
    assert found["SOURCES.md"] == (None, "the video's file is of no kind that is served.")
    assert found["mp_zero_bytes.webm"] == (None, "the video's file is of no kind that is served.")


@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"\0\0\0\x18ftypisom", b"\0\0\0\x10moov", b"\x1a\x45\xdf\xa3", b""]),
)
def test_no_bytes_are_taken_for_a_video(
    data: bytes, start: bytes, tmp_path_factory: pytest.TempPathFactory, media_files: Any
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.mp4"
    path.write_bytes(start + data)
    assert status_of(media_files(), path) == 404


def test_a_file_is_examined_once_until_it_changes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = FramePool.read_header
    noted = lambda pool, path, stream: read.append(path) or original(pool, path, stream)  # noqa: E731
    monkeypatch.setattr(FramePool, "read_header", noted)
    path = str(shutil.copy(corpus / "red.mp4", tmp_path / "a.mp4"))
    files = MediaFiles()
    try:
        assert [files.locate(path).kind.container for _ in range(3)] == ["mp4"] * 3
        assert read == [path]
        shutil.copy(corpus / "green.avi", path)
        assert files.locate(path).kind.container == "avi"
        Path(path).write_text("no video")
        assert [status_of(files, path) for _ in range(2)] == [404, 404]
        assert read == [path] * 3
    finally:
        files.close()


# --- thumbnails ------------------------------------------------------------------------------------------------------


def test_a_thumbnail_shows_the_moment_in_its_shape(client: Any) -> None:
    answer = client.get(THUMBNAIL, params={"id": ODD_ID, "t": 1.5, "width": 160})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (160, 120)
    np.testing.assert_allclose(np.asarray(picture).mean(axis=(0, 1)), (220, 20, 20), atol=12)
    again = client.get(
        THUMBNAIL, params={"id": ODD_ID, "t": 1.5, "width": 160}, headers={"if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("stream", [0, 1])
def test_the_indexed_stream_is_shown_everywhere(stream: int, tmp_path: Path, tiny_trained_model: Any) -> None:
    clip = write_two_films(tmp_path / "two.mp4")
    folder = tmp_path / "my.index"
    Indexer(folder, model=tiny_trained_model, workers=1, video_stream=stream).index({"two": clip})

    def check_colour(shown: Any) -> None:
        np.testing.assert_allclose(np.asarray(shown).reshape(-1, 3).mean(axis=0), FILM_COLOURS[stream], atol=12)

    with Searcher(folder, model=tiny_trained_model) as searcher:
        page = searcher.search("red")._repr_html_()
        data = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
        check_colour(Image.open(io.BytesIO(data)))
    with serving(folder, model=tiny_trained_model) as client:
        check_colour(Image.open(io.BytesIO(client.get(THUMBNAIL, params={"id": "two", "t": 0.5}).content)))
        reason = client.get("/api/video", params={"id": "two"}).json()["reason"]
        assert reason == (None if stream == 0 else "browsers play another of its video streams")
        hit = client.get("/api/search", params={"query": "red"}).json()["topk"][0]
        assert hit["reason"] == reason
        if shutil.which("ffmpeg") is not None:
            wait_until(lambda: ask(client, "two", copy="h264").status_code == 200)
            (tmp_path / "copy.mp4").write_bytes(ask(client, "two", copy="h264").content)
            check_colour(read_frames(tmp_path / "copy.mp4", SamplingSettings(num_frames=1)).pixels)


def test_moments_beyond_the_end_show_the_last_picture(client: Any) -> None:
    assert client.get(THUMBNAIL, params={"id": "blue", "t": 99_999}).status_code == 200


@pytest.mark.parametrize(
    "parameters", [{"width": 321}, {"t": "nan"}, {"t": "inf"}, {"t": -1}, {"t": "x"}, {"width": 10**30}]
)
def test_thumbnails_are_bounded(client: Any, parameters: dict[str, Any]) -> None:
    assert client.get(THUMBNAIL, params={"id": "blue", **parameters}).status_code == 422


def test_thumbnails_are_kept_up_to_a_number_of_bytes() -> None:
    cache = ThumbnailCache(10)
    keys = [(b"video", float(time), 160) for time in range(3)]
    cache.put(keys[0], b"1234")
    cache.put(keys[1], b"1234")
    assert cache.get(keys[0]) == b"1234"
    cache.put(keys[2], b"1234")
    assert [cache.get(key) for key in keys] == [b"1234", None, b"1234"]
    cache.put(keys[2], b"12")
    assert cache.bytes == 6
    cache.put(keys[1], b"x" * 11)
    assert (cache.bytes, cache.get(keys[0])) == (0, None)


# --- copies ----------------------------------------------------------------------------------------------------------

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@needs_ffmpeg
def test_a_copy_that_browsers_play_is_made_once(client: Any) -> None:
    shown = client.get("/api/video", params={"id": "green"}).json()
    first = client.get("/" + shown["copy"])
    assert (first.status_code, first.json()["state"] in ("queued", "running")) == (202, True)
    assert first.headers["retry-after"] == "2"
    wait_until(lambda: ask(client, "green", method="HEAD", copy="h264").status_code == 200)
    whole = ask(client, "green", copy="h264")
    assert whole.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(whole.content)) as copied:
        assert copied.streams.video[0].codec_context.name == "h264"
    assert ask(client, "green", copy="h264", range="bytes=0-3").content == whole.content[:4]


def test_copies_take_nothing_but_local_files() -> None:
    arguments = ffmpeg_arguments("/a/-i http:x.mp4", Path("/b/c.mp4"), 1000, SourcePicture(64, 64, 0))
    assert arguments[0] == "-nostdin"
    assert arguments[arguments.index("-protocol_whitelist") + 1] == "file"
    assert arguments[arguments.index("-i") + 1] == "file:/a/-i http:x.mp4"
    assert "hls" not in arguments[arguments.index("-format_whitelist") + 1].split(",")
    assert arguments[arguments.index("-fs") + 1] == "1000"


def copy_maker(folder: Path, **limits: Any) -> CopyMaker:
    usual = {"at_once": 1, "waiting": 1, "seconds": 30.0, "most_bytes": 10**6, "cached_bytes": 10**7}
    return CopyMaker(**(usual | limits), folder=folder)


async def settled(maker: CopyMaker, media: Any) -> str:
    copy = maker.wanted(media)
    await asyncio.gather(*maker._tasks)
    return copy.state


def test_copies_are_bounded_in_number_time_and_size(corpus: Path, tmp_path: Path, media_files: Any) -> None:
    media = [media_files().locate(str(corpus / name)) for name in ("red.mp4", "green.avi", "blue.mp4")]

    async def scenario() -> None:
        slow = copy_maker(tmp_path, seconds=0.3)
        slow._program = stand_in(tmp_path, "exec sleep 60")
        begun = time.monotonic()
        first = slow.wanted(media[0])
        assert slow.wanted(media[0]) is first
        slow.wanted(media[1])
        with pytest.raises(ServiceError, match="too many copies are waiting"):
            slow.wanted(media[2])
        await asyncio.gather(*slow._tasks)
        assert first.state == "failed"
        with pytest.raises(ServiceError, match="could not be copied"):
            slow.wanted(media[0])
        await slow.close()
        assert time.monotonic() - begun < 30

        large = copy_maker(tmp_path, most_bytes=100)
        large._program = stand_in(tmp_path, 'head -c 100 /dev/zero > "$target"')
        assert await settled(large, media[0]) == "failed"
        await large.close()

        few = copy_maker(tmp_path, cached_bytes=150)
        few._program = stand_in(tmp_path, 'head -c 80 /dev/zero > "$target"')
        assert [await settled(few, one) for one in media] == ["ready"] * 3
        assert few.bytes == 80
        assert len(list(tmp_path.glob("colbert-video-copies-*/*.mp4"))) == 1
        await few.close()

    asyncio.run(scenario())
    assert list(tmp_path.glob("colbert-video-copies-*")) == []


def test_clips_and_copies_of_one_file_are_different_ones_and_bounded_together(
    corpus: Path, tmp_path: Path, media_files: Any
) -> None:
    media = media_files().locate(str(corpus / "red.mp4"))

    async def scenario() -> None:
        maker = copy_maker(tmp_path)
        maker._program = None
        one, other = maker.wanted(media, (0.0, 1.0)), maker.wanted(media, (0.0, 2.0))
        assert maker.wanted(media, (0.0, 1.0)) is one is not other
        with pytest.raises(ServiceError, match="too many copies are waiting"):
            maker.wanted(media)
        await asyncio.gather(*maker._tasks)
        assert [one.state, other.state] == ["ready", "ready"]
        assert [duration_of(clip.path.read_bytes()) for clip in (one, other)] == pytest.approx([1.0, 2.0], abs=0.11)
        assert maker.bytes == one.size + other.size
        await maker.close()

    asyncio.run(scenario())


def test_without_ffmpeg_copies_are_made_too(corpus: Path, tmp_path: Path, media_files: Any) -> None:
    async def scenario() -> None:
        maker = copy_maker(tmp_path)
        maker._program = None
        copy = maker.wanted(media_files().locate(str(corpus / "green.avi")))
        await asyncio.gather(*maker._tasks)
        assert copy.state == "ready"
        assert media_files().open(str(copy.path))[0].kind.reason is None
        assert duration_of(copy.path.read_bytes()) == pytest.approx(3.0, abs=0.05)
        await maker.close()

        small = copy_maker(tmp_path, most_bytes=500)
        small._program = None
        assert await settled(small, media_files().locate(str(corpus / "green.avi"))) == "failed"
        await small.close()

    asyncio.run(scenario())


def duration_of(data: bytes) -> float:
    """Seconds of an MP4 file."""
    with av.open(io.BytesIO(data)) as container:
        return container.duration / av.time_base


def saved(client: Any, video: str, start: float, end: float) -> Any:
    """The answer to a clip that is asked for until it is made."""
    parameters = {"id": video, "start": start, "end": end}
    answers: list[Any] = []

    def settled() -> bool:
        answers.append(client.get(CLIP, params=parameters))
        assert answers[-1].status_code != 202 or answers[-1].headers["retry-after"] == "1"
        return answers[-1].status_code != 202

    wait_until(settled)
    return answers[-1]


def test_a_clip_is_made_once_and_saved_under_the_name_of_its_video(client: Any) -> None:
    answer = saved(client, ODD_ID, 0.5, 2.0)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    plain, exact = "clip _1___2e __ 0.5-2s.mp4", "clip%20_1___2e%20_%C3%A9%200.5-2s.mp4"
    assert answer.headers["content-disposition"] == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
    assert duration_of(answer.content) == pytest.approx(1.5, abs=0.05)
    again = client.get(CLIP, params={"id": ODD_ID, "start": 0.5, "end": 2.0}, headers={"Range": "bytes=0-9"})
    assert (again.status_code, again.content) == (206, answer.content[:10])


@pytest.mark.parametrize(
    ("video", "start", "end", "status", "code"),
    [
        ("blue", 1, 1, 422, "bad_part"),
        ("blue", 2, 1, 422, "bad_part"),
        ("blue", 0, 601, 422, "bad_part"),
        ("blue", -1, 1, 422, "bad_parameter"),
        ("blue", "nan", 1, 422, "bad_parameter"),
        ("none", 0, 1, 404, "no_such_video"),
    ],
)
def test_parts_that_are_none_are_refused(client: Any, video: str, start: Any, end: Any, status: int, code: str) -> None:
    answer = client.get(CLIP, params={"id": video, "start": start, "end": end})
    assert error_of(answer) == (status, code)


def test_a_clip_beyond_the_end_fails_and_says_so(client: Any) -> None:
    assert error_of(saved(client, "blue", 50, 51)) == (422, "copy_failed")


def test_the_command_line_cuts_videos_of_an_index(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "clip.mp4")
    assert run(["cut", ODD_ID, "0.5", "1.5", target, "--index", str(index)], capsys)[0] == 0
    assert duration_of(Path(target).read_bytes()) == pytest.approx(1.0, abs=0.05)
    code, _, err = run(["cut", "none", "0.5", "1.5", target, "--index", str(index)], capsys)
    assert (code, "holds no video 'none'" in err) == (2, True)
