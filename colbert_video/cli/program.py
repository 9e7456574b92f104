"""The program: its verbs, and the exit code and message of each kind of error."""

import logging
import re
import shlex
import sys
from typing import Any

import click

from colbert_video.cli.console import (
    failure_text,
    flush_output,
    is_closed_pipe,
    log_to_stderr,
    prepare_streams,
    say_failure,
)
from colbert_video.cli.dataset_verbs import cut, prepare
from colbert_video.cli.hub_verbs import pull, push
from colbert_video.cli.index_verbs import add, index, info, list_, remove
from colbert_video.cli.options import BAD_USAGE, CLOSED_PIPE, INTERRUPTED
from colbert_video.cli.reproduce_verbs import reproduce
from colbert_video.cli.search_verbs import demo, fuse, more_like, occurrences, search
from colbert_video.cli.serve_verbs import mcp, serve
from colbert_video.cli.training_verbs import evaluate, mine, train
from colbert_video.cli.upkeep_verbs import compact, export, import_, shard, verify
from colbert_video.errors import ColBERTVideoError, FailureKind, VideoError
from colbert_video.progress import show_progress

logger = logging.getLogger(__name__)
VERBS = (
    demo,
    index,
    search,
    more_like,
    occurrences,
    cut,
    serve,
    mcp,
    add,
    remove,
    compact,
    verify,
    info,
    list_,
    export,
    import_,
    shard,
    push,
    pull,
    prepare,
    train,
    evaluate,
    mine,
    reproduce,
    fuse,
)

RESUMED = {"index": None, "add": None, "compact": None, "reproduce": None, "train": "--resume"}
"""Verbs that go on where they stopped, with the option that this takes."""
CALLS = {
    "`colbert-video index` or Indexer(...).index": "`colbert-video index`",
    "Indexer(...).index": "`colbert-video index`",
    "pass Searcher(path, model=...), or search with search_tokens": "name one with --model",
    "pass the path of a weight file as pretrained=": "name a weight file after a colon, NAME:FILE",
    "`colbert-video add` or Indexer.add": "`colbert-video add`",
    ", or None to let it be chosen": ", or leave it out",
    ", or give None": ", or leave it out",
    " of the spacing between frames, or None": " of the spacing between frames",
}
"""Calls and values of Python that errors name as a remedy, and what the command line has for them."""
ALIASES = {
    "stream": "video_stream",
    "factor": "pool_factor",
    "similarity": "pool_similarity",
    "search_threads": "threads",
}
"""Settings whose option is named after another parameter."""
NAMED = re.compile(r"""(?<![\w/.'"=-])(?P<name>[a-z]+(_[a-z]+)+)(?![\w/.'"=(-])|^(?P<first>[a-z]+)(?= is )""")
"""A parameter without a value: a name with an underscore, or the first word of a sentence, `timeout is 0.0`."""
PARAMETER = re.compile(r"""(?<![\w/.'"-])(?P<name>[a-z_]+)=(?P<value>'[^']*'|"[^"]*"|[\w.-]*\w|)""")
"""A parameter as errors write it: `num_frames=100`, `model='toy'`, `model=`."""


class Program(click.Group):
    """The verbs; errors name the options that were typed, not the parameters behind them."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a verb, which takes -v and -q too."""
        for flags, act in ((("-v", "--verbose"), _be_verbose), (("-q", "--quiet"), _be_quiet)):
            cmd.params.append(click.Option(flags, is_flag=True, expose_value=False, hidden=True, callback=act))
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb.

        Raises:
            click.ClickException: If it raises an error of this library.
        """
        try:
            return super().invoke(ctx)
        except VideoError as error:
            raise click.ClickException(_about_file(error)) from error
        except ColBERTVideoError as error:
            verb = self.commands.get(ctx.invoked_subcommand or "")
            raise click.ClickException(in_options(str(error), verb)) from error


def _about_file(error: VideoError) -> str:
    """Return what is wrong with a file, and what to look at."""
    remedies = {FailureKind.MISSING: "; check the name", FailureKind.TOO_LARGE: "", FailureKind.UNDECODABLE: ""}
    return f"{error.path}: {error.detail}{remedies.get(error.kind, '; check that it is a video that plays')}."


def _be_verbose(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        log_to_stderr(logging.INFO)
        logging.getLogger().setLevel(logging.INFO)


def _be_quiet(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        show_progress(False)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="colbert_video")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr; also after the verb.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars; also after the verb.")
def app(verbose: bool, quiet: bool) -> None:
    """Late-interaction video search: words in, moments of video out.

    Start with `colbert-video demo`. To search your own videos:

    \b
      colbert-video index FOLDER --index my.index --model PE-Core-B-16:meta
      colbert-video search "a dog catches a frisbee" --index my.index
    """  # noqa: D301 - click wants the backspace character itself
    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    show_progress(not quiet)


for verb in VERBS:
    app.add_command(verb)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: Instead of `sys.argv[1:]`.
    """
    prepare_streams()
    code = _exit_code(arguments)
    unwritten = flush_output()
    if unwritten is not None and code != BAD_USAGE:  # else that was said already
        code = _failed(unwritten)
    sys.exit(code)


def _exit_code(arguments: list[str] | None) -> int:
    """Run the command line; whatever ends it becomes an exit code and at most one line of text."""
    try:
        code = app.main(args=arguments, prog_name="colbert-video", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stdout.write(error.format_message() + "\n")
        return BAD_USAGE
    except click.NoSuchOption as error:
        if error.option_name[1:2].isdigit():
            return _fail(f"{error.option_name} is negative, and no number here may be: leave out the minus.")
        return _fail(error.format_message())
    except click.ClickException as error:
        return _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write(f"{interrupted_text(arguments)}\n")
        return INTERRUPTED
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except Exception as error:
        return _failed(error)
    return code if isinstance(code, int) else 0


def interrupted_text(arguments: list[str] | None) -> str:
    """Return what to say after Ctrl-C: how the work goes on, where the verb can go on."""
    given = sys.argv[1:] if arguments is None else arguments
    verb = next((name for name in given if name in app.commands), "")
    if verb not in RESUMED:
        return "interrupted"
    option = RESUMED[verb]
    if option is None or option in given:
        return "interrupted; run the same command again to go on where it stopped"
    return f"interrupted; to go on where it stopped: {shlex.join(['colbert-video', *given, option])}"


def in_options(message: str, verb: click.Command | None) -> str:
    """Return an error's text in words of the command line: calls of Python as verbs, and `name=value` as the verb's option, where it has one.

    "num_frames=100" becomes "--frames 100", and "timeout is 0.0" "--timeout is 0.0".
    """
    for call, words in CALLS.items():
        message = message.replace(call, words)
    options = {
        parameter.name: parameter
        for parameter in (verb.params if verb else ())
        if isinstance(parameter, click.Option) and parameter.name
    }

    def found(name: str) -> click.Option | None:
        return options.get(ALIASES.get(name, name)) or options.get(name)

    def named(match: re.Match[str]) -> str:
        parameter = found(match["name"] or match["first"])
        return match[0] if parameter is None else parameter.opts[0]

    def option(match: re.Match[str]) -> str:
        parameter = found(match["name"])
        if parameter is None:
            return match[0]
        value = match["value"].strip("'\"")
        return parameter.opts[0] if parameter.is_flag or not value else f"{parameter.opts[0]} {value}"

    return NAMED.sub(named, PARAMETER.sub(option, message))


def _failed(error: Exception) -> int:
    """Return the exit code of a failure of the system, and say it in one line; raise any other error: it is a bug."""
    if is_closed_pipe(error):
        return CLOSED_PIPE
    text = failure_text(error)
    if text is None:
        raise error
    logger.info("the command failed", exc_info=error)
    return _fail(text)


def _fail(message: str) -> int:
    say_failure(message)
    return BAD_USAGE
