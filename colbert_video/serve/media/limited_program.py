"""Becomes another program with bounded memory that ends with the process that started it.

Started by its path as `python -I -S limited_program.py MEMORY_BYTES PARENT_PID PROGRAM ARGUMENT...`: nothing of this
package is imported, and nothing runs between fork and exec in a process with threads.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1


def main(memory_bytes: int, parent: int, command: list[str]) -> None:
    """Set the limits where the system has them, and become the program."""
    _end_with(parent)
    _limit_memory(memory_bytes)
    os.execv(command[0], command)


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            sys.exit("the service has ended")


def _limit_memory(memory_bytes: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit; macOS refuses this one
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
