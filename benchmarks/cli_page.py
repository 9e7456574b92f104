"""Write docs/cli.md: what `colbert-video` and its verbs say of themselves.

    python benchmarks/cli_page.py

A test compares the page with the program.
"""

from pathlib import Path

import click

from colbert_video.cli.app import app

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 100
HEAD = """# Command line

The help texts of all verbs, written to this page by `python benchmarks/cli_page.py`. Exit codes: 0 if all is done; 1 if it
is done but some inputs failed, which are listed; 2 for a mistake in the command, with one line that says what to do.
"""


def help_of(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    """What `--help` prints, in lines of one width wherever it runs."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    context.help_option_names = ["-h", "--help"]
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def page() -> str:
    """The whole page; verbs in the order of the program's own list."""
    group = click.Context(app, info_name="colbert-video")
    parts = [HEAD, f"```text\n{help_of(app, 'colbert-video')}\n```\n"]
    for name, command in app.commands.items():
        parts.append(f"## {name}\n\n```text\n{help_of(command, name, group)}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
