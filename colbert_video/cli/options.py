"""Options that several verbs share, exit codes, and how results are printed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from colbert_video.errors import printable, shown

SOME_FAILED = 1
"""Exit code when the work was done, but some inputs failed or something is damaged or missing."""
BAD_USAGE = 2
CLOSED_PIPE = 1
"""Exit code when whoever read the output stopped before its end, as click has it."""
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., Any])


class PathType(click.Path):
    """Option type of a path: "~" is the home folder; an empty path, which would be the working folder, is refused."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path as it was written but for "~"; whoever keeps it makes it absolute."""
        from colbert_video.base.user_files import expand_path

        return expand_path(value, "the path" if param is None else param.get_error_hint(ctx))  # type: ignore[arg-type]


class TimeType(click.ParamType):
    """A time in a video: seconds, or minutes and hours before them, as players write it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the time in seconds."""
        if isinstance(value, float):
            return value
        try:
            parts = [float(part) for part in str(value).split(":")]
        except ValueError:
            parts = []
        if not 1 <= len(parts) <= 3 or not all(0 <= part < float("inf") for part in parts):
            self.fail(
                f"{shown(str(value))} is not a time; write seconds (83.5) or minutes and seconds (1:23.5).", param, ctx
            )
        return sum(part * 60**power for power, part in enumerate(reversed(parts)))


FOLDER = PathType()

index_option = click.option("--index", "index_path", type=FOLDER, required=True, help="The index folder.")
some_index_option = click.option("--index", "index_path", type=FOLDER, help="The index folder; or give it as INDEX.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines on stdout.")
device_option = click.option("--device", help="auto, cpu, cuda or cuda:1. Default: the first GPU, else the CPU.")
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="Precision in which the model computes. Default: auto, the fastest that the device supports in hardware.",
)
compile_option = click.option(
    "--compile",
    is_flag=True,
    help="Compile the model with torch.compile, for long runs: its first use takes a minute or more.",
)
query_runtime_option = click.option(
    "--query-runtime",
    type=click.Choice(["torch", "onnx", "openvino"]),
    help="What runs the model's text part: torch, onnx (ONNX Runtime) or openvino, which is faster on CPUs but starts more "
    "slowly. Default: torch.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Decoding processes. Default: one per core."
)
escape_option = click.option(
    "--escape", is_flag=True, help="Write and read white space in ids of TREC files as in URLs, %20 for a space."
)
bag_weights_option = click.option(
    "--bag-weight",
    "bag_weights",
    multiple=True,
    metavar="BAG=NUMBER",
    callback=lambda ctx, param, given: _bag_weights(given),
    help="Weight of a bag of tokens in the score; 0 leaves the bag out. Repeatable. Default: the weights "
    "of the index, 1 for a new one.",
)
min_confidence_option = click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Leave out hits with a lower confidence: 0 is a usual video of the index, 1 a perfect match.",
)
subtitles_option = click.option(
    "--subtitles",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Read subtitles, for search --text: files beside the videos (film.srt, film.en.vtt) and text streams inside them.",
)
sources_argument = click.argument("videos", nargs=-1, required=True)
cluster_option = click.option(
    "--cluster",
    metavar="[HOST:PORT]",
    is_flag=False,
    flag_value="auto",
    help="Let a Ray cluster do the work: the address of its head. Without it, the cluster on this machine, or a new one.",
)


def _bag_weights(given: tuple[str, ...]) -> dict[str, float] | None:
    """Return weights by bag; None if none were given.

    Raises:
        click.BadParameter: If one is not of the form, or no number.
    """
    weights: dict[str, float] = {}
    for text in given:
        bag, _, number = text.partition("=")
        try:
            weights[bag] = float(number)
        except ValueError:
            raise click.BadParameter(f"{shown(text)} must be BAG=NUMBER, such as video=0.5.") from None
        if not bag:
            raise click.BadParameter(f"{shown(text)} names no bag: give BAG=NUMBER, such as video=0.5.")
    return weights or None


def decoding_options(command: Command) -> Command:
    """Add the options of every verb that reads video files, named as the parameters of `Indexer`."""
    for option in (
        device_option,
        precision_option,
        compile_option,
        workers_option,
        click.option(
            "--timeout",
            type=float,
            default=60.0,
            show_default=True,
            help="Seconds that decoding one file, or a minute of its windows, may take.",
        ),
        click.option(
            "--max-pixels",
            type=int,
            default=2**26,
            show_default=True,
            help="Largest picture to decode: width times height.",
        ),
        click.option(
            "--max-memory",
            type=int,
            default=6 * 2**30,
            show_default=True,
            help="Bytes of memory that a decoding process may take; a file that needs more is refused.",
        ),
        click.option(
            "--video-stream",
            type=int,
            help="Which video stream of each file to read, counted from 0. Default: as the index says, or else the one that "
            "players choose.",
        ),
        click.option(
            "--decoder",
            type=click.Choice(["pyav", "decord", "torchcodec"]),
            default="pyav",
            show_default=True,
            help="The library that reads video files.",
        ),
    ):
        command = option(command)
    return command


def print_report(report: Any, text: Any, *, as_json: bool) -> None:
    """Print a report with `to_dict`: as JSON, or what `print_result` makes of its text."""
    print_result(report.to_dict() if as_json else text)


def print_written(path: Path, value: Any) -> None:
    """Print a result as `print_result`, unless its file is the standard output itself."""
    from colbert_video.durable import is_standard_output

    if not is_standard_output(path):
        print_result(value)


def print_result(value: Any) -> None:
    """Print a dict as JSON for machines; tables and sentences, or a list of both, for people."""
    if isinstance(value, dict):
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
        return
    from rich.console import Console

    from colbert_video.cli.listing import Listing

    console = Console()
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, Listing):
            part.show(console)
            continue
        shown = printable(part, lines=True) if isinstance(part, str) else part
        # Sentences may hold commands and paths to copy: the terminal wraps them, not we.
        console.print(shown, highlight=False, markup=False, soft_wrap=isinstance(part, str))
