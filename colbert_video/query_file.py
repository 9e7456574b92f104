"""Many queries as a plain file, as ColBERT has them: one a line, its id and its words, separated by a tab."""

from collections.abc import Mapping
from pathlib import Path

from colbert_video.errors import SettingsError
from colbert_video.trec import write_lines


def read_queries(path: str | Path) -> dict[str, str]:
    """Read a file of queries.

    Args:
        path: A text file in UTF-8, a line "ID<tab>WORDS" for each query; empty lines are passed over.

    Returns:
        Words by query id, in the order of the file.

    Raises:
        SettingsError: If the file cannot be read or holds no query, or a line has no tab, no id, no words, or the id of
            an earlier one; the text names the line.
    """
    queries: dict[str, str] = {}
    for number, line in enumerate(_lines(Path(path)), start=1):
        if not line.strip():
            continue
        if "\t" not in line:
            raise SettingsError(f"{path}, line {number}: no tab; write each query as ID, tab, words.")
        name, words = (part.strip() for part in line.split("\t", 1))
        if not name or not words:
            raise SettingsError(f"{path}, line {number}: {'no id' if not name else 'no words'}; give both.")
        if name in queries:
            raise SettingsError(f"{path}, line {number}: query {name!r} is there already; ids are unique.")
        queries[name] = words
    if not queries:
        raise SettingsError(f"{path} holds no queries; write each as a line of ID, tab, words.")
    return queries


def write_queries(path: str | Path, queries: Mapping[str, str]) -> Path:
    """Write what `read_queries` reads; white space within the words becomes single spaces.

    Args:
        path: The file; one that exists is replaced.
        queries: Words by query id.

    Raises:
        SettingsError: If an id holds a tab or a line break, or the file cannot be written.
    """
    for name in queries:
        if not name or name != name.strip() or "\t" in name or len(name.splitlines()) != 1:
            raise SettingsError(f"query id {name!r} does not fit into a line of a file; rename it.")
    return write_lines(path, (f"{name}\t{' '.join(words.split())}" for name, words in queries.items()))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
