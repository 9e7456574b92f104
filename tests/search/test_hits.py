"""Hits: still a list, and what notebooks and pandas make of them."""

import base64
import io
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_writer import read_number, write_clip

from colbert_video.errors import DependencyError
from colbert_video.search import notebook
from colbert_video.search.hit import Hit, Moment
from colbert_video.search.hits import Hits


def hit(rank: int = 1, **changes: object) -> Hit:
    values: dict[str, object] = {
        "rank": rank,
        "id": f"v{rank}",
        "score": 1.0 / rank,
        "frame_score": 0.5,
        "video_score": None,
        "start": 1.0,
        "end": 3.0,
        "path": None,
        "metadata": {},
    }
    return Hit(**{**values, **changes})  # type: ignore[arg-type]


def test_hits_are_a_list() -> None:
    hits = Hits([hit(1), hit(2)])
    assert hits == [hit(1), hit(2)]
    assert isinstance(hits[:1], Hits)
    assert hits[0] == hit(1)
    assert [one.rank for one in hits[::-1]] == [2, 1]
    assert pickle.loads(pickle.dumps(hits)) == hits


def test_hits_and_their_slices_name_the_shards_that_did_not_answer() -> None:
    assert Hits([hit(1)]).shards_failed == ()
    partial = Hits([hit(1), hit(2)], ["shard-0002"])
    assert partial.shards_failed == partial[:1].shards_failed == ("shard-0002",)
    copy = pickle.loads(pickle.dumps(partial))
    assert (copy, copy.shards_failed) == (partial, ("shard-0002",))


def test_a_frame_has_a_row_a_hit() -> None:
    pytest.importorskip("pandas")
    hits = Hits([hit(1, metadata={"channel": "news"}, moments=(Moment(4.0, 5.0, 0.25),)), hit(2)])
    frame = hits.to_pandas()
    assert frame["id"].tolist() == ["v1", "v2"]
    assert frame["score"].tolist() == [1.0, 0.5]
    assert frame["metadata.channel"].tolist()[0] == "news"
    assert frame["metadata.channel"].isna().tolist() == [False, True]
    assert frame["moments"].tolist()[0] == ({"start": 4.0, "end": 5.0, "score": 0.25, "window": ""},)
    assert "metadata" not in frame.columns


def test_no_hits_make_an_empty_frame_of_the_same_columns() -> None:
    pytest.importorskip("pandas")
    assert list(Hits().to_pandas().columns) == list(Hits([hit()]).to_pandas().columns)
    assert len(Hits().to_pandas()) == 0


def test_a_missing_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DependencyError, match=r'pip install "colbert_video\[pandas\]"'):
        Hits([hit()]).to_pandas()


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_the_page_shows_the_middle_of_the_moment(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 100)  # 25 frames a second, each with its number
    html = Hits([hit(path=str(clip)), hit(2, path=str(tmp_path / "gone.mp4"))])._repr_html_()
    (picture,) = pictures(html)
    assert abs(read_number(picture) - 50) <= 1
    assert "no picture: missing" in html
    assert "0:01.0–0:03.0 · 1.000" in html


def test_the_page_names_further_moments() -> None:
    html = Hits([hit(moments=(Moment(4.0, 5.0, 0.25), Moment(61.5, 63.0, 0.2)))])._repr_html_()
    assert "also at 0:04.0–0:05.0, 1:01.5–1:03.0" in html


def test_whatever_an_index_says_is_escaped() -> None:
    evil = '<script>alert("x")</script>'
    html = Hits([hit(id=evil, metadata={evil: evil})])._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "no file" in html


def test_pictures_are_bounded_in_number_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "a.mp4", 30)
    hits = Hits([hit(rank, path=str(clip), end=1.0, start=0.0) for rank in (1, 2, 3)])
    monkeypatch.setattr(notebook, "MAX_PICTURES", 1)
    html = hits._repr_html_()
    assert (len(pictures(html)), html.count("<figure")) == (1, 3)
    monkeypatch.setattr(notebook, "TIMEOUT_SECONDS", 1e-9)
    assert "no picture: " in hits._repr_html_()


def test_a_long_metadata_is_cut() -> None:
    assert len(Hits([hit(metadata={"text": "x" * 5000})])._repr_html_()) < 2000


def test_no_hits_say_so() -> None:
    assert Hits()._repr_html_() == "<p>no video is eligible</p>"


def test_equal_hits_hash_alike() -> None:
    first, second = (
        Hit(1, "a", 1.5, 1.0, 0.5, 0.0, 2.0, "a.mp4", {"tags": ["x", "y"]}, None, (Moment(3.0, 4.0, 0.5),))
        for _ in range(2)
    )
    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second, replace(first, id="b")}) == 2
