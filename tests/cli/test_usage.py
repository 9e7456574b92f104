"""What the command line does without a model: help and one-line errors, for which nothing heavy is imported."""

import subprocess
import sys

import pytest
from command_line import run

from colbert_video.cli.index_verbs import index
from colbert_video.cli.program import VERBS, in_options, interrupted_text


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([verb, "--help"], capsys)
    assert code == 0
    assert f"Usage: colbert-video {verb}" in out
    assert "--json" in out or verb in ("serve", "mcp")


def test_the_program_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--help"], capsys)
    assert code == 0
    assert all(f"\n  {verb.name} " in out for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "frobnicate"),
        (["index", "clips", "--index", "new"], "--model"),
        (["index", "clips", "--index", "i", "--model", "toy", "--window", "long"], "neither a number of seconds"),
        (["index", "clips", "--index", "new", "--model", "toy", "--decoder", "vlc"], "'pyav', 'decord', 'torchcodec'"),
        (["add", "clips", "--index", "i", "--snap", "0"], "No such option"),  # the index knows
        (["compact", "--index", "i", "--retrain", "files"], "'stored', 'paths'"),
        (
            ["search", "--index", "i"],
            "say what to look for: words, --image FILE or both, --video FILE or --queries FILE",
        ),
        (["search", "x", "--index", "i", "--video", "a.mp4"], "one of them"),
        (["search", "--index", "i", "--without", "snow"], "one of them"),
        (["search", "--index", "i", "--video", "a.mp4", "--then", "snow"], "--then works only with words"),
        (["search", "x", "--index", "i", "--image-weight", "2"], "--image FILE"),
        (["search", "x", "--index", "i", "--all-of", "snow", "--explain"], "--explain shows what words found"),
        (["more-like", "x", "--index", "i", "--until", "2"], "give both"),
        (["search", "--index", "i", "--image", "a.png", "--video", "a.mp4"], "one of them"),
        (["search", "--index", "i", "--image", "a.png", "--explain"], "give a QUERY alone, instead"),
        (["search", "--index", "i", "--queries", "q.tsv"], "--queries FILE and --trec RUN belong together"),
        (["search", "--index", "i", "--queries", "q", "--trec", "r", "--windows"], "leave --windows out"),
        (["search", "a", "dog", "--index", "i"], 'the query came as 2 words; put it in quotes: "a dog".'),
        (["search", "--index", "i", "--image", "missing.png"], "there is no file missing.png; check the name."),
        (["search", "--index", "i", "--video", "missing.mp4"], "there is no file missing.mp4; check the name."),
        (["shard", "i", "--output", "o"], "--shards N or --videos-per-shard N, one of them"),
        (["push", "user/name"], "give either --index or --model"),
        (["pull", "user/name", "--index", "i", "--model", "m"], "give either --index or --model"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err


def test_help_and_errors_import_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from colbert_video.cli import main\n"
        "for arguments in (['index', '--help'], ['search', '--index', 'i'], ['shard', 'i', '--output', 'o']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "sys.exit(', '.join({'torch', 'numpy', 'av', 'open_clip'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("num_frames=100 is more", "--frames 100 is more"),
        ("window='shots' and stride=2.5.", "--window shots and --stride 2.5."),
        ("pass model=, for instance model='toy'.", "pass --model, for instance --model toy."),
        ("or index again with overwrite=True.", "or index again with --overwrite."),
        ("max_frames=64 stays, and so do /a/window=5.mp4, x.stride=3 and 'nbits=3'", None),
    ],
)
def test_errors_name_options(text: str, shown: str | None) -> None:
    assert in_options(text, index) == (shown or text)
    assert in_options(text, None) == text


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        (["train", "my recipe.yaml", "--output", "run"], "colbert-video train 'my recipe.yaml' --output run --resume"),
        (["-q", "train", "toy", "--output", "run", "--resume"], "run the same command again"),
        (["index", "clips", "--index", "i", "--model", "toy"], "run the same command again"),
        (["search", "x", "--index", "i"], "interrupted"),
        (["demo", "--keep", "folder"], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_after_an_interruption_a_command_that_works_is_named(typed: list[str], advice: str) -> None:
    text = interrupted_text(typed)
    assert text.startswith("interrupted")
    assert text.endswith(advice) or f"; {advice} to go on" in text
