"""What it brings to let rounding errors cancel along the direction that queries share: errors of scores, and recall.

    python benchmarks/feedback.py

Codecs are trained on the bags of each corpus with plain rounding and with error feedback, and all bags are read back
and searched exhaustively by MMS_F + MMS_V. The corpora are the two of `search_world.py` and clips that are rendered
and encoded by the shipped toy model. Their queries are not those that the direction was found with: for the toy model
these are the sentences that every index run uses. "error" is the root mean square error of the scores of the 60 best
videos of a query, their mean error left out, which changes no ranking; "length" is that of the mean query, 1 if all
query tokens were the same; "recall@10" the share of the ten best videos by uncompressed tokens that are among the ten
best.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from bits import Bags, gathered, read_back, recall, scores_of
from jaxtyping import Float
from pooling import encoded_clips
from reports import arguments, save
from rivals.ours import TYPICAL_QUERIES, TYPICAL_STREAM
from search_corpus import fused_scores
from search_world import KINDS, World
from torch import Tensor

from colbert_video.indexing.build.query_direction import TYPICAL_QUERIES as SENTENCES
from colbert_video.indexing.build.query_direction import direction_of_tokens, typical_direction
from colbert_video.model.video_colbert import VideoColBERT

NBITS, TOP = (1, 2, 4, 8), 60
QUERIES, QUERY_STREAM = 200, 98


@dataclass(frozen=True)
class Asked:
    """A corpus and its queries."""

    name: str
    """What it is called in the report."""
    bags: Bags
    """The bags of all videos, by kind."""
    direction: Float[Tensor, "dim"]
    """Unit vector that typical queries share."""
    length: float
    """How much they share it: the length of their mean."""
    score: Callable[[Bags], Float[Tensor, "queries videos"]]
    """MMS_F + MMS_V of every query and every video."""


def synthetic(kind: str, videos: int) -> Asked:
    """A corpus of `search_world.py`."""
    world = World(videos, kind)
    blocks = [world.tokens(number) for number in range(world.blocks)]
    bags = {
        name: list(torch.from_numpy(np.concatenate([block[name] for block in blocks]))) for name in ("frame", "video")
    }
    queries, _ = world.queries(QUERIES, stream=QUERY_STREAM)
    typical, _ = world.queries(TYPICAL_QUERIES, stream=TYPICAL_STREAM)

    def score(read: Bags) -> Float[Tensor, "queries videos"]:
        return torch.from_numpy(fused_scores(queries, {name: torch.stack(bag).numpy() for name, bag in read.items()}).T)

    return Asked(kind, bags, direction_of_tokens(typical, world.dim), mean_length(typical), score)


def rendered(clips: int) -> Asked:
    """Clips that the toy model encoded."""
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    gallery = encoded_clips(model, clips)
    sentences = model.encode_queries(SENTENCES).unpadded()
    typical = np.stack([tokens.mean(0, keepdim=True).numpy() for tokens in sentences])
    return Asked(
        "toy model",
        gathered(gallery, None),
        typical_direction(model),
        mean_length(typical),
        lambda read: scores_of(model, gallery, read),
    )


def mean_length(queries: np.ndarray) -> float:
    """Length of the mean of queries (queries, query_tokens, dim)."""
    return float(np.linalg.norm(queries.mean((0, 1))))


def score_error(scores: Float[Tensor, "queries videos"], exact: Float[Tensor, "queries videos"]) -> float:
    """Root mean square error of the best videos' scores, without the mean error of each query."""
    best = exact.topk(min(TOP, exact.shape[1]), dim=1).indices
    errors = (scores - exact).gather(1, best)
    return float((errors - errors.mean(1, keepdim=True)).square().mean().sqrt())


def measure(asked: Asked) -> Iterator[dict[str, Any]]:
    """A row for each number of bits, with and without feedback."""
    exact = asked.score(asked.bags)
    for nbits, feedback in product(NBITS, (False, True)):
        direction = asked.direction if feedback else None
        scores = asked.score({name: read_back(bag, nbits, direction) for name, bag in asked.bags.items()})
        yield {
            "corpus": asked.name,
            "length": asked.length,
            "nbits": nbits,
            "feedback": feedback,
            "error": score_error(scores, exact),
            "recall@10": recall(scores, exact),
        }


def main() -> None:
    """Measure every row."""
    parser = arguments(__doc__, "feedback")
    parser.add_argument("--videos", type=int, default=2048, help="of each synthetic corpus")
    parser.add_argument("--clips", type=int, default=500, help="for the toy model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for asked in (*(synthetic(kind, options.videos) for kind in KINDS), rendered(options.clips)):
        for row in measure(asked):
            print("  ".join(f"{key} {found}" for key, found in row.items()), flush=True)
            rows.append(row)
    report = {"videos": options.videos, "clips": options.clips, "rows": rows}
    save(options.output, report)


if __name__ == "__main__":
    main()
