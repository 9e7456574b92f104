"""What half precision costs: R@1 of the shipped checkpoint on fresh clips of the synthetic world, and recall after compression.

The clips are encoded once in each precision. R@1 is MMS_FV on tokens as they are. Recall@10 is the share of the ten best videos
of fp32 (exhaustive, uncompressed) among the ten that an index of 4 bits finds, where index and queries are in the precision of
the row: what compression loses in fp32, and what half precision adds. Ranks of two precisions are compared query by query.

    python benchmarks/precision.py                # writes benchmarks/results/precision.json
    python benchmarks/precision.py --clips 100    # a quick look
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from reports import arguments, machine, save

from colbert_video import Indexer, Searcher
from colbert_video.model.loading import load_encoder
from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.evaluation.gallery import encode_gallery, score_gallery
from colbert_video.training.evaluation.metrics import retrieval_metrics
from colbert_video.training.world import write_world

PRECISIONS = ("fp32", "bf16", "fp16")
BEST = 10


def encoded(rows: list[ManifestRow], precision: str) -> dict[str, Any]:
    """Encode videos and captions in one precision, and score all pairs."""
    model = load_encoder("toy", device="cpu", precision=precision)  # type: ignore[arg-type]
    gallery, refused = encode_gallery(model, {row.video: row.path for row in rows})
    if refused:
        raise RuntimeError(f"{len(refused)} clips cannot be read")
    captions = [row.caption for row in rows]
    scores = score_gallery(model, captions, list(gallery.values()), ["mms_fv"])["mms_fv"]  # (queries, videos)
    return {"gallery": gallery, "queries": model.encode_queries(captions), "scores": scores}


def found(one: dict[str, Any], folder: Path) -> list[list[str]]:
    """Return the ten best videos of each query by an index of 4 bits."""
    names = list(one["gallery"])
    frame = [tokens.frame[0] for tokens in one["gallery"].values()]
    video = [tokens.video[0] for tokens in one["gallery"].values()]
    Indexer(folder, dim=frame[0].shape[1], nbits=4).index_tokens(names, frame, video)
    with Searcher(folder) as searcher:
        return [[hit.id for hit in searcher.search_tokens(tokens, k=BEST)] for tokens in one["queries"].unpadded()]


def row_of(
    precision: str, one: dict[str, Any], truth: dict[str, Any], rows: list[ManifestRow], work: Path
) -> dict[str, Any]:
    """Measure one precision beside fp32."""
    names = list(truth["gallery"])
    relevant = torch.tensor([names.index(row.video) for row in rows])
    metrics = retrieval_metrics(one["scores"], relevant, resolution=0.0)
    best = truth["scores"].topk(BEST, dim=1).indices  # (queries, 10)
    lists = found(one, work / precision)
    recall = [
        len({names[video] for video in row} & set(hits)) / BEST for row, hits in zip(best.tolist(), lists, strict=True)
    ]
    correct = {name: found["scores"].argmax(dim=1) == relevant for name, found in (("own", one), ("fp32", truth))}
    cosines = [
        float((ours.tokens * full.tokens).sum(-1).min())
        for name in names
        for ours, full in zip(one["gallery"][name], truth["gallery"][name], strict=True)
    ]
    return {
        "precision": precision,
        "R@1": metrics["R@1"],
        "gained": int((correct["own"] & ~correct["fp32"]).sum()),
        "lost": int((correct["fp32"] & ~correct["own"]).sum()),
        "recall_after_4_bits": sum(recall) / len(recall),
        "least_cosine": min(cosines),
    }


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, "precision")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=31)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_world(work / "clips", count=options.clips, seed=options.seed, split="test")
        rows = read_manifest(work / "clips" / "captions.jsonl")
        truth = encoded(rows, "fp32")
        measured = []
        for precision in PRECISIONS:
            one = truth if precision == "fp32" else encoded(rows, precision)
            measured.append(row_of(precision, one, truth, rows, work))
            print(measured[-1], flush=True)
    save(options.output, {"machine": machine(), "clips": options.clips, "seed": options.seed, "rows": measured})


if __name__ == "__main__":
    main()
