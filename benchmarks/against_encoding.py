"""Print the processor milliseconds of a query and of a clip of 12 frames, with the code that PYTHONPATH names.

`benchmarks/against.py` starts it once for each commit and round. The model is the shipped one: both commits have it.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from colbert_video import VideoColBERT

REPEATS, WARM_UP, FRAMES = 12, 3, 12


def milliseconds(step: Callable[[], object]) -> float:
    """Median processor time of a step."""
    taken = []
    for _ in range(WARM_UP + REPEATS):
        started = time.process_time()
        step()
        taken.append(1000 * (time.process_time() - started))
    return median(taken[WARM_UP:])


def main() -> None:
    """Measure both."""
    torch.set_num_threads(1)
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), dtype=np.uint8)
    query = milliseconds(lambda: model.encode_queries("a red square moves to the left"))
    print(query, milliseconds(lambda: model.encode_videos([clip])))


if __name__ == "__main__":
    main()
