from pathlib import Path

import pytest

from colbert_video import Searcher
from colbert_video.cli.demo import QUERIES_SHOWN, DemoResult, demo_parts, run_demo
from colbert_video.errors import SettingsError


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(keep=tmp_path_factory.mktemp("demo") / "kept", clips=16, seed=1)


def test_the_demo_finds_most_clips_by_their_captions(result: DemoResult) -> None:
    assert result.clips == 16
    assert result.first >= 12
    assert len(result.rows) == QUERIES_SHOWN
    assert all(len(row.hits) == 3 for row in result.rows)


def test_pairs_that_differ_in_motion_alone_are_shown_together(result: DemoResult) -> None:
    first, second = result.rows[:2]
    assert first.query != second.query
    assert len(set(first.query.split()) ^ set(second.query.split())) <= 4


def test_hits_carry_moments_within_their_clips(result: DemoResult) -> None:
    for row in result.rows:
        for hit in row.hits:
            assert 0 <= hit.start < hit.end <= 3.01
            assert hit.metadata["caption"]


def test_what_is_kept_can_be_searched(result: DemoResult) -> None:
    assert result.kept is not None
    assert Searcher(result.kept / "index").search(result.rows[0].query, k=1)[0].id == result.rows[0].hits[0].id
    assert str(result.kept / "index") in result.summary()


def test_the_summary_says_what_the_model_is_for(result: DemoResult) -> None:
    table, text = demo_parts(result)
    assert "knows only its toy world" in str(text)
    assert "PE-Core-B-16:meta" in str(text)
    assert table is not None


def test_a_folder_with_files_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(SettingsError, match="is not an empty folder"):
        run_demo(keep=tmp_path)
