"""What a user waits for: from the words of a query to its hits, the text tower and the search together.

    python benchmarks/text_to_hits.py --index WORK/plain-20000-512/ours-4bit

Each way to encode answers the same queries in turns on one thread: ViT-B/32 with random weights in fp32, in the precision that
"auto" chooses here, and by OpenVINO where it is installed. The index is one that `benchmarks/search.py` built; a million videos
are random codes in memory, as in `benchmarks/scan.py`, and lack what a hit reads from the catalog. The report has a part for
each kind of processor.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from cores import random_segment
from encoding import part_of
from reports import arguments, load, machine, save
from scan import K

from colbert_video import Searcher, VideoColBERT
from colbert_video.indexing.scan.kernels import kernel_name
from colbert_video.indexing.scan.scan import search_segment
from colbert_video.model.precision import cpu_has_bf16

MODEL = "ViT-B-32"
QUERIES = (
    "a brown dog runs along the beach after a ball",
    "two people cook pasta in a small kitchen",
    "how to change the tyre of a bicycle",
    "children sing on a stage in front of their parents",
)


def models() -> dict[str, VideoColBERT]:
    """The same weights, each way to encode queries that this machine has."""
    torch.manual_seed(0)
    plain = VideoColBERT.from_backbone(MODEL)
    plain.mark_trained()
    fast = plain.at_precision("auto")
    found = {"fp32": plain, f"auto ({fast.precision})": fast}
    if importlib.util.find_spec("openvino"):
        found["OpenVINO"] = fast.with_query_runtime("openvino")
    return found


def in_turns(steps: dict[str, Callable[[str], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of processor time of each step over all queries; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for query in QUERIES:
            for name, step in steps.items():
                started = time.process_time()
                step(query)
                if number:
                    taken[name].append(1000 * (time.process_time() - started))
    return {name: round(median(values), 1) for name, values in taken.items()}


def measure(index: Path, videos: int, dim: int, nbits: int, rounds: int) -> list[dict[str, Any]]:
    """Measure each way to encode, alone and with both searches."""
    segment, codecs = random_segment(videos, dim, nbits)

    def over_codes(model: VideoColBERT) -> Callable[[str], object]:
        return lambda text: search_segment(segment, codecs, model.encode_queries([text])[0], k=K, threads=1)

    ways = models()
    searchers = {name: Searcher(index, model=model, threads=1) for name, model in ways.items()}
    steps: dict[str, Callable[[str], object]] = {}
    for name, model in ways.items():
        steps[f"{name}/words"] = lambda text, model=model: model.encode_queries([text])
        steps[f"{name}/index"] = lambda text, name=name: searchers[name].search(text, k=K)
        steps[f"{name}/codes"] = over_codes(model)
    taken = in_turns(steps, rounds)
    sizes = {"index": len(next(iter(searchers.values()))), "codes": videos}
    return [
        {
            "encoder": name,
            "words_ms": taken[f"{name}/words"],
            "hits": {str(size): taken[f"{name}/{where}"] for where, size in sizes.items()},
        }
        for name in ways
    ]


def main() -> None:
    """Measure and write the figures."""
    parser = arguments(__doc__, "text_to_hits")
    parser.add_argument("--index", type=Path, required=True, help="an index that benchmarks/search.py built")
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--nbits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options.index, options.videos, options.dim, options.nbits, options.rounds)
    report = load(options.output, default={"machines": []})
    here = {**machine(), "bf16": cpu_has_bf16(), "kernels": kernel_name()}
    part_of(report["machines"], here).update(machine=here, model=MODEL, rounds=options.rounds, rows=rows)
    for row in rows:
        print(row)
    save(options.output, report)


if __name__ == "__main__":
    main()
