"""How a model is loaded and saved: checkpoints on disk and on the Hugging Face Hub."""

from pathlib import Path
from typing import Any, TypeVar

import torch

from colbert_video.device import resolve_device

Model = TypeVar("Model")


class Pretrained:
    """The part of `VideoColBERT` that loads and saves it; `colbert_video.model.checkpoint` does the work."""

    @classmethod
    def from_pretrained(
        cls: type[Model], name: str | Path, *, device: str | torch.device | None = None
    ) -> Model:
        """Load a saved model: "toy" (shipped), a folder, "BACKBONE:TAG" untrained, or a Hub id "user/model[@revision]".

        Raises:
            ModelError: If there is no such model or it cannot be used.
        """
        from colbert_video.model.checkpoint import load_model

        model: Any = load_model(name, device=resolve_device(device))
        return model

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write weights, configuration and tokenizer to a folder that `from_pretrained` reads.

        Args:
            folder: Target; an existing checkpoint there is replaced. The model is known by it from then on.
            half: Store weights in half precision, at half the size; the model in memory stays as it is and keeps its
                name, for what is loaded back makes slightly other tokens.

        Raises:
            ModelError: If the folder cannot be written, or holds files that are no checkpoint's.
        """
        from colbert_video.model.checkpoint import save_model

        model: Any = self
        save_model(model, Path(folder), half=half)

    @classmethod
    def from_hub(
        cls: type[Model],
        repository: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        endpoint: str | None = None,
        device: str | torch.device | None = None,
    ) -> Model:
        """Load a model from the Hugging Face Hub; `from_pretrained` does the same where no token or folder is needed.

        Args:
            repository: "user/name".
            revision: Branch, tag or commit; None for the main branch.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            cache_dir: Where downloads are kept; None for huggingface_hub's cache.
            endpoint: Address of another Hub than huggingface.co.
            device: Where to put the model; None for the first GPU, else the CPU.

        Raises:
            HubError: If there is no such repository, it may not be read, or the Hub cannot be reached.
            ModelError: If it holds no usable model.
        """
        from colbert_video.hub import HubRepository
        from colbert_video.model.checkpoint import load_from_hub

        where = HubRepository(repository, "model", revision, token, endpoint)
        folder = None if cache_dir is None else Path(cache_dir)
        model: Any = load_from_hub(where, device=resolve_device(device), cache_dir=folder)
        return model

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = True,
        revision: str | None = None,
        message: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Push the model to the Hugging Face Hub in one commit, with a model card where there is none.

        Args:
            repository: "user/name"; made if it is missing. The model is known by it from then on.
            private: Whether a new repository is private; one that exists stays as it is.
            revision: Branch, made if it is missing; None for the main branch.
            message: The commit's message.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            endpoint: Address of another Hub than huggingface.co.

        Returns:
            The address of the commit.

        Raises:
            HubError: If the Hub cannot be reached or refuses.
        """
        from colbert_video.hub import HubRepository
        from colbert_video.model.checkpoint import push_model

        where = HubRepository(repository, "model", revision, token, endpoint)
        model: Any = self
        return push_model(model, where, private=private, message=message)
