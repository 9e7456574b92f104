"""The indexing benchmark: its figures, and that the page holds them."""

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from paths import BENCHMARKS
from thorough import thorough_only
from video_writer import write_clip


def test_memory_is_measured_at_two_sizes_and_other_models_with_more_threads(load: Any) -> None:
    measures = load("indexing_measures")
    found = measures.cases(["toy", "ViT-B-32"], [64, 256], "cpu")
    assert [case.videos for case in found if case.model == "toy"] == [64, 256]
    others = [case.threads for case in found if case.model != "toy"]
    assert len(set(others)) == len(others)
    assert {case.videos for case in found if case.model != "toy"} == {16}


@thorough_only
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


def test_the_script_needs_a_folder_for_its_files(
    load: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["indexing.py"])
    with pytest.raises(SystemExit) as refused:
        runpy.run_path(str(BENCHMARKS / "indexing.py"), run_name="__main__")
    assert refused.value.code == 2
    assert "the following arguments are required: --work" in capsys.readouterr().err
