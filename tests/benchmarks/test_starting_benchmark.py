"""Imports are counted for who asked for them, and a start is a process that ends well."""

from typing import Any

import pytest

LOG = """import time: self [us] | cumulative | imported package
import time:      1000 |       1000 | site
import time:      7000 |       7000 |   numpy
import time:     30000 |      37000 | torch
import time:       500 |        500 |     torch.nn
import time:      2000 |       2500 |   colbert_video.model
import time:      4000 |       4000 |       torch._dynamo
import time:       600 |       4600 |     torchvision.ops
import time:       300 |        300 |     jinja2
import time:      5000 |       5000 |       huggingface_hub
import time:       700 |       5700 |     transformers
import time:      9000 |      19600 |   open_clip
import time:       100 |      22200 | colbert_video
a line that is none
"""


def test_imports_belong_to_who_asked_for_them(load: Any) -> None:
    starting = load("starting")
    assert starting.by_owner(starting.imported(LOG)) == {
        "torch, numpy": 37.5,
        "open_clip": 9.3,
        "torchvision": 4.6,
        "timm": 0.0,
        "transformers": 5.7,
        "colbert_video": 2.1,
        "others": 1.0,
    }


def test_a_start_is_measured(load: Any) -> None:
    starting = load("starting")
    cpu, wall, log = starting.run(("-c", "import sys; print('{round}', file=sys.stderr)"), number=3)
    assert (cpu > 0, wall > 0, log) == (True, True, "3\n")
    with pytest.raises(RuntimeError, match="import nonsense"):
        starting.run(("-c", "import nonsense"))
