"""The decoding benchmark: its figures, and that the page holds them."""

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import BENCHMARKS
from video_writer import write_clip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmark as its scripts do: they find each other in their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def entry(shows: bool, **outcomes: Any) -> dict[str, Any]:
    return {"shows": shows, "readers": outcomes}


FIGURES: dict[str, Any] = {
    "machine": {"processor": "a processor", "cores": 2, "system": "Linux", "ffmpeg": "5.1"},
    "versions": {"ours": "av 18", "decord": "decord 0.6", "opencv": "opencv 5"},
    "speed": {
        "240 lines": {"ours": [50.0, 50.0], "decord": [100.0, 120.0], "opencv": [400.0, 400.0]},
        "720 lines": {"ours": [200.0, 100.0], "decord": [400.0, 380.0], "opencv": [900.0, 900.0]},
    },
    "hours": {
        "MP4": {
            "ours": {"outcome": "frames", "cpu_ms": 41.5, "wrong": 0},
            "decord": {"outcome": "frames", "cpu_ms": 1500.0},
            "opencv": {"outcome": "hang"},
        }
    },
    "kinds": {
        "MP4": entry(
            True,
            ours={"outcome": "right", "warnings": []},
            decord={"outcome": "wrong", "wrong": 5},
            opencv={"outcome": "error", "detail": "RuntimeError: x"},
        ),
        "sound": entry(
            False,
            ours={"outcome": "refused", "detail": "no_video: no video stream"},
            decord={"outcome": "error", "detail": "RuntimeError: x"},
            opencv={"outcome": "crash", "detail": "exit code 1"},
        ),
    },
    "clips": {
        "a.mp4": entry(
            True,
            ours={"outcome": "right", "warnings": []},
            decord={"outcome": "right", "warnings": []},
            opencv={"outcome": "right", "warnings": []},
        ),
        "b.mp4": entry(
            True,
            ours={"outcome": "right", "warnings": ["1 damaged packets or frames"]},
            decord={"outcome": "hang", "detail": "no answer"},
            opencv={"outcome": "right", "warnings": []},
        ),
    },
    "memory": {"ours": {"opens": 500, "early_megabytes": 70.2, "late_megabytes": 71.4}},
}


def test_tables_say_what_the_figures_say(load: Any) -> None:
    page = load("decode_page")
    text = page.filled(
        "".join(f"<!-- figures: {name} -->old<!-- end -->\n" for name in page.SECTIONS), FIGURES
    )
    assert text.count("old") == len(page.SECTIONS)  # Only whole lines are markers.
    text = page.filled(
        "".join(f"<!-- figures: {name} -->\nold\n<!-- end -->\n" for name in page.SECTIONS), FIGURES
    )
    assert "old" not in text
    assert "| colbert_video | 50 | 150 | 10.00 | 2.50 |" in text
    assert "| decord, Pillow | 110 | 390 | 4.00 | 1.00 |" in text
    assert "| colbert_video | 42 (0 wrong) |" in text
    assert "| decord, Pillow | 1500 |" in text
    assert "| OpenCV | hang |" in text
    assert "| MP4 | right | **5 wrong** | error |" in text
    assert "| sound | `no_video` | refused | **crash** |" in text
    assert "1 of 2 clips all readers read right" in text
    assert "| `b.mp4` | right, with a warning | **hang** | right |" in text
    assert "| colbert_video | 1 of 1 | 2 of 2 |" in text
    assert "| decord | 0 of 1 | 1 of 2 |" in text
    assert "70 MB after 100 opens, 71 MB after all" in text
    assert page.filled(text, FIGURES) == text


@pytest.mark.slow
def test_our_reader_is_measured_in_a_process_of_its_own(load: Any, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("compares with the ffmpeg program")
    measures = load("decode_measures")
    clip = write_clip(tmp_path / "a.mp4", 60)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    readers = measures.contestants(["ours"], {"ours": sys.executable}, tmp_path / "work")
    try:
        found = measures.outcomes({"clip": (clip, True), "text": (text, True)}, readers)
        costs = measures.speed({"set": [clip]}, readers, 2)
        held = measures.memory(readers["ours"], [clip, text], 10)
    finally:
        readers["ours"].close()
    assert found["clip"]["shows"]
    assert found["clip"]["readers"]["ours"]["outcome"] == "right"
    assert not found["text"]["shows"]
    assert found["text"]["readers"]["ours"]["detail"].startswith("unreadable: ")
    assert costs["set"]["ours"][0] > 0
    assert held["late_megabytes"] > 10


@pytest.mark.parametrize(
    ("program", "outcome"), [("import time; time.sleep(60)", "hang"), ("exit(3)", "crash")]
)
def test_a_reader_that_hangs_or_dies_is_an_outcome(
    load: Any, tmp_path: Path, program: str, outcome: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
    python.chmod(0o755)
    reader = load("decode_measures").Contestant("opencv", str(python), tmp_path)
    assert reader.ask("read", limit=1.0 if outcome == "hang" else 30.0, path="a.mp4")["outcome"] == outcome
    reader.close()


def test_committed_page_is_that_of_the_committed_figures(load: Any) -> None:
    decode, page = load("decode"), load("decode_page")
    text = decode.PAGE.read_text()
    assert page.filled(text, json.loads(decode.RESULTS.read_text())) == text
    assert text.count("<!-- figures: ") == len(page.SECTIONS)
