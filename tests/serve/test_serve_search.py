"""Searching over HTTP: the same answers as the searcher's, within limits, and errors of one form."""

import asyncio
import copy
import io
import json
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from operations import add_tokens
from PIL import Image
from serving import ODD_ID, build_index, error_of, serving, wait_until, write_colour
from window_corpus import commit_windows

from colbert_video import Indexer, Question, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.search.explain import Explanation
from colbert_video.search.match_levels import PICTURE_LEVELS
from colbert_video.serve.app import create_app
from colbert_video.serve.http_errors import ServiceError
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.schemas import ExplainAnswer, softmax


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("serve-search")
    return build_index(folder / "my.index", tiny_trained_model, folder / "clips")


@pytest.fixture(scope="module")
def client(index: Path, tiny_trained_model: Any) -> Iterator[Any]:
    with serving(index, model=tiny_trained_model, most_upload_bytes=30_000, most_pixels=10_000) as client:
        yield client


def search(client: Any, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/search", params={"query": "a red circle", **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()["topk"]


def test_results_are_those_of_the_searcher(client: Any, index: Path, tiny_trained_model: Any) -> None:
    answer = client.get("/api/search", params={"query": "a red circle", "k": 2}).json()
    with Searcher(index, model=tiny_trained_model) as searcher:
        hits = searcher.search("a red circle", k=2)
    assert (answer["query"], answer["index"]) == ("a red circle", "my.index")
    for found, hit in zip(answer["topk"], hits, strict=True):
        assert (found["id"], found["pid"], found["rank"]) == (hit.id, hit.id, hit.rank)
        for name in ("score", "frame_score", "video_score", "start", "end"):
            assert found[name] == pytest.approx(getattr(hit, name))
        assert found["metadata"] == dict(hit.metadata)
        assert "path" not in found
    assert sum(found["prob"] for found in answer["topk"]) == pytest.approx(1)


def test_probabilities_are_the_softmax_of_the_scores() -> None:
    assert softmax([2.0, 1.0]) == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert softmax([1e5, 0.0]) == [1.0, 0.0]
    assert softmax([]) == []


def test_text_is_the_metadata_s_or_the_id(client: Any) -> None:
    texts = {found["id"]: found["text"] for found in search(client)}
    assert texts == {ODD_ID: "a red picture", "green": "green", "blue": "blue"}


def test_filters_and_ids_choose_what_is_searched(client: Any) -> None:
    news = search(client, where=json.dumps({"channel": "news"}))
    assert {found["id"] for found in news} == {ODD_ID, "blue"}
    assert {found["id"] for found in search(client, ids=[ODD_ID, "green"])} == {ODD_ID, "green"}
    assert len(search(client, k=1, exact=True, windows=True)) == 1


def test_addresses_in_results_lead_to_the_video(client: Any) -> None:
    (found,) = search(client, ids=ODD_ID)
    assert found["playable"] is True
    assert client.get("/" + found["media"]).headers["content-type"] == "video/mp4"
    assert client.get("/" + found["thumbnail"]).headers["content-type"] == "image/jpeg"


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind)
    return data.getvalue()


def test_a_picture_finds_the_video_that_shows_it(client: Any, index: Path, tiny_trained_model: Any) -> None:
    answer = client.post("/api/search/image", params={"k": 3}, content=picture((20, 20, 220)))
    with Searcher(index, model=tiny_trained_model) as searcher:
        hits = searcher.search_image(np.full((48, 64, 3), (20, 20, 220), dtype=np.uint8), k=3)
    found = answer.json()["topk"]
    assert answer.json()["query"] is None
    assert [(one["id"], one["video_score"]) for one in found] == [(hit.id, None) for hit in hits]
    assert found[0]["score"] == pytest.approx(hits[0].score)


def bitmap_header(side: int) -> bytes:
    """The beginning of a square BMP picture: its header without any pixels."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)


def test_pictures_are_bounded_and_must_be_pictures(client: Any) -> None:
    def posted(body: Any) -> tuple[int, str]:
        return error_of(client.post("/api/search/image", content=body))

    bomb = picture((0, 0, 0), (1000, 1000))  # a hundred times the pixels allowed, in few bytes
    assert len(bomb) < 30_000
    assert posted(bomb) == (413, "picture_too_large")
    for side in (10_000, 20_000):  # Pillow itself warns of the one and refuses the other
        assert posted(bitmap_header(side)) == (413, "picture_too_large")
    assert posted(picture((0, 0, 0), (40_000, 1))) == (413, "picture_too_large")
    assert posted(b"\0" * 30_001) == (413, "body_too_large")
    assert posted(b"\0" * 10_001 for _ in range(3)) == (413, "body_too_large")  # without a stated length
    for broken in (b"", b"GIF89a", picture((1, 2, 3))[:-30], b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        assert posted(broken) == (415, "not_a_picture")


def test_damaged_exif_data_cost_no_picture(client: Any) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (20, 20, 220)).save(data, "PNG", exif=b"Exif\0\0II*\0")
    answer = client.post("/api/search/image", params={"k": 1}, content=data.getvalue())
    assert (answer.status_code, len(answer.json()["topk"])) == (200, 1)


LIMITS = [
    ({"k": 1001}, "k_too_large"),
    ({"k": 10**30}, "k_too_large"),
    ({"k": 0}, "bad_parameter"),
    ({"k": "ten"}, "bad_parameter"),
    ({"query": " "}, "empty_query"),
    ({"query": "x" * 1001}, "query_too_long"),
    ({"ids": ["green"] * 1001}, "too_many_ids"),
    ({"ids": ["nothing"]}, "bad_parameter"),
    ({"where": "{"}, "bad_parameter"),
    ({"where": "[" * 20_000}, "bad_parameter"),
    ({"where": " " * 20_001}, "filter_too_long"),
    ({"where": '{"channel": {"~": 1}}'}, "bad_parameter"),
    ({"where": '{"path": {">": "/a"}}'}, "no_paths"),
    ({"where": '{"not": {"or": [{"path": {">": "/a"}}]}}'}, "no_paths"),
]


@pytest.mark.parametrize(("parameters", "code"), LIMITS, ids=[str(case)[:40] for case in LIMITS])
def test_what_is_out_of_range_is_refused(client: Any, parameters: dict[str, Any], code: str) -> None:
    answer = client.get("/api/search", params={"query": "a red circle", **parameters})
    assert error_of(answer) == (422, code)


@pytest.mark.parametrize(
    ("method", "address", "expected"),
    [
        ("GET", "/api/search", (422, "empty_query")),
        ("GET", "/api/search?query=x&index=other", (404, "no_such_index")),
        ("GET", "/api/indexes/other", (404, "no_such_index")),
        ("GET", "/api/video?id=other", (404, "no_such_video")),
        ("GET", "/api/relevance?query=x&id=other", (404, "no_such_video")),
        ("GET", "/api/relevance?query=%20&id=blue", (422, "empty_query")),
        ("GET", "/api/explain?query=x&id=other", (404, "no_such_video")),
        ("GET", "/api/nothing", (404, "not_found")),
        ("GET", "/nothing", (404, "not_found")),
        ("GET", "/static/nothing.js", (404, "not_found")),
        ("DELETE", "/api/search", (405, "method_not_allowed")),
        ("OPTIONS", "/api/nothing", (404, "not_found")),
        ("POST", "/api/video/media?id=green", (405, "method_not_allowed")),
    ],
)
def test_every_error_has_the_one_form(client: Any, method: str, address: str, expected: tuple[int, str]) -> None:
    assert error_of(client.request(method, address)) == expected


def test_what_nobody_foresaw_has_the_form_too(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("colbert_video.serve.indexes.ServedIndex.rows", broken)
    answer = client.get("/api/video?id=blue")
    assert error_of(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_explanation_holds_both_bags_and_the_moment(client: Any, index: Path, tiny_trained_model: Any) -> None:
    found = client.get("/api/explain", params={"query": "a red circle", "id": ODD_ID}).json()
    with Searcher(index, model=tiny_trained_model) as searcher:
        expected = searcher.explain("a red circle", ODD_ID)
        hit = searcher.search("a red circle", ids=[ODD_ID])[0]
    assert found["times"] == list(expected.times)
    assert [token["token"] for token in found["tokens"]] == [token.token for token in expected.tokens]
    assert [token["padding"] for token in found["tokens"]] == [t.token == "<pad>" for t in expected.tokens]
    assert set(found["similarities"]) == {"frame", "video"}
    for bag, matrix in expected.similarities.items():
        np.testing.assert_allclose(found["similarities"][bag], matrix, atol=1e-4)
    assert len(found["relevance"]) == len(found["times"])
    assert (found["start"], found["end"]) == pytest.approx((hit.start, hit.end))


def test_a_shot_is_explained_as_one_moment() -> None:
    times = (1.0, 5.0, 9.0)
    cosines = np.array([[0.0, 0.9, 0.0]], dtype=np.float32)
    found = Explanation("film#t=0,10", (), times, {"frame": cosines})
    entry = VideoEntry("film#t=0,10", None, "film", 0.0, 10.0, 60.0, times)
    shot = ExplainAnswer.from_explanation("words", found, entry, shots=True)
    assert (shot.start, shot.end) == (0.0, 10.0)
    window = ExplainAnswer.from_explanation("words", found, entry, shots=False)
    assert (window.start, window.end) == (3.0, 7.0)


def test_indexes_and_their_limits(client: Any) -> None:
    (short,) = client.get("/api/indexes").json()["indexes"]
    assert short["name"] == "my.index"
    assert (short["videos"], short["windows"], short["state"], short["text_queries"]) == (3, 0, "ready", True)
    full = client.get("/api/indexes/my.index").json()
    assert short.items() <= full.items()
    assert (full["dim"], full["nbits"], full["bags"]) == (64, 4, ["frame", "video"])
    assert full["limits"]["most_upload_bytes"] == 30_000
    assert "path" not in full


def test_commits_become_visible_while_serving(index: Path, tiny_trained_model: Any, tmp_path: Path) -> None:
    own = shutil.copytree(index, tmp_path / "own.index")
    with serving(own, model=tiny_trained_model) as client:
        version = client.get("/api/indexes/own.index").json()["version"]
        Indexer(own).remove(["green"])
        wait_until(lambda: len(search(client)) == 2)
        more = write_colour(tmp_path / "more.mp4", (200, 200, 0))
        Indexer(own, model=tiny_trained_model, workers=1).add([("more", str(more))])
        wait_until(lambda: {found["id"] for found in search(client)} == {ODD_ID, "blue", "more"})
        found = client.get("/api/indexes/own.index").json()
        assert (found["videos"], found["note"]) == (3, None)
        assert found["version"] > version


def test_a_commit_that_cannot_be_opened_leaves_the_older_one(
    index: Path, tiny_trained_model: Any, tmp_path: Path
) -> None:
    own = shutil.copytree(index, tmp_path / "own.index")
    with serving(own, model=tiny_trained_model) as client:
        more = write_colour(tmp_path / "more.mp4", (200, 200, 0))
        before = set(own.glob("segments/*"))
        (served,) = _indexes(client)
        served.refresh = lambda: False  # not before the segment is damaged
        Indexer(own, model=tiny_trained_model, workers=1).add([("more", str(more))])
        (newest,) = set(own.glob("segments/*")) - before
        (newest / "frame" / "doclens.0.json").unlink()
        del served.refresh
        wait_until(lambda: client.get("/api/indexes").json()["indexes"][0]["note"] is not None)
        assert len(search(client)) == 3
        assert client.get("/readyz").status_code == 200


@pytest.fixture
def models(tmp_path: Path, tiny_trained_model: Any) -> list[Path]:
    """Two models whose tokens have one shape and mean different things."""
    other = copy.deepcopy(tiny_trained_model)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    folders = [tmp_path / "one", tmp_path / "other"]
    for model, folder in zip((tiny_trained_model, other), folders, strict=True):
        model.save_pretrained(folder)
    return folders


def test_another_models_index_is_searched_with_its_tokens(models: list[Path], tmp_path: Path) -> None:
    own, clip = tmp_path / "own.index", [("red", write_colour(tmp_path / "red.mp4", (200, 0, 0)))]
    Indexer(own, model=models[0], workers=1).index(clip)
    with serving(own, model=None) as client:
        (served,) = _indexes(client)
        older, made_by = served.model, served.made_by
        (before,) = search(client)
        tokens = older.encode_queries("a red circle").to("cpu")[0]
        Indexer(own, model=models[1], workers=1).index(clip, overwrite=True)
        wait_until(lambda: served.made_by != made_by and served.model is not None)
        (after,) = search(client)
        with Searcher(own) as searcher:
            assert after["score"] == pytest.approx(searcher.search("a red circle")[0].score)
        assert after["score"] != pytest.approx(before["score"])
        with pytest.raises(ServiceError, match="replaced by one of another model"):
            served.search_tokens(tokens, made_by)
        encoder = client.app.app.state.service.encoder
        wait_until(lambda: all(model is not older for model, _ in encoder._cache))


def test_an_index_of_fewer_dimensions_is_searched_with_the_same_model_cut(models: list[Path], tmp_path: Path) -> None:
    """The fingerprint stays the same, and tokens of the older state would have another shape."""
    own, clip = tmp_path / "own.index", [("red", write_colour(tmp_path / "red.mp4", (200, 0, 0)))]
    Indexer(own, model=models[0], workers=1).index(clip)
    with serving(own, model=None) as client:
        (served,) = _indexes(client)
        older, made_by = served.model, served.made_by
        tokens = older.encode_queries("a red circle").to("cpu")[0]
        Indexer(own, model=models[0], workers=1, dim=32).index(clip, overwrite=True)
        wait_until(lambda: served.made_by != made_by and served.model is not None)
        assert served.fingerprint == made_by[0]
        (after,) = search(client)
        with Searcher(own) as searcher:
            assert after["score"] == pytest.approx(searcher.search("a red circle")[0].score)
        with pytest.raises(ServiceError, match="replaced by one of another model"):
            served.search_tokens(tokens, made_by)


def test_an_index_whose_new_model_is_missing_is_not_searched(models: list[Path], tmp_path: Path) -> None:
    """The older model's tokens would have the right shape, and find anything."""
    own, clip = tmp_path / "own.index", [("red", write_colour(tmp_path / "red.mp4", (200, 0, 0)))]
    Indexer(own, model=models[0], workers=1).index(clip)
    with serving(own, model=None) as client:
        (served,) = _indexes(client)
        assert len(search(client)) == 1
        served.refresh = lambda: False  # not before the model is gone
        Indexer(own, model=models[1], workers=1).index(clip, overwrite=True)
        shutil.rmtree(models[1])
        del served.refresh
        wait_until(lambda: served.state == "failed")
        refused = client.get("/api/search", params={"query": "a red circle"})
        assert error_of(refused) == (503, "index_unavailable")


def test_the_event_loop_stays_awake_during_searches(index: Path, tiny_trained_model: Any) -> None:
    """A heartbeat beside real queries, encoded and scored, is late by less than they take together."""
    registry = IndexRegistry.open([str(index)], model=tiny_trained_model)
    app = create_app(registry)
    late: list[float] = []
    statuses: list[int] = []

    async def heartbeat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - before - 0.002)

    async def asked(number: int) -> None:
        scope = {
            "type": "http", "method": "GET", "path": "/api/search", "headers": [(b"host", b"localhost")],
            "query_string": f"query=words+{number}&exact=true".encode(), "root_path": "", "scheme": "http",
        }  # fmt: skip

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]

    async def whole() -> float:
        service = app.app.state.service  # type: ignore[attr-defined]
        service.start()
        while not registry.ready:
            await asyncio.sleep(0.01)
        beat = asyncio.ensure_future(heartbeat())
        begun = time.perf_counter()
        await asyncio.gather(*(asked(number) for number in range(60)))
        beat.cancel()
        await service.close()
        return time.perf_counter() - begun

    took = asyncio.run(whole())
    assert statuses == [200] * 60
    assert len(late) > 5
    assert sorted(late)[len(late) // 2] < took / 10


def test_several_indexes_share_a_model_and_need_not_have_one(
    index: Path, tiny_trained_model: Any, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model"
    tiny_trained_model.save_pretrained(checkpoint)
    for name in ("a", "b"):
        Indexer(tmp_path / name, model=checkpoint, workers=1).index(
            [("red", write_colour(tmp_path / "r.mp4", (9, 0, 0)))]
        )
    add_tokens(tmp_path / "bare", "abcd", seed=0, add=False)
    folders = (tmp_path / "a", f"second={tmp_path / 'b'}", tmp_path / "bare")
    with serving(*folders, model=None) as client:
        names = [one["name"] for one in client.get("/api/indexes").json()["indexes"]]
        assert names == ["a", "second", "bare"]
        first, second, bare = _indexes(client)
        assert first.model is second.model
        assert [one["id"] for one in search(client, index="second")] == ["red"]
        assert bare.takes_text is False
        refused = client.get("/api/search", params={"query": "x", "index": "bare"})
        assert error_of(refused) == (422, "no_model")
        assert error_of(client.post("/api/search/image?index=bare", content=b"x")) == (422, "no_model")
        shown = client.get("/api/video", params={"id": "a", "index": "bare"}).json()
        assert (shown["playable"], shown["media"]) == (False, None)
        assert shown["reason"] == "the index knows no file of this video."


def _indexes(client: Any) -> list[Any]:
    return list(client.app.app.state.service.indexes)


def test_results_say_how_well_they_match(tiny_trained_model: Any, tmp_path: Path) -> None:
    commit_windows(tmp_path / "many.index", {f"v{number}": 0 for number in range(12)}, seed=0, add=False)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    with serving(tmp_path / "many.index", model=tiny_trained_model) as client:
        with Searcher(tmp_path / "many.index", model=tiny_trained_model) as searcher:
            hits, levels = searcher.search("a red circle"), searcher.match_levels()
            pictures = searcher.search_image(picture.getvalue())
        assert levels is not None
        plain = search(client)
        assert [found["confidence"] for found in plain] == pytest.approx([hit.confidence for hit in hits])
        assert {found["match"] for found in plain} == {None}
        labelled = search(client, labels=True)
        assert [found["match"] for found in labelled] == [levels.label(hit.confidence) for hit in hits]
        least = hits[3].confidence
        assert [found["id"] for found in search(client, min_confidence=least)] == [hit.id for hit in hits[:4]]
        of_picture = client.post("/api/search/image", params={"labels": True}, content=picture.getvalue()).json()[
            "topk"
        ]
        assert [found["match"] for found in of_picture] == [PICTURE_LEVELS.label(hit.confidence) for hit in pictures]
        for wrong in ("-0.1", "1.5", "nan", "much"):
            answer = client.get("/api/search", params={"query": "a", "min_confidence": wrong})
            assert error_of(answer)[0] == 422


def test_questions_of_several_parts(client: Any, index: Path, tiny_trained_model: Any) -> None:
    with Searcher(index, model=tiny_trained_model) as searcher:
        for asked, question in (
            ({"query": "red^3 circle"}, Question("red^3 circle")),
            ({"query": "red", "without": ["blue", "snow"]}, Question("red", without=["blue", "snow"])),
            (
                {"query": "red", "all_of": "blue", "then": ["green", "dog"]},
                Question("red", all_of="blue", then=["green", "dog"]),
            ),
            ({"then": ["green", "dog"]}, Question(then=["green", "dog"])),
        ):
            found = client.get("/api/search", params=asked).json()["topk"]
            wanted = [(hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in searcher.search(question)]
            assert [(hit["id"], hit["score"]) for hit in found] == wanted
        image, body = picture((250, 0, 0)), {"query": "red", "without": "blue", "image_weight": 2}
        found = client.post("/api/search/image", content=image, params=body).json()
        question = Question("red", image=image, image_weight=2, without="blue")
        assert found["query"] == "red"
        assert [hit["id"] for hit in found["topk"]] == [hit.id for hit in searcher.search(question)]
        found = client.post("/api/search/image", content=image, params={"without": "blue"}).json()["topk"]
        assert [hit["id"] for hit in found] == [hit.id for hit in searcher.search(image=image, without="blue")]
        found = client.get("/api/more_like", params={"id": "blue", "t": 0.2, "end": 1.0}).json()["topk"]
        assert [hit["id"] for hit in found] == [hit.id for hit in searcher.more_like("blue", time=(0.2, 1.0))]
        found = client.get("/api/occurrences", params={"id": "blue", "query": "blue"}).json()["occurrences"]
        assert [(one["start"], one["end"]) for one in found] == [
            (one.start, one.end) for one in searcher.occurrences("blue", "blue")
        ]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("search", 422),
        ("search?without=snow", 422),
        ("search?query=x&without=%20", 422),
        ("search?query=dog%5Etwo", 422),
        ("search?query=x&then=" + "y" * 10_000, 422),
        ("search?query=x&" + "&".join(["then=y"] * 40), 422),
        ("more_like?id=nobody", 404),
        ("more_like?id=blue&end=3", 422),
        ("more_like?id=blue&t=3&end=2", 422),
        ("occurrences?id=nobody&query=x", 404),
        ("occurrences?id=blue&query=%20", 422),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(client: Any, address: str, status: int) -> None:
    answer = client.get(f"/api/{address}")
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_results_of_a_small_index_have_no_confidence(client: Any) -> None:
    found = search(client, labels=True, min_confidence=1)
    assert {(result["confidence"], result["match"]) for result in found} == {(None, None)}


def test_videos_that_were_cut_are_one_result_or_one_a_window(tiny_trained_model: Any, tmp_path: Path) -> None:
    commit_windows(tmp_path / "cut.index", {"long": 3, "short": 0}, seed=0, add=False)
    with serving(tmp_path / "cut.index", model=tiny_trained_model) as client:
        assert {found["id"] for found in search(client)} == {"long", "short"}
        (long,) = search(client, ids="long")
        assert (long["parent"], len(long["moments"])) == ("long", 2)
        windows = search(client, ids="long", windows=True)
        assert {found["parent"] for found in windows} == {"long"}
        shown = client.get("/api/video", params={"id": "long"}).json()
        assert [(window["start"], window["end"]) for window in shown["windows"]] == [(0, 10), (10, 20), (20, 30)]
        assert {window["id"] for window in shown["windows"]} == {found["id"] for found in windows}
        best = client.get("/api/explain", params={"id": "long", "query": "a red circle"}).json()
        assert (best["id"], best["start"], best["end"]) == (windows[0]["id"], long["start"], long["end"])
        assert (best["times"], best["relevance"]) == ([], [])
        one = client.get("/api/video", params={"id": windows[0]["id"]}).json()
        assert one["windows"] == []


def test_everything_is_counted(client: Any) -> None:
    def value(line: str) -> float:
        found = [row for row in client.get("/metrics").text.splitlines() if row.startswith(line + " ")]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0

    counted = 'colbert_video_requests_total{method="GET",route="/api/search",status="200"}'
    other = 'colbert_video_requests_total{method="other",route="other",status="404"}'
    hits = "colbert_video_query_cache_hits"
    before = value(counted), value(other), value(hits)
    search(client, query="words that are counted")
    search(client, query="words that are counted")
    client.request("BREW", "/coffee")
    assert (value(counted), value(other), value(hits)) == (before[0] + 2, before[1] + 1, before[2] + 1)
    assert value('colbert_video_index_videos{index="my.index"}') == 3
    assert value('colbert_video_index_ready{index="my.index"}') == 1
    assert value("process_resident_memory_bytes") > 1e6


def test_names_must_differ_and_indexes_exist(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"two indexes are called 'my\.index'; name one of them"):
        IndexRegistry.open([str(index), str(index)])
    with pytest.raises(SettingsError, match="holds a slash"):
        IndexRegistry.open([f"a/b={index}"])
    with pytest.raises(SettingsError, match="no index was given"):
        IndexRegistry.open([])


def test_the_curve_of_a_video_is_the_relevance_of_all_its_windows(tmp_path: Path, tiny_trained_model: Any) -> None:
    path = write_colour(tmp_path / "long.mp4", (220, 20, 20), frames=60)
    indexer = Indexer(tmp_path / "i", model=tiny_trained_model, workers=1, window=3.0, stride=3.0)
    indexer.index([path])
    with serving(tmp_path / "i", model=tiny_trained_model) as client:
        asked = {"query": "a red circle", "id": "long.mp4"}
        curve = client.get("/api/relevance", params=asked).json()
        windows = [window["id"] for window in client.get("/api/video", params={"id": "long.mp4"}).json()["windows"]]
        assert len(windows) == 2
        parts = [client.get("/api/explain", params={**asked, "id": window}).json() for window in windows]
    assert curve["times"] == [time for part in parts for time in part["times"]]
    assert curve["relevance"] == pytest.approx([value for part in parts for value in part["relevance"]], abs=2e-4)


def test_pictures_are_kept_for_a_while(index: Path, tiny_trained_model: Any) -> None:
    def png(grey: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(grey).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file, "PNG")
        return file.getvalue()

    pictures = [png(grey) for grey in range(3)]
    with serving(index, model=tiny_trained_model, kept_picture_bytes=2 * len(pictures[0]) + 100) as client:
        names = [client.post("/api/pictures", content=picture).json()["picture"] for picture in pictures]
        assert len(set(names)) == 3
        assert error_of(client.get("/api/pictures", params={"picture": names[0]})) == (404, "no_such_picture")
        for name, picture in zip(names[1:], pictures[1:], strict=True):
            answer = client.get("/api/pictures", params={"picture": name})
            assert (answer.content, answer.headers["content-type"]) == (picture, "image/png")
        assert client.post("/api/pictures", content=pictures[2]).json()["picture"] == names[2]
        assert error_of(client.post("/api/pictures", content=b"<svg/>")) == (415, "not_a_picture")


FITS = "a red circle moves to the left of it "
"""With a weight on each word it has three times as many tokens, which are not encoded."""


@pytest.mark.parametrize(
    ("fields", "cut"),
    [
        ({"query": "a red circle"}, False),
        ({"query": "a red circle " * 60}, True),
        ({"query": " ".join(f"{word}^1.25" for word in FITS.split())}, False),
        ({"query": "a circle^1.25 " + "red circle " * 60}, True),
        ({"query": "a red circle", "without": "a blue square " * 60}, True),
        ({"query": "a red circle", "then": ["a square", "a star " * 60]}, True),
        ({"all_of": ["a red circle", "a square"]}, False),
    ],
)
def test_an_answer_says_if_the_text_was_cut(client: Any, fields: dict[str, Any], cut: bool) -> None:
    assert client.get("/api/search", params=fields).json()["query_cut"] is cut


def test_a_text_that_leaves_room_is_counted_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colbert_video.search.queries.is_cut", lambda model, text: pytest.fail("it is counted again"))
    assert client.get("/api/search", params={"query": FITS}).json()["query_cut"] is False


def test_words_beside_a_picture_are_counted_without_weights(client: Any) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, "PNG")
    for word, cut in (("circle^1.25", False), ("circle^1.25 " + "red circle " * 60, True)):
        answer = client.post(
            "/api/search/image", params={"query": word, "without": "a square"}, content=file.getvalue()
        )
        assert answer.json()["query_cut"] is cut
