"""The verbs that make and change an index: index, add, remove, info."""

import sys
from pathlib import Path
from typing import Any, Literal

import click

from colbert_video.base.wording import counted
from colbert_video.cli.options import (
    FOLDER,
    SOME_FAILED,
    bag_weights_option,
    cluster_option,
    decoding_options,
    index_option,
    json_option,
    print_report,
    print_result,
    some_index_option,
    sources_argument,
    subtitles_option,
)
from colbert_video.errors import shown


class WindowLength(click.ParamType):
    """Option type of a number of seconds, or "shots"."""

    name = "SECONDS|shots"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Literal["shots"]:
        """Return the number of seconds, or "shots"; fail on any other text."""
        if value == "shots":
            return "shots"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{shown(value)} is neither a number of seconds nor shots", param, ctx)


@click.command()
@sources_argument
@index_option
@click.option(
    "--model",
    required=True,
    help="toy; a checkpoint folder; a Hub id; an open_clip model with its weights, such as PE-Core-B-16:meta; or a model "
    "of Hugging Face transformers, such as hf:google/siglip2-base-patch16-224 or hf:FOLDER.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing index.")
@click.option(
    "--nbits", type=int, default=4, show_default=True, help="Bits per dimension of a stored token: 1, 2, 4 or 8."
)
@click.option(
    "--dim",
    type=click.IntRange(min=1),
    help="Keep this many of the first dimensions of tokens, for models trained with nested_dims. Default: all.",
)
@click.option(
    "--frames",
    "num_frames",
    type=click.IntRange(min=1),
    help="Frames sampled from each video or window. Default: the model's number.",
)
@click.option(
    "--window",
    type=WindowLength(),
    help="Cut long videos into windows of this many seconds, or with shots into one window per shot. Default: keep them whole.",
)
@click.option("--stride", type=float, help="Seconds from the start of one window to the next. Default: half a window.")
@click.option(
    "--pool-factor",
    type=float,
    help="Let similar frames of a video share a token, this many on average. Default: no frames share.",
)
@click.option(
    "--pool-similarity",
    type=float,
    help="Let frames share a token if their cosine is at least this. Default: no frames share.",
)
@click.option(
    "--snap",
    type=float,
    help="How far away a keyframe may be to be taken instead, which is faster, as a share of the spacing between frames: "
    "0 to 0.25. Default: exact frames of short videos, 0.25 in long ones.",
)
@bag_weights_option
@subtitles_option
@decoding_options
@cluster_option
@json_option
def index(
    videos: tuple[str, ...], index_path: Path, overwrite: bool, cluster: str | None, as_json: bool, **settings: Any
) -> None:
    """Index VIDEOS: a folder (searched recursively), files, a quoted glob, or tar archives of WebDataset.

    Name archives as in 'shards/videos-{0000..0012}.tar'; they are not unpacked. Files that cannot be read are listed with
    the reason and never stop the run. After an interruption, run the same command again: finished videos are not decoded
    twice.

    With --window, parts of long videos are searched; a hit is still one video, at its best moment. `add` later uses the
    same windows and frames.
    """
    from colbert_video.indexing.indexer import Indexer

    indexer = Indexer(index_path, **settings)
    _finish(indexer.index(_one_or_many(videos), overwrite=overwrite, cluster=_ray_cluster(cluster)), as_json)


@click.command()
@sources_argument
@index_option
@click.option("--checksum", is_flag=True, help="Find changed files by their content; this reads all files.")
@click.option("--sync", is_flag=True, help="Remove videos whose files are missing from the given folders.")
@subtitles_option
@decoding_options
@cluster_option
@json_option
def add(
    videos: tuple[str, ...],
    index_path: Path,
    checksum: bool,
    sync: bool,
    cluster: str | None,
    as_json: bool,
    **decoding: Any,
) -> None:
    """Add VIDEOS to an index, with the model that made it.

    Unchanged files are skipped (same path, size and modification time); a changed file replaces its older version.
    Videos and windows that failed before are tried again. New and changed subtitles are read, also of unchanged videos.
    Files missing from the given folders are listed.
    """
    from colbert_video.indexing.indexer import Indexer

    indexer = Indexer(index_path, **decoding)
    report = indexer.add(_one_or_many(videos), checksum=checksum, sync=sync, cluster=_ray_cluster(cluster))
    _finish(report, as_json)


@click.command()
@click.argument("ids", nargs=-1, required=True)
@index_option
@json_option
def remove(ids: tuple[str, ...], index_path: Path, as_json: bool) -> None:
    """Remove videos from an index by their IDS, as `search` prints them."""
    from colbert_video.indexing.indexer import Indexer

    removed = Indexer(index_path).remove(ids)
    print_result({"removed": removed} if as_json else f"{counted(len(removed), 'video')} removed from {index_path}")


@click.command()
@click.argument("index", type=FOLDER, required=False)
@some_index_option
@json_option
def info(index: Path | None, index_path: Path | None, as_json: bool) -> None:
    """Show what an INDEX holds, how it was made, and which videos were refused.

    Without INDEX, show this installation: versions, devices, and what is missing or slow.
    """
    folder = _one_index(index, index_path)
    if folder is None:
        from colbert_video.cli.installation import describe_installation, installation_table

        installation = describe_installation()
        print_result(installation if as_json else installation_table(installation))
        return
    from colbert_video.cli.tables import description_table
    from colbert_video.indexing.upkeep.contents import describe_index, list_metadata

    fields = [vars(field) for field in list_metadata(folder)]
    description = {**describe_index(folder), "fields": fields}
    print_result(description if as_json else description_table(description))


@click.command("list")
@click.argument("index", type=FOLDER, required=False)
@some_index_option
@click.option("--where", help='List only videos that pass this filter, such as \'{"channel": "news"}\'.')
@click.option("--windows", is_flag=True, help="List the windows of long videos instead of these.")
@click.option("--limit", type=click.IntRange(min=1), help="Videos at most. Default: all.")
@click.option("--after", default="", help="Begin after this id, the last one of a list with --limit.")
@json_option
def list_(
    index: Path | None,
    index_path: Path | None,
    where: str | None,
    windows: bool,
    limit: int | None,
    after: str,
    as_json: bool,
) -> None:
    """List the videos of an INDEX by their ids, with length and text."""
    from colbert_video.cli.tables import video_listing
    from colbert_video.indexing.catalog.filters import parse_filter
    from colbert_video.indexing.upkeep.contents import list_videos

    folder = _one_index(index, index_path)
    if folder is None:
        raise click.UsageError("say which index: colbert-video list INDEX.")
    condition = None if where is None else parse_filter(where)
    videos = list_videos(folder, limit=limit or sys.maxsize, after=after, where=condition, windows=windows)
    print_result({"videos": [vars(video) for video in videos]} if as_json else video_listing(videos))


def _one_index(argument: Path | None, option: Path | None) -> Path | None:
    if argument is not None and option is not None:
        raise click.UsageError("give the index once: as INDEX or with --index.")
    return option if argument is None else argument


def _one_or_many(videos: tuple[str, ...]) -> Any:
    """Return a single argument as it is, because it must exist, and several as a list."""
    return videos[0] if len(videos) == 1 else list(videos)


def _ray_cluster(address: str | None) -> Any:
    if address is None:
        return None
    from colbert_video.cluster import RayCluster

    return RayCluster(address)


def _finish(report: Any, as_json: bool) -> None:
    from colbert_video.cli.tables import report_text

    print_report(report, report_text(report), as_json=as_json)
    if not report.complete:
        sys.exit(SOME_FAILED)
