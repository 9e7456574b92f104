"""Indexes on the Hugging Face Hub: a dataset repository that holds the files of an export.

A folder is pushed, not an archive: segments and codecs that the repository holds already are not sent again. A fetched
index is a stranger's, and is imported as an archive is: only files that an index may hold are downloaded, and all must
be as its catalog says.
"""

import os
from dataclasses import replace
from pathlib import Path

from colbert_video.base.user_files import user_path
from colbert_video.durable import link_or_copy, new_name
from colbert_video.errors import HubError, IndexFolderError, shown
from colbert_video.hub import HubRepository
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.database import CATALOG_NAME
from colbert_video.indexing.index.folder import CODECS, SEGMENTS, is_index, load_settings
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.export import ExportReport, export_index, is_index_file, settle
from colbert_video.indexing.upkeep.workplace import workplace

DOWNLOADS = "colbert_video"
"""Folder of fetched indexes beside the Hub's own cache."""


def push_index(
    folder: Path,
    repository: HubRepository,
    *,
    private: bool = True,
    message: str | None = None,
    keep_paths: bool = False,
) -> str:
    """Push an index, as of its last commit.

    Args:
        folder: The index folder; beside it, links to its files are made meanwhile.
        repository: Where to.
        private: Make a new repository private.
        message: The commit's message.
        keep_paths: Keep the paths of the video files, and that of a model in a folder. Ids and metadata are always
            kept.

    Returns:
        The address of the commit.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        HubError: If the Hub cannot be reached or refuses.
    """
    folder = user_path(folder, "the index")
    with Catalog.open(folder) as catalog:
        settings = load_settings(catalog)
    if not os.access(parent := folder.parent, os.W_OK | os.X_OK):
        raise IndexFolderError(
            f"{parent} cannot be written, where links to the index are made; export it elsewhere first."
        )
    with workplace(folder.with_name(f"{folder.name}.push-{new_name()}")) as work:
        copy = work / "index"
        report = export_index(folder, copy, keep_paths=keep_paths, link=True)
        return repository.push(
            copy,
            card=index_card(settings, repository.id, videos=report.videos),
            private=private,
            message=message or f"Push an index of {report.videos} videos",
            replaces=(f"{CODECS}/", f"{SEGMENTS}/"),
        )


def pull_index(repository: HubRepository, target: Path, *, cache_dir: Path | None = None) -> ExportReport:
    """Fetch an index and make it a folder of its own.

    Args:
        repository: Where from.
        target: The new index folder; it appears only when every file of it has been checked.
        cache_dir: Where downloads are kept; None for huggingface_hub's cache. The folder shares their space on disk
            where both are on one file system.

    Returns:
        What was fetched.

    Raises:
        HubError: If the Hub cannot be reached or refuses, or the repository holds no index.
        IndexFolderError: If what it holds is damaged or not part of an index, or `target` exists or cannot be written.
    """
    target = user_path(target, "the index")
    snapshot = _catalog_of(repository, cache_dir)
    with workplace(target) as work:
        folder = work / "index"
        folder.mkdir()
        (folder / CATALOG_NAME).write_bytes((snapshot / CATALOG_NAME).read_bytes())
        with Catalog.open(folder) as catalog:
            names = sorted(catalog.files())
        for name in names:
            if not is_index_file(name):
                raise IndexFolderError(
                    f"{repository.id} lists {shown(name)}, which is not part of an index; it is refused."
                )
        snapshot = replace(repository, revision=snapshot.name).fetch(names, cache_dir=cache_dir)
        for name in names:
            _take(snapshot, name, folder, repository)
        return settle(folder, {*names, CATALOG_NAME}, target, source=repository.id)


def fetched_index(repository: HubRepository, *, cache_dir: Path | None = None) -> Path:
    """Return the folder of a fetched index, one for each commit; it is fetched if it is not there.

    Raises:
        HubError: As `pull_index`.
        IndexFolderError: As `pull_index`.
    """
    from huggingface_hub import constants

    snapshot = _catalog_of(repository, cache_dir)
    cache = Path(constants.HF_HOME) if cache_dir is None else cache_dir
    target = cache / DOWNLOADS / repository.id.replace("/", "--") / snapshot.name
    if not is_index(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            pull_index(replace(repository, revision=snapshot.name), target, cache_dir=cache_dir)
        except IndexFolderError:
            if not is_index(target):  # otherwise another process was faster
                raise
    return target


def _catalog_of(repository: HubRepository, cache_dir: Path | None) -> Path:
    """Fetch the catalog; return the folder that holds it, named after the commit."""
    snapshot = repository.fetch([CATALOG_NAME], cache_dir=cache_dir)
    if not (snapshot / CATALOG_NAME).is_file():
        raise HubError(f"the dataset repository {shown(repository.id)} holds no index: it has no {CATALOG_NAME}.")
    return snapshot


def _take(snapshot: Path, name: str, folder: Path, repository: HubRepository) -> None:
    """Link or copy a fetched file into the new index folder."""
    source = (snapshot / name).resolve()  # a link into the cache
    if not source.is_file():
        raise IndexFolderError(f"{repository.id} lacks {name}, which its catalog names; push the index again.")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, folder / name)


def index_card(settings: IndexSettings, repository: str, *, videos: int) -> str:
    """Return the README.md of a repository that holds an index."""
    model = f"`{settings.model}`" if settings.model else "an encoder that the index does not name"
    bags = " and ".join(f"{bag} tokens" for bag in settings.bags)
    return f"""---
tags: [colbert_video, video-retrieval, late-interaction]
viewer: false
---

# {repository}

An index of {videos} videos for late-interaction text-to-video search with colbert_video. It holds compressed
{bags} ({settings.dim} dimensions, {settings.nbits} bits each), made by {model}, with the ids and metadata of the videos,
but not the videos.

```python
from colbert_video import Searcher

searcher = Searcher.from_hub("{repository}")
hits = searcher.search("a dog catches a frisbee", k=10)
```

No licence is stated yet: the owner of this repository has to add one.
"""
