"""Recall against bytes a video: bits a dimension, with and without pooling of frames that look alike.

    python benchmarks/bits.py

The shipped toy model encodes freshly rendered clips; their bags are compressed by codecs that saw them, read back, and
searched exhaustively by MMS_F + MMS_V. Recall@10 is the share of the ten best videos by uncompressed, unpooled tokens.
Bytes are those of codes and residuals in both bags. `pages.py --plots` draws the curve.
"""

from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from pooling import CODE_BYTES, Gallery, bags_of, encoded_clips
from reports import arguments, save
from torch import Tensor

from colbert_video.indexing.build.query_direction import typical_direction
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.model.pooling import Pooling
from colbert_video.model.tokens import TokenBags, VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.evaluation.gallery import score_gallery
from colbert_video.training.evaluation.metrics import retrieval_metrics

NBITS, FACTORS, TOP = (1, 2, 4, 8), (None, 3.0), 10

Bags = dict[str, list[Float[Tensor, "_ dim"]]]
"""The bags of all clips, by name."""


def gathered(gallery: Gallery, pooling: Pooling | None) -> Bags:
    """The bags of all clips, pooled."""
    clips = [bags_of(tokens, pooling) for tokens in gallery.videos.values()]
    return {name: [clip[name] for clip in clips] for name in clips[0]}


def read_back(
    bags: list[Float[Tensor, "_ dim"]], nbits: int, query_direction: Float[Tensor, "dim"] | None
) -> list[Float[Tensor, "_ dim"]]:
    """Bags as they are read back from a codec that was trained on them."""
    tokens = torch.cat(bags)
    codec = ResidualCodec.train(tokens, nbits=nbits, query_direction=query_direction)
    encoded = codec.encode(tokens)
    decoded = codec.decode(encoded.codes, encoded.residuals) @ codec.rotation.T
    return list(decoded.split([len(bag) for bag in bags]))


def scores_of(model: VideoColBERT, gallery: Gallery, bags: Bags) -> Float[Tensor, "queries videos"]:
    """MMS_F + MMS_V of every caption and every clip."""
    videos = [VideoTokens(*(TokenBags.from_list([bag]) for bag in clip)) for clip in zip(*bags.values(), strict=True)]
    captions = [row.caption for row in gallery.rows]
    return score_gallery(model, captions, videos, ["mms_fv"])["mms_fv"]


def recall(scores: Tensor, exact: Tensor) -> float:
    """Share of the ten best videos by exact scores that are among the ten best."""
    wanted, found = (matrix.topk(TOP, dim=1).indices for matrix in (exact, scores))
    return float((wanted[:, :, None] == found[:, None, :]).any(dim=2).float().mean())


def measure(model: VideoColBERT, gallery: Gallery) -> list[dict[str, Any]]:
    """A row for each number of bits and each rule of pooling."""
    names = list(gallery.videos)
    relevant = torch.tensor([names.index(row.video) for row in gallery.rows])
    exact, rows = scores_of(model, gallery, gathered(gallery, None)), []
    direction = typical_direction(model)
    for factor, nbits in product(FACTORS, NBITS):
        bags = gathered(gallery, None if factor is None else Pooling(factor=factor))
        read = {name: read_back(bag, nbits, direction) for name, bag in bags.items()}
        scores = scores_of(model, gallery, read)
        tokens = sum(len(bag) for kind in bags.values() for bag in kind) / len(names)
        rows.append(
            {
                "nbits": nbits,
                "pool_factor": factor,
                "bytes_per_video": tokens * (model.dim * nbits // 8 + CODE_BYTES),
                "recall@10": recall(scores, exact),
                "R@1": retrieval_metrics(scores, relevant)["R@1"],
            }
        )
        print("  ".join(f"{key} {found}" for key, found in rows[-1].items()))
    return rows


def main() -> None:
    """Measure every row."""
    parser = arguments(__doc__, "bits")
    parser.add_argument("--clips", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    rows = measure(model, encoded_clips(model, options.clips))
    report = {"clips": options.clips, "dim": model.dim, "rows": rows}
    save(options.output, report)


if __name__ == "__main__":
    main()
