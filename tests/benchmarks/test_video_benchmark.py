"""The decoding benchmark: its figures, and that the page holds them."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from video_writer import write_clip


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


@pytest.mark.parametrize(("program", "outcome"), [("import time; time.sleep(60)", "hang"), ("exit(3)", "crash")])
def test_a_reader_that_hangs_or_dies_is_an_outcome(load: Any, tmp_path: Path, program: str, outcome: str) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
    python.chmod(0o755)
    reader = load("decode_measures").Contestant("opencv", str(python), tmp_path)
    assert reader.ask("read", limit=1.0 if outcome == "hang" else 30.0, path="a.mp4")["outcome"] == outcome
    reader.close()
