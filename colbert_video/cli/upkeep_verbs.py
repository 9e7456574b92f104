"""The verbs that maintain an index: compact, verify, export, import, shard."""

import sys
from pathlib import Path
from typing import Any, Literal

import click

from colbert_video.cli.options import FOLDER, SOME_FAILED, decoding_options, index_option, json_option, print_report


@click.command()
@index_option
@click.option(
    "--retrain",
    type=click.Choice(["stored", "paths"]),
    is_flag=False,
    flag_value="stored",
    help="Also train a new codec: for the stored tokens (with some loss), or for videos encoded again from their files.",
)
@decoding_options
@json_option
def compact(index_path: Path, retrain: Literal["stored", "paths"] | None, as_json: bool, **decoding: Any) -> None:
    """Rewrite an index into one segment; frees the space of removed and replaced videos.

    No video is decoded, except with --retrain paths. Searches go on meanwhile. The disk must hold the old and the new
    segments until the new one is complete.
    """
    from colbert_video.cli.tables import compact_text
    from colbert_video.indexing.indexer import Indexer

    report = Indexer(index_path, **decoding).compact(retrain=retrain)
    print_report(report, compact_text(report), as_json=as_json)


@click.command()
@index_option
@json_option
def verify(index_path: Path, as_json: bool) -> None:
    """Read a whole index and compare it with its checksums; exit code 1 if anything is damaged."""
    from colbert_video.cli.tables import verify_text
    from colbert_video.indexing.upkeep.verify import verify_index

    report = verify_index(index_path)
    print_report(report, verify_text(report), as_json=as_json)
    if not report.intact:
        sys.exit(SOME_FAILED)


@click.command()
@click.argument("target", type=FOLDER)
@index_option
@click.option("--drop-paths", is_flag=True, help="Leave out the paths of the video files; ids and metadata stay.")
@json_option
def export(target: Path, index_path: Path, drop_paths: bool, as_json: bool) -> None:
    """Copy an index to TARGET, a new folder or an archive NAME.tar, to be opened elsewhere.

    The name says what is made: an archive if it ends in .tar, .tar.gz, .tar.bz2, .tar.xz or .zip, otherwise a folder.
    """
    from colbert_video.indexing.upkeep.export import export_index

    report = export_index(index_path, target, keep_paths=not drop_paths)
    kind = "folder" if report.kind == "folder" else f"{report.kind} archive"
    text = f"{report.path}: {kind} of {report.videos} videos, {report.files} files, {report.bytes} bytes"
    print_report(report, text, as_json=as_json)


@click.command()
@click.argument("index_path", type=FOLDER, metavar="INDEX")
@click.option("--output", type=FOLDER, required=True, help="The new folder of the shards.")
@click.option("--shards", type=click.IntRange(min=1), help="Number of shards.")
@click.option("--videos-per-shard", type=click.IntRange(min=1), help="Instead: about this many videos per shard.")
@json_option
def shard(index_path: Path, output: Path, shards: int | None, videos_per_shard: int | None, as_json: bool) -> None:
    """Split INDEX into shards that machines search together; tokens are copied as they are stored.

    INDEX stays as it is. The new folder appears when it is complete; after a kill, run the same command again.
    """
    if (shards is None) == (videos_per_shard is None):
        raise click.UsageError("say how many shards: --shards N or --videos-per-shard N, one of them.")
    from colbert_video.indexing.upkeep.sharding import shard_index

    report = shard_index(index_path, output, shards=shards, videos_per_shard=videos_per_shard)
    sizes = f"{min(report.videos)} to {max(report.videos)} videos each"
    print_report(report, f"{report.path}: {len(report.videos)} shards, {sizes}", as_json=as_json)


@click.command("import")
@click.argument("archive", type=FOLDER)
@index_option
@json_option
def import_(archive: Path, index_path: Path, as_json: bool) -> None:
    """Unpack ARCHIVE, written by export, into a new index folder, and check every file of it.

    ARCHIVE may also be a folder: one that was exported, an index, or one into which an archive was unpacked.
    """
    from colbert_video.indexing.upkeep.export import import_index

    report = import_index(archive, index_path)
    print_report(report, f"{report.path}: {report.videos} videos", as_json=as_json)
