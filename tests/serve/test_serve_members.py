"""The service hands out members of archives as the files that they are, and nothing else of the archive."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tar_writer import write_tar
from video_writer import write_clip

from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.media.ffmpeg_command import ffmpeg_arguments
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings, SourcePicture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("served") / "a.mp4", 12).read_bytes()


@pytest.fixture
def shard(tmp_path: Path, clip: bytes) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    return write_tar(folder / "x.tar", {"deep/a.mp4": clip, "a.json": b"{}", "b.mp4": clip})


def test_a_member_is_a_file_of_its_own(shard: Path, clip: bytes, media_files: Any) -> None:
    media, file = media_files(shard.parent).open(f"{shard}/deep/a.mp4")
    with file:
        file.seek(4)
        assert file.read(4) == b"ftyp"
        file.seek(0)
        assert file.read() == clip
    assert (media.size, media.kind.container, media.kind.reason) == (len(clip), "mp4", None)
    assert media.path == f"{shard}/deep/a.mp4"
    assert media.modified_ns == shard.stat().st_mtime_ns
    assert len(read_frames(media.path, SamplingSettings(num_frames=2))) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.tar/no.mp4", "not where it was"),
        ("x.tar/../x.tar/b.mp4", "not where it was"),
        ("x.tar/a.json", "no kind that is served"),
        ("x.tar", "no kind that is served"),
        ("gone.tar/b.mp4", "not where it was"),
    ],
)
def test_nothing_else_is_handed_out(shard: Path, name: str, message: str, media_files: Any) -> None:
    with pytest.raises(ServiceError, match=message) as caught:
        media_files().open(f"{shard.parent}/{name}")
    assert caught.value.status == 404


def test_archives_are_listed_in_another_process(shard: Path, media_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*_: object) -> None:
        raise AssertionError("an archive is listed in the service's process")

    monkeypatch.setattr("colbert_video.video.files.read_archive", listed)
    shard.touch()  # nothing is remembered of it
    media, file = media_files().open(f"{shard}/b.mp4")
    file.close()
    assert media.kind.container == "mp4"


def test_archives_lie_in_the_media_roots(shard: Path, tmp_path: Path, media_files: Any) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(ServiceError, match="outside the media roots"):
        media_files(inside).locate(f"{shard}/b.mp4")
    (inside / "link.tar").symlink_to(shard)
    with pytest.raises(ServiceError, match="outside the media roots"):
        media_files(inside).locate(f"{inside}/link.tar/b.mp4")
    assert media_files(shard.parent).locate(f"{inside}/link.tar/b.mp4").path == f"{shard}/b.mp4"


def test_copies_are_made_of_members(shard: Path, tmp_path: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("no ffmpeg")
    target = tmp_path / "copy.mp4"
    arguments = ffmpeg_arguments(f"{shard}/b.mp4", target, 10**6, SourcePicture(64, 64, 0))
    subprocess.run([program, *arguments], check=True, timeout=300)
    assert read_frames(target, SamplingSettings(num_frames=2)).width == 64
