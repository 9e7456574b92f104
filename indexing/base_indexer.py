"""What is done to an index that exists: videos removed, space freed, files checked, copies made."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from colbert_video.errors import SettingsError
from colbert_video.hub import HubRepository
from colbert_video.indexing.build.ingest import Decoding
from colbert_video.indexing.build.query_direction import typical_direction
from colbert_video.indexing.index.folder import load_settings, writing
from colbert_video.indexing.index.index_settings import IndexSettings, load_model
from colbert_video.indexing.upkeep.compact import CompactReport, compact_index
from colbert_video.indexing.upkeep.export import ExportReport, export_index
from colbert_video.indexing.upkeep.index_hub import push_index
from colbert_video.indexing.upkeep.reencode import encode_again
from colbert_video.indexing.upkeep.verify import VerifyReport, verify_index
from colbert_video.model.video_colbert import VideoColBERT


class Upkeep:
    """Keeps an index in order; `Indexer` also makes one and adds to it.

    Args:
        path: The index folder.
        model: The model that encodes videos, or a name for `VideoColBERT.from_pretrained`; None for the index's own.
        decoding: How video files are read.
        device: Where a model given by name runs; None for the first GPU, else the CPU.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: VideoColBERT | str | Path | None,
        decoding: Decoding,
        device: str | torch.device | None,
    ) -> None:
        self.path = Path(path)
        self._model = model
        self._decoding = decoding
        self._device = device

    def remove(self, ids: str | Iterable[str]) -> list[str]:
        """Remove videos by id, with all their windows; their space is freed when the index is compacted.

        Args:
            ids: One id or several, of videos or of single windows.

        Returns:
            The ids that were removed.

        Raises:
            SettingsError: If an id is not in the index; then nothing is removed.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        with writing(self.path, create=False) as catalog:
            known = catalog.rows_of(wanted)
            unknown = [name for name in wanted if name not in known]
            if unknown:
                raise SettingsError(f"id {unknown[0]!r} is not in {self.path}; nothing was removed.")
            catalog.remove(wanted)
            return list(dict.fromkeys(wanted))

    def compact(self, *, retrain: Literal["stored", "paths"] | None = None) -> CompactReport:
        """Rewrite all videos into one segment, which frees the space of removed and replaced ones.

        Nothing is decoded from video files unless retrain="paths": compressed tokens are copied. Afterwards
        `segments/<name>/frame` and `video` are ColBERT indexes of the whole corpus.

        Args:
            retrain: Also train a new codec for the corpus as it is now. "stored" compresses the stored tokens again, which
                lose some precision twice. "paths" encodes every video again from its file, with the model that made the
                index; where the file is gone or has changed, the stored tokens are used, and the report says so. If
                that is interrupted, the same call goes on where it stopped.

        Returns:
            What was done; `compacted` is False if there was nothing to do.

        Raises:
            IndexFolderError: If there is no finished index, or a file of it is damaged; then nothing is changed.
            SettingsError: If there is no such way to retrain, or no model for it.
            ModelError: If the model cannot be loaded.
        """
        if retrain not in (None, "stored", "paths"):
            raise SettingsError(f"retrain={retrain!r} must be None, 'stored' or 'paths'.")
        with writing(self.path, create=False) as catalog:
            settings, reencoded, direction = load_settings(self.path, catalog), None, None
            if retrain == "paths":
                model = self._load_model(settings)
                reencoded = encode_again(self.path, catalog, settings, model, self._decoding)
                direction = typical_direction(model)
            return compact_index(
                self.path,
                catalog,
                settings,
                retrain=retrain is not None,
                reencoded=reencoded,
                query_direction=direction,
            )

    def verify(self) -> VerifyReport:
        """Read the whole index and compare every file with the catalog; nothing is changed.

        Returns:
            What is damaged, by file, and which files belong to nothing.

        Raises:
            IndexFolderError: If there is no index.
        """
        return verify_index(self.path)

    def export(self, target: str | Path, *, keep_paths: bool = True) -> ExportReport:
        """Copy the index into a new folder, or an archive if the name ends in ".tar", that opens anywhere.

        Args:
            target: Where to; it must not exist.
            keep_paths: Whether the paths of video files go along.

        Raises:
            IndexFolderError: If there is no finished index, it is damaged, or the target exists or cannot be written.
        """
        return export_index(self.path, Path(target), keep_paths=keep_paths)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = True,
        keep_paths: bool = False,
        revision: str | None = None,
        message: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Push the index to a dataset repository of the Hugging Face Hub, in one commit; `Searcher.from_hub` opens it.

        Args:
            repository: "user/name"; made if it is missing.
            private: Whether a new repository is private; one that exists stays as it is.
            keep_paths: Whether the paths of video files go along; ids and metadata always do.
            revision: Branch, made if it is missing; None for the main branch.
            message: The commit's message.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            endpoint: Address of another Hub than huggingface.co.

        Returns:
            The address of the commit.

        Raises:
            IndexFolderError: If there is no finished index, or it is damaged.
            HubError: If the Hub cannot be reached or refuses.
        """
        where = HubRepository(repository, "dataset", revision, token, endpoint)
        return push_index(self.path, where, private=private, message=message, keep_paths=keep_paths)

    def _load_model(self, settings: IndexSettings | None) -> VideoColBERT:
        return load_model(self._model, settings, self.path, device=self._device)
