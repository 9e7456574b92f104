"""A sharded corpus: a folder of ordinary indexes that are searched as one.

    corpus.shards/
      shards.json     names the shards in their order, with a checksum
      shard-0000/     an index folder
      shard-0001/     ...

All rows of a video, with both their bags, are in one shard, and no video is in two. So a shard's scores are complete,
and the best of all shards are the best of the corpus. Shards that were split from one index keep its codec, and hold
successive stretches of it: read one after the other, they give its order, by which equal scores are ranked.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.entries import check_name
from colbert_video.indexing.files import refuse_link, write_bytes_durably
from colbert_video.indexing.folder import is_index

CORPUS_NAME = "shards.json"
FORMAT = "colbert_video shards"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ShardedCorpus:
    """Where the shards of a corpus are."""

    path: Path
    """The folder."""
    names: tuple[str, ...]
    """Names of the shards' folders in it, in their order."""

    @property
    def folders(self) -> list[Path]:
        """The index folders, in their order."""
        return [self.path / name for name in self.names]

    @classmethod
    def open(cls, path: str | Path) -> "ShardedCorpus":
        """Read which shards there are.

        Raises:
            IndexFolderError: If there is no sharded corpus, it is damaged or of a newer version, or a shard is missing.
        """
        folder = Path(path)
        if not is_corpus(folder):
            one = is_index(folder)
            what = "is one index, no sharded corpus" if one else "holds no sharded corpus"
            raise IndexFolderError(
                f"{folder} {what}; make one with `colbert-video shard {folder if one else 'INDEX'} --output FOLDER "
                "--shards N`."
            )
        refuse_link(folder / CORPUS_NAME)
        corpus = cls(folder, _parsed(folder / CORPUS_NAME))
        for shard in corpus.folders:
            refuse_link(shard)
            if not is_index(shard):
                raise IndexFolderError(
                    f"{shard} is missing or no index; restore it or shard the index again."
                )
        return corpus


def is_corpus(folder: Path) -> bool:
    """Whether `folder` holds a sharded corpus."""
    return (folder / CORPUS_NAME).is_file()


def write_corpus(folder: Path, names: Sequence[str]) -> ShardedCorpus:
    """Make a folder of indexes a sharded corpus.

    Args:
        folder: The folder.
        names: The names of the index folders in it, in their order.

    Raises:
        SettingsError: If there is none, or a name is unsafe or comes twice.
    """
    _check_names(names)
    body = {"shards": list(names)}
    text = {"format": FORMAT, "version": FORMAT_VERSION, **body, "sha256": _digest(body)}
    write_bytes_durably(folder / CORPUS_NAME, (json.dumps(text, indent=2) + "\n").encode())
    return ShardedCorpus(folder, tuple(names))


def _parsed(path: Path) -> tuple[str, ...]:
    """The names of the shards, checked: a crafted file must not lead out of its folder."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        version = values.get("version")
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"its version is {version!r}")
    except (OSError, ValueError, RecursionError) as error:
        raise IndexFolderError(f"{path} is damaged: {error}; restore it or shard the index again.") from error
    if version > FORMAT_VERSION:
        raise IndexFolderError(
            f"{path} has format version {version}, this release reads up to {FORMAT_VERSION}; upgrade colbert_video."
        )
    body = {"shards": values.get("shards")}
    if values.get("sha256") != _digest(body):
        raise IndexFolderError(
            f"{path} is damaged: its checksum (SHA-256) is another; restore it or shard the index again."
        )
    try:
        return _check_names(body["shards"])
    except SettingsError as error:
        raise IndexFolderError(f"{path} is damaged or was tampered with: {error}") from error


def _check_names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise SettingsError(f"shards {names!r} must be a list of at least one name.")
    checked = tuple(check_name(name) for name in names)
    if len(set(checked)) < len(checked):
        raise SettingsError(f"shards {list(checked)} come twice; each has a folder of its own.")
    return checked


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
