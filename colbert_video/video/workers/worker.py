"""A decoding process: reads requests from its standard input, writes answers to what was its standard output.

A request asks for frames, for what a file's header says, for how its pictures are shown, or for the lines of its text
streams. `FramePool` starts the
process as `python -m colbert_video.video.workers.worker [DESCRIPTOR]`; pixels go into the shared memory of this
descriptor, if one is given. It ends when its input ends, even in the middle of a file, so that it never outlives its parent.
"""

import os
import queue
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from colbert_video.errors import FailureKind, VideoError
from colbert_video.video.decode.container import Deadline, no_memory, read_header
from colbert_video.video.decode.decoding import read_source
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings
from colbert_video.video.subtitles.text_streams import read_text_streams
from colbert_video.video.workers.wire import (
    NOTHING,
    open_shared_memory,
    pack_error,
    pack_frames,
    pack_header,
    pack_lines,
    pack_source,
    read_message,
    write_answer,
    write_message,
)


def main() -> None:
    """Serve requests until the input ends."""
    replies = _private_output()
    memory = open_shared_memory(int(sys.argv[1])) if len(sys.argv) > 1 else None
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    write_message(replies, {"ready": True})
    while True:
        write_answer(replies, *_answer(requests.get()), memory)


def limit_memory(size: int) -> None:
    """Limit the address space of this process to so many bytes, where the system can; allocations beyond then fail."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    with suppress(ValueError, OSError):  # macOS knows the limit and refuses to set it.
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _private_output() -> IO[bytes]:
    """Reserve standard output for replies; what native code prints there goes to standard error instead."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _receive(stream: IO[bytes], requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    while True:
        try:
            header, _ = read_message(stream)
        except EOFError:
            os._exit(0)  # The main thread may be inside native code, which nothing else ends.
        requests.put(header)


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], memoryview]:
    path = request["path"]
    try:
        if "seconds" in request:
            return pack_header(read_header(path, Deadline(request["seconds"], path), request["stream"])), NOTHING
        if "text_seconds" in request:
            limit_memory(request["max_memory"])
            return pack_lines(read_text_streams(path, request["text_seconds"])), NOTHING
        if "source" in request:
            return pack_source(read_source(path, _limited(request["source"]))), NOTHING
        return pack_frames(read_frames(path, _limited(request["settings"])))
    except VideoError as error:
        return pack_error(error), NOTHING
    except MemoryError:
        return pack_error(no_memory(path)), NOTHING
    except Exception as error:  # Any other error is this file's failure too, and must be reported.
        detail = f"{type(error).__name__} while decoding: {error}"
        return pack_error(VideoError(path, FailureKind.CRASHED, detail)), NOTHING


def _limited(values: dict[str, Any]) -> SamplingSettings:
    """Return the settings of a request, with their limit of memory in force."""
    settings = SamplingSettings.from_dict(values)
    if settings.decoder == "pyav":
        limit_memory(settings.max_memory)
    return settings


if __name__ == "__main__":
    main()
