"""Tools for agents, asked by the protocol's own client: in this process, over HTTP, and as a program."""

import asyncio
import base64
import io
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from command_line import run
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from serving import ODD_ID, TOKEN, build_index
from starlette.testclient import TestClient
from test_serve_process import started

from colbert_video import Question, Searcher, VideoColBERT
from colbert_video.serve.agents.agent_tools import agent_server
from colbert_video.serve.agents.contact_sheet import contact_sheet
from colbert_video.serve.agents.service_client import ServiceClient
from colbert_video.serve.app import create_api, create_app
from colbert_video.serve.indexes import IndexRegistry
from colbert_video.serve.service_settings import ServeSettings

TOOLS = ["search", "more_like", "moments", "explain", "frame", "contact_sheet", "list_videos", "video", "indexes"]
QUERY = "a red picture"
Result = TypeVar("Result")


@pytest.fixture(scope="module")
def toy() -> VideoColBERT:
    return VideoColBERT.from_pretrained("toy", device="cpu")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, toy: VideoColBERT) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    return build_index(folder / "my.index", toy, folder / "clips")


def asked(index: Path, model: Any, ask: Callable[[Client], Awaitable[Result]], **settings: Any) -> Result:
    """What an agent in this process gets."""

    async def talk() -> Result:
        app, _ = create_api(IndexRegistry.open([str(index)], model=model), ServeSettings(**settings))
        async with app.router.lifespan_context(app), Client(agent_server(ServiceClient(app))) as client:
            return await ask(client)

    return asyncio.run(talk())


def call(index: Path, model: Any, tool: str, settings: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """The answer of one tool: its values, or the pictures of those that show something."""
    found = asked(index, model, lambda client: client.call_tool(tool, arguments), **(settings or {}))
    assert not found.is_error, found.content
    return found.structured_content if found.structured_content is not None else found.content


def refusal(index: Path, model: Any, tool: str, arguments: dict[str, Any]) -> str:
    found = asked(index, model, lambda client: client.call_tool(tool, arguments))
    assert found.is_error
    return str(found.content[0].text)


def picture(content: Any) -> Image.Image:
    (one,) = content
    assert (one.type, one.mime_type) == ("image", "image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(one.data)))


def test_every_tool_reads_and_none_writes(index: Path, toy: VideoColBERT) -> None:
    tools = asked(index, toy, lambda client: client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS
    assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
    assert all(tool.description for tool in tools)


def test_search_answers_as_the_searcher(index: Path, toy: VideoColBERT) -> None:
    found = call(index, toy, "search", query=QUERY, k=2)
    with Searcher(index, model=toy) as searcher:
        hits = searcher.search(QUERY, k=2)
    assert [one["id"] for one in found["videos"]] == [hit.id for hit in hits]
    for one, hit in zip(found["videos"], hits, strict=True):
        assert one["score"] == pytest.approx(hit.score, abs=5e-4)
        assert (one["start"], one["end"]) == pytest.approx((hit.start, hit.end), abs=0.005)
        assert one["metadata"] is None
    assert {one["id"]: one["text"] for one in found["videos"]}.get(ODD_ID) in (None, "a red picture")


def test_search_keeps_to_filters_and_ids(index: Path, toy: VideoColBERT) -> None:
    found = call(index, toy, "search", query=QUERY, where={"channel": "sport"}, metadata=True)
    assert [(one["id"], one["metadata"]) for one in found["videos"]] == [("green", {"channel": "sport"})]
    found = call(index, toy, "search", query=QUERY, ids=["blue", ODD_ID])
    assert {one["id"] for one in found["videos"]} == {"blue", ODD_ID}


def test_questions_of_several_parts(index: Path, toy: VideoColBERT) -> None:
    parts = {"without": ["a green picture"], "all_of": ["a picture"], "then": ["a blue picture"]}
    with Searcher(index, model=toy) as searcher:
        for name, texts in parts.items():
            found = call(index, toy, "search", query=QUERY, **{name: texts})
            hits = searcher.search(Question(QUERY, **{name: texts}), k=5)  # type: ignore[arg-type]
            assert [one["id"] for one in found["videos"]] == [hit.id for hit in hits]
            assert [one["score"] for one in found["videos"]] == pytest.approx([hit.score for hit in hits], abs=5e-4)
    assert call(index, toy, "search", all_of=["a picture", "a red one"])["videos"]


def test_others_that_look_alike(index: Path, toy: VideoColBERT) -> None:
    found = call(index, toy, "more_like", id="green")
    assert {one["id"] for one in found["videos"]} == {"blue", ODD_ID}
    at = call(index, toy, "more_like", id="green", time=1.0, end=2.0, where={"channel": "news"}, k=1)
    assert len(at["videos"]) == 1


def test_moments_of_one_video(index: Path, toy: VideoColBERT) -> None:
    found = call(index, toy, "moments", query=QUERY, id="green")
    with Searcher(index, model=toy) as searcher:
        expected = searcher.occurrences(QUERY, "green")
    assert found["id"] == "green"
    for name in ("start", "end", "score"):
        values = [getattr(one, name) for one in expected]
        assert [one[name] for one in found["moments"]] == pytest.approx(values, abs=0.005)


def test_an_explanation_names_words_alone(index: Path, toy: VideoColBERT) -> None:
    found = call(index, toy, "explain", query=QUERY, id=ODD_ID)
    assert [one["word"].strip() for one in found["words"]] == ["a", "red", "picture"]
    with Searcher(index, model=toy) as searcher:
        scores = searcher.explain(QUERY, ODD_ID).scores
    assert found["score"] == pytest.approx(sum(scores.values()), abs=5e-4)


def test_a_frame_is_shown(index: Path, toy: VideoColBERT) -> None:
    shown = picture(call(index, toy, "frame", id=ODD_ID, time=1.0, width=160))
    assert shown.size == (160, 120) or max(shown.size) <= 160
    red, green, blue = shown.convert("RGB").getpixel((shown.width // 2, shown.height // 2))
    assert red > 180
    assert green < 80
    assert blue < 80


def test_a_contact_sheet_shows_times_in_order(index: Path, toy: VideoColBERT) -> None:
    four = picture(call(index, toy, "contact_sheet", id="blue", start=1.0, end=2.0, pictures=4))
    one = picture(call(index, toy, "contact_sheet", id="blue", pictures=1))
    assert four.width > 1.8 * one.width
    assert four.height > 1.8 * one.height
    red, _, blue = four.convert("RGB").getpixel((four.width // 4, four.height // 4))
    assert blue > 150
    assert red < 90


def test_a_sheet_has_a_place_for_each_picture() -> None:
    written = []
    for shade in (50, 100, 150, 200, 250):
        file = io.BytesIO()
        Image.new("RGB", (40, 30), (shade, shade, shade)).save(file, "JPEG", quality=95)
        written.append(file.getvalue())
    sheet = Image.open(io.BytesIO(contact_sheet(written, [0.0, 1.0, 2.0, 3.0, 4.0]))).convert("L")
    places = [(column, row) for row in range(2) for column in range(3)]  # the last stays empty
    shades = [sheet.getpixel((4 + 44 * column + 20, 4 + 50 * row + 15)) for column, row in places]
    assert shades == pytest.approx([50, 100, 150, 200, 250, 24], abs=6)


def test_lists_go_on_where_they_stopped(index: Path, toy: VideoColBERT) -> None:
    first = call(index, toy, "list_videos", limit=2)
    rest = call(index, toy, "list_videos", limit=2, after=first["next"])
    names = [one["id"] for one in (*first["videos"], *rest["videos"])]
    assert (sorted(names), rest["next"]) == (sorted({"green", "blue", ODD_ID}), None)
    assert call(index, toy, "video", id="green")["metadata"] == {"channel": "sport"}
    assert [one["name"] for one in call(index, toy, "indexes")["indexes"]] == ["my.index"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {"query": " "}, "Write at least one word."),
        ("search", {"query": QUERY, "k": 100_000}, "Ask for at most 1000 results."),
        ("search", {"query": QUERY, "where": {"path": "/etc"}}, "which is not served"),
        ("search", {"query": QUERY, "index": "other"}, "There are: my.index."),
        ("explain", {"query": QUERY, "id": "nothing"}, "'nothing' is not in index"),
        ("frame", {"id": "green", "width": 10_000}, "Use one of 160, 320, 640."),
        ("contact_sheet", {"id": "green", "pictures": 1000}, "pictures"),
        ("search", {}, "Write at least one word."),
        ("search", {"query": QUERY, "min_confidence": 7}, "min_confidence"),
        ("more_like", {"id": "nothing"}, "'nothing' is not in index"),
        ("more_like", {"id": "green", "time": 2.0, "end": 1.0}, "a later `end`"),
    ],
)
def test_refusals_say_what_to_do(
    index: Path, toy: VideoColBERT, tool: str, arguments: dict[str, Any], said: str
) -> None:
    assert said in refusal(index, toy, tool, arguments)


def test_files_outside_the_media_roots_are_not_shown(index: Path, toy: VideoColBERT, tmp_path: Path) -> None:
    found = asked(index, toy, lambda client: client.call_tool("frame", {"id": "green"}), media_roots=(tmp_path,))
    assert found.is_error


@contextmanager
def listening(index: Path, model: Any, *, agents: bool = True, **settings: Any) -> Iterator[TestClient]:
    app = create_app(IndexRegistry.open([str(index)], model=model), ServeSettings(**settings), agents=agents)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_the_address_is_guarded_as_the_others(index: Path, toy: VideoColBERT) -> None:
    known = {**ACCEPT, "Authorization": f"Bearer {TOKEN}"}
    with listening(index, toy, token=TOKEN) as client:
        assert client.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 401
        wrong = {**ACCEPT, "Authorization": "Bearer another-long-secret-of-tests"}
        assert client.post("/mcp", json=INITIALIZE, headers=wrong).status_code == 401
        answer = client.post("/mcp", json=INITIALIZE, headers=known)
        assert (answer.status_code, answer.json()["result"]["serverInfo"]["name"]) == (200, "colbert_video")
        foreign = {**known, "Origin": "https://example.org"}
        assert client.post("/mcp", json=INITIALIZE, headers=foreign).status_code == 403
        assert client.post("/mcp", json=INITIALIZE, headers={**known, "Host": "example.org"}).status_code == 400
        assert client.post("/mcp", content=b"x" * 2**21, headers=known).status_code == 413
        assert client.post("/mcp", content=b"{", headers=known).status_code == 400


def test_a_service_without_agents_has_no_such_address(index: Path, toy: VideoColBERT) -> None:
    with listening(index, toy, agents=False) as client:
        assert client.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 404


def test_agents_reach_a_service_by_its_address(index: Path) -> None:
    async def talk(address: str) -> Any:
        known = httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        async with known, Client(streamable_http_client(f"{address}mcp", http_client=known)) as client:
            return await client.call_tool("search", {"query": QUERY, "k": 1})

    arguments = (str(index), "--device", "cpu", "--mcp")
    with started(*arguments, COLBERT_VIDEO_TOKEN=TOKEN) as (_, address):
        found = asyncio.run(talk(address))
    assert len(found.structured_content["videos"]) == 1


def test_agents_start_the_program(index: Path) -> None:
    home = Path(__file__).resolve().parents[2]
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "colbert_video", "mcp", str(index), "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"},
        cwd=home,
    )

    async def talk() -> tuple[list[str], Any]:
        async with Client(program) as client:
            tools = (await client.list_tools()).tools
            return [tool.name for tool in tools], await client.call_tool("search", {"query": QUERY})

    names, found = asyncio.run(talk())
    assert names == TOOLS
    assert len(found.structured_content["videos"]) == 3
    assert len(json.dumps(found.structured_content)) < 1000


def test_a_missing_index_is_named_before_anything_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, problem = run(["mcp", str(tmp_path / "none.index")], capsys)
    assert (code != 0, out) == (True, "")
    assert "none.index" in problem
