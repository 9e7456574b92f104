"""The verbs that search: search, and demo, which does everything once."""

from pathlib import Path
from typing import Any, Literal

import click

from colbert_video.cli.options import (
    FOLDER,
    device_option,
    index_option,
    json_option,
    print_result,
)


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
    from colbert_video.demo import run_demo
    from colbert_video.output import demo_parts

    result = run_demo(keep=keep, clips=clips, seed=seed)
    print_result(result.to_dict() if as_json else demo_parts(result))


@click.command()
@click.argument("query", required=False)
@index_option
@click.option("--image", type=FOLDER, help="Look for what this picture shows, instead of words.")
@click.option("--video", type=FOLDER, help="Look for what this clip shows, instead of words.")
@click.option("-k", type=int, default=10, show_default=True, help="Most hits to print.")
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
    k: int,
    where: str | None,
    windows: bool,
    exact: bool,
    engine: Literal["native", "colbert"],
    explain: bool,
    model: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Search an index for QUERY, a picture or a clip: the best videos, each with its best moment."""
    from colbert_video.indexing.filters import parse_filter
    from colbert_video.output import explanation_table, hit_table
    from colbert_video.search import Searcher

    _check_one_query(query, image, video, explain)
    options: dict[str, Any] = {
        "where": None if where is None else parse_filter(where),
        "exact": exact,
        "group": not windows,
    }
    explanation = None
    with Searcher(index_path, model=model, device=device, engine=engine) as searcher:
        if image is not None:
            hits = searcher.search_image(image, k, **options)
        elif video is not None:
            hits = searcher.search_video(video, k, **options)
        elif query is not None:
            hits = searcher.search(query, k, **options)
            explanation = searcher.explain(query, hits[0].id) if explain and hits else None
    if as_json:
        why = {} if explanation is None else {"explanation": explanation.to_dict()}
        asked = query if query is not None else str(image or video)
        print_result({"query": asked, "hits": [hit.to_dict() for hit in hits], **why})
        return
    print_result(hit_table(hits))
    if explanation is not None:
        print_result(explanation_table(explanation))


def _check_one_query(query: str | None, image: Path | None, video: Path | None, explain: bool) -> None:
    if sum(given is not None for given in (query, image, video)) != 1:
        raise click.UsageError("say what to look for: words, --image FILE or --video FILE, one of them.")
    if explain and query is None:
        raise click.UsageError(
            "--explain shows what words found; give a QUERY instead of a picture or a clip."
        )
