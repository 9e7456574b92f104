"""The verbs that maintain an index: compact, verify, export, import, shard."""

import sys
from pathlib import Path
from typing import Any, Literal

import click

from colbert_video.base.wording import counted
from colbert_video.cli.options import (
    FOLDER,
    SOME_FAILED,
    decoding_options,
    index_option,
    json_option,
    print_report,
    some_index_option,
)

TABLES = ["lance", "npz", "parquet", "qdrant"]
NAMED_TABLES = ["lance", "qdrant"]
table_name_option = click.option(
    "--name", help="Name of the table or collection, for lance and qdrant. Default: videos."
)


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

    No video is decoded, except with --retrain paths. You can search meanwhile. The disk needs room for the old and the new
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
@click.argument("places", nargs=-1, required=True, metavar="[INDEX] TARGET")
@some_index_option
@click.option("--drop-paths", is_flag=True, help="Leave out the paths of the video files; ids and metadata stay.")
@click.option("--to", type=click.Choice(TABLES), help="Write a table of tokens for another system, with all bags.")
@table_name_option
@click.option("--codes", is_flag=True, help="With parquet and npz: codes instead of vectors, imported without loss.")
@click.option("--half", is_flag=True, help="With --to: vectors in float16, half as large.")
@json_option
def export(
    places: tuple[str, ...],
    index_path: Path | None,
    drop_paths: bool,
    to: Any,
    name: str | None,
    codes: bool,
    half: bool,
    as_json: bool,
) -> None:
    """Copy INDEX to TARGET, for another machine, or write its tokens for another system.

    TARGET becomes an archive if its name ends in .tar, .tar.gz, .tar.bz2, .tar.xz or .zip, and otherwise a folder.
    With --to, TARGET is a new file (parquet, npz) or folder (lance, qdrant), or the address of a Qdrant server.
    """
    index, target = _places(places, index_path, "TARGET")
    if to is None:
        if codes or half or name:
            raise click.UsageError("--codes, --half and --name are for tables: add --to with their format.")
        _export_index(index, FOLDER.convert(target, None, None), drop_paths, as_json)
        return
    if name and to not in NAMED_TABLES:
        raise click.UsageError(f"--name is for {' and '.join(NAMED_TABLES)}: a {to} file has no table of its own name.")
    from colbert_video.ecosystem import export_tokens

    place = target if "://" in target else FOLDER.convert(target, None, None)
    report = export_tokens(
        index, place, to=to, codes=codes, half=half, keep_paths=not drop_paths, **({"name": name} if name else {})
    )
    kind = "codes" if report.codes else "vectors"
    print_report(
        report, f"{report.path}: {kind} of {counted(report.videos, 'row')}, {_listed(report.tokens)}", as_json=as_json
    )


def _export_index(index: Path, target: Path, drop_paths: bool, as_json: bool) -> None:
    from rich.filesize import decimal

    from colbert_video.indexing.upkeep.export import export_index

    report = export_index(index, target, keep_paths=not drop_paths)
    kind = "folder" if report.kind == "folder" else f"{report.kind} archive"
    sizes = f"{counted(report.files, 'file')}, {decimal(report.bytes)}"
    text = f"{report.path}: {kind} of {counted(report.videos, 'video')}, {sizes}"
    print_report(report, text, as_json=as_json)


def _places(places: tuple[str, ...], index: Path | None, other: str) -> tuple[Path, str]:
    """Return the index and the other place, which come as two arguments, or as an option and one argument."""
    if len(places) != (1 if index else 2):
        raise click.UsageError(f"give INDEX and {other}, or {other} and --index INDEX.")
    return index or FOLDER.convert(places[0], None, None), places[-1]


def _listed(tokens: dict[str, int]) -> str:
    return " and ".join(counted(count, f"{bag} token") for bag, count in tokens.items())


@click.command()
@click.argument("index_path", type=FOLDER, metavar="INDEX")
@click.option("--output", type=FOLDER, required=True, help="The new folder of the shards.")
@click.option("--shards", type=click.IntRange(min=1), help="Number of shards.")
@click.option("--videos-per-shard", type=click.IntRange(min=1), help="Instead: about this many videos per shard.")
@json_option
def shard(index_path: Path, output: Path, shards: int | None, videos_per_shard: int | None, as_json: bool) -> None:
    """Split INDEX into shards that machines search together; stored tokens are copied.

    INDEX does not change. The new folder appears when it is complete; after a kill, run the same command again.
    """
    if (shards is None) == (videos_per_shard is None):
        raise click.UsageError("say how many shards: --shards N or --videos-per-shard N, one of them.")
    from colbert_video.indexing.upkeep.sharding import shard_index

    report = shard_index(index_path, output, shards=shards, videos_per_shard=videos_per_shard)
    least, most = min(report.videos), max(report.videos)
    sizes = counted(most, "video") if least == most else f"{least:,} to {counted(most, 'video')}"
    print_report(report, f"{report.path}: {counted(len(report.videos), 'shard')} of {sizes} each", as_json=as_json)


@click.command("import")
@click.argument("places", nargs=-1, required=True, metavar="SOURCE [INDEX]")
@some_index_option
@click.option("--from", "kind", type=click.Choice(TABLES), help="Format of a table of tokens. Default: from its name.")
@table_name_option
@click.option("--nbits", type=click.Choice(["1", "2", "4", "8"]), help="With a table: bits kept of each dimension.")
@json_option
def import_(
    places: tuple[str, ...], index_path: Path | None, kind: Any, name: str | None, nbits: str | None, as_json: bool
) -> None:
    """Make a new index folder from SOURCE, which export wrote, and check all of it.

    SOURCE can be an archive; a folder (an export, an index, or an unpacked archive); or a table of tokens: a .parquet or
    .npz file, a folder of LanceDB or Qdrant, or the address of a Qdrant server.
    """
    if len(places) != (1 if index_path else 2):
        raise click.UsageError("give SOURCE and INDEX, or SOURCE and --index INDEX.")
    index = index_path or FOLDER.convert(places[1], None, None)
    source = places[0] if "://" in places[0] else FOLDER.convert(places[0], None, None)
    if kind is not None or _is_table(source):
        _import_table(source, index, kind, name, nbits, as_json)
        return
    if name or nbits:
        raise click.UsageError("--name and --nbits are only for tables of tokens, and SOURCE is not one.")
    from colbert_video.indexing.upkeep.export import import_index

    report = import_index(Path(source), index)
    print_report(report, f"{report.path}: {counted(report.videos, 'video')}", as_json=as_json)


def _is_table(source: str | Path) -> bool:
    from colbert_video.ecosystem.databases.token_import import find_format

    return find_format(source) is not None


def _import_table(
    source: str | Path, index: Path, kind: Any, name: str | None, nbits: str | None, as_json: bool
) -> None:
    from colbert_video.ecosystem import import_tokens

    bits = None if nbits is None else int(nbits)
    report = import_tokens(source, index, kind=kind, nbits=bits, **({"name": name} if name else {}))
    exact = "as they were stored" if report.exact else "compressed again"
    rows = counted(report.videos, "row")
    print_report(report, f"{report.path}: {rows}, {_listed(report.tokens)}, {exact}", as_json=as_json)
