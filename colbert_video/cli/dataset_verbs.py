"""The verb that turns a dataset's download into a manifest: prepare."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from colbert_video.cli.options import FOLDER, SOME_FAILED, json_option, print_result
from colbert_video.errors import SettingsError

Prepared = tuple[Any, bool, Callable[..., int]]
"""What was found, True where something is missing, and the function that writes the manifest."""


@click.command()
@click.argument("dataset")
@click.argument("folder", type=FOLDER)
@click.option("--output", type=FOLDER, help="The manifest to write, a .jsonl file. Without it, FOLDER is only checked.")
@click.option("--videos", type=FOLDER, help="Folder of the video files. Default: FOLDER.")
@click.option(
    "--split-name",
    help="msrvtt: 9k, 7k, 1k-a or full; vatex: test_list or test1k5_sec_list; webdataset: what the rows are for, such as "
    "test. Default: the first one; train.",
)
@click.option(
    "--caption",
    help="webdataset: the key of the archives' .json that holds the captions. Default: caption, or the .txt.",
)
@click.option(
    "--hold-out",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Training videos to make the split val of, where the dataset has none.",
)
@click.option("--allow-missing", is_flag=True, help="Write what is there, and report what is not.")
@json_option
def prepare(
    dataset: str,
    folder: Path,
    output: Path | None,
    videos: Path | None,
    split_name: str | None,
    caption: str | None,
    hold_out: int,
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Check the download of DATASET in FOLDER, and write its manifest for train and evaluate.

    DATASET is msrvtt, msvd, vatex, didemo or activitynet. Nothing is downloaded: what is missing is named, with the place
    where it is found.

    DATASET may also be webdataset, and FOLDER tar archives, as in 'shards/train-{0000..0012}.tar'; their videos are read
    where they lie.
    """
    if output is not None:
        from colbert_video.training.data.manifest import check_output

        check_output(output.absolute())
    if dataset == "webdataset":
        prepared, incomplete, write = _webdataset(folder, videos, split_name, caption, hold_out)
        missing = "videos without captions; write the others"
    else:
        prepared, incomplete, write = _dataset(dataset, folder, videos, split_name, caption, hold_out)
        missing = "what is missing; get it, or write what is there"
    refused = incomplete and not allow_missing
    if not as_json:
        print_result(prepared.report())
    rows = write(output, allow_missing=allow_missing) if output and not refused else None
    if as_json:
        print_result({**prepared.to_dict(), "manifest": output if rows else None, "rows": rows})
    elif rows:
        print_result(f"{rows:,} rows are in {output}")
    if refused and output:
        raise SettingsError(f"{output} is not written, for {missing} with --allow-missing.")
    if refused:
        sys.exit(SOME_FAILED)


def _dataset(
    name: str, folder: Path, videos: Path | None, split_name: str | None, caption: str | None, hold_out: int
) -> Prepared:
    if caption is not None:
        raise click.UsageError(f"--caption is for webdataset; {name} has captions of its own.")
    from colbert_video.training.datasets.prepare import check_dataset, write_manifest

    preparation = check_dataset(name, folder, videos=videos, split_name=split_name, hold_out=hold_out)
    return preparation, bool(preparation.problems), partial(write_manifest, preparation)


def _webdataset(
    archives: Path, videos: Path | None, split_name: str | None, caption: str | None, hold_out: int
) -> Prepared:
    if videos is not None:
        raise click.UsageError("the videos of a webdataset are in its archives; leave --videos out.")
    from colbert_video.ecosystem.captions import captioned_videos, write_captions
    from colbert_video.video.sources import find_videos

    captioned = captioned_videos(find_videos(str(archives)).records, caption=caption or "caption")
    write = partial(write_captions, captioned, split=split_name or "train", hold_out=hold_out)
    return captioned, bool(captioned.without), write
