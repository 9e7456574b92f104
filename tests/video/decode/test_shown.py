"""Real files whose pictures ask for more than to be decoded, beside the ffmpeg program's pictures of the same moments."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings

FOLDER = Path(os.environ.get("COLBERT_VIDEO_CLIPS_2", Path(__file__).parents[4] / "shared" / "clips-2"))
TONE_MAP = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
SCALE = "scale=224:224:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24"
FILES = {
    "oh_cvfc1.jsv": ("0:v:0", "", (300, 168, 0, False)),
    "made_i07_pq.mp4": ("0:v:0", TONE_MAP, (640, 360, 0, False)),
    "made_i07b_hlg.mp4": ("0:v:0", TONE_MAP, (640, 360, 0, False)),
    "am_hdr10_av1.mp4": ("0:v:0", TONE_MAP, (720, 1280, 0, False)),
    "fs_hdr10tags_both.mkv": ("0:v:0", TONE_MAP, (320, 560, 90, True)),
    "made_i09c_hevc_cover0.mp4": ("0:v:1", "", (640, 360, 0, False)),
    "made_i10_hflip.mp4": ("0:v:0", "", (640, 360, 0, True)),
    "made_i10_vflip.mp4": ("0:v:0", "", (640, 360, 180, True)),
    "made_i10_rot90_hflip.mp4": ("0:v:0", "", (360, 640, 270, True)),
    "made_i13_avchd.mts": ("0:v:0", "", (640, 360, 0, False)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_first_picture_is_ffmpegs(name: str) -> None:
    program = shutil.which("ffmpeg")
    if program is None or not (FOLDER / name).is_file():
        pytest.skip("needs the ffmpeg program and the clip")
    stream, chain, facts = FILES[name]
    if chain and b" zscale " not in subprocess.run([program, "-filters"], capture_output=True, check=False).stdout:
        pytest.skip("this ffmpeg has no zscale")
    command = [program, "-v", "error", "-nostdin", "-i", FOLDER / name, "-map", stream, "-frames:v", "1"]
    done = subprocess.run([*command, "-vf", chain + SCALE, "-f", "rawvideo", "-"], capture_output=True, check=True)
    expected = np.frombuffer(done.stdout, np.uint8).reshape(224, 224, 3).astype(int)
    frames = read_frames(FOLDER / name, SamplingSettings(num_frames=1, window=(0.0, 0.03)))
    assert np.abs(expected - frames.pixels[0]).mean() < 1.5
    assert (frames.width, frames.height, frames.rotation, frames.mirrored) == facts
