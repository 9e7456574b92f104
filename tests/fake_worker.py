"""A worker for tests of the pool: what it does is said by the name of the file it is asked for."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames
from colbert_video.video.wire import pack_error, pack_frames, read_message, write_message


def act(path: str) -> None:
    name = Path(path).name
    if name.startswith("signal-"):
        sys.stderr.write("double free or corruption\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.Signals[name[7:]])
    if name.startswith("exit-"):
        os._exit(int(name[5:]))
    if name.startswith("sleep-"):
        time.sleep(float(name[6:]))
    if name.startswith("half-"):
        os.write(1, b"\x10\0\0\0")
        os._exit(0)


def main() -> None:
    if "--broken" in sys.argv:
        sys.exit("no decoder here")
    replies = os.fdopen(1, "wb", closefd=False)
    write_message(replies, {"ready": True})
    while True:
        request, _ = read_message(sys.stdin.buffer)
        path = request["path"]
        act(path)
        if Path(path).name.startswith("refuse"):
            write_message(replies, pack_error(VideoError(path, FailureKind.NO_VIDEO, "as asked")))
            continue
        pixels = np.full((1, 2, 2, 3), request["settings"]["seed"] or 0, np.uint8)
        frames = SampledFrames(pixels, np.zeros(1), 1.0, 1.0, 2, 2, 0, str(os.getpid()), "pyav")
        write_message(replies, *pack_frames(frames))


if __name__ == "__main__":
    main()
