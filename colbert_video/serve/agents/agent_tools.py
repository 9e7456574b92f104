"""The tools that agents are given: searching, looking closer, and seeing pictures."""

import asyncio
import json
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.types import ToolAnnotations
from pydantic import Field

import colbert_video
from colbert_video.serve.agents.agent_answers import (
    DescribedVideo,
    Explained,
    FoundMoment,
    FoundMoments,
    FoundVideo,
    FoundVideos,
    ListedVideo,
    ListedVideos,
    SearchableIndex,
    SearchableIndexes,
    WordMatch,
    caption_of,
    rounded_score,
    rounded_time,
)
from colbert_video.serve.agents.contact_sheet import contact_sheet
from colbert_video.serve.agents.service_client import ServiceClient

INSTRUCTIONS = """Searches videos by what they show. Describe a picture ("a dog jumps into water"), not a file name; then look
at the moments found with `frame` or `contact_sheet` before you rely on them. Times are seconds, moments [start, end)."""
MOST_PICTURES = 25
"""On one contact sheet."""
SHEET_WIDTH = 160
"""Pixels of the longer side of each of its pictures."""
RESULTS, LISTED, PICTURES = 5, 20, 9
"""Answers of a tool where nothing is said."""

Index = Annotated[str | None, Field(description="Name of the index; the first without one.")]
Id = Annotated[str, Field(description="Id of a video.")]
Words = Annotated[str, Field(description="Words that describe what is to be seen.")]
Where = Annotated[
    dict[str, Any] | None,
    Field(description='Only videos whose metadata pass this filter: {"channel": "news", "duration": {">": 60}}.'),
]
Metadata = Annotated[bool, Field(description="True for all metadata of each video.")]


class AgentTools:
    """The tools; each asks one or a few addresses of the service and shortens the answer.

    Args:
        client: Asks the service.
    """

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def search(
        self,
        query: Words | None = None,
        without: Annotated[list[str] | None, Field(description="What must not be shown.")] = None,
        all_of: Annotated[
            list[str] | None, Field(description="What the same video must show too, at any time.")
        ] = None,
        then: Annotated[
            list[str] | None, Field(description="What the same video must show after it, in order.")
        ] = None,
        k: Annotated[int, Field(description="Most videos.", ge=1)] = RESULTS,
        min_confidence: Annotated[
            float | None, Field(description="0 to 1: leave out what matches less, to get nothing if nothing matches.")
        ] = None,
        where: Where = None,
        ids: Annotated[list[str] | None, Field(description="Search only these videos.")] = None,
        index: Index = None,
        metadata: Metadata = False,
    ) -> FoundVideos:
        """Find the videos that show what words describe, best first, each with its best moment.

        A word may have a weight, "dog^2". Say what must not be shown with `without`, not with "no" in the words.
        """
        parts = {"without": without or None, "all_of": all_of or None, "then": then or None}
        found = await self._client.json(
            "/api/search", query=query, **parts, **_eligible(k, min_confidence, where, ids), index=index
        )
        return _found_videos(found, metadata=metadata)

    async def more_like(
        self,
        id: Id,  # noqa: A002
        time: Annotated[float | None, Field(description="What it shows at this time; all of it without one.")] = None,
        end: Annotated[float | None, Field(description="With `time`: what it shows from there to here.")] = None,
        k: Annotated[int, Field(description="Most videos.", ge=1)] = RESULTS,
        min_confidence: Annotated[float | None, Field(description="0 to 1: leave out what is less alike.")] = None,
        where: Where = None,
        index: Index = None,
        metadata: Metadata = False,
    ) -> FoundVideos:
        """Find other videos that look like one, or like a moment of it."""
        found = await self._client.json(
            "/api/more_like", id=id, t=time, end=end, **_eligible(k, min_confidence, where, None), index=index
        )
        return _found_videos(found, metadata=metadata)

    async def moments(self, query: Words, id: Id, index: Index = None) -> FoundMoments:  # noqa: A002
        """Find every part of one video where words are met, in the order of time."""
        found = await self._client.json("/api/occurrences", query=query, id=id, index=index)
        return FoundMoments(id=id, moments=[_found_moment(row) for row in found["occurrences"]])

    async def explain(
        self,
        query: Words,
        id: Id,  # noqa: A002
        time: Annotated[float | None, Field(description="Of a long video, explain the part at this time.")] = None,
        index: Index = None,
    ) -> Explained:
        """Show which frame of a video answers each word best, and how well."""
        found = await self._client.json("/api/explain", query=query, id=id, t=time, index=index)
        score = sum(found["weights"][bag] * own for bag, own in found["scores"].items())
        words = [_word_match(token) for token in found["tokens"] if not _is_control(token["token"])]
        return Explained(
            id=found["id"],
            start=rounded_time(found["start"]),
            end=rounded_time(found["end"]),
            score=rounded_score(score),
            words=words,
        )

    async def frame(
        self,
        id: Id,  # noqa: A002
        time: Annotated[float, Field(description="Seconds.", ge=0)] = 0.0,
        width: Annotated[int, Field(description="Pixels of the longer side: 160, 320 or 640.")] = 320,
        index: Index = None,
    ) -> Image:
        """Show one frame of a video."""
        return Image(data=await self._picture(id, time, width, index), format="jpeg")

    async def contact_sheet(
        self,
        id: Id,  # noqa: A002
        start: Annotated[float, Field(description="Seconds.", ge=0)] = 0.0,
        end: Annotated[float | None, Field(description="Seconds; the end of the video without it.")] = None,
        pictures: Annotated[int, Field(description="How many frames.", ge=1, le=MOST_PICTURES)] = PICTURES,
        index: Index = None,
    ) -> Image:
        """Show frames of a video, evenly spaced, as one picture with their times."""
        if end is None:
            found = await self._client.json("/api/video", id=id, index=index)
            end = found["duration"] or start
        step = max(end - start, 0.0) / pictures
        times = [start + (place + 0.5) * step for place in range(pictures)]
        made = [await self._picture(id, time, SHEET_WIDTH, index) for time in times]
        return Image(data=await asyncio.to_thread(contact_sheet, made, times), format="jpeg")

    async def list_videos(
        self,
        limit: Annotated[int, Field(description="Most videos.", ge=1)] = LISTED,
        after: Annotated[str, Field(description="`next` of the page before.")] = "",
        where: Where = None,
        index: Index = None,
        metadata: Metadata = False,
    ) -> ListedVideos:
        """List the videos of an index by their ids, page by page."""
        found = await self._client.json("/api/videos", limit=limit, after=after, where=_as_json(where), index=index)
        return ListedVideos(
            index=found["index"],
            videos=[_listed_video(row, metadata=metadata) for row in found["videos"]],
            next=found["next"],
        )

    async def video(self, id: Id, index: Index = None) -> DescribedVideo:  # noqa: A002
        """Return everything known of one video."""
        found = await self._client.json("/api/video", id=id, index=index)
        seconds = rounded_time(found["duration"])
        return DescribedVideo(id=id, seconds=seconds, metadata=found["metadata"], windows=len(found["windows"]))

    async def indexes(self) -> SearchableIndexes:
        """List the indexes that can be searched, the default first."""
        found = await self._client.json("/api/indexes")
        return SearchableIndexes(indexes=[SearchableIndex.model_validate(row) for row in found["indexes"]])

    async def _picture(self, video_id: str, time: float, width: int, index: str | None) -> bytes:
        return await self._client.content("/api/video/thumbnail", id=video_id, t=time, width=width, index=index)


def agent_server(client: ServiceClient) -> MCPServer:
    """Return a server with all tools, none of which changes anything."""
    server = MCPServer(
        "colbert_video", instructions=INSTRUCTIONS, version=colbert_video.__version__, log_level="WARNING"
    )
    tools = AgentTools(client)
    for tool in (
        tools.search,
        tools.more_like,
        tools.moments,
        tools.explain,
        tools.frame,
        tools.contact_sheet,
        tools.list_videos,
        tools.video,
        tools.indexes,
    ):
        server.add_tool(tool, annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    return server


def _as_json(where: dict[str, Any] | None) -> str | None:
    return None if where is None else json.dumps(where)


def _eligible(
    k: int, min_confidence: float | None, where: dict[str, Any] | None, ids: list[str] | None
) -> dict[str, Any]:
    return {"k": k, "min_confidence": min_confidence, "where": _as_json(where), "ids": ids or None, "labels": True}


def _found_videos(found: dict[str, Any], *, metadata: bool) -> FoundVideos:
    missing = ", ".join(found["shards_failed"])
    return FoundVideos(
        index=found["index"],
        videos=[_found_video(row, metadata=metadata) for row in found["topk"]],
        note=f"These parts of the index did not answer: {missing}." if missing else None,
    )


def _found_video(row: dict[str, Any], *, metadata: bool) -> FoundVideo:
    return FoundVideo(
        id=row["id"],
        start=rounded_time(row["start"]),
        end=rounded_time(row["end"]),
        score=rounded_score(row["score"]),
        confidence=None if row.get("confidence") is None else rounded_score(row["confidence"]),
        match=row.get("match"),
        text=caption_of(row["metadata"]),
        metadata=row["metadata"] if metadata else None,
    )


def _found_moment(row: dict[str, Any]) -> FoundMoment:
    start, end = round(row["start"], 2), round(row["end"], 2)
    return FoundMoment(start=start, end=end, score=rounded_score(row["score"]))


def _is_control(token: str) -> bool:
    """Return whether a token is no word: padding and marks of begin and end are in angle brackets."""
    return len(token) > 2 and token.startswith("<") and token.endswith(">")


def _word_match(token: dict[str, Any]) -> WordMatch:
    """Return a word's best match over all bags; one that belongs to a frame before one that belongs to none."""
    best = max(token["matches"].values(), key=lambda match: (match["time"] is not None, match["score"]))
    return WordMatch(word=token["token"], time=rounded_time(best["time"]), score=rounded_score(best["score"]))


def _listed_video(row: dict[str, Any], *, metadata: bool) -> ListedVideo:
    return ListedVideo(
        id=row["id"],
        seconds=rounded_time(row["duration"]),
        text=caption_of(row["metadata"]),
        metadata=row["metadata"] if metadata else None,
    )
