"""Train a model on captions of your own, and look whether it got better.

    python examples/train_on_own_captions.py captions.jsonl --output run

captions.jsonl has one JSON object per line: {"video": "clips/1.mp4", "caption": "a dog jumps", "split": "train"}, with rows of
the splits train, val and test. Paths are relative to it. Needs the extra `train`.
"""

import argparse
from pathlib import Path

from colbert_video import VideoColBERT
from colbert_video.training import DataConfig, ManifestData, Trainer, TrainingConfig, evaluate_model, read_manifest


def main() -> None:
    """Evaluate, train, evaluate again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="toy", help="where to start: for real videos ViT-B-32-quickgelu:openai")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device")
    options = parser.parse_args()

    model = VideoColBERT.from_pretrained(options.model, device=options.device)
    test = [row for row in read_manifest(options.manifest) if row.split == "test"]
    before = evaluate_model(model, test, interactions=["mms_f"])

    model.mark_trained()  # from now on with all query tokens, and with both bags
    config = TrainingConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=1e-4,  # of the new layers
        pretrained_learning_rate=1e-6,  # of the backbone
        precision="fp32",
    )
    data = ManifestData(DataConfig(manifest=options.manifest))
    result = Trainer(model, config, data, output=options.output, device=options.device).train()
    best = VideoColBERT.from_pretrained(result.best_model or result.model, device=options.device)
    after = evaluate_model(best, test)
    print(f"R@1 before, frame tokens alone: {before.interactions['mms_f']['R@1']:.3f}")
    print(f"R@1 after, both bags: {after.interactions['mms_fv']['R@1']:.3f}; the model is in {result.model}")


if __name__ == "__main__":
    main()
