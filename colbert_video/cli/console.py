"""What a console, a pipe or a disk does to the program: text it cannot show is escaped, failures are one line."""

import codecs
import logging
import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from colbert_video.base.access import os_problem
from colbert_video.errors import in_one_line, printable

logger = logging.getLogger(__name__)

TORCH_WRITER = ("inline_container", "PytorchStreamWriter", "unexpected pos")
"""What torch's errors say when a file cannot be written; it raises nothing more exact than RuntimeError."""


def prepare_streams() -> None:
    """Let standard output and error escape what their encoding has no characters for; open those that are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed the descriptor
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for all of the run
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=PLAIN)


def _in_plain_letters(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write marks in plain letters, and escape everything else that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    written = (SUBSTITUTES.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in lacking)
    return "".join(written), error.end


PLAIN = "colbert_video.plain"
SUBSTITUTES = {"✓": "*", "–": "-", "−": "-", "…": "...", "×": "x", "±": "+-", "→": "->", "·": "-"}
"""Marks in tables and sentences, for encodings that lack them."""
codecs.register_error(PLAIN, _in_plain_letters)


class LogFormatter(logging.Formatter):
    """Writes each message in one line, escaped as `printable` does it; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Return the message and what the format puts around it."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name that logging calls
        """Return a traceback."""
        return printable(super().formatException(ei), lines=True)


def log_to_stderr(level: int) -> None:
    """Send the messages of all loggers, from a level on, to standard error, unless logging was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def say_failure(message: str) -> None:
    """Write one line to standard error, if anything can be written there."""
    try:
        sys.stderr.write(f"error: {printable(' '.join(message.split()))}\n")
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def flush_output() -> OSError | None:
    """Write what standard output still holds; return why that is not possible, after which it is discarded."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        return error
    return None


def is_closed_pipe(error: BaseException) -> bool:
    """Return True if whoever read the output has stopped, as `head` does."""
    return isinstance(error, BrokenPipeError) and error.filename is None


def failure_text(error: Exception) -> str | None:
    """Return a sentence about a failure of a disk, a console, a database or memory; None for any other error."""
    text = in_one_line(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{os_problem(error)}."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's, for GPUs
        return f"memory is full ({text}): close other programs, or ask for less at once."
    if isinstance(error, sqlite3.Error):
        return f"a catalog cannot be read or written ({text}); check its disk, its permissions and the space left."
    if isinstance(error, UnicodeError):
        return f"a text or a name holds characters that cannot be read or written here ({text}); use UTF-8."
    if type(error).__name__ == "SafetensorError" or any(word in text for word in TORCH_WRITER):
        return f"a file cannot be written ({text}): check the disk, and how much space is left on it."
    return None


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere: Python would try again at its end, and report that."""
    with suppress(OSError, ValueError):  # of a stream that is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
