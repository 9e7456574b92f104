"""The verb that makes one run out of several: fuse."""

from pathlib import Path

import click

from colbert_video.cli.options import FOLDER, escape_option, json_option, print_written


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--output", type=FOLDER, required=True, help="The TREC run to write.")
@click.option(
    "--method",
    type=click.Choice(["rrf", "min_max", "z_score"]),
    default="rrf",
    show_default=True,
    help="By reciprocal ranks, or by the sum of scores brought to one scale.",
)
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    help="What a run counts, in the order of the runs; repeatable. Default: 1 each.",
)
@click.option("-k", type=click.IntRange(min=1), help="Most videos for each query. Default: all.")
@escape_option
@json_option
def fuse(
    runs: tuple[Path, ...],
    output: Path,
    method: str,
    weights: tuple[float, ...],
    k: int | None,
    escape: bool,
    as_json: bool,
) -> None:
    """Fuse RUNS, TREC files of any retrievers over the same videos, into one run.

    A video that a run does not hold gets nothing from it by rrf, 0 by min_max, and by z_score two standard deviations
    less than the mean.
    """
    from colbert_video.durable import check_file_writable
    from colbert_video.ecosystem.fusion import fuse as fuse_rankings
    from colbert_video.search.ranking import Ranking

    check_file_writable(output)
    rankings = [Ranking.load_trec(run, escaped=escape) for run in runs]
    fused = fuse_rankings(rankings, method, weights=weights or None, k=k)  # type: ignore[arg-type]
    fused.save_trec(output, run_name=f"fused_{method}", escape=escape)
    rows = sum(map(len, fused.todict().values()))
    done = {"output": str(output), "runs": len(runs), "queries": len(fused), "rows": rows}
    print_written(output, done if as_json else f"{len(runs)} runs of {len(fused)} queries are fused in {output}")
