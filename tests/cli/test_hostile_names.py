"""Names of files, ids and errors may hold anything; what reaches a terminal or a log is text that can be read."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from serving import write_colour

from colbert_video.cli.console import LogFormatter
from colbert_video.cli.tables import hit_listing, report_text, verify_text
from colbert_video.errors import printable
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.upkeep.verify import Problem, VerifyReport
from colbert_video.progress import Bar, progress_bar, show_progress
from colbert_video.search.hit import Hit

RED = "\x1b[31m"
FORGED = "a\nerror: all is lost\x1b[2J\x07\x9b31m\u202egpj\u2066.mp4"
ESCAPED = r"a\nerror: all is lost\x1b[2J\x07\x9b31m\u202egpj\u2066.mp4"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff]")
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 🎬 👩\u200d👩\u200d👧.mp4", "plain é 漢 🎬 👩\u200d👩\u200d👧.mp4"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\tb\r\n", r"a\tb\r\n"),
        (FORGED, ESCAPED),
        ("caf\udce9.mp4", r"caf\xe9.mp4"),
        ("half \ud83c", r"half \ud83c"),
        ("\u2028\u2029\ufeff", r"\u2028\u2029\ufeff"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_commands_or_misleads_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_text_of_lines_keeps_them() -> None:
    assert printable(f"a\n\tb{RED}\r\n", lines=True) == "a\n\tb\\x1b[31m\\r\n"


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_raw_is_left_and_a_second_pass_changes_nothing(text: str) -> None:
    shown = printable(text)
    assert not RAW.search(shown)
    assert "\n" not in shown
    shown.encode()
    assert printable(shown) == shown


def test_messages_of_the_log_are_one_line_and_tracebacks_keep_theirs() -> None:
    formatter = LogFormatter("%(name)s: %(message)s")
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "cannot look into %s", (FORGED,), None)
    assert formatter.format(record) == f"x: cannot look into {ESCAPED}"
    try:
        raise ValueError(RED)
    except ValueError:
        failed = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    text = formatter.format(failed)
    assert text.count("\n") >= 3
    assert r"ValueError: \x1b[31m" in text
    assert not RAW.search(text)


def test_tables_and_sentences_show_names_escaped() -> None:
    failure = Failure(FORGED, FORGED, "unreadable", FORGED)
    report = IndexReport(Path("i"), 1, 0, 0, (failure,), 0, 1, 1.0, vanished=(FORGED,), damaged={FORGED: (FORGED,)})
    lines = report_text(report).split("\n")
    assert sum(line.count(ESCAPED) for line in lines) == 5
    assert not any(line.startswith("error") or RAW.search(line) for line in lines)
    verified = VerifyReport(Path("i"), 1, 1, 1, (Problem(FORGED, "gone"),), (FORGED,))
    assert verify_text(verified).count(ESCAPED) == 2
    cells = hit_listing([Hit(1, FORGED, 1.0, 0.5, 0.5, 0.0, 1.0, None, {})]).table().columns[1]._cells  # type: ignore[union-attr]
    assert [str(cell) for cell in cells] == [ESCAPED]


@pytest.fixture
def bars() -> Iterator[None]:
    show_progress(True)
    yield
    show_progress(False)


@pytest.mark.usefixtures("bars")
def test_notes_above_a_progress_bar_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("encoding videos", 1) as bar:
        assert isinstance(bar, Bar)
        bar.note(f"refused {RED}{FORGED[:20]}")
    assert r"refused \x1b[31ma\nerror: all is lost" in capsys.readouterr().err


def test_errors_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["search", "red", "--index", str(tmp_path / f"no{RED}ne")], capsys)
    assert code == 2
    assert r"no\x1b[31mne" in err
    assert not RAW.search(err)


@linux
def test_every_verb_shows_hostile_files_escaped_and_json_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, index = tmp_path / f"fol{RED}der", str(tmp_path / "i")
    clip = write_colour(folder / "plain.mp4", (200, 0, 0)).read_bytes()
    (folder / FORGED).write_bytes(clip)
    (folder / f"bad{FORGED}").write_bytes(b"junk")
    said = []
    for arguments in (
        ["index", str(folder), "--model", "toy", "--device", "cpu", "--workers", "1"],
        ["search", "red", "--device", "cpu", "--explain"],
        ["info"],
        ["add", str(folder), "--device", "cpu", "--workers", "1"],
        ["verify"],
    ):
        said.append(run([*arguments, "--index", index], capsys))
    assert [code for code, _, _ in said] == [1, 0, 0, 1, 0]
    for _, out, err in said:
        assert not RAW.search(out + err), (out, err)
        assert not any(line.startswith("error: all") for line in (out + err).split("\n"))
    assert ESCAPED in said[0][1]
    _, out, _ = run(["search", "red", "--index", index, "--device", "cpu", "--json"], capsys)
    assert {hit["id"] for hit in json.loads(out)["hits"]} == {"plain.mp4", FORGED}


@linux
def test_two_files_of_one_shown_name_are_two_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, index = tmp_path / "clips", str(tmp_path / "i")
    literal = write_colour(folder / r"\xff\xfe.mp4", (200, 0, 0))
    raw = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.mp4")
    os.rename(write_colour(folder / "b.mp4", (0, 0, 200)), raw)  # noqa: PTH104 - the name is no text
    options = ["--index", index, "--device", "cpu", "--json"]
    code, out, _ = run(["index", str(folder), "--model", "toy", "--workers", "1", *options], capsys)
    assert (code, json.loads(out)["indexed"]) == (0, 2)
    _, out, _ = run(["search", "blue", *options], capsys)
    paths = {hit["id"]: hit["path"] for hit in json.loads(out)["hits"]}
    assert paths == {r"\xff\xfe.mp4": str(literal), r"\Xff\Xfe.mp4": str(folder / r"\Xff\Xfe.mp4")}
    _, out, _ = run(["search", "--video", raw, *options], capsys)  # each was encoded from its own file
    best = json.loads(out)["hits"][0]["id"]
    assert best == r"\Xff\Xfe.mp4"
    code, out, _ = run(["add", str(folder), "--workers", "1", *options], capsys)
    assert (json.loads(out)["indexed"], json.loads(out)["unchanged"]) == (0, 2)
    _, out, _ = run(["remove", best, *options[:2], "--json"], capsys)
    assert json.loads(out) == {"removed": [best]}
