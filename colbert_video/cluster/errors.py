"""What can go wrong between machines."""

from colbert_video.errors import ColBERTVideoError


class ClusterError(ColBERTVideoError):
    """A Ray cluster cannot be reached or joined, or it lost what a run needs."""
