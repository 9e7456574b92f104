"""How much word-by-word search brings: the ways to score, compared on captions.

    python examples/compare_interactions.py captions.jsonl --model toy

captions.jsonl has the columns video, caption and split; see docs/datasets.md. Without it, clips are rendered.
"""

import argparse

from colbert_video import VideoColBERT
from colbert_video.training import evaluate_model, evaluate_toy, read_manifest

MEANING = {
    "mms_fv": "both bags, token by token",
    "mms_f": "frames, token by token",
    "mms_v": "frames in context, token by token",
    "mp_f": "mean of frames",
    "mp_v": "mean of frames in context",
    "rrf": "both rankings fused",
}


def main() -> None:
    """Print R@1 and R@10 of every interaction that the model has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?")
    parser.add_argument("--model", default="toy")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=200, help="clips to render without a manifest")
    options = parser.parse_args()

    model = VideoColBERT.from_pretrained(options.model)
    if options.manifest is None:
        evaluation = evaluate_toy(model, clips=options.clips)
    else:
        rows = [row for row in read_manifest(options.manifest) if row.split == options.split]
        evaluation = evaluate_model(model, rows)
    for name, metrics in evaluation.interactions.items():
        print(f"{name:7} R@1 {metrics['R@1']:.3f}  R@10 {metrics['R@10']:.3f}  {MEANING[name]}")


if __name__ == "__main__":
    main()
