"""The indexing benchmark: its figures, and that the page holds them."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
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


FIGURES: dict[str, Any] = {
    "machine": {"processor": "a processor", "cores": 2, "system": "Linux", "ffmpeg": "5.1"},
    "torch": "2.15",
    "rows": [
        {
            "model": "toy",
            "device": "cpu",
            "indexed": 64,
            "workers": 2,
            "threads": 1,
            "seconds": 8.0,
            "waited": 2.0,
            "cpu_seconds": {"decode": 3.2, "encode": 1.28, "write": 0.064, "compress": 0.64, "other": 1.216},
            "loaded_megabytes": 300.4,
            "peak_megabytes": 410.6,
        }
    ],
}
FIGURES["rows"].append({**FIGURES["rows"][0], "model": "ViT-B-32"})


def test_tables_say_what_the_figures_say(load: Any) -> None:
    page = load("indexing_page")
    markers = "".join(f"<!-- indexing: {name} -->\nold\n<!-- end -->\n" for name in page.SECTIONS)
    text = page.filled(markers, FIGURES)
    assert "old" not in text
    row = "| 64 | 2 | 1 | 50.0 | 20.0 | 1.0 | 10.0 | 19.0 | 10.0 | 8.0 | 25 % |"
    assert f"| toy (cpu) {row}" in text
    assert f"| ViT-B-32 (cpu) {row}" in text
    assert "| toy | 64 | 300 | 411 |" in text
    assert "| ViT-B-32 | 64 | 300" not in text  # Memory is compared for one model at several sizes.
    assert "a processor, 2 cores, Linux, busy with other work; torch 2.15." in text
    assert page.filled(text, FIGURES) == text


def test_committed_page_is_that_of_the_committed_figures(load: Any) -> None:
    page = load("indexing_page")
    text = page.PAGE.read_text()
    assert page.filled(text, json.loads(page.RESULTS.read_text())) == text
    assert text.count("<!-- indexing: ") == len(page.SECTIONS)


def test_memory_is_measured_at_two_sizes_and_other_models_with_more_threads(load: Any) -> None:
    measures = load("indexing_measures")
    found = measures.cases(["toy", "ViT-B-32"], [64, 256], "cpu")
    assert [case.videos for case in found if case.model == "toy"] == [64, 256]
    others = [case.threads for case in found if case.model != "toy"]
    assert len(set(others)) == len(others)
    assert {case.videos for case in found if case.model != "toy"} == {16}


@pytest.mark.slow
def test_a_run_is_measured_in_a_process_of_its_own(load: Any, tmp_path: Path) -> None:
    measures = load("indexing_measures")
    (tmp_path / "clips").mkdir()
    sources = [write_clip(tmp_path / "clips" / f"{number}.mp4", 20) for number in range(2)]
    row = measures.measure_apart(measures.Case("toy", 5, 1, 1, "cpu", frames=2), sources)
    assert row["indexed"] == 5
    assert set(row["cpu_seconds"]) == {"decode", *measures.STAGES, "other"}
    assert all(row["cpu_seconds"][stage] > 0 for stage in measures.STAGES)
    assert 0 < row["waited"] < row["seconds"]
    assert 10 < row["loaded_megabytes"] <= row["peak_megabytes"]
    assert json.loads(json.dumps(row)) == row
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {"0.mp4", "1.mp4"}
    assert asdict(measures.Case("toy", 5, 1, 1, "cpu", frames=2)).items() <= row.items()


def test_the_script_needs_a_folder_for_its_files() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "indexing.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)},
    )
    assert done.returncode == 2
    assert "--work is needed" in done.stderr
