"""The verb that turns a dataset's download into a manifest: prepare."""

import sys
from pathlib import Path

import click

from colbert_video.cli.options import FOLDER, json_option, print_result
from colbert_video.errors import SettingsError

INCOMPLETE = 1
"""Exit code of a check that finds something missing."""


@click.command()
@click.argument("dataset")
@click.argument("folder", type=FOLDER)
@click.option(
    "--output", type=FOLDER, help="The manifest to write, a .jsonl file. Without it, FOLDER is only checked."
)
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
    if dataset == "webdataset":
        if videos is not None:
            raise click.UsageError("the videos of a webdataset are in its archives; leave --videos out.")
        _prepare_webdataset(
            folder, output, split_name or "train", caption or "caption", hold_out, allow_missing, as_json
        )
        return
    if caption is not None:
        raise click.UsageError(f"--caption is for webdataset; {dataset} has captions of its own.")
    from colbert_video.training.datasets.prepare import check_dataset, write_manifest

    preparation = check_dataset(dataset, folder, videos=videos, split_name=split_name, hold_out=hold_out)
    refused = bool(preparation.problems) and not allow_missing
    if not as_json:
        print_result(preparation.report())
    rows = (
        write_manifest(preparation, output, allow_missing=allow_missing) if output and not refused else None
    )
    if as_json:
        print_result({**preparation.to_dict(), "manifest": output if rows else None, "rows": rows})
    elif rows:
        print_result(f"{rows:,} rows are in {output}")
    if refused and output:
        raise SettingsError(
            f"{output} is not written, for what is missing; get it, or write what is there with --allow-missing."
        )
    if refused:
        sys.exit(INCOMPLETE)


def _prepare_webdataset(
    archives: Path,
    output: Path | None,
    split: str,
    caption: str,
    hold_out: int,
    allow_missing: bool,
    as_json: bool,
) -> None:
    from colbert_video.ecosystem.captions import captioned_videos, write_captions
    from colbert_video.video.sources import find_videos

    videos = captioned_videos(find_videos(str(archives)).records, caption=caption)
    if not as_json:
        print_result(videos.report())
    write = output is not None and (allow_missing or not videos.without)
    rows = None
    if output is not None and write:
        rows = write_captions(videos, output, split=split, hold_out=hold_out, allow_missing=allow_missing)
    if as_json:
        print_result({**videos.to_dict(), "manifest": str(output) if rows else None, "rows": rows})
    elif rows:
        print_result(f"{rows:,} rows are in {output}")
    if output is not None and not write:
        raise SettingsError(
            f"{output} is not written, for videos without captions; write the others with --allow-missing."
        )
    if videos.without and not allow_missing:
        sys.exit(INCOMPLETE)
