"""The files of the decoding benchmark, made by the ffmpeg program from a few real clips or a generated one.

    speed_files   ordinary H.264 files of 10 to 30 seconds, 240 and 720 lines, a keyframe every 30 or 250 frames
    hour_files    one hour each, in three containers
    kind_files    one file of each kind that users have: codecs, containers, odd and damaged ones, and no videos at all

All are the same in every run: one thread, no dates.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOPS = (30, 250)
LARGE_SOURCES = ("sk_bbb.mp4", "mp_bbb30.webm", "mm_ntu.avi", "mp_smpte2997.mp4")
SMALL_SOURCES = ("sk_bikes.mp4", "mp_chaplin.mp4", "mm_demo.mp4", "tc_nasa.mp4")
SECONDS = (10, 15, 20, 30)
LOOP = 300
"""At most so many frames of a clip are shown over and over."""
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
KEY = "76a6c65c5ea762046bd749a2e632ccbb"


def ffmpeg(*arguments: Any, cwd: Path | None = None) -> None:
    """Run the ffmpeg program quietly, on one thread.

    Raises:
        RuntimeError: If it fails; the message is its own.
    """
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", *arguments]
    done = subprocess.run(list(map(os.fsencode, map(str, command))), capture_output=True, cwd=cwd, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg {arguments}: {done.stderr.decode(errors='replace').strip()}")


def source_clip(path: Path, *, size: str = "320x240", seconds: int = 4) -> Path:
    """A generated clip with sound, for machines without real ones."""
    if not path.is_file():
        picture = f"testsrc2=size={size}:rate=25:duration={seconds}"
        sound = f"sine=frequency=440:duration={seconds}"
        encode = (*H264, "-threads", "1", "-g", "50", "-c:a", "aac", "-bitexact")
        ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *encode, path)
    return path


def speed_files(folder: Path, clips: Path | None) -> dict[str, list[Path]]:
    """Ordinary files: sets by lines and keyframe distance, four files each.

    Args:
        folder: Where they are kept.
        clips: Folder of real clips; None generates pictures instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets = {}
    for lines, names in ((240, SMALL_SOURCES), (720, LARGE_SOURCES)):
        for gop in GOPS:
            sets[f"{lines} lines, GOP {gop}"] = [
                _speed_file(folder / f"{lines}-{gop}-{seconds}.mp4", clips, name, lines, gop, seconds)
                for name, seconds in zip(names, SECONDS, strict=True)
            ]
    return sets


def _speed_file(path: Path, clips: Path | None, name: str, lines: int, gop: int, seconds: int) -> Path:
    if not path.is_file():
        picture = (
            ("-i", clips / name)
            if clips
            else ("-f", "lavfi", "-i", f"mandelbrot=size=1280x720:rate=30:start_scale={seconds / 10}")
        )
        sound = ("-f", "lavfi", "-i", "sine=frequency=440")
        again = f"scale=-2:{lines},fps=30,loop=-1:{LOOP}"  # -stream_loop fails for AVI files
        form = ("-t", seconds, "-vf", again, "-map", "0:v:0", "-map", "1:a")
        ffmpeg(*picture, *sound, *form, *H264, "-threads", "1", "-g", gop, "-c:a", "aac", "-bitexact", path)
    return path


def hour_files(folder: Path, clips: Path | None) -> dict[str, Path]:
    """One hour at 25 frames a second, a keyframe every 250: a minute sixty times over."""
    folder.mkdir(parents=True, exist_ok=True)
    source = clips / SMALL_SOURCES[0] if clips else source_clip(folder / "source.mp4")
    files = {}
    for title, name, lines, quality in (
        ("360 lines, MP4", "large.mp4", 360, 23),
        ("360 lines, Matroska", "large.mkv", 360, 23),
        ("360 lines, MPEG-TS", "large.ts", 360, 23),
        ("240 lines, MP4", "small.mp4", 240, 32),
    ):
        minute, path = folder / f"minute-{lines}.mp4", folder / name
        if not minute.is_file():
            loop = ("-stream_loop", "-1", "-i", source, "-f", "lavfi", "-i", "sine=frequency=440", "-t", 60)
            form = ("-vf", f"scale=-2:{lines},fps=25", *H264, "-crf", quality, "-g", 250, "-sc_threshold", 0)
            maps = ("-map", "0:v:0", "-map", "1:a", "-c:a", "aac", "-bitexact")
            ffmpeg(*loop, *form, "-threads", "1", *maps, minute)
        if not path.is_file():
            ffmpeg("-stream_loop", 59, "-i", minute, "-c", "copy", "-bitexact", path)
        files[title] = path
    return files


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    title: str
    """In tables."""
    name: str
    """File name."""
    make: Callable[[Path, Path], None]
    """Makes it, given the source clip and the path."""
    shows: bool = True
    """Whether there are frames to be had; if not, it should be refused."""


def encoded(*options: Any, inputs: Sequence[Any] = ()) -> Callable[[Path, Path], None]:
    """A maker that calls ffmpeg with options."""
    return lambda source, path: ffmpeg(*inputs, "-i", source, *options, "-threads", "1", "-bitexact", path)


def _cut(share: float, *options: Any) -> Callable[[Path, Path], None]:
    """A maker of files that break off."""

    def make(source: Path, path: Path) -> None:
        whole = path.with_name(f"whole-{path.name}")
        ffmpeg("-i", source, *options, "-c", "copy", "-bitexact", whole)
        path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        whole.unlink()

    return make


def _wiped(source: Path, path: Path) -> None:
    """Zeros over a part of the middle, as a bad disk leaves them."""
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)


def _joined(source: Path, path: Path) -> None:
    """Two recordings of different size, one behind the other; their timestamps begin again."""
    data = b""
    for size in ("320:240", "480:360"):
        part = path.with_name(f"part-{path.name}")
        ffmpeg("-i", source, "-vf", f"scale={size}", "-t", 2, *H264, "-an", "-threads", "1", "-bitexact", part)
        data += part.read_bytes()
        part.unlink()
    path.write_bytes(data)


def _false_keyframes(source: Path, path: Path) -> None:
    """An MP4 without its table of keyframes, which then calls every frame one."""
    ffmpeg("-i", source, "-c:v", "mpeg4", "-g", 50, "-an", "-threads", "1", "-bitexact", path)
    path.write_bytes(path.read_bytes().replace(b"stss", b"free", 1))


def _joined_flv(source: Path, path: Path) -> None:
    """Two FLV recordings of different size: the header of the second comes in mid stream."""
    data = bytearray()
    for number, size in enumerate(("320:240", "480:360")):
        part = path.with_name(f"part-{path.name}")
        ffmpeg("-i", source, "-vf", f"scale={size}", "-t", 2, *H264, "-an", "-threads", "1", "-bitexact", part)
        tags = bytearray(part.read_bytes())
        part.unlink()
        place = 13
        while place < len(tags):
            stamp = int.from_bytes(tags[place + 4 : place + 7], "big") + 2000 * number
            tags[place + 4 : place + 7] = stamp.to_bytes(3, "big")
            place += 11 + int.from_bytes(tags[place + 1 : place + 4], "big") + 4
        data += tags[13:] if number else tags
    path.write_bytes(data)


def _bytes(data: bytes) -> Callable[[Path, Path], None]:
    return lambda source, path: (path.write_bytes(data), None)[1]


def _copied(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes())


def _cover(source: Path, path: Path) -> None:
    picture, sound = path.with_name("cover.png"), path.with_name("sound.m4a")
    ffmpeg("-i", source, "-frames:v", 1, picture)
    ffmpeg("-i", source, "-vn", "-c:a", "aac", sound)
    maps = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", "-bitexact")
    ffmpeg("-i", sound, "-i", picture, *maps, path)
    for part in (picture, sound):
        part.unlink()


def _rotated(degrees: int) -> Callable[[Path, Path], None]:
    """A maker of files that players turn; written with PyAV, as versions of ffmpeg differ in how they are told to."""

    def make(source: Path, path: Path) -> None:
        import av

        with av.open(str(source)) as old, av.open(str(path), "w") as new:
            stream = old.streams.video[0]
            copy = new.add_stream_from_template(stream)
            copy.set_display_rotation(degrees)
            for packet in old.demux(stream):
                if packet.size:
                    packet.stream = copy
                    new.mux(packet)

    return make


def _no_duration(source: Path, path: Path) -> None:
    """Written to a pipe, where the muxer cannot go back to fill in the duration."""
    encode = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-an", "-f", "webm", "pipe:1")
    with path.open("wb") as out:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(source), *encode]
        subprocess.run(command, stdout=out, check=True)


SLIDES = ("-vf", "fps=4,setpts=N*20/TB", "-fps_mode", "vfr")
VARIABLE = ("-vf", "select='lt(mod(n,7),4)'", "-fps_mode", "vfr")
INTERLACED = ("-vf", "tinterlace=interleave_top,fieldorder=tff", "-flags", "+ildct+ilme")
PROTECTED = ("-c", "copy", "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", KEY, "-encryption_kid", KEY)
KINDS = (
    Kind("H.264, MP4", "plain.mp4", encoded(*H264)),
    Kind("H.264, Matroska", "plain.mkv", encoded(*H264)),
    Kind("H.264, MPEG-TS", "stream.ts", encoded(*H264)),
    Kind("H.264, FLV", "flash.flv", encoded(*H264, "-ar", 44100)),
    Kind("H.264, fragmented MP4", "fragments.mp4", encoded("-c", "copy", "-movflags", "frag_keyframe+empty_moov")),
    Kind("H.264 without container", "raw.h264", encoded(*H264, "-an")),
    Kind("H.264, open GOPs", "open.mp4", encoded(*H264, "-x264-params", "open-gop=1:keyint=25:scenecut=0")),
    Kind("H.264, 4:4:4", "colour.mp4", encoded("-c:v", "libx264", "-pix_fmt", "yuv444p")),
    Kind("H.264, interlaced", "fields.mp4", encoded(*INTERLACED, *H264)),
    Kind("MPEG-2, interlaced, MPEG-TS", "fields.ts", encoded(*INTERLACED, "-c:v", "mpeg2video", "-bf", 2)),
    Kind("MPEG-2, program stream", "disc.mpg", encoded("-c:v", "mpeg2video", "-bf", 2)),
    Kind("HEVC 8 bit", "hevc.mp4", encoded("-c:v", "libx265", "-x265-params", "log-level=none")),
    Kind("HEVC 10 bit", "hevc10.mp4", encoded("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none")),
    Kind("AV1", "av1.mp4", encoded("-c:v", "libaom-av1", "-cpu-used", 8, "-usage", "realtime")),
    Kind("VP9, WebM", "vp9.webm", encoded("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-an")),
    Kind("VP9, no duration in the header", "vp9-live.webm", _no_duration),
    Kind("VP8, WebM", "vp8.webm", encoded("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", 8, "-an")),
    Kind("MPEG-4, AVI", "divx.avi", encoded("-c:v", "mpeg4", "-bf", 2, "-c:a", "mp3", "-q:v", 3)),
    Kind("WMV", "windows.wmv", encoded("-c:v", "wmv2", "-c:a", "wmav1")),
    Kind("Theora, Ogg", "theora.ogv", encoded("-c:v", "libtheora", "-an")),
    Kind("ProRes, MOV", "prores.mov", encoded("-c:v", "prores", "-an")),
    Kind("Motion JPEG, MOV", "motion.mov", encoded("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-an")),
    Kind("GIF", "animated.gif", encoded("-vf", "fps=5,scale=160:-2", "-an")),
    Kind("4K", "4k.mp4", encoded("-vf", "scale=3840:2160", "-t", 2, *H264, "-preset", "ultrafast")),
    Kind("variable frame rate", "variable.mp4", encoded(*VARIABLE, *H264, "-an")),
    Kind("one frame", "one.mp4", encoded("-frames:v", 1, *H264, "-an")),
    Kind("rotated by metadata, 90 degrees", "turned90.mp4", _rotated(90)),
    Kind("rotated by metadata, 180 degrees", "turned180.mp4", _rotated(180)),
    Kind("trimmed without decoding", "trimmed.mp4", encoded("-c", "copy", inputs=("-ss", 1.3))),
    Kind("MP4 named .avi", "wrong.avi", _copied),
    Kind("name with quotes, colons, Japanese", "10:30 'é' \"日本\" [1] 100%.mp4", _copied),
    Kind("name that is no Unicode", os.fsdecode(b"caf\xe9.mp4"), _copied),
    Kind("breaks off, index first", "cut.mp4", _cut(0.6, "-movflags", "+faststart")),
    Kind("breaks off, MPEG-TS", "cut.ts", _cut(0.6, "-bsf:v", "h264_mp4toannexb")),
    Kind("breaks off, Matroska", "cut.mkv", _cut(0.6)),
    Kind("two recordings of different size joined", "joined.ts", _joined),
    Kind("two FLV recordings of different size joined", "joined.flv", _joined_flv),
    Kind("every frame called a keyframe", "keys.mp4", _false_keyframes),
    Kind("palette in the first packet alone", "palette.mov", encoded("-pix_fmt", "pal8", "-c:v", "rawvideo", "-an")),
    Kind("slides, 20 seconds each", "slides.mp4", encoded(*SLIDES, *H264, "-an")),
    Kind("Motion JPEG without container", "raw.mjpeg", encoded("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-an")),
    Kind("H.264 with B-frames, AVI", "camera.avi", encoded(*H264, "-bf", 2, "-an")),
    Kind("a twentieth wiped out", "wiped.mp4", _wiped),
    Kind("breaks off, index lost", "lost.mp4", _cut(0.6), shows=False),
    Kind("sound only", "sound.mp4", encoded("-vn", "-c:a", "aac"), shows=False),
    Kind("sound with cover art", "album.m4a", _cover, shows=False),
    Kind("encrypted", "locked.mp4", encoded(*PROTECTED), shows=False),
    Kind("no bytes", "empty.mp4", _bytes(b""), shows=False),
    Kind("text", "text.mp4", _bytes(b"I am no video.\n" * 100), shows=False),
    Kind("playlist", "playlist.mp4", _bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nplain.mp4\n#EXT-X-ENDLIST\n"), shows=False),
)  # fmt: skip


def kind_files(folder: Path, source: Path) -> dict[Kind, Path]:
    """One file of each kind; those that this ffmpeg or file system cannot make are left out.

    Args:
        folder: Where they are kept.
        source: An H.264 MP4 with sound, a few seconds long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind in KINDS:
        path = folder / kind.name
        try:
            if not path.is_file():
                kind.make(source, path)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            path.unlink(missing_ok=True)
            print(f"cannot make {kind.title}: {error}")
            continue
        files[kind] = path
    return files
