"""Tables and sentences in which the command line shows results to people."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from colbert_video.base.wording import counted
from colbert_video.cli.listing import NOTHING, Column, Listing
from colbert_video.errors import printable
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.upkeep.compact import CompactReport
from colbert_video.indexing.upkeep.contents import ListedVideo
from colbert_video.indexing.upkeep.verify import VerifyReport
from colbert_video.model.bags import FRAME_BAGS, holds_frames
from colbert_video.search.explain import PADDING, Explanation, TokenMatch
from colbert_video.search.hit import Hit, Moment, format_moment, format_time
from colbert_video.search.match_levels import MatchLevels

MAX_FAILURES = 50
"""Files that a list shows; `info` and --json have them all."""
MAX_MOMENTS = 3
"""Further moments of a hit in the table; --json has them all."""


def hit_listing(
    hits: Sequence[Hit], *, bags: bool = False, levels: MatchLevels | None = None, least: float | None = None
) -> Listing:
    """Return rank, id, moment and score of each hit, and its line of text where one was found.

    Args:
        hits: Best first.
        bags: True to show the score in each bag too.
        levels: From which confidence on a match is fair or strong, for a column that says so; None for no such column.
        least: Confidence below which hits were left out; None if none were.
    """
    further = any(hit.moments for hit in hits)
    named = _bags_of(hits) if bags else []
    columns = [Column("", right=True), Column("video", fold=True), Column("moment"), Column("score", right=True)]
    columns += [Column("match")] if levels else []
    columns += [Column(f"{bag} bag", right=True) for bag in named]
    columns += [Column("also at", fold=True)] if further else []
    said = any(hit.line for hit in hits)
    columns += [Column("line", fold=True)] if said else []
    rows = []
    for hit in hits:
        own = {"frame": hit.frame_score, "video": hit.video_score, **hit.bag_scores}
        scores = (hit.score, *(own.get(bag) for bag in named))
        match = [levels.label(hit.confidence) or NOTHING] if levels else []
        score, *in_bags = map(score_text, scores)
        moments = [format_moment(other.start, other.end) for other in hit.moments[:MAX_MOMENTS]]
        also = [", ".join(moments) or NOTHING] if further else []
        line = [hit.line.text if hit.line else NOTHING] if said else []
        rows.append([str(hit.rank), hit.id, format_moment(hit.start, hit.end), score, *match, *in_bags, *also, *line])
    empty = "no video is eligible" if least is None else f"no video matches with a confidence of {least:g} or more"
    return Listing(columns, rows, empty)


def occurrence_listing(found: Sequence[Moment]) -> Listing:
    """Return moment and score of each occurrence."""
    columns = [Column("moment"), Column("score", right=True)]
    rows = [[format_moment(one.start, one.end), score_text(one.score)] for one in found]
    return Listing(columns, rows, "the video has no frames with times")


def _bags_of(hits: Sequence[Hit]) -> list[str]:
    """Return the bags that have columns: the usual two, and others that were looked at."""
    return list(dict.fromkeys([*FRAME_BAGS, *(bag for hit in hits for bag in hit.bag_scores)]))


def video_listing(videos: Sequence[ListedVideo]) -> Listing:
    """Return id, length and text of each video of an index."""
    windows = any(video.windows for video in videos)
    columns = [Column("video", fold=True), Column("seconds", right=True)]
    columns += [Column("windows", right=True)] if windows else []
    columns += [Column("about", fold=True)]
    rows = []
    for video in videos:
        counts = [str(video.windows)] if windows else []
        rows.append([video.id, _length(video), *counts, _about(video.metadata)])
    return Listing(columns, rows, "no video is listed")


def _length(video: ListedVideo) -> str:
    """Return the length of a video, or of a window of one as "20.0-30.0"."""
    if video.parent is not None and video.start is not None and video.end is not None:
        return f"{video.start:.1f}-{video.end:.1f}"
    return NOTHING if video.duration is None else f"{video.duration:.1f}"


def _about(metadata: Mapping[str, Any]) -> str:
    """Return a video's text or caption, else the values of its metadata by name."""
    for name in ("text", "caption", "title"):
        if isinstance(metadata.get(name), str):
            return str(metadata[name])
    return ", ".join(f"{name}: {value}" for name, value in metadata.items()) or NOTHING


def cell(text: str, *, lines: bool = False) -> Text:
    """Return a text as a table shows it: escaped, without markup."""
    return Text(printable(text, lines=lines))


def score_text(value: float | None) -> str:
    """Return a score with three decimals, "-" where there is none."""
    return "-" if value is None else f"{value:.3f}"


def explanation_table(explanation: Explanation) -> RenderableType:
    """Return a table of the best match of each query token in each bag; padding tokens share one row of means."""
    bags = list(explanation.similarities)
    table = Table(title=cell(f"Why {explanation.id}"))
    table.add_column("token")
    frames, sizes = len(explanation.times), {bag: found.shape[1] for bag, found in explanation.similarities.items()}
    timed = {bag: holds_frames(bag, sizes[bag], frames) for bag in bags}
    for bag in bags:
        table.add_column(f"{bag} token at" if timed[bag] else f"{bag} token")
        table.add_column("cosine", justify="right")
    padding = [token for token in explanation.tokens if token.token == PADDING]
    for token in explanation.tokens:
        if token.token != PADDING:
            cells = (_match_cells(token.matches[bag], own_number=not timed[bag]) for bag in bags)
            table.add_row(cell(token.token), *(text for pair in cells for text in pair))
    if padding:
        means = [sum(token.matches[bag].score for token in padding) / len(padding) for bag in bags]
        table.add_row(f"{PADDING} × {len(padding)}", *(cell for mean in means for cell in ("", score_text(mean))))
    return table


def _match_cells(match: TokenMatch, *, own_number: bool) -> tuple[str, str]:
    place = f"token {match.token}" if own_number else "expansion" if match.time is None else format_time(match.time)
    return place, score_text(match.score)


def report_text(report: IndexReport) -> str:
    """Return the result of an index run in sentences, with its refused files."""
    lines = [
        f"{report.path}: {counted(report.indexed, 'video')} indexed in {report.seconds:.1f} s, "
        f"{report.videos:,} in the index" + (f" with {counted(report.windows, 'window')}" if report.windows else "")
    ]
    if report.resumed:
        lines.append(f"{report.resumed:,} of them encoded by the interrupted run")
    if report.unchanged:
        lines.append(f"{counted(report.unchanged, 'unchanged video')} skipped")
    if report.ignored:
        lines.append(f"{counted(report.ignored, 'other file')} ignored")
    if report.vanished:
        kept = "removed" if report.removed else "still in the index; `colbert-video add --sync` removes them"
        lines.append(f"{counted(len(report.vanished), 'video')} without a file ({kept}):")
        lines += _listed(report.vanished)
    if report.drift is not None and report.drift.drifted:
        lines.append(report.drift.advice())
    if report.damaged:
        lines.append(f"{counted(len(report.damaged), 'video')} indexed, though a part could not be read:")
        lines += _listed([f"{name}: {'; '.join(damage)}" for name, damage in report.damaged.items()])
    if report.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures_by_kind.items())
        lines.append(f"{counted(len(report.failures), 'video')} refused ({kinds}):")
        lines += _listed(_failures(report.failures), "; `colbert-video info` lists them all")
    return "\n".join(map(printable, lines))


def compact_text(report: CompactReport) -> str:
    """Return the result of compacting in sentences."""
    if not report.compacted:
        return f"{report.path}: nothing to do: {counted(report.videos, 'video')} in one segment, none removed"
    retrained = ", with a new codec" if report.retrained else ""
    merged = f"{counted(report.merged, 'segment')} made into one of {counted(report.videos, 'video')}{retrained}"
    sizes = f"{decimal(report.bytes_before)} before and {decimal(report.bytes_after)} after"
    dropped = counted(report.dropped, "removed video")
    lines = [f"{report.path}: {merged}, {dropped} dropped, {sizes}, in {report.seconds:.1f} s"]
    if report.reencoded or report.kept:
        lines.append(
            f"{counted(report.reencoded, 'video')} encoded again; stored tokens kept of {counted(len(report.kept), 'video')}:"
        )
        lines += _listed(_failures(report.kept))
    return "\n".join(map(printable, lines))


def verify_text(report: VerifyReport) -> str:
    """Return the damage and the leftover files that `verify` found, in sentences."""
    state = "intact" if report.intact else "DAMAGED"
    read = f"{counted(report.videos, 'video')}, {counted(report.files, 'file')}, {decimal(report.bytes)} read"
    lines = [f"{report.path}: {state}: {read}"]
    lines += [f"  {problem.path}: {problem.detail}" for problem in report.problems]
    if report.leftovers:
        lines.append(f"{counted(len(report.leftovers), 'file')} that the index does not use:")
        lines += _listed(report.leftovers)
    return "\n".join(map(printable, lines))


def _failures(failures: Iterable[Failure]) -> list[str]:
    return [f"{failure.id}: {failure.kind}: {failure.detail}" for failure in failures]


def _listed(names: Sequence[str], remedy: str = "") -> list[str]:
    more = [f"  and {len(names) - MAX_FAILURES} more{remedy}"] if len(names) > MAX_FAILURES else []
    return [*(f"  {name}" for name in names[:MAX_FAILURES]), *more]


def description_table(description: Mapping[str, Any]) -> RenderableType:
    """Return a table of the properties of an index, one per row; properties without a value are left out."""
    table = Table(show_header=False)
    table.add_column("property")
    table.add_column("value", overflow="fold")
    for name, value in description.items():
        if name == "failures":
            texts = (f"{failure['id']}: {failure['kind']}: {failure['detail']}" for failure in value)
            table.add_row("refused videos", cell("\n".join(map(printable, texts)) or "none", lines=True))
        elif value is not None and value not in ([], {}):
            label, text = PROPERTIES.get(name, (name.replace("_", " "), plain_value))
            table.add_row(label, cell(text(value), lines=True))
    return table


def plain_value(value: Any) -> str:
    """Return a value in words: "yes" for True, parts of a list and a mapping separated by commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {plain_value(own)}" for name, own in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain_value, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _seconds(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g} seconds"


def _fields(fields: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each key of the metadata: its name, the kinds of its values, and how many videos have it."""
    return "\n".join(
        f"{printable(one['name'])}: {', '.join(one['kinds'])} in {counted(one['videos'], 'video')}" for one in fields
    )


PROPERTIES: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "fields": ("metadata", _fields),
    "path": ("index", str),
    "bytes": ("size on disk", decimal),
    "bytes_per_video": ("size of a video", decimal),
    "removed": ("removed, not yet compacted", plain_value),
    "staged": ("encoded, not yet in the index", plain_value),
    "kernels": ("scored by", lambda value: f"{value} kernels" if value != "torch" else "torch, without kernels"),
    "dim": ("dimensions of a token", plain_value),
    "nbits": ("bits of a dimension", plain_value),
    "num_frames": ("frames of a video or window", plain_value),
    "window": ("windows of", _seconds),
    "stride": ("from window to window", _seconds),
    "sample_bytes": ("sample to train the codec", decimal),
    "seed": ("random seed", plain_value),
    "codec_errors": ("errors of stored tokens", lambda value: plain_value(value.get("trained", value))),
    "codec_drift": ("advice", str),
}
"""Properties of an index that people read in other words, or with units."""
