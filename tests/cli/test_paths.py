"""Paths on the command line: empty ones, "~", and targets that cannot be written, which are known before the work."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command_line import run
from paths import ROOT

from colbert_video.cli.options import PathType
from colbert_video.cli.program import VERBS

PATHS = [
    (verb, parameter)
    for verb in VERBS
    for parameter in verb.params
    if isinstance(parameter.type, PathType | click.Path)
]


@pytest.mark.parametrize(
    ("verb", "parameter"), PATHS, ids=[f"{verb.name} {parameter.name}" for verb, parameter in PATHS]
)
def test_every_path_is_checked(
    verb: click.Command, parameter: click.Parameter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert isinstance(parameter.type, PathType)
    context = click.Context(verb)
    value = ("",) if parameter.multiple or parameter.nargs == -1 else ""
    name = parameter.get_error_hint(context)
    with pytest.raises(Exception, match=f"^{re.escape(name)} is empty: give a path, or '.' for the working folder"):
        parameter.type_cast_value(context, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parameter.type(["~/x"][0], parameter, context) == tmp_path / "x"
    assert parameter.type("x", parameter, context) == Path("x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "", "--index", "i", "--model", "toy"], "videos is empty: give a path"),
        (["index", "clips", "", "--index", "i", "--model", "toy"], "videos is empty"),
        (["index", "clips", "--index", "", "--model", "toy"], "'--index' is empty"),
        (["index", "clips", "--index", "i", "--model", ""], "the model is empty"),
        (["add", "", "--index", "i"], "videos is empty"),
        (["remove", "a", "--index", ""], "'--index' is empty"),
        (["search", "x", "--index", ""], "'--index' is empty"),
        (["evaluate", "--model", "toy", "--data", ""], "the manifest is empty"),
        (["evaluate", "--model", "", "--data", "toy"], "the model is empty"),
        (["evaluate", "--model", "toy", "--data", "toy", "--trec", ""], "'--trec' is empty"),
        (["train", "", "--output", "o"], "the recipe is empty"),
        (["train", "msrvtt-clip-b32", "--output", "o", "--manifest", ""], "'--manifest' is empty"),
        (["train", "msrvtt-clip-b32", "--output", "o", "--set", "data.manifest=''"], "data.manifest is empty"),
        (["train", "msrvtt-clip-b32", "--output", "o", "--set", "data.cache=''"], "data.cache is empty"),
        (["train", "msrvtt-clip-b32", "--output", "o", "--set", "model.pretrained=''"], "model.pretrained is empty"),
        (["reproduce", "msrvtt", "--annotations", "a", "--weights", ""], "weights (--weights) is empty"),
        (["serve", "", "--port", "0"], "the index is empty"),
        (["serve", "name=", "--port", "0"], "the index is empty"),
        (["push", "user/name", "--model", ""], "the model is empty"),
        (["shard", "", "--output", "o", "--shards", "2"], "is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_empty_name_is_not_the_working_folder(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["search", "--index", "i", "--queries", "q", "--trec", "gone/run"],
            "gone/run cannot be written: No such file",
        ),
        (["search", "--index", "i", "--queries", "q", "--trec", "."], "cannot be written: Is a directory"),
        (["search", "--index", "i", "--queries", "spaced", "--trec", "run"], "id 'a b' holds white space"),
        (["search", "--index", "i", "--queries", "gone", "--trec", "run"], "gone cannot be read"),
        (["fuse", "gone", "--output", "gone/run"], "gone/run cannot be written"),
        (
            ["evaluate", "--model", "no/such", "--data", "m.jsonl", "--trec", "q/x"],
            "q/x cannot be written: Not a directory",
        ),
        (
            ["evaluate", "--model", "no/such", "--data", "m.jsonl", "--cache", "q/x"],
            "the frame cache q/x cannot be made",
        ),
        (["evaluate", "--index", "i", "--data", "m.jsonl", "--trec", "q"], "q cannot be written: Not a directory"),
        (["prepare", "msvd", "gone", "--output", "q/x.jsonl"], "cannot be written: Not a directory"),
        (["prepare", "msvd", "gone", "--output", "m.csv"], "does not end in .jsonl"),
        (["train", "msrvtt-clip-b32", "--output", "q/x"], "q/x cannot be written: Not a directory"),
        (["train", "msrvtt-clip-b32", "--output", "q"], "q is a file"),
        (["pull", "no/such", "--model", "q/x"], "q/x cannot be written: Not a directory"),
        (["index", "q", "--index", "q/x", "--model", "no/such"], "q/x cannot be written: Not a directory"),
        (["serve", "i", "--copies-folder", "q/x"], "q/x cannot be written: Not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_written_is_known_before_anything_is_opened(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """There is no index and no model of these names, so whatever is opened first fails in another way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q").write_text("1\ta dog\n")
    (tmp_path / "spaced").write_text("a b\ta dog\n")
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4", "caption": "a", "split": "test"}\n')
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_run_can_go_to_another_program(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("q Q0 a 1 0.5 x\n")
    command = [sys.executable, "-m", "colbert_video", "fuse", str(tmp_path / "run"), "--output", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split()[:4] == ["q", "Q0", "a", "1"]
    assert done.stdout.count("\n") == 1


def test_ids_that_do_not_fit_are_known_after_one_query(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from operations import QUERY, add_tokens

    from colbert_video.search.queries import QueryModel

    add_tokens(tmp_path / "i", ["a b", "c"], seed=0, add=False)
    (tmp_path / "q").write_text("".join(f"{number}\ta dog\n" for number in range(9)))
    encoded: list[str] = []

    def encode(self: object, texts: list[str], settings: object) -> list[object]:
        encoded.extend(texts)
        return [QUERY for _ in texts]

    monkeypatch.setattr(QueryModel, "encode", encode)
    arguments = ["search", "--index", str(tmp_path / "i"), "--queries", str(tmp_path / "q"), "--trec"]
    code, _, err = run([*arguments, str(tmp_path / "run")], capsys)
    assert (code, len(encoded)) == (2, 1)
    assert "id 'a b' holds white space" in err
    assert run([*arguments, str(tmp_path / "run"), "--escape"], capsys)[0] == 0
    assert "a%20b" in (tmp_path / "run").read_text()
