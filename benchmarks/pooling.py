"""Recall against bytes a video, when frames that look alike share a token.

    python benchmarks/pooling.py

The shipped toy model encodes freshly rendered clips; their bags are pooled by each rule, compressed to 4 bits by a
codec that saw them, read back, and searched exhaustively. Bytes are those of codes and residuals in both bags. The clips
are rendered from a seed that neither training nor another benchmark uses. `pages.py --plots` draws the curve.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from reports import arguments, save

from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.model.pooling import Pooling, pool
from colbert_video.model.tokens import TokenBags, VideoTokens
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.evaluation.gallery import encode_gallery, score_gallery
from colbert_video.training.evaluation.metrics import retrieval_metrics
from colbert_video.training.world import write_world

SEED, NBITS, CODE_BYTES = 4077, 4, 4
FACTORS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 12.0)
SIMILARITIES = (0.99, 0.98, 0.97, 0.95, 0.9, 0.8, 0.7)


@dataclass(frozen=True)
class Gallery:
    """Encoded clips and their captions."""

    rows: list[ManifestRow]
    videos: dict[str, VideoTokens]


def encoded_clips(model: VideoColBERT, clips: int) -> Gallery:
    """Render clips and encode them."""
    with TemporaryDirectory() as folder:
        write_world(folder, count=clips, seed=SEED, split="test")
        rows = read_manifest(Path(folder) / "captions.jsonl")
        videos, refused = encode_gallery(model, {row.video: row.path for row in rows})
    if refused:
        raise SystemExit(f"not encoded: {refused}")
    return Gallery(rows, videos)


def bags_of(tokens: VideoTokens, pooling: Pooling | None) -> dict[str, torch.Tensor]:
    """Both bags of one clip, pooled."""
    bags = {"frame": tokens.frame.unpadded()[0]}
    if tokens.video is not None:
        bags["video"] = tokens.video.unpadded()[0]
    if pooling is None:
        return bags
    groups = pooling.group(bags, len(bags["frame"]))
    return {name: pool(bag, groups) for name, bag in bags.items()}


def compressed(bags: list[torch.Tensor]) -> TokenBags:
    """Bags as they are read back from a codec that was trained on them."""
    tokens, lengths = torch.cat(bags), [len(bag) for bag in bags]
    codec = ResidualCodec.train(tokens, nbits=NBITS)
    encoded = codec.encode(tokens)
    decoded = codec.decode(encoded.codes, encoded.residuals) @ codec.rotation.T
    return TokenBags.from_list(list(decoded.split(lengths)))


def measure(model: VideoColBERT, gallery: Gallery, pooling: Pooling | None) -> dict[str, Any]:
    """R@1 and R@10 of MMS_F + MMS_V, and bytes a video, under one rule."""
    clips = [bags_of(tokens, pooling) for tokens in gallery.videos.values()]
    bags = {name: compressed([clip[name] for clip in clips]) for name in clips[0]}
    stored = [
        VideoTokens(*(TokenBags.from_list([bag]) for bag in video))
        for video in zip(*(bag.unpadded() for bag in bags.values()), strict=True)
    ]
    names = list(gallery.videos)
    relevant = torch.tensor([names.index(row.video) for row in gallery.rows])
    scores = score_gallery(model, [row.caption for row in gallery.rows], stored, ["mms_fv"])["mms_fv"]
    metrics = retrieval_metrics(scores, relevant)
    tokens = sum(len(bag) for clip in clips for bag in clip.values()) / len(clips)
    return {
        "tokens_per_video": tokens,
        "bytes_per_video": tokens * (model.dim * NBITS // 8 + CODE_BYTES),
        "R@1": metrics["R@1"],
        "R@10": metrics["R@10"],
    }


def main() -> None:
    """Measure every rule."""
    parser = arguments(__doc__, "pooling")
    parser.add_argument("--clips", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    gallery = encoded_clips(model, options.clips)
    rules: list[tuple[str, float | None]] = [("none", None)]
    rules += [("factor", factor) for factor in FACTORS[1:]]
    rules += [("similarity", similarity) for similarity in SIMILARITIES]
    rows = []
    for rule, value in rules:
        pooling = None if value is None else Pooling(**{rule: value})
        rows.append({"rule": rule, "value": value, **measure(model, gallery, pooling)})
        print("  ".join(f"{key} {found}" for key, found in rows[-1].items()))
    report = {"clips": options.clips, "seed": SEED, "dim": model.dim, "nbits": NBITS, "rows": rows}
    save(options.output, report)


if __name__ == "__main__":
    main()
