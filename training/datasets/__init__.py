"""The field's text-to-video datasets, from a download folder to a manifest that training and evaluation read.

Nothing is downloaded and no dataset is part of the package: each module names the files that its loaders read, where the
field gets them, and how many videos and captions the published splits have.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.training.datasets.preparation import Preparation as Preparation
    from colbert_video.training.datasets.prepare import check_dataset as check_dataset
    from colbert_video.training.datasets.prepare import write_manifest as write_manifest

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.training.datasets.preparation": ["Preparation"],
        "colbert_video.training.datasets.prepare": ["check_dataset", "write_manifest"],
    },
)
