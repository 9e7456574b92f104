"""How often a token's centroid is found through cells, beside comparing it with every centroid.

    python benchmarks/assignment.py --index plain-20000=WORK/plain-20000-512/ours-4bit ...

The tokens are those of the corpus's first videos; the indexes are those that `benchmarks/search.py` built, and their
name gives the corpus, kind and size.
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
from reports import arguments, load, save
from search_world import World
from torch import Tensor

from colbert_video.indexing.codec.assignment import PROBES, assign
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.codec.kmeans import assigner
from colbert_video.indexing.scan.index_reader import IndexReader


def measure(codec: ResidualCodec, tokens: Tensor) -> dict[str, Any]:
    """Agreement, what is lost where there is none, and processor time a token."""
    rotated = codec.rotate(tokens)
    started = time.process_time()
    exact, best = assign(rotated, codec.centroids)
    middle = time.process_time()
    found, scores = assigner(codec.centroids)(rotated)
    finished = time.process_time()
    return {
        "tokens": len(tokens),
        "centroids": codec.num_centroids,
        "probes": PROBES,
        "agreement": float((found == exact).float().mean()),
        "mean_cosine_lost": float((best - scores).mean()),
        "exact_cpu_us_per_token": (middle - started) / len(tokens) * 1e6,
        "cells_cpu_us_per_token": (finished - middle) / len(tokens) * 1e6,
    }


def main() -> None:
    """Measure every index that is named."""
    parser = arguments(__doc__, "assignment")
    parser.add_argument("--index", nargs="+", required=True, metavar="KIND-SIZE=PATH")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = load(options.output, default={})
    for pair in options.index:
        name, path = pair.split("=", 1)
        kind, size = name.rsplit("-", 1)
        reader = IndexReader.open(Path(path))
        bags = World(int(size), kind).tokens(0)
        codecs = reader.codecs(reader.segments[0])
        report[name] = {
            bag: measure(codec, torch.from_numpy(bags[bag]).flatten(0, 1)) for bag, codec in codecs.items()
        }
        reader.close()
        print(name, json.dumps(report[name], indent=1))
    save(options.output, report)


if __name__ == "__main__":
    main()
