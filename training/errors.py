"""What can go wrong while training."""

from colbert_video.errors import ColBERTVideoError


class TrainingError(ColBERTVideoError):
    """Training cannot go on, or a run cannot be resumed."""
