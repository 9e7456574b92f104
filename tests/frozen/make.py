"""Write what this version writes, small, for a test that opens it for ever: `VERSION.tar.xz` and `VERSION.json` beside this file.

Run it once for each release, from the checkout's root, and never again for a version that was released:

    PYTHONPATH=.:tests/support:tests/support/corpora python tests/frozen/make.py

The archive holds `tokens.index` (tokens of another encoder), `tokens.tar.gz` (its export), `clips.index` (rendered clips in
windows), `model` (a checkpoint with its own tokenizer settings), `run` (a finished training run) and `trec` (queries, qrels
and a run). The JSON holds what searches, the model and the evaluation answered.
"""

import json
import math
import random
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import colbert_video
from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.training import Trainer, TrainingConfig, evaluate_run
from colbert_video.training.evaluation.trec_folder import TrecFolder
from colbert_video.training.run.model_recipe import register_backbone
from colbert_video.training.run.run_log import read_log
from colbert_video.training.world import write_world

HERE = Path(__file__).resolve().parent
DIM, QUERY_TOKENS, FRAMES, SIZE = 32, 8, 4, 32
VOCABULARY = 49408
CLIP = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": SIZE, "layers": 1, "width": 16, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": VOCABULARY, "width": 16, "heads": 1, "layers": 1},
}
TEXTS = ("a red circle moves left", "a blue square", "a green triangle grows")
WORDS = ("red", "blue", "circle", "square", "left", "right", "grows", "turns")
"""Words that the captions of the run are made of."""
SEARCHES: dict[str, dict[str, Any]] = {
    "hits": {"k": 5},
    "exact": {"k": 5, "exact": True},
    "where": {"k": 3, "where": {"channel": "sport", "length": {">": 10}}},
    "weighted": {"k": 4, "bag_weights": {"frame": 1.0, "video": 0.5}},
}


def frames_by_number(video: int) -> np.ndarray:
    """Return frames whose pixels follow from their places, (FRAMES, SIZE, SIZE, 3) uint8."""
    time, row, column, colour = np.ogrid[:FRAMES, :SIZE, :SIZE, :3]
    return ((53 * video + 37 * time + 11 * row + 5 * column + 83 * colour) % 256).astype(np.uint8)


def unit_bag(generator: torch.Generator, tokens: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(tokens, DIM, generator=generator), dim=-1)


def write_tokens(folder: Path) -> dict[str, Any]:
    """Write an index of two segments with removed and replaced videos, and its export; return its answers."""
    generator, draw = torch.Generator().manual_seed(1), random.Random(1)
    ids = [f"video-{number:02}" for number in range(24)]
    metadata = [
        {"channel": draw.choice(["news", "sport"]), "length": draw.randrange(1, 60), "title": f"Title {name} ü"}
        for name in ids
    ]
    bags = {
        name: ([unit_bag(generator, 3) for _ in ids], [unit_bag(generator, 5) for _ in ids]) for name in ("old", "new")
    }
    indexer = Indexer(folder / "tokens.index", dim=DIM, nbits=4, bag_weights={"video": 2.0})
    indexer.index_tokens(ids[:20], bags["old"][0][:20], bags["old"][1][:20], metadata=metadata[:20])
    indexer.index_tokens(ids[18:], bags["new"][0][18:], bags["new"][1][18:], metadata=metadata[18:], add=True)
    indexer.remove("video-03")
    indexer.export(folder / "tokens.tar.gz")
    queries = torch.stack([unit_bag(generator, QUERY_TOKENS) for _ in range(3)])
    with Searcher(folder / "tokens.index") as searcher:
        found = {
            kind: [scored(searcher.search_tokens(query, **s)) for query in queries] for kind, s in SEARCHES.items()
        }
        (best,) = searcher.search_tokens(queries[0], k=1)
    return {"queries": queries.tolist(), "metadata": dict(best.metadata), **found}


def scored(hits: Any) -> list[Any]:
    return [[hit.id, hit.score, hit.frame_score, hit.video_score] for hit in hits]


def small_model() -> VideoColBERT:
    """Build a model whose weights have few digits, and none for words that no text here has, so that it packs well."""
    register_backbone("frozen-clip", CLIP)
    torch.manual_seed(0)
    model = VideoColBERT.from_backbone(
        "frozen-clip",
        device="cpu",
        trained=True,
        temporal_layers=1,
        num_frames=FRAMES,
        max_frames=8,
        query_length=QUERY_TOKENS,
    )
    ids = model.tokenize([*TEXTS, *(f"a {word} thing 0" for word in WORDS)]).ids.unique()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_((weight * 256).round() / 256)
            if weight.shape[:1] == (VOCABULARY,):
                kept = weight[ids].clone()
                weight.zero_()[ids] = kept
    return model


def write_model(folder: Path) -> dict[str, Any]:
    model = small_model()
    model.save_pretrained(folder / "model")
    model = VideoColBERT.from_pretrained(folder / "model", device="cpu", precision="fp32")
    return {"fingerprint": model.fingerprint(), "config": asdict(model.config), **model_tokens(model)}


def model_tokens(model: VideoColBERT) -> dict[str, Any]:
    """Return the tokens of two texts and two videos, rounded well below the promised 1e-5."""
    queries = model.encode_queries(TEXTS[:2])
    frame, video = model.encode_videos([frames_by_number(0), frames_by_number(1)])
    tokens = {"query": queries.tokens, "frame": frame.tokens, "video": video.tokens}
    return {"texts": TEXTS[:2], "tokens": {name: rounded(each.tolist()) for name, each in tokens.items()}}


def rounded(value: Any) -> Any:
    return [rounded(each) for each in value] if isinstance(value, list) else round(value, 7)


def write_clips(folder: Path) -> dict[str, Any]:
    """Write an index of clips in windows; return hits of each text, in order."""
    model = VideoColBERT.from_pretrained(folder / "model", device="cpu", precision="fp32")
    with TemporaryDirectory() as clips:
        write_world(Path(clips), count=4, seed=3, split="test")
        Indexer(folder / "clips.index", model=model, window=1.0, workers=1).index(Path(clips))
    with Searcher(folder / "clips.index", model=model) as searcher:
        return {text: [[hit.id, hit.score, hit.start, hit.end] for hit in searcher.search(text, k=4)] for text in TEXTS}


def write_run(folder: Path) -> dict[str, Any]:
    """Train for two epochs; return the log and what the best model makes of a text."""
    from training_fakes import FakeData

    config = TrainingConfig(batch_size=4, epochs=2, precision="fp32", learning_rate=1e-3)
    metrics = [{"R@1": 0.25}, {"R@1": 0.5}]
    Trainer(small_model(), config, FakeData(metrics=metrics), output=folder / "run", device="cpu").train()
    for name in ("curves.png", "tensorboard"):
        _remove(folder / "run" / name)
    best = VideoColBERT.from_pretrained(folder / "run" / "best", device="cpu", precision="fp32")
    return {"log": read_log(folder / "run" / "log.jsonl"), **model_tokens(best)}


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def write_trec(folder: Path, answers: dict[str, Any]) -> dict[str, Any]:
    """Write the runs of the token index; the second-best video of each query is the relevant one."""
    from colbert_video import Ranking

    found = {f"q{number}": hits for number, hits in enumerate(answers["hits"])}
    qrels = {query: {hits[1][0]: 1} for query, hits in found.items()}
    run = Ranking.from_scored({query: [(hit[0], hit[1]) for hit in hits] for query, hits in found.items()})
    TrecFolder(folder / "trec").write({query: f"words of {query}" for query in found}, qrels, {"mms_fv": run})
    evaluation = evaluate_run(folder / "trec" / "mms_fv.trec", folder / "trec" / "qrels.txt")
    (metrics,) = evaluation.interactions.values()
    assert math.isclose(metrics["R@1"], 0.0)
    return dict(metrics)


def make() -> None:
    """Write both files of this version."""
    target = HERE / f"{colbert_video.__version__}.tar.xz"
    if target.exists():
        sys.exit(f"{target} exists: what a version wrote is never written again; remove it before a release only.")
    torch.set_num_threads(1)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        expected: dict[str, Any] = {"tokens": write_tokens(folder), "model": write_model(folder)}
        expected |= {"clips": write_clips(folder), "run": write_run(folder)}
        expected["trec"] = write_trec(folder, expected["tokens"])
        with tarfile.open(target, "w:xz", preset=9) as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name)
    text = json.dumps(expected, separators=(",", ":")).replace('},"', '},\n"')
    target.with_name(f"{colbert_video.__version__}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
