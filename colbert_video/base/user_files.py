"""Files that users name: the paths, and the texts in them."""

import os
import re
from pathlib import Path

from colbert_video.base.access import reason_of
from colbert_video.errors import MAX_SHOWN, SettingsError, shown

OTHER_ENCODINGS = {"UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-16": (b"\xff\xfe", b"\xfe\xff")}
"""Byte order marks of encodings that are refused."""
MARKS = re.compile("^\ufeff+", re.MULTILINE)
"""Byte order marks of UTF-8; files that were put together with `cat`, or saved with a mark twice, have several."""


def expand_path(path: object, name: str = "the path") -> Path:
    """Return a path as a user wrote it, with "~" and "~user" replaced by home folders.

    Args:
        path: The path, as str or Path; one that begins with "./~" is taken literally.
        name: The parameter or option that it is given for, which errors name.

    Raises:
        SettingsError: If it is empty, blank, holds a zero byte, is neither str nor Path, or names an unknown user.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise SettingsError(
            f"{name} is {shown(text)}, a value of type {type(text).__name__}: give a path as str or Path."
        )
    if not text.strip():
        raise SettingsError(f"{name} is empty: give a path, or '.' for the working folder.")
    if "\0" in text:
        raise SettingsError(f"{name} is {shown(text)}: a path cannot hold a zero byte; remove it.")
    expanded = os.path.expanduser(text)  # noqa: PTH111 - pathlib drops the "./" before a literal "~"
    if expanded == text and text.startswith("~") and not os.path.lexists(text):
        raise SettingsError(
            f"{name} is {shown(text)}, and there is no user of that name: write ./{text[:MAX_SHOWN]} for a file that "
            "is called so."
        )
    return Path(expanded)


def user_path(path: object, name: str = "the path") -> Path:
    """Return the absolute path of what a user named, so that it stays the same when the working folder changes.

    Links are kept. Arguments and errors are those of `expand_path`.

    Raises:
        SettingsError: As `expand_path`, or if the working folder was deleted and the path is relative.
    """
    try:
        return expand_path(path, name).absolute()
    except FileNotFoundError as error:
        raise SettingsError(
            f"{name} is {shown(str(path))}, and the working folder is missing: give an absolute path."
        ) from error


def read_text(path: Path) -> str:
    r"""Read a text file in UTF-8, "\r\n" as "\n" and without byte order marks at the beginnings of lines.

    Raises:
        SettingsError: If it cannot be read or is not text in UTF-8; the error names file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {reason_of(error)}.") from error
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """Decode the content of a text file as `read_text`; `name` is what errors call it.

    Raises:
        SettingsError: If it is not text in UTF-8.
    """
    for encoding, marks in OTHER_ENCODINGS.items():
        if data.startswith(marks):
            raise SettingsError(f"{name} cannot be read: it is {encoding}, by its first bytes; save it as UTF-8.")
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{name} is not UTF-8 at byte {error.start}, line {line}; save it as UTF-8, or download it again."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SettingsError(f"{name}, line {line}: a zero byte, as in UTF-16 or binary files; save the file as UTF-8.")
    return MARKS.sub("", text)


def encode_text(text: str, path: Path) -> bytes:
    """Encode a text for the file `path`.

    Raises:
        SettingsError: If it holds half of a surrogate pair, as names of files do that are not UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise SettingsError(
            f"{path} cannot be written: its line {line} would hold {shown(text[error.start])}, which is no character of "
            "UTF-8; rename what holds it."
        ) from error
