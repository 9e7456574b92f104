"""Lines of text over HTTP: searched alone and beside the picture, and shown with the hits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import build_index, error_of, serving

from colbert_video import Searcher
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.spoken_lines import VideoLines
from colbert_video.video.subtitles.timed_line import TimedLine


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-spoken")
    path = build_index(folder / "my.index", tiny_trained_model, folder / "clips")
    with Catalog.open(path, writable=True) as catalog:
        ids = sorted({entry.video for entry in catalog.entries()})
        said = (TimedLine(0.1, 0.4, "good <b>morning</b>"), TimedLine(0.5, 0.9, "good night"))
        catalog.set_lines([VideoLines(ids[0], "subtitles", "", said)])
    return path


@pytest.fixture(scope="module")
def client(index: Path, tiny_trained_model: Any) -> Iterator[Any]:
    with serving(index, model=tiny_trained_model) as client:
        yield client


@pytest.mark.parametrize("text", ["speech", "both"])
def test_results_are_those_of_the_searcher(client: Any, index: Path, tiny_trained_model: Any, text: Any) -> None:
    asked = {"query": "good morning", "text": text, "speech_weight": 2, "labels": True}
    answer = client.get("/api/search", params=asked)
    assert answer.status_code == 200, answer.text
    with Searcher(index, model=tiny_trained_model) as searcher:
        hits = searcher.search("good morning", text=text, speech_weight=2)
    results = answer.json()["topk"]
    assert [(one["id"], one["score"], one["start"], one["end"]) for one in results] == [
        (hit.id, pytest.approx(hit.score), hit.start, hit.end) for hit in hits
    ]
    assert results[0]["line"] == {"start": 0.1, "end": 0.4, "text": "good <b>morning</b>"}
    assert [one["line"] for one in results[1:]] == [None] * (len(hits) - 1)
    assert {(one["confidence"], one["match"]) for one in results} == {(None, None)}


def test_pictures_alone_have_no_lines(client: Any) -> None:
    results = client.get("/api/search", params={"query": "good morning"}).json()["topk"]
    assert {one["line"] for one in results} == {None}


def test_the_list_of_indexes_says_whether_there_are_lines(client: Any) -> None:
    assert client.get("/api/indexes").json()["indexes"][0]["lines"] == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": "speech", "query": "…"}, "no word that a line could hold"),
        ({"text": "speech", "without": "night"}, "takes words alone"),
        ({"text": "both", "min_confidence": 0.1}, "leave min_confidence out"),
        ({"text": "sound"}, "text"),
        ({"text": "both", "speech_weight": -1}, "speech_weight"),
    ],
)
def test_what_cannot_be_asked(client: Any, given: dict[str, Any], message: str) -> None:
    answer = client.get("/api/search", params={"query": "good", **given})
    assert answer.status_code == 422
    assert error_of(answer)[0] == 422
    assert message in answer.text


def test_an_index_without_lines_says_how_to_get_some(tmp_path: Path, tiny_trained_model: Any) -> None:
    plain = build_index(tmp_path / "plain.index", tiny_trained_model, tmp_path / "clips")
    with serving(plain, model=tiny_trained_model) as client:
        answer = client.get("/api/search", params={"query": "good", "text": "speech"})
    assert answer.status_code == 422
    assert error_of(answer)[0] == 422
    assert "no lines of text" in answer.text
