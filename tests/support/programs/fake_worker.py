"""A worker for tests of the pool: what it does is said by the name of the file it is asked for."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.frames import SampledFrames
from colbert_video.video.workers.wire import (
    SHARED,
    SharedMemory,
    open_shared_memory,
    pack_error,
    pack_frames,
    read_message,
    write_answer,
    write_message,
)


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
    if name.startswith("pipe-"):  # whoever opens the other end of this named pipe knows that the file is being read
        with Path(path).open("wb"):
            time.sleep(float(name[5:]))
    if name.startswith("half-"):
        os.write(1, b"\x10\0\0\0")
        os._exit(0)


def act_on_memory(path: str, memory: SharedMemory, replies: IO[bytes]) -> None:
    name = Path(path).name
    if name.startswith("torn-"):  # killed while it writes pixels
        memory.write(memoryview(b"\xff" * int(name[5:])))
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("boast-"):  # tells of pixels that are not there
        write_message(replies, {SHARED: int(name[6:])})


def main() -> None:
    if "--broken" in sys.argv:
        sys.exit("no decoder here")
    replies = os.fdopen(1, "wb", closefd=False)
    memory = open_shared_memory(int(sys.argv[-1])) if sys.argv[-1].isdigit() else None
    write_message(replies, {"ready": True})
    while True:
        request, _ = read_message(sys.stdin.buffer)
        path = request["path"]
        act(path)
        if memory is not None:
            act_on_memory(path, memory, replies)
        if Path(path).name.startswith("refuse"):
            write_message(replies, pack_error(VideoError(path, FailureKind.NO_VIDEO, "as asked")))
            continue
        side = request["settings"]["width"]
        pixels = np.full((1, side, side, 3), request["settings"]["seed"] or 0, np.uint8)
        frames = SampledFrames(pixels, np.zeros(1), 1.0, 1.0, side, side, 0, str(os.getpid()), "pyav")
        write_answer(replies, *pack_frames(frames), memory)


if __name__ == "__main__":
    main()
