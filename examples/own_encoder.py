"""Search tokens of an encoder of your own; no model of this library takes part.

    python examples/own_encoder.py --index tokens.index

The encoder here is a stand-in that gives random unit vectors. Put your own in its place: anything that turns a video
into one vector per frame, and a text into one vector per word, in one space.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video import Indexer, Searcher

DIM = 128


def encode_video(number: int) -> Tensor:
    """Stand-in: (frames, dim), unit vectors; videos may differ in their number of frames."""
    generator = torch.Generator().manual_seed(number)
    return normalize(torch.randn(8 + number % 5, DIM, generator=generator), dim=-1)


def encode_query(number: int) -> Tensor:
    """Stand-in: a noisy memory of some frames of a video, (query tokens, dim), unit vectors."""
    return normalize(encode_video(number)[2:6] + 0.05 * torch.randn(4, DIM), dim=-1)


def main() -> None:
    """Index 500 bags of tokens, add one more, and look for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, default=Path("tokens.index"))
    options = parser.parse_args()

    ids = [f"video-{number}" for number in range(500)]
    shelves = [{"shelf": "even" if number % 2 == 0 else "odd"} for number in range(500)]
    indexer = Indexer(options.index, dim=DIM, nbits=4)
    indexer.index_tokens(ids, [encode_video(number) for number in range(500)], metadata=shelves, overwrite=True)
    indexer.index_tokens(["video-500"], [encode_video(500)], metadata=[{"shelf": "even"}], add=True)

    with Searcher(options.index) as searcher:
        hits = searcher.search_tokens(encode_query(500), k=3, where={"shelf": "even"})
    for hit in hits:
        print(hit.rank, hit.id, f"{hit.score:.3f}", hit.metadata["shelf"])


if __name__ == "__main__":
    main()
