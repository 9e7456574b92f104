"""The verbs that search: search, and demo, which does everything once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from colbert_video.cli.options import (
    FOLDER,
    device_option,
    escape_option,
    index_option,
    json_option,
    print_result,
)

HITS = 10
"""Hits that are printed by default."""
ROWS = 100
"""Videos that a run holds for each query by default."""


@click.command()
@click.option("--keep", type=FOLDER, help="Leave clips and index in this folder.")
@click.option("--clips", type=click.IntRange(min=4), default=40, show_default=True, help="Clips to render.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which clips are rendered."
)
@json_option
def demo(keep: Path | None, clips: int, seed: int, as_json: bool) -> None:
    """Render a small world of moving shapes, index it, search it.

    Everything at work in about a minute, with the tiny checkpoint that ships in the package; nothing is downloaded.
    """
    from colbert_video.cli.demo import run_demo
    from colbert_video.cli.tables import demo_parts

    result = run_demo(keep=keep, clips=clips, seed=seed)
    print_result(result.to_dict() if as_json else demo_parts(result))


@click.command()
@click.argument("query", required=False)
@index_option
@click.option("--image", type=FOLDER, help="Look for what this picture shows, instead of words.")
@click.option("--video", type=FOLDER, help="Look for what this clip shows, instead of words.")
@click.option(
    "--queries", type=FOLDER, help="Look for many: a file with a line ID, tab, words for each query."
)
@click.option("--trec", type=FOLDER, help="The TREC run to write of --queries.")
@escape_option
@click.option("-k", type=int, help=f"Most hits of a query. Default: {HITS}, of a run {ROWS}.")
@click.option("--where", help='Search only videos that pass this filter, such as \'{"channel": "news"}\'.')
@click.option("--windows", is_flag=True, help="One hit a window of a long video, not one a video.")
@click.option("--exact", is_flag=True, help="Score every video on its decoded tokens.")
@click.option(
    "--engine",
    type=click.Choice(["native", "colbert"]),
    default="native",
    show_default=True,
    help="Scores by itself, or by stock colbert-ai (PLAID).",
)
@click.option("--explain", is_flag=True, help="Show which frame of the best hit answers each word.")
@click.option("--model", help="Where the index's model is now, if it moved.")
@device_option
@json_option
def search(
    query: str | None,
    index_path: Path,
    image: Path | None,
    video: Path | None,
    queries: Path | None,
    trec: Path | None,
    escape: bool,
    k: int | None,
    where: str | None,
    windows: bool,
    exact: bool,
    engine: Literal["native", "colbert"],
    explain: bool,
    model: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Search an index for QUERY, a picture or a clip: the best videos, each with its best moment.

    With --queries and --trec, search for many queries and write a run that evaluation tools read.
    """
    from colbert_video.indexing.catalog.filters import parse_filter
    from colbert_video.search.searcher import Searcher

    _check_what(query, image, video, queries, explain)
    _check_run(queries, trec, windows)
    options: dict[str, Any] = {"where": None if where is None else parse_filter(where), "exact": exact}
    with Searcher(index_path, model=model, device=device, engine=engine) as searcher:
        if queries is not None and trec is not None:
            _write_run(
                searcher, queries, trec, ROWS if k is None else k, options, escape=escape, as_json=as_json
            )
            return
        options |= {"k": HITS if k is None else k, "group": not windows}
        explanation = None
        if image is not None:
            hits = searcher.search_image(image, **options)
        elif video is not None:
            hits = searcher.search_video(video, **options)
        elif query is not None:
            hits = searcher.search(query, **options)
            explanation = searcher.explain(query, hits[0].id) if explain and hits else None
    _print_hits(query if query is not None else str(image or video), hits, explanation, as_json)


def _print_hits(asked: str, hits: Sequence[Any], explanation: Any, as_json: bool) -> None:
    from colbert_video.cli.tables import explanation_table, hit_table

    if as_json:
        why = {} if explanation is None else {"explanation": explanation.to_dict()}
        print_result({"query": asked, "hits": [hit.to_dict() for hit in hits], **why})
        return
    print_result(hit_table(hits))
    if explanation is not None:
        print_result(explanation_table(explanation))


def _write_run(
    searcher: Any, queries: Path, trec: Path, k: int, options: dict[str, Any], *, escape: bool, as_json: bool
) -> None:
    from colbert_video.search.trec import read_queries

    ranking = searcher.search_all(read_queries(queries), k, **options)
    ranking.save_trec(trec, escape=escape)
    done = {"run": str(trec), "queries": len(ranking), "k": k}
    print_result(done if as_json else f"{len(ranking)} queries are answered in {trec}")


def _check_what(
    query: str | None, image: Path | None, video: Path | None, queries: Path | None, explain: bool
) -> None:
    if sum(given is not None for given in (query, image, video, queries)) != 1:
        raise click.UsageError(
            "say what to look for: words, --image FILE, --video FILE or --queries FILE, one of them."
        )
    if explain and query is None:
        raise click.UsageError(
            "--explain shows what words found; give a QUERY instead of a picture, a clip or a file."
        )


def _check_run(queries: Path | None, trec: Path | None, windows: bool) -> None:
    if (queries is None) != (trec is None):
        raise click.UsageError(
            "--queries FILE and --trec RUN belong together: what to look for, and where to write it."
        )
    if queries is not None and windows:
        raise click.UsageError("a run ranks videos; leave --windows out.")
