"""Verbs about video files: prepare turns a dataset's download into a manifest, cut writes a part of a video."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from colbert_video.base.wording import counted
from colbert_video.cli.options import FOLDER, SOME_FAILED, TimeType, json_option, print_result
from colbert_video.errors import SettingsError, shown

Prepared = tuple[Any, bool, Callable[..., int]]
"""What was found, True where something is missing, and the function that writes the manifest."""


@click.command()
@click.argument("dataset")
@click.argument("folder", type=FOLDER)
@click.option("--output", type=FOLDER, help="The manifest to write, a .jsonl file. Without it, FOLDER is only checked.")
@click.option("--videos", type=FOLDER, help="Folder of the video files. Default: FOLDER.")
@click.option(
    "--split-name",
    help="msrvtt: 9k, 7k, 1k-a or full; vatex: test_list or test1k5_sec_list; webdataset: the split of the rows, such as "
    "test. Default: the first one; for webdataset train.",
)
@click.option(
    "--caption", help="webdataset: the key with the captions in the archives' .json. Default: caption, or the .txt."
)
@click.option(
    "--hold-out",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Number of training videos to use as split val, if the dataset has none.",
)
@click.option("--allow-missing", is_flag=True, help="Write the manifest without what is missing, and report it.")
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
    """Check your download of DATASET in FOLDER, and write its manifest for train and evaluate.

    DATASET is msrvtt, msvd, vatex, didemo or activitynet. Nothing is downloaded; for everything that is missing, it says
    where to get it.

    DATASET can also be webdataset, and FOLDER tar archives, as in 'shards/train-{0000..0012}.tar'; they are not unpacked.
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
        print_result(f"{counted(rows, 'row')} in {output}")
    if refused and output:
        raise SettingsError(f"{output} is not written, for {missing} with --allow-missing.")
    if refused:
        sys.exit(SOME_FAILED)


def _dataset(
    name: str, folder: Path, videos: Path | None, split_name: str | None, caption: str | None, hold_out: int
) -> Prepared:
    if caption is not None:
        raise click.UsageError(f"--caption is for webdataset; {name} has its own captions.")
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


@click.command()
@click.argument("video")
@click.argument("start", type=TimeType())
@click.argument("end", type=TimeType())
@click.argument("out", type=FOLDER)
@click.option("--index", "index_path", type=FOLDER, help="VIDEO is an id of this index, not a file.")
@click.option("--encode", is_flag=True, help="Encode again, even where the pictures can be copied.")
@json_option
def cut(video: str, start: float, end: float, out: Path, index_path: Path | None, encode: bool, as_json: bool) -> None:
    """Write the part of VIDEO from START to END, with its sound, into the MP4 file OUT.

    Times are seconds (83.5) or as players show them (1:23.5). The pictures are copied as they are if a keyframe is shown at
    START; else they are encoded again, exactly those from START to END.
    """
    from colbert_video.video.clips.cutting import CutSettings, cut_video

    path, stream = (video, None) if index_path is None else _indexed_file(index_path, video)
    clip = cut_video(path, start, end, out, CutSettings(stream=stream, copy=not encode))
    if as_json:
        print_result(asdict(clip))
        return
    how = "copied as they are" if clip.copied else "encoded again"
    notes = [f"{note}." for note in clip.warnings]
    print_result([f"{clip.end - clip.start:.2f} seconds are in {clip.path}; the pictures are {how}.", *notes])


def _indexed_file(index: Path, video: str) -> tuple[str, int | None]:
    """Return the file of a video of an index, and which of its video streams was indexed.

    Raises:
        SettingsError: If the index has no such video, or knows no file of it.
    """
    from colbert_video.indexing.catalog.catalog import Catalog
    from colbert_video.indexing.index.folder import stored_settings

    with Catalog.open(index) as catalog:
        rows, settings = catalog.rows_of([video]).get(video), stored_settings(catalog)
    if not rows:
        raise SettingsError(f"the index {index} holds no video {shown(video)}; `colbert-video list` names them.")
    if rows[0].path is None:
        raise SettingsError(f"the index {index} knows no file of {shown(video)}; give the file itself.")
    return rows[0].path, None if settings is None else settings.video_stream
