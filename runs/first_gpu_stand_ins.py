"""Stand-ins for `first_gpu.py --tiny`: a few rendered clips in MSR-VTT's own form, a tiny backbone, and a task of MTEB."""

import csv
import json
from pathlib import Path
from typing import Any

from first_gpu_plan import TINY_BACKBONE

TRAIN, TEST = 8, 4
"""Clips of each split."""
TASK = "StandInT2VRetrieval"
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 4},
}


def register_stand_in() -> None:
    """Make the tiny backbone known in this process."""
    from colbert_video.training.run.model_recipe import register_backbone

    register_backbone(TINY_BACKBONE, TINY)


def write_stand_ins(folder: Path) -> tuple[Path, Path]:
    """Write clips, annotations and weights, once.

    Returns:
        Folders of the download and of the weights.
    """
    download, weights = folder / "msrvtt", folder / "weights"
    if not (weights / "config.json").is_file():
        if not (download / "MSRVTT_JSFUSION_test.csv").is_file():
            _write_download(download)
        _write_weights(weights)
    return download, weights


def _write_download(folder: Path) -> None:
    from colbert_video.training.world import write_world

    videos = folder / "videos"
    if videos.is_dir():  # of a run that was killed
        for path in videos.iterdir():
            path.unlink()
    clips = write_world(videos, count=TRAIN + TEST, seed=4, size=32, frames=14)
    ids = [f"video{number}" for number in range(len(clips))]
    for name, clip in zip(ids, clips, strict=True):
        clip.path.rename(videos / f"{name}.mp4")
    said = [
        {"video_id": name, "caption": clip.caption, "sen_id": number}
        for number, (name, clip) in enumerate(zip(ids, clips, strict=True))
    ]
    listed = [{"video_id": name, "start time": 0.0, "end time": 1.2} for name in ids]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": listed, "sentences": said}), encoding="utf-8")
    (folder / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *ids[:TRAIN]]) + "\n", encoding="utf-8")
    with (folder / "MSRVTT_JSFUSION_test.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "vid_key", "video_id", "sentence"])
        for name, clip in list(zip(ids, clips, strict=True))[TRAIN:]:
            rows.writerow([f"ret{name}", f"msr{name}", name, clip.caption])


def _write_weights(folder: Path) -> None:
    import torch

    from colbert_video.model.video_colbert import VideoColBERT

    register_stand_in()
    torch.manual_seed(0)
    VideoColBERT.from_backbone(TINY_BACKBONE, device="cpu", num_frames=4).save_pretrained(folder)


def stand_in_task(download: Path) -> Any:
    """A task of MTEB over the test clips, made here."""
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    with (download / "MSRVTT_JSFUSION_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ids = [row["video_id"] for row in rows]

    class StandInT2VRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=TASK,
            description="Rendered clips of shapes that move.",
            reference=None,
            dataset={"path": "none", "revision": "1"},
            type="Any2AnyRetrieval",
            category="t2v",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            modalities=["text", "video"],
        )

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            """Make the data set."""
            features = datasets.Features({"id": datasets.Value("string"), "video": datasets.Video()})
            paths = [str(download / "videos" / f"{name}.mp4") for name in ids]
            corpus = datasets.Dataset.from_dict({"id": ids, "video": paths}, features=features)
            queries = {"id": [f"q{name}" for name in ids], "text": [row["sentence"] for row in rows]}
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": corpus,
                        "queries": datasets.Dataset.from_dict(queries),
                        "relevant_docs": {f"q{name}": {name: 1} for name in ids},
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return StandInT2VRetrieval()
