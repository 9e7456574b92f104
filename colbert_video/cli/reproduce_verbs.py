"""The verb that runs a row of the paper from the downloaded files to the figures: reproduce."""

import sys
from pathlib import Path
from typing import Any

import click

from colbert_video.cli.options import FOLDER, SOME_FAILED, device_option, json_option, print_result, workers_option
from colbert_video.errors import SettingsError


@click.command()
@click.argument("dataset", required=False)
@click.option("--list", "as_list", is_flag=True, help="Print the rows with the published figures, and stop.")
@click.option(
    "--backbone", default="clip-b32", show_default=True, help="The paper's backbone: clip-b32, clip-b16 or siglip-b16."
)
@click.option("--variant", help="A row of the paper's ablations, as --list names it.")
@click.option("--annotations", type=FOLDER, help="Folder of the dataset's annotation files.")
@click.option("--videos", type=FOLDER, help="Folder of the videos. Default: the annotations' folder.")
@click.option(
    "--output",
    type=FOLDER,
    help="Folder of the reproduction; repeat the command to continue it. Default: reproduce-ROW.",
)
@click.option(
    "--weights", help="File of the backbone's weights, or folder of a saved untrained model, instead of a download."
)
@click.option("--zero-shot", is_flag=True, help="Evaluate the backbone without training it.")
@click.option("--smoke", is_flag=True, help="Run the whole chain on a few videos; the figures mean nothing.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the training.")
@click.option(
    "--seeds",
    metavar="N|LIST",
    help="Instead of --seed: train with several seeds, each in its own folder: 3 for 0, 1 and 2, or a list such as "
    "0,7,11. The report has means and standard deviations.",
)
@click.option("--split-name", help="A split other than the paper's, with its name in prepare.")
@click.option(
    "--hold-out",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Number of training videos to use for validation, if the dataset has no validation videos.",
)
@click.option(
    "--allow-missing", is_flag=True, help="Continue without missing videos, and mark the result as incomplete."
)
@click.option("--cache", type=FOLDER, help="Folder that keeps decoded frames, for all epochs and rows.")
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.FIELD=VALUE", help="Override the recipe; repeatable."
)
@workers_option
@device_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Precision in which the row is evaluated.",
)
@json_option
def reproduce(
    dataset: str | None,
    as_list: bool,
    backbone: str,
    variant: str | None,
    annotations: Path | None,
    videos: Path | None,
    output: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    allow_missing: bool,
    cache: Path | None,
    workers: int | None,
    device: str | None,
    precision: Any,
    seeds: str | None,
    **planned: Any,
) -> None:
    """Reproduce a row of the paper: prepare DATASET, train, evaluate, and compare.

    DATASET is msrvtt, msvd, vatex, didemo or activitynet. After an interruption, repeat the command to continue. To train
    on several GPUs, start several processes with torchrun or accelerate launch.
    """
    from colbert_video.training.reproduce.paper_rows import find_row
    from colbert_video.training.reproduce.reproduce_report import rows_dict, rows_table
    from colbert_video.training.run.recipe import parse_override

    if as_list:
        print_result(rows_dict() if as_json else rows_table())
        return
    if dataset is None or annotations is None:
        raise SettingsError("name a DATASET and the folder of its --annotations, or print the rows with --list.")
    from colbert_video.training.reproduce.plan import ReproducePlan
    from colbert_video.training.reproduce.reproduce import reproduce as run

    plan = ReproducePlan(
        row=find_row(dataset, backbone, variant),
        annotations=annotations,
        videos=videos or annotations,
        settings=dict(parse_override(setting) for setting in settings),
        **planned,
    )
    folder = output or Path(f"reproduce-{plan.name}")
    how: dict[str, Any] = {"allow_missing": allow_missing, "cache": cache, "workers": workers, "device": device}
    result: Any
    if seeds is not None:
        from colbert_video.training.evaluation.seed_spread import parse_seeds
        from colbert_video.training.reproduce.reproduce_seeds import reproduce_seeds

        result = reproduce_seeds(plan, folder, parse_seeds(seeds), precision=precision, **how)
    else:
        result = run(plan, folder, precision=precision, **how)
    if result is None:  # one of several training processes; the first one reports
        return
    print_result(result.to_dict() if as_json else result.report())
    if not result.complete and not plan.smoke:
        sys.exit(SOME_FAILED)
