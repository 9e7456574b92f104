"""No decoder follows what a file names: not into other files, and not over the network."""

import shutil
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from container_bytes import move_samples
from video_writer import read_number, read_numbers, write_clip

from colbert_video.errors import VideoError
from colbert_video.video.decode.formats import begins_as
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings

DECODERS = ("pyav", "decord", "torchcodec")


class Listener(socketserver.TCPServer):
    """Counts the connections to a port of this machine, and closes each."""

    connections = 0

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with Listener(("127.0.0.1", 0), socketserver.BaseRequestHandler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener
        listener.shutdown()


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that nobody asked for, as long as the others; its frames are numbered from 100."""
    return write_clip(tmp_path_factory.mktemp("secret") / "secret.ts", 60, first=100)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Raw H.264, which FFmpeg finds behind any text."""
    return write_clip(tmp_path_factory.mktemp("raw") / "raw.h264", 60).read_bytes()


def hls(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{target}\n#EXT-X-ENDLIST\n".encode()


def hls_master(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n".encode()


def dash(target: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ).encode()


def ffconcat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def sdp(target: str) -> bytes:
    host = target.removeprefix("http://").partition(":")[0] if target.startswith("http") else "127.0.0.1"
    return f"v=0\no=- 0 0 IN IP4 {host}\ns=x\nc=IN IP4 {host}\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n".encode()


TEXTS = {"hls": hls, "hls_master": hls_master, "dash": dash, "ffconcat": ffconcat, "sdp": sdp}


def numbers_or_none(path: Path, decoder: Any) -> list[int] | None:
    """The frames' numbers, or None if the file is refused."""
    try:
        return read_numbers(read_frames(path, SamplingSettings(num_frames=3, decoder=decoder)))
    except VideoError:
        return None


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".h264"])
@pytest.mark.parametrize("polyglot", [False, True])
def test_playlists_lead_nowhere(
    decoder: str, kind: str, suffix: str, polyglot: bool, secret: Path, raw: bytes, listener: Listener, tmp_path: Path
) -> None:
    pytest.importorskip("av" if decoder == "pyav" else decoder)
    for target in (str(secret), f"file://{secret}", secret.name, f"http://{listener.address}/a.mp4"):
        path = tmp_path / f"{kind}{suffix}"
        (tmp_path / secret.name).write_bytes(secret.read_bytes())
        path.write_bytes(TEXTS[kind](target) + (raw if polyglot else b""))
        numbers = numbers_or_none(path, decoder)
        assert numbers is None or max(numbers) < 60  # the frames of the file itself
    assert listener.connections == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_data_references_lead_nowhere(decoder: str, tmp_path: Path) -> None:
    pytest.importorskip("av" if decoder == "pyav" else decoder)
    secret = write_clip(tmp_path / "secret.mp4", 60, first=100)
    clip = move_samples(Path(shutil.copy(secret, tmp_path / "clip.mp4")), secret.name)
    with av.open(str(clip), container_options={"enable_drefs": "1"}) as container:  # FFmpeg can follow it
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert read_number(picture) == 100
    numbers = numbers_or_none(clip, decoder)
    assert numbers is None or max(numbers) < 60


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["clip%d.jpg", "clip%d.mjpg", "clip%d.gif", "clip%02d.png"])
def test_names_are_no_patterns(decoder: str, name: str, secret: Path, tmp_path: Path) -> None:
    pytest.importorskip("av" if decoder == "pyav" else decoder)
    write_clip(tmp_path / "clip.mp4", 12).rename(tmp_path / name)
    for number in range(3):
        (tmp_path / name.replace("%02d", f"{number:02d}").replace("%d", str(number))).write_bytes(secret.read_bytes())
    assert numbers_or_none(tmp_path / name, decoder) in (None, [2, 6, 10])


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_what_might_be_a_pattern_is_refused(decoder: str, tmp_path: Path) -> None:
    pytest.importorskip(decoder)
    write_clip(tmp_path / "clip.mp4", 12).rename(tmp_path / "100%.mp4")
    with pytest.raises(VideoError, match="pattern of other files' names; use decoder='pyav'"):
        read_frames(tmp_path / "100%.mp4", SamplingSettings(num_frames=3, decoder=decoder))  # type: ignore[arg-type]
    assert numbers_or_none(tmp_path / "100%.mp4", "pyav") == [2, 6, 10]


@pytest.mark.parametrize("decoder", DECODERS)
def test_names_with_brackets_are_read(decoder: str, tmp_path: Path) -> None:
    pytest.importorskip("av" if decoder == "pyav" else decoder)
    write_clip(tmp_path / "clip.mp4", 12).rename(tmp_path / "clip [2012] {a,b} *.mp4")
    assert numbers_or_none(tmp_path / "clip [2012] {a,b} *.mp4", decoder) == [2, 6, 10]


@pytest.mark.parametrize(
    ("head", "container", "begins"),
    [
        (b"\0\0\0\x20ftypisom", "mov,mp4,m4a,3gp,3g2,mj2", True),
        (b"#EXTM3U\nfile:///etc/passwd\n\0\0\0\x20ftypisom", "mov,mp4,m4a,3gp,3g2,mj2", False),
        (b"#EXTM3U\n\0\0\0\1\x67", "h264", False),
        (b"\0\0\0\1\x67", "h264", True),
        (b"\0\0\1\x67", "h264", True),
        (b"RIFF\x10\0\0\0AVI LIST", "avi", True),
        (b"RIFF\x10\x11\x12\x13AVI LIST\nc=IN IP4 127.0.0.1\n", "avi", False),
        (b"FLV\x01<MPD profiles='dash:profile:isoff-live:2011'>", "flv", False),
        (b"FLV\x01\x05\0", "flv", True),
        (b"FLV\x01\x05\0", "matroska,webm", False),
        (b"\0\0\0\x20ftypisom", "a new format", False),
    ],
)
def test_the_first_bytes_decide(head: bytes, container: str, begins: bool, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(head)
    assert begins_as(tmp_path / "a", container) is begins
