"""The verbs that search: search, demo, which does everything once, and fuse, which makes one run of several."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from colbert_video.base.wording import counted
from colbert_video.cli.options import (
    FOLDER,
    TimeType,
    bag_weights_option,
    compile_option,
    device_option,
    escape_option,
    index_option,
    json_option,
    min_confidence_option,
    precision_option,
    print_report,
    print_result,
    print_written,
    query_runtime_option,
)

DEFAULT_HITS = 10
DEFAULT_RUN_ROWS = 100
"""Videos that a run holds for each query."""


@click.command()
@click.option("--keep", type=FOLDER, help="Keep clips and index in this folder.")
@click.option("--clips", type=click.IntRange(min=4), default=40, show_default=True, help="Clips to render.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which clips are rendered.")
@json_option
def demo(keep: Path | None, clips: int, seed: int, as_json: bool) -> None:
    """Render clips of moving shapes, index them, and search them.

    This takes about a minute, with a tiny model that comes with the package; nothing is downloaded.
    """
    from colbert_video.cli.demo import demo_parts, run_demo

    result = run_demo(keep=keep, clips=clips, seed=seed)
    print_report(result, demo_parts(result), as_json=as_json)


@click.command()
@click.argument("query", nargs=-1)
@index_option
@click.option(
    "--image", type=FOLDER, help="Search for what this picture shows, instead of words or together with them."
)
@click.option("--image-weight", type=float, help="Weight of the picture; words have 1. Default: 1.")
@click.option("--without", multiple=True, metavar="TEXT", help="What must not be shown; repeatable.")
@click.option("--all-of", multiple=True, metavar="TEXT", help="What must be shown in the same video too; repeatable.")
@click.option(
    "--then",
    multiple=True,
    metavar="TEXT",
    help="What must be shown after QUERY in the same video; repeatable, in order.",
)
@click.option("--video", type=FOLDER, help="Search for what this clip shows, instead of words.")
@click.option(
    "--queries",
    type=FOLDER,
    help="Search for many queries: a file with one line per query: its id, a tab and its words.",
)
@click.option("--trec", type=FOLDER, help="The TREC run to write for --queries.")
@escape_option
@click.option(
    "-k", type=int, help=f"At most this many hits per query. Default: {DEFAULT_HITS}; in a run {DEFAULT_RUN_ROWS}."
)
@click.option("--where", help='Search only videos that pass this filter, such as \'{"channel": "news"}\'.')
@click.option("--windows", is_flag=True, help="One hit per window of a long video, not one per video.")
@click.option("--exact", is_flag=True, help="Score every video on its decoded tokens.")
@min_confidence_option
@click.option(
    "--text",
    type=click.Choice(["picture", "speech", "both"]),
    default="picture",
    show_default=True,
    help="Search the picture, the lines of subtitles, or both, for the words.",
)
@click.option(
    "--speech-weight",
    type=float,
    help="How much the rank by lines counts for --text both, beside the picture's 1. Default: 1.",
)
@bag_weights_option
@click.option(
    "--engine",
    type=click.Choice(["native", "colbert"]),
    default="native",
    show_default=True,
    help="Score with this library, or with stock colbert-ai (PLAID).",
)
@click.option("--explain", is_flag=True, help="Show which frame of the best hit answers each word.")
@click.option("--model", help="The model's new name or folder, if it moved since the index was made.")
@device_option
@precision_option
@compile_option
@query_runtime_option
@json_option
def search(
    query: tuple[str, ...],
    index_path: Path,
    image: Path | None,
    image_weight: float | None,
    without: tuple[str, ...],
    all_of: tuple[str, ...],
    then: tuple[str, ...],
    video: Path | None,
    queries: Path | None,
    trec: Path | None,
    escape: bool,
    k: int | None,
    where: str | None,
    windows: bool,
    exact: bool,
    min_confidence: float | None,
    text: str,
    speech_weight: float | None,
    explain: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Search an index for QUERY, a picture or a clip: the best videos, each with its best moment.

    A word counts twice as "dog^2", several as "(a red dog)^2". How questions of several parts are scored: docs/questions.md.

    With --text speech, only the lines of subtitles are searched, with --text both also the picture; a hit shows its line.

    With --queries and --trec, search for many queries and write a run that evaluation tools read.
    """
    words = _one_text(query)
    more = {"image_weight": image_weight, "without": without, "all_of": all_of, "then": then}
    several: dict[str, Any] = {name: value for name, value in more.items() if value not in (None, ())}
    _check_what(words, image, video, queries, several, explain=explain)
    _check_run(queries, trec, windows, min_confidence)
    spoken = _spoken(words, text, speech_weight)
    _check_exist(image, video)
    from colbert_video.indexing.catalog.filters import parse_filter
    from colbert_video.search.question import Question
    from colbert_video.search.searcher import Searcher

    texts = None if queries is None or trec is None else _check_files(queries, trec, escape=escape)
    options: dict[str, Any] = {"where": None if where is None else parse_filter(where), "exact": exact}
    with Searcher(index_path, **settings) as searcher:
        if texts is not None and trec is not None:
            options["k"] = DEFAULT_RUN_ROWS if k is None else k
            print_written(trec, _write_run(searcher, texts, trec, options, escape=escape, as_json=as_json))
            return
        options |= {"k": DEFAULT_HITS if k is None else k, "group": not windows, "min_confidence": min_confidence}
        explanation = None
        if several or (image is not None and words is not None):
            question = Question(words if words is not None else (), image=image, **several)
            hits = searcher.search(question, **options, **spoken)
        elif image is not None:
            hits = searcher.search_image(image, **options)
        elif video is not None:
            hits = searcher.search_video(video, **options)
        elif words is not None:
            hits = searcher.search(words, **options, **spoken)
            explanation = searcher.explain(words, hits[0].window or hits[0].id) if explain and hits else None
        by_picture = words is None and (image is not None or video is not None)
        levels = None if as_json or spoken else _levels(searcher, hits, by_picture=by_picture)
    asked = words if words is not None else str(image or video or question)
    _print_hits(asked, hits, explanation, levels, as_json, least=min_confidence)


@click.command("more-like")
@click.argument("video")
@index_option
@click.option(
    "--at",
    type=TimeType(),
    metavar="TIME",
    help="Search for what VIDEO shows at this time, not in all of it: seconds (83.5) or minutes and seconds (1:23.5).",
)
@click.option("--until", type=TimeType(), metavar="TIME", help="With --at: search for the moment from there to here.")
@click.option("-k", type=int, default=DEFAULT_HITS, show_default=True, help="At most this many hits.")
@click.option("--where", help='Search only videos that pass this filter, such as \'{"channel": "news"}\'.')
@click.option("--windows", is_flag=True, help="One hit per window of a long video, not one per video.")
@click.option("--exact", is_flag=True, help="Score every video on its decoded tokens.")
@min_confidence_option
@bag_weights_option
@json_option
def more_like(
    video: str,
    index_path: Path,
    at: float | None,
    until: float | None,
    k: int,
    where: str | None,
    windows: bool,
    exact: bool,
    min_confidence: float | None,
    bag_weights: dict[str, float] | None,
    as_json: bool,
) -> None:
    """Find videos that look like VIDEO, the id of a video or window of the index, which is left out itself.

    Its stored tokens are the query: no model is loaded.
    """
    if until is not None and at is None:
        raise click.UsageError("--until ends the moment that --at begins: give both.")
    from colbert_video.indexing.catalog.filters import parse_filter
    from colbert_video.search.searcher import Searcher

    condition = None if where is None else parse_filter(where)
    time = at if at is None or until is None else (at, until)
    with Searcher(index_path, bag_weights=bag_weights) as searcher:
        hits = searcher.more_like(
            video, k, time=time, where=condition, group=not windows, exact=exact, min_confidence=min_confidence
        )
    _print_hits(
        video, hits, None, None if as_json else _levels(searcher, hits, by_picture=True), as_json, least=min_confidence
    )


@click.command()
@click.argument("query")
@click.argument("video")
@index_option
@bag_weights_option
@click.option("--model", help="The model's new name or folder, if it moved since the index was made.")
@device_option
@precision_option
@query_runtime_option
@json_option
def occurrences(query: str, video: str, index_path: Path, as_json: bool, **settings: Any) -> None:
    """List every part of VIDEO (an id of the index) that fits QUERY, in the order of time."""
    from colbert_video.cli.tables import occurrence_listing
    from colbert_video.search.searcher import Searcher

    with Searcher(index_path, **settings) as searcher:
        found = searcher.occurrences(query, video)
    parts = [{"start": one.start, "end": one.end, "score": one.score, "window": one.window} for one in found]
    print_result({"query": query, "video": video, "occurrences": parts} if as_json else [occurrence_listing(found)])


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--output", type=FOLDER, required=True, help="The TREC run to write.")
@click.option(
    "--method",
    type=click.Choice(["rrf", "min_max", "z_score"]),
    default="rrf",
    show_default=True,
    help="Add reciprocal ranks, or scores that are brought to one scale.",
)
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    help="Weight of a run, in the order of the runs; repeatable. Default: 1 each.",
)
@click.option("-k", type=click.IntRange(min=1), help="At most this many videos for each query. Default: all.")
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

    If a run does not have a video, it adds 0 to its score (rrf, min_max), or two standard deviations less than the mean
    (z_score).
    """
    from colbert_video.durable import check_file_writable
    from colbert_video.search.fusion import fuse as fuse_rankings
    from colbert_video.search.ranking import Ranking

    check_file_writable(output)
    rankings = [Ranking.load_trec(run, escaped=escape) for run in runs]
    fused = fuse_rankings(rankings, method, weights=weights or None, k=k)  # type: ignore[arg-type]
    fused.save_trec(output, run_name=f"fused_{method}", escape=escape)
    rows = sum(map(len, fused.todict().values()))
    done = {"output": str(output), "runs": len(runs), "queries": len(fused), "rows": rows}
    print_written(
        output, done if as_json else f"{counted(len(runs), 'run')} of {counted(len(fused), 'query')} fused in {output}"
    )


def _levels(searcher: Any, hits: Sequence[Any], *, by_picture: bool) -> Any:
    """Return the levels of the words that a table says on a terminal; None where nobody reads them."""
    from colbert_video.search.match_levels import PICTURE_LEVELS

    if not hits or not _on_terminal():
        return None
    return PICTURE_LEVELS if by_picture else searcher.match_levels()


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _print_hits(
    query: str, hits: Sequence[Any], explanation: Any, levels: Any, as_json: bool, *, least: float | None = None
) -> None:
    from colbert_video.cli.tables import explanation_table, hit_listing

    if as_json:
        why = {} if explanation is None else {"explanation": explanation.to_dict()}
        print_result({"query": query, "hits": [hit.to_dict() for hit in hits], **why})
        return
    more = [] if explanation is None else [explanation_table(explanation)]
    print_result([hit_listing(hits, bags=explanation is not None, levels=levels, least=least), *more])


def _check_files(queries: Path, trec: Path, *, escape: bool) -> dict[str, str]:
    """Read the queries, and check before the work that their run can be written."""
    from colbert_video.durable import check_file_writable
    from colbert_video.search.trec import check_columns, read_queries

    texts = read_queries(queries)
    check_columns(texts, escape=escape)
    check_file_writable(trec)
    return texts


def _write_run(
    searcher: Any, texts: dict[str, str], trec: Path, options: dict[str, Any], *, escape: bool, as_json: bool
) -> Any:
    from colbert_video.search.trec import check_columns

    first = next(iter(texts))
    tried = searcher.search_all({first: texts[first]}, **options).todict()
    check_columns([video for video, _, _ in tried[first]], escape=escape)  # not after all queries
    ranking = searcher.search_all(texts, **options)
    ranking.save_trec(trec, escape=escape)
    done = {"run": str(trec), "queries": len(ranking), "k": options["k"]}
    return done if as_json else f"{counted(len(ranking), 'query')} answered in {trec}"


def _one_text(words: tuple[str, ...]) -> str | None:
    """Return the query; a shell hands over several words where the quotes are missing."""
    if len(words) > 1:
        raise click.UsageError(f'the query came as {len(words)} words; put it in quotes: "{" ".join(words)}".')
    return words[0] if words else None


def _check_what(
    query: str | None,
    image: Path | None,
    video: Path | None,
    queries: Path | None,
    several: dict[str, Any],
    *,
    explain: bool,
) -> None:
    kinds = sum(given is not None for given in (query if image is None else image, video, queries))
    asked = {"all_of", "then"} & several.keys()
    if kinds > 1 or not (kinds or asked) or (query is not None and (video or queries)):
        raise click.UsageError(
            "say what to look for: words, --image FILE or both, --video FILE or --queries FILE, one of them."
        )
    if several and (video is not None or queries is not None):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in several)
        raise click.UsageError(f"{options} works only with words or a picture: leave out --video and --queries.")
    if "image_weight" in several and image is None:
        raise click.UsageError("--image-weight says how much a picture counts: give one, --image FILE.")
    if explain and (query is None or image is not None or several):
        raise click.UsageError(
            "--explain shows what words found: give a QUERY alone, instead of a picture, a clip, a file or several parts."
        )


def _spoken(words: str | None, text: str, speech_weight: float | None) -> dict[str, Any]:
    """Return what is said about lines of text, for the searcher; nothing where the picture alone is searched."""
    if speech_weight is not None and text != "both":
        raise click.UsageError("--speech-weight says how much lines count beside the picture: give --text both too.")
    if text == "picture":
        return {}
    if words is None:
        raise click.UsageError(f"--text {text} looks for words: give a QUERY.")
    return {"text": text} if speech_weight is None else {"text": text, "speech_weight": speech_weight}


def _check_exist(*files: Path | None) -> None:
    """Notice missing files before a model is loaded."""
    for file in files:
        if file is not None and not file.exists():
            raise click.UsageError(f"there is no file {file}; check the name.")


def _check_run(queries: Path | None, trec: Path | None, windows: bool, min_confidence: float | None) -> None:
    if (queries is None) != (trec is None):
        raise click.UsageError(
            "--queries FILE and --trec RUN belong together: what to look for, and where to write it."
        )
    if queries is not None and windows:
        raise click.UsageError("a run ranks videos; leave --windows out.")
    if queries is not None and min_confidence is not None:
        raise click.UsageError("a run ranks all videos; leave --min-confidence out.")
