"""What the page shows before anything is asked: newest videos, example queries, values of the metadata."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browser import PAGE_CAPTIONS, expect, search, until
from page_corpus import HOSTILE
from serving import error_of, serving, write_colour
from token_corpus import unit_tokens

from colbert_video import Indexer

SHARES = {
    "channel": ["news", "news", "sport", "news"],
    "year": [2001, 2001, 2002, 2001],
    "live": [True, True, False, True],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Eight videos without files, committed four at a time; number n comes n-th."""
    folder = tmp_path_factory.mktemp("start")
    for begin in (0, 4):
        rows = range(begin, begin + 4)
        metadata = [
            {name: values[row - begin] for name, values in SHARES.items()}
            | {
                "tags": ["a", "b"] if row % 2 else ["a"],
                "number": row,
                "long": "x" * 50,
                "a.b": "dotted",
                "text": f"caption {row}",
            }
            for row in rows
        ]
        indexer = Indexer(folder / "i", dim=32)
        indexer.index_tokens(
            [f"v{row}" for row in rows], unit_tokens(4, 3, 32, seed=begin), metadata=metadata, add=begin > 0
        )
    Indexer(folder / "i").remove(["v5"])
    with serving(folder / "i", model=None) as client:
        yield client


def newest(client: Any, **parameters: Any) -> tuple[list[str], str | None]:
    answer = client.get("/api/videos", params={"order": "newest", **parameters}).json()
    return [video["id"] for video in answer["videos"]], answer["next"]


def test_the_newest_videos_come_first_page_by_page(client: Any) -> None:
    everything = ["v7", "v6", "v4", "v3", "v2", "v1", "v0"]
    assert newest(client) == (everything, None)
    for limit in (1, 2, 3, 6):
        found, after = newest(client, limit=limit)
        while after is not None:
            more, after = newest(client, limit=limit, after=after)
            assert 0 < len(more) <= limit
            found += more
        assert found == everything
    assert newest(client, where=json.dumps({"channel": "sport"}))[0] == ["v6", "v2"]


def test_a_page_that_is_none_and_windows_are_refused(client: Any) -> None:
    for parameters, code in (({"after": "v3"}, "bad_page"), ({"windows": True}, "no_such_order")):
        answer = client.get("/api/videos", params={"order": "newest", **parameters})
        assert error_of(answer) == (422, code)


def test_values_that_several_videos_share_are_counted(client: Any) -> None:
    facets = {facet["field"]: facet for facet in client.get("/api/start").json()["facets"]}
    assert set(facets) == {"channel", "year", "live", "tags", "a.b"}  # neither numbers of one video nor long texts
    values = {name: [(one["value"], one["videos"]) for one in facet["values"]] for name, facet in facets.items()}
    assert values["channel"] == [("news", 5), ("sport", 2)]
    assert values["year"] == [(2001, 5), (2002, 2)]
    assert values["live"] == [(True, 5), (False, 2)]
    assert values["tags"] == [("a", 7), ("b", 3)]
    assert [facet["in_lists"] for facet in facets.values()] == [name == "tags" for name in facets]
    for name, facet in facets.items():
        for value, videos in values[name]:
            where = {name.replace(".", "\\."): {"contains": value} if facet["in_lists"] else value}
            found = client.get("/api/videos", params={"where": json.dumps(where)}).json()["videos"]
            assert len(found) == videos


def test_captions_are_examples(client: Any) -> None:
    examples = client.get("/api/start").json()["examples"]
    assert len(set(examples)) == len(examples) == 4
    assert all(example in {f"caption {row}" for row in range(8)} for example in examples)


def test_without_captions_typical_queries_that_are_answered_are_examples(
    tmp_path: Path, tiny_trained_model: Any
) -> None:
    write_colour(tmp_path / "clips" / "a.mp4", (220, 20, 20))
    Indexer(tmp_path / "i", model=tiny_trained_model, workers=1).index(tmp_path / "clips")
    with serving(tmp_path / "i", model=tiny_trained_model) as client:
        examples = client.get("/api/start").json()["examples"]
        assert examples
        assert client.get("/api/start").json()["examples"] == examples
    assert np.unique(examples).size == len(examples)


def test_a_wall_says_which_files_are_there(address: str, page: Any) -> None:
    answer = page.request.get(f"{address}api/videos", params={"order": "newest", "media": "true"}).json()
    videos = {video["id"]: video for video in answer["videos"]}
    assert videos["gone.mp4"]["thumbnail"] is None is videos["gone.mp4"]["media"]
    assert "t=7.50" in videos["tour.mp4"]["thumbnail"]
    assert {name for name, video in videos.items() if video["playable"]} == set(videos) - {"gone.mp4", "old camera.avi"}
    plain = page.request.get(f"{address}api/videos", params={"order": "newest"}).json()["videos"]
    assert all(video["thumbnail"] is None for video in plain)


def test_the_start_shows_videos_queries_and_values(page: Any) -> None:
    expect(page.locator(".tile")).to_have_count(8)
    expect(page.locator(".tile .title").nth(2)).to_have_text(HOSTILE)
    expect(page.locator(".tile", has_text="gone.mp4")).to_contain_text("no file")
    until(
        page, "[...document.querySelectorAll('.tile img')].every(one => one.naturalWidth > 0 || one.loading === 'lazy')"
    )
    page.locator(".tile", has_text="tour.mp4").click()
    expect(page.locator("#viewer-title")).to_have_text("tour.mp4")
    page.keyboard.press("Escape")
    expect(page.locator(".tile", has_text="tour.mp4")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer-title")).to_have_text(PAGE_CAPTIONS[3])
    page.keyboard.press("Escape")
    example = page.locator("#examples .chip").first
    text = example.text_content()
    example.click()
    expect(page.locator("#query")).to_have_value(text)
    expect(page.locator(".card .title").first).to_have_text(text)
    expect(page.locator("#start")).not_to_be_visible()
    page.go_back()
    expect(page.locator(".tile")).to_have_count(8)


def test_values_filter_the_wall_and_the_search(page: Any) -> None:
    chip = page.get_by_role("group", name="motion").get_by_role("button").first
    value, videos = chip.locator("span").nth(0).text_content(), int(chip.locator("span").nth(1).text_content())
    chip.click()
    expect(page.locator(".tile")).to_have_count(videos)
    expect(page.locator("#wall-title")).to_have_text("Videos that pass the filters")
    page.wait_for_url("**/*where=*")
    chosen = page.get_by_role("group", name="motion").get_by_role("button", name=value)
    expect(chosen).to_have_attribute("aria-pressed", "true")
    search(page, PAGE_CAPTIONS[0])
    expect(page.locator(".card")).to_have_count(videos)
    page.go_back()
    chosen.click()
    expect(page.locator(".tile")).to_have_count(8)
    page.wait_for_url(lambda address: "where" not in address)


def test_more_videos_come_as_one_scrolls(visit: Any) -> None:
    def many(route: Any) -> None:
        after = int([*route.request.url.split("after="), "0"][1].split("&")[0])
        video = {"parent": None, "start": 0, "end": 3, "duration": 3, "metadata": {}, "windows": 0}
        nothing = {"thumbnail": None, "media": None, "playable": False}
        videos = [{"id": f"video {after + row}", **video, **nothing} for row in range(40)]
        route.fulfill(
            json={"index": "x", "version": 1, "videos": videos, "next": str(after + 40) if after < 160 else None}
        )

    with visit() as page:
        page.route("**/api/videos?*", many)
        page.goto("./")
        expect(page.locator(".tile").first).to_be_visible()
        assert page.locator(".tile").count() < 200
        for _ in range(12):
            page.mouse.wheel(0, 4000)
            page.wait_for_timeout(100)
        expect(page.locator(".tile")).to_have_count(200)
        assert page.locator(".tile .title").nth(199).text_content() == "video 199"
        expect(page.get_by_role("button", name="More videos")).to_have_count(0)


def test_an_empty_index_says_how_to_fill_it(visit: Any) -> None:
    def emptied(route: Any) -> None:
        found = route.fetch().json()
        route.fulfill(json={"indexes": [{**index, "videos": 0, "windows": 0} for index in found["indexes"]]})

    with visit() as page:
        page.route("**/api/indexes", emptied)
        page.goto("./")
        expect(page.locator("#welcome")).to_contain_text("This index is empty.")
        expect(page.locator("#welcome code")).to_have_text("colbert-video add FOLDER --index index")
        expect(page.locator(".tile")).to_have_count(0)


def test_a_slow_answer_has_places_for_what_will_come(visit: Any) -> None:
    with visit() as page:
        held: list[Any] = []
        page.goto("./")
        page.locator(".tile").first.wait_for()
        page.route("**/api/search?*", lambda route: held.append(route))
        page.locator("#query").fill("slow")
        expect(page.locator("#results .skeleton").first).to_be_visible()
        expect(page.locator("#status")).to_have_text("Searching…")
        assert page.locator(".card").count() == 0
        held[0].continue_()
        expect(page.locator(".card").first).to_be_visible()
        expect(page.locator(".skeleton")).to_have_count(0)
