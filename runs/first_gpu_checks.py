"""What a run needs before it costs anything: packages, the GPU, data, weights, MTEB's data sets, and free disk."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from first_gpu_plan import DATASET, FirstGpuPlan

from colbert_video.base.network import hub_problem
from colbert_video.errors import ColBERTVideoError, in_one_line, shown
from colbert_video.training.data.frame_cache import CHECKSUM
from colbert_video.training.datasets.prepare import check_dataset

PACKAGES: Mapping[str, str] = {
    "accelerate": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "mteb": "mteb",
    "datasets": "datasets",
    "pytest": "test",
}
"""Packages that the steps import, and the extra that installs each."""
FRAMES, CANDIDATES, SIDE = 12, 3, 224
"""Of each video, the cache keeps this many frames for each of the row's 12 segments, as squares of 224 pixels."""
MODEL_BYTES = 4 * 180_000_000
"""Weights of ViT-B/32 with the temporal transformer in single precision, rounded up."""
CHECKPOINTS = 2 * 3
"""Copies of the weights while a checkpoint is written: two checkpoints of weights and AdamW's two averages."""
SPARE_BYTES = 2 * 2**30
GIGABYTE = 2**30
COPIES_OF_DATASETS = 2
"""Copies of a data set on disk: as downloaded, and as `datasets` has prepared it."""


@dataclass
class Findings:
    """What the checks found."""

    problems: list[str] = field(default_factory=list)
    """What is missing, each with the remedy."""
    notes: list[str] = field(default_factory=list)
    train_captions: int = 0
    videos: int = 0
    """Videos of both splits."""
    test_videos: int = 0
    task_videos: dict[str, int] = field(default_factory=dict)
    """Videos of each task of MTEB that says so."""
    download_bytes: int = 0
    """What MTEB's data sets need on disk and the Hub's cache does not have."""


def check_everything(plan: FirstGpuPlan) -> Findings:
    """Look at everything that the steps will need; the data sets of a trial are made, not downloaded."""
    found = Findings()
    _check_packages(plan, found)
    _check_gpu(plan, found)
    _check_data(plan, found)
    if not found.problems:  # weights load for some seconds, or are downloaded
        _check_weights(plan, found)
    if not plan.tiny and find_spec("mteb"):
        _check_tasks(plan, found)
    _check_disk(plan, found)
    return found


def text_to_video_tasks() -> tuple[str, ...]:
    """Return MTEB's tasks that retrieve videos by text alone."""
    import mteb

    described = [task.metadata for task in mteb.get_tasks(exclude_superseded=True)]
    return tuple(sorted(one.name for one in described if one.category == "t2v" and one.type.endswith("Retrieval")))


def _check_packages(plan: FirstGpuPlan, found: Findings) -> None:
    needed = {name: extra for name, extra in PACKAGES.items() if plan.tasks or extra not in ("mteb", "datasets")}
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(needed[name] for name in missing))
        found.problems.append(f"packages are missing: {', '.join(missing)}. Install them: pip install -e '.[{extras}]'")


def _check_gpu(plan: FirstGpuPlan, found: Findings) -> None:
    import torch

    if plan.device == "cpu":
        found.notes.append("on the CPU, as asked")
    elif not torch.cuda.is_available():
        found.problems.append(
            f"torch {torch.__version__} sees no GPU. If nvidia-smi shows one, install torch for its CUDA version "
            "(https://pytorch.org/get-started/locally); --tiny tries the run on a CPU"
        )
    else:
        seen = torch.cuda.get_device_properties(plan.device or "cuda:0")
        found.notes.append(f"GPU: {seen.name}, {seen.total_memory / GIGABYTE:.0f} GiB")
        if torch.cuda.device_count() > 1:
            found.notes.append(f"one of {torch.cuda.device_count()} GPUs is used")


def _check_data(plan: FirstGpuPlan, found: Findings) -> None:
    try:
        preparation = check_dataset(DATASET, plan.annotations, videos=plan.videos)
    except ColBERTVideoError as error:
        found.problems.append(f"{in_one_line(error)}; docs/datasets.md says where to get MSR-VTT")
        return
    counts = preparation.counts
    found.train_captions = counts["train"].captions
    found.test_videos = counts["test"].videos
    found.videos = sum(count.videos or count.published.videos for count in counts.values())
    lost = preparation.missing_files or not preparation.files or (preparation.problems and not plan.allow_missing)
    if lost:
        found.problems += [
            f"{problem}. Get it as docs/datasets.md says; --allow-missing goes on without single videos"
            for problem in preparation.problems
        ]
    found.notes += [] if plan.tiny or lost else preparation.warnings


def _check_weights(plan: FirstGpuPlan, found: Findings) -> None:
    from colbert_video.model.video_colbert import VideoColBERT
    from colbert_video.training.reproduce.weights_origin import doubt_about

    try:
        row = plan.row(zero_shot=True)
        if plan.weights is None:
            VideoColBERT.from_backbone(*row.model_name.split(":"), device="cpu")
        elif not plan.tiny and (doubt := doubt_about(Path(plan.weights), row.model_name)):
            found.problems.append(
                f"{doubt}; figures would not be comparable. Leave --weights out to download the right ones"
            )
    except ColBERTVideoError as error:
        found.problems.append(
            f"{in_one_line(error)}. Without a network: VideoColBERT.from_backbone('ViT-B-32-quickgelu', "
            "'openai').save_pretrained('clip-b32') where there is one, then --weights clip-b32"
        )


def _check_tasks(plan: FirstGpuPlan, found: Findings) -> None:
    import mteb

    offline = hub_problem() if plan.tasks else None
    for task in plan.tasks:
        try:
            described = mteb.get_task(task).metadata
        except (KeyError, ValueError):
            found.problems.append(f"MTEB has no task {shown(task)}; choose among {', '.join(text_to_video_tasks())}")
            continue
        videos = _corpus_videos(described.descriptive_stats)
        if videos:
            found.task_videos[task] = videos
        path, revision = described.dataset["path"], described.dataset["revision"]
        if _is_cached(path, revision):
            continue
        if offline is not None:
            found.problems.append(
                f"the data set of MTEB's {task} is not in the cache of Hugging Face, and {offline}. Where there is a network: "
                f"hf download --repo-type dataset {path} --revision {revision}, and copy the cache; or leave it out of --tasks"
            )
            continue
        found.download_bytes += COPIES_OF_DATASETS * _hub_bytes(path, revision)


def _corpus_videos(statistics: Mapping[str, object] | None) -> int:
    """Videos of a task's corpus, as MTEB has counted them; 0 if it has not."""
    test = (statistics or {}).get("test")
    videos = test.get("documents_video_statistics") if isinstance(test, dict) else None
    return int(videos["unique_videos"]) if isinstance(videos, dict) and "unique_videos" in videos else 0


def _is_cached(path: str, revision: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"datasets--{path.replace('/', '--')}" / "snapshots" / revision).is_dir()


def _hub_bytes(path: str, revision: str) -> int:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        files = HfApi().dataset_info(path, revision=revision, files_metadata=True).siblings or []
    except HfHubHTTPError:  # the step will say why
        return 0
    return sum(one.size or 0 for one in files)


def needed_bytes(plan: FirstGpuPlan, found: Findings) -> dict[Path, int]:
    """Return what is still to be written, by folder: frames, models and checkpoints, data sets of MTEB."""
    frame = 3 * SIDE**2 + CHECKSUM.itemsize
    frames = found.videos * FRAMES * CANDIDATES * frame
    models = MODEL_BYTES * (CHECKPOINTS + len(plan.seeds))
    if plan.tiny:
        frames, models = 0, 0
    needed = {plan.frames: frames, plan.output: models}
    left = {folder: max(0, size - _size(folder)) for folder, size in needed.items()}
    if found.download_bytes:
        from huggingface_hub.constants import HF_HUB_CACHE

        left[Path(HF_HUB_CACHE)] = found.download_bytes
    return left


def _check_disk(plan: FirstGpuPlan, found: Findings) -> None:
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, size in needed_bytes(plan, found).items():
        there = _existing(folder)
        disk = there.stat().st_dev
        by_disk[disk] = (there, by_disk.get(disk, (there, 0))[1] + size)
    for there, size in by_disk.values():
        free = shutil.disk_usage(there).free
        words = f"{size / GIGABYTE:.1f} GiB to be written, {free / GIGABYTE:.1f} GiB free on the disk of {there}"
        if free < size + (0 if plan.tiny else SPARE_BYTES):
            found.problems.append(f"{words}. Free some, or name other disks: --output, --cache, and HF_HOME for MTEB")
        else:
            found.notes.append(words)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
