"""How much the expensive sweeps cover: a fixed sample by default, all of it with COLBERT_VIDEO_THOROUGH=1."""

import os
from typing import TypeVar

Amount = TypeVar("Amount")

THOROUGH = os.environ.get("COLBERT_VIDEO_THOROUGH") == "1"
EXPENSIVE = "takes long; set COLBERT_VIDEO_THOROUGH=1"
"""Why a test is left out of the sample."""


def thorough(whole: Amount, sample: Amount) -> Amount:
    """The whole sweep where it is asked for, else the sample."""
    return whole if THOROUGH else sample
