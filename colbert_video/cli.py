"""The command line `colbert-video`.

Exit codes: 0 all done; 1 done, but some inputs failed and are listed; 2 bad usage, with one line that says what to do.
"""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from colbert_video.errors import ColBERTVideoError
from colbert_video.progress import show_progress

SOME_FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)

index_option = click.option("--index", "index_path", type=FOLDER, required=True, help="The index folder.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines on stdout.")
device_option = click.option("--device", help="cpu, cuda or cuda:1. Default: the first GPU, else the CPU.")
sources_argument = click.argument("videos", nargs=-1, required=True)


def decoding_options(command: Command) -> Command:
    """Add the options of every verb that reads video files."""
    for option in (
        click.option(
            "--workers", type=click.IntRange(min=1), help="Decoding processes. Default: one a core."
        ),
        click.option(
            "--timeout",
            type=float,
            default=60.0,
            show_default=True,
            help="Seconds a file may take to decode.",
        ),
        click.option(
            "--decoder",
            type=click.Choice(["pyav", "decord"]),
            default="pyav",
            show_default=True,
            help="Reads the files.",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="colbert_video")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
def app(verbose: bool, quiet: bool) -> None:
    """Late-interaction video search: words in, moments of video out.

    Start with `colbert-video demo`. To search your own videos:

    \b
      colbert-video index FOLDER --index my.index --model PE-Core-B-16:meta
      colbert-video search "a dog catches a frisbee" --index my.index
    """  # noqa: D301 - click wants the backspace character itself
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")
    show_progress(not quiet)


@app.command()
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
    from colbert_video.output import demo_tables

    result = run_demo(keep=keep, clips=clips, seed=seed)
    _print(result.to_dict() if as_json else demo_tables(result))


@app.command()
@sources_argument
@index_option
@click.option(
    "--model",
    required=True,
    help="toy; a checkpoint folder; a Hub id; or an open_clip model with its weights, such as PE-Core-B-16:meta.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
@click.option(
    "--nbits", type=int, default=4, show_default=True, help="Bits kept of each dimension: 1, 2, 4 or 8."
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames sampled from each video. Default: the model's number.",
)
@decoding_options
@device_option
@json_option
def index(
    videos: tuple[str, ...],
    index_path: Path,
    model: str,
    overwrite: bool,
    nbits: int,
    frames: int | None,
    decoder: Any,
    timeout: float,
    workers: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Index VIDEOS: a folder (searched recursively), files, or a quoted glob.

    Files that cannot be read are listed with the reason and never stop the run. After an interruption, run the same
    command again: finished videos are not decoded twice.
    """
    from colbert_video.indexing.indexer import Indexer

    indexer = Indexer(
        index_path,
        model=model,
        nbits=nbits,
        num_frames=frames,
        decoder=decoder,
        timeout=timeout,
        workers=workers,
        device=device,
    )
    _finish(indexer.index(_one_or_many(videos), overwrite=overwrite), as_json)


@app.command()
@sources_argument
@index_option
@decoding_options
@device_option
@json_option
def add(
    videos: tuple[str, ...],
    index_path: Path,
    decoder: Any,
    timeout: float,
    workers: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Add VIDEOS to an index, with the model that made it.

    Unchanged files are skipped; a changed file takes the place of its older version.
    """
    from colbert_video.indexing.indexer import Indexer

    indexer = Indexer(index_path, decoder=decoder, timeout=timeout, workers=workers, device=device)
    _finish(indexer.add(_one_or_many(videos)), as_json)


@app.command()
@click.argument("ids", nargs=-1, required=True)
@index_option
@json_option
def remove(ids: tuple[str, ...], index_path: Path, as_json: bool) -> None:
    """Remove videos from an index by their IDS, as `search` prints them."""
    from colbert_video.indexing.indexer import Indexer

    removed = Indexer(index_path).remove(ids)
    _print({"removed": removed} if as_json else f"removed {len(removed)} videos from {index_path}")


@app.command()
@click.argument("query")
@index_option
@click.option("-k", type=int, default=10, show_default=True, help="Most hits to print.")
@click.option("--exact", is_flag=True, help="Score every video on its decoded tokens.")
@click.option("--explain", is_flag=True, help="Show which frame of the best hit answers each word.")
@click.option("--model", help="Where the index's model is now, if it moved.")
@device_option
@json_option
def search(
    query: str,
    index_path: Path,
    k: int,
    exact: bool,
    explain: bool,
    model: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Search an index for QUERY: the best videos, each with its best moment."""
    from colbert_video.output import explanation_table, hit_table
    from colbert_video.search import Searcher

    with Searcher(index_path, model=model, device=device) as searcher:
        hits = searcher.search(query, k, exact=exact)
        explanation = searcher.explain(query, hits[0].id) if explain and hits else None
    if as_json:
        why = {} if explanation is None else {"explanation": explanation.to_dict()}
        _print({"query": query, "hits": [hit.to_dict() for hit in hits], **why})
        return
    _print(hit_table(hits))
    if explanation is not None:
        _print(explanation_table(explanation))


@app.command()
@index_option
@json_option
def info(index_path: Path, as_json: bool) -> None:
    """Show what an index holds, how it was made, and which videos were refused."""
    from colbert_video.indexing.info import describe_index
    from colbert_video.output import description_table

    description = describe_index(index_path)
    _print(description if as_json else description_table(description))


def _one_or_many(videos: tuple[str, ...]) -> Any:
    """A lone argument may be a folder or a glob; several are files."""
    return videos[0] if len(videos) == 1 else list(videos)


def _finish(report: Any, as_json: bool) -> None:
    from colbert_video.output import report_text

    _print(report.to_dict() if as_json else report_text(report))
    if not report.complete:
        sys.exit(SOME_FAILED)


def _print(value: Any) -> None:
    """JSON for dicts, text and tables for people."""
    if isinstance(value, dict):
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
        return
    from rich.console import Console

    Console().print(value, highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: Instead of `sys.argv[1:]`.
    """
    try:
        code = app.main(args=arguments, prog_name="colbert-video", standalone_mode=False)
    except ColBERTVideoError as error:
        _fail(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stdout.write(error.format_message() + "\n")
        sys.exit(BAD_USAGE)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted; run the same command again to go on where it stopped\n")
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.exit(BAD_USAGE)
