"""What the command line does without a model: help and one-line errors, for which nothing heavy is imported."""

import subprocess
import sys
from pathlib import Path

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
        (["more-like", "x", "--index", "i", "--at", "-1"], "'-1' is not a time; write seconds (83.5)"),
        (["more-like", "x", "--index", "i", "--at", "now"], "'now' is not a time; write seconds (83.5)"),
        (["cut", "a.mp4", "-1", "2", "b.mp4"], "-1 is negative, and no number here may be"),
        (["export", "i", "t.npz", "--to", "npz", "--name", "x"], "--name is for lance and qdrant"),
        (["serve", "i", "--threads", "0"], "--threads"),
        (["serve", "i", "-k", "0"], "-k"),
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
        ("timeout is 0.0; it must be more than 0 seconds.", "--timeout is 0.0; it must be more than 0 seconds."),
        ("max_pixels is 0; it must be at least 1.", "--max-pixels is 0; it must be at least 1."),
        ("stream is -1, or give None.", "--video-stream is -1, or leave it out."),
        ("factor=0.5 must be at least 1.", "--pool-factor 0.5 must be at least 1."),
        ("bag_weights names 'x'", "--bag-weight names 'x'"),
        ("add with `colbert-video add` or Indexer.add.", "add with `colbert-video add`."),
        ("max_frames=64 stays, and so do /a/window=5.mp4, x.stride=3 and 'nbits=3'", None),
    ],
)
def test_errors_name_options(text: str, shown: str | None) -> None:
    assert in_options(text, index) == (shown or text)
    if "None" not in text and "Indexer" not in text:
        assert in_options(text, None) == text


def test_a_file_that_cannot_be_used_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    garbage, missing = tmp_path / "garbage.mp4", tmp_path / "missing.mp4"
    garbage.write_bytes(bytes(range(256)) * 8)
    for video, advice in ((garbage, "; check that it is a video that plays."), (missing, "; check the name.")):
        code, _, err = run(["cut", str(video), "0", "1", str(tmp_path / "out.mp4")], capsys)
        assert (code, err.startswith(f"error: {video}: "), err.endswith(f"{advice}\n")) == (2, True, True)


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
