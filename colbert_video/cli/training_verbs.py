"""The verbs of researchers: train, evaluate and mine."""

import os
from pathlib import Path
from typing import Any

import click

from colbert_video.cli.options import (
    FOLDER,
    bag_weights_option,
    device_option,
    escape_option,
    json_option,
    precision_option,
    print_result,
    workers_option,
)


@click.command()
@click.argument("recipe")
@click.option("--output", type=FOLDER, required=True, help="Folder of the run: models, checkpoints, logs, plot.")
@click.option("--resume", is_flag=True, help="Continue the run in the output folder, if there is one.")
@click.option("--manifest", type=FOLDER, help="Manifest of captions and videos, instead of the recipe's.")
@click.option(
    "--cache", type=FOLDER, help="Folder that keeps decoded frames, so that later epochs do not decode again."
)
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override the recipe; repeatable."
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="NAME",
    help="Log to this experiment tracker too: wandb, mlflow, trackio, comet_ml, aim, clearml, dvclive or swanlab; repeatable. "
    "Files for TensorBoard are always written.",
)
@click.option(
    "--compile",
    is_flag=True,
    help="Compile the model with torch.compile: the first step takes a minute or more, later steps are faster.",
)
@click.option(
    "--snap",
    type=float,
    help="How far away a keyframe of a long video may be to be taken instead, as a share of the spacing between frames: 0 for "
    "exact frames. Default: the recipe's.",
)
@click.option(
    "--seeds",
    metavar="N|LIST",
    help="Train with several seeds, each in its own folder: 3 for 0, 1 and 2, or a list such as 0,7,11. Mean and "
    "standard deviation are in seeds.json.",
)
@workers_option
@device_option
@json_option
def train(as_json: bool, **options: Any) -> None:
    """Train a model with RECIPE: a YAML file, or the name of a shipped recipe.

    Start several processes with torchrun or accelerate launch to train on several GPUs.
    """
    from colbert_video.training.run.recipe_run import train_recipe

    result = train_recipe(**options)
    if os.environ.get("RANK", "0") == "0":  # set by torchrun and accelerate launch; the group is gone by now
        print_result(result if as_json else _trained(result))


def _trained(result: dict[str, Any]) -> str:
    """Say where the model is, or those of several seeds, with the spread of their figures."""
    if "models" not in result:
        return f"the trained model is {result['model']}"
    lines = [f"seed {seed}: {model}" for seed, model in result["models"].items()]
    for name, spread in result["metrics"].items():
        deviation = "" if spread["std"] is None else f" ± {spread['std']:.4f}"
        lines.append(f"{name}: {spread['mean']:.4f}{deviation}")
    return "\n".join(lines)


@click.command()
@click.option("--model", help="The model to evaluate, by any of its names.")
@click.option("--index", type=FOLDER, help="Evaluate an index folder instead.")
@click.option("--run", type=FOLDER, help="Evaluate a TREC run instead; needs --qrels.")
@click.option("--qrels", type=FOLDER, help="TREC qrels of the run.")
@click.option("--data", help="A manifest of videos and captions, or toy for freshly rendered clips.")
@click.option("--split", default="test", show_default=True, help="Rows of the data to use.")
@click.option("--clips", type=click.IntRange(min=2), default=1000, show_default=True, help="Clips that toy renders.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which clips toy renders.")
@click.option(
    "--interaction",
    "interactions",
    multiple=True,
    help="How to score; repeatable. Default: every way the model has. Zero-shot baselines: mp_f, mms_f_pooled.",
)
@click.option(
    "--captions",
    type=click.Choice(["all", "first"]),
    default="all",
    show_default=True,
    help="Use every caption of a video as a query, or only the first.",
)
@click.option("-k", type=click.IntRange(min=1), default=100, show_default=True, help="Length of rankings and runs.")
@click.option("--exact", is_flag=True, help="With --index: score every video on its decoded tokens.")
@bag_weights_option
@click.option(
    "--missing",
    type=click.Choice(["refuse", "report"]),
    default="refuse",
    show_default=True,
    help="Stop at videos that cannot be read, or leave them out and report them.",
)
@click.option(
    "--frames", "num_frames", type=click.IntRange(min=1), help="Frames of each video. Default: the model's own number."
)
@click.option(
    "--snap",
    type=float,
    help="How far away a keyframe of a long video may be to be taken instead, as a share of the spacing between frames: "
    "0 to 0.25, 0 for exact frames.",
)
@click.option("--cache", type=FOLDER, help="Folder that keeps decoded frames for the next evaluation.")
@click.option("--trec", type=FOLDER, help="Folder in which to write queries.tsv, qrels.txt and runs, for other tools.")
@click.option(
    "--transductive",
    is_flag=True,
    help="Also measure scores that use all test queries together (DSL, QB-Norm, CSLS), in separate rows. A real search cannot "
    "compute them, so do not compare them with other figures.",
)
@escape_option
@workers_option
@device_option
@precision_option
@json_option
def evaluate(as_json: bool, **options: Any) -> None:
    """Measure caption-to-video retrieval: R@1/5/10, median and mean rank, nDCG@10.

    From a model and data, from an index and a manifest, or from a TREC run and qrels.
    """
    from colbert_video.cli.evaluate_command import evaluate_command

    result = evaluate_command(**options)
    print_result(result.to_dict() if as_json else result.table())


@click.command()
@click.argument("manifest", type=FOLDER)
@click.option(
    "--index", "index_path", type=FOLDER, required=True, help="An index of the manifest's videos, by their names there."
)
@click.option("--output", type=FOLDER, required=True, help="The manifest to write, with the groups.")
@click.option("--split", default="train", show_default=True, help="Rows that are mined; others are copied.")
@click.option(
    "-k", type=click.IntRange(min=2), default=20, show_default=True, help="Best videos of each caption to look at."
)
@click.option(
    "--margin",
    type=float,
    default=0.05,
    show_default=True,
    help="How much less than a caption's own video another one must score; one that comes nearer may answer it too.",
)
@click.option("--group-size", type=click.IntRange(min=2), default=4, show_default=True, help="Most videos of a group.")
@click.option("--model", help="The model that made the index, by another name than the index has for it.")
@device_option
@json_option
def mine(
    manifest: Path,
    index_path: Path,
    output: Path,
    split: str,
    as_json: bool,
    model: str | None,
    device: str | None,
    **settings: Any,
) -> None:
    """Find hard negatives: put videos of MANIFEST that a model takes for each other into groups.

    The captions are searched in an index of the videos. Training on the new manifest with data.group_batches=true then has each
    group in one batch.
    """
    from colbert_video.search.searcher import Searcher
    from colbert_video.training.data.hard_negatives import MiningSettings, mine_manifest

    with Searcher(index_path, model=model, device=device) as searcher:
        mined = mine_manifest(searcher, manifest, output, MiningSettings(**settings), split=split)
    result = {**mined.to_dict(), "manifest": str(output)}
    print_result(result if as_json else _mined(result))


def _mined(result: dict[str, Any]) -> str:
    """Say what was found, and how it is trained on."""
    return (
        f"{result['captions']:,} captions: {result['videos']:,} videos in {result['groups']:,} groups; {result['too_near']:,} pairs "
        f"may answer one caption and stay apart\ntrain on them: --manifest {result['manifest']} --set data.group_batches=true"
    )
