r"""File names that are not valid Unicode, written so that they can be printed and stored.

Linux allows any bytes in a file name. Python reads bytes that are not UTF-8 as lone surrogates, which can be opened but
neither printed nor put into JSON or SQLite. Here they are written as `\xNN`, and found again from that.
"""

import os
import re

ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")


def readable_name(path: str) -> str:
    r"""Write each byte that is not UTF-8 as `\xNN`; all other names stay as they are.

    Args:
        path: As the operating system gives it.

    Returns:
        Valid Unicode.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def native_name(path: str) -> str:
    r"""Find the file whose `readable_name` is given.

    Args:
        path: Valid Unicode, or a name as the operating system gives it.

    Returns:
        A name that can be opened: `path` itself, unless only the file with the escaped bytes exists.
    """
    if "\\x" not in path or os.path.lexists(path):
        return path
    escaped = os.fsdecode(ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(path)))
    return escaped if os.path.lexists(escaped) else path
