"""Tables and sentences in which the command line shows results to people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from colbert_video.errors import printable
from colbert_video.indexing.build.report import IndexReport
from colbert_video.indexing.catalog.entries import Failure
from colbert_video.indexing.upkeep.compact import CompactReport
from colbert_video.indexing.upkeep.verify import VerifyReport
from colbert_video.search.explain import PADDING, Explanation, TokenMatch
from colbert_video.search.hit import Hit, format_moment, format_time

MAX_FAILURES = 50
"""Files that a list shows; `info` and --json have them all."""
MAX_MOMENTS = 3
"""Further moments of a hit in the table; --json has them all."""


def hit_table(hits: Sequence[Hit]) -> RenderableType:
    """Return a table with rank, id, moment and scores of each hit."""
    if not hits:
        return "no video is eligible"
    further = any(hit.moments for hit in hits)
    table = Table()
    table.add_column("", justify="right")
    table.add_column("video")
    table.add_column("moment")
    for column in ("score", "frame bag", "video bag"):
        table.add_column(column, justify="right")
    if further:
        table.add_column("also at")
    for hit in hits:
        scores = [score_text(score) for score in (hit.score, hit.frame_score, hit.video_score)]
        moments = [format_moment(other.start, other.end) for other in hit.moments[:MAX_MOMENTS]]
        moment = format_moment(hit.start, hit.end)
        table.add_row(str(hit.rank), cell(hit.id), moment, *scores, *([", ".join(moments)] if further else []))
    return table


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
    for bag in bags:
        table.add_column(f"{bag} token at")
        table.add_column("cosine", justify="right")
    padding = [token for token in explanation.tokens if token.token == PADDING]
    for token in explanation.tokens:
        if token.token != PADDING:
            matches = [token.matches[bag] for bag in bags]
            table.add_row(cell(token.token), *(cell for match in matches for cell in _match_cells(match)))
    if padding:
        means = [sum(token.matches[bag].score for token in padding) / len(padding) for bag in bags]
        table.add_row(f"{PADDING} × {len(padding)}", *(cell for mean in means for cell in ("", score_text(mean))))
    return table


def _match_cells(match: TokenMatch) -> tuple[str, str]:
    return ("expansion" if match.time is None else format_time(match.time)), score_text(match.score)


def report_text(report: IndexReport) -> str:
    """Return the result of an index run in sentences, with its refused files."""
    lines = [
        f"{report.path}: {report.indexed} videos indexed in {report.seconds:.1f} s, {report.videos} in the index"
        + (f" with {report.windows} windows" if report.windows else "")
    ]
    if report.resumed:
        lines.append(f"{report.resumed} of them had been encoded by the interrupted run")
    if report.unchanged:
        lines.append(f"{report.unchanged} unchanged videos were skipped")
    if report.ignored:
        lines.append(f"{report.ignored} other files were ignored")
    if report.vanished:
        kept = "removed" if report.removed else "still in the index; `colbert-video add --sync` removes them"
        lines.append(f"the files of {len(report.vanished)} videos are missing ({kept}):")
        lines += _listed(report.vanished)
    if report.drift is not None and report.drift.drifted:
        lines.append(report.drift.advice())
    if report.damaged:
        lines.append(f"{len(report.damaged)} videos are damaged and were indexed as far as they decode:")
        lines += _listed([f"{name}: {'; '.join(damage)}" for name, damage in report.damaged.items()])
    if report.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures_by_kind.items())
        lines.append(f"{len(report.failures)} videos were refused ({kinds}):")
        lines += _listed(_failures(report.failures), "; `colbert-video info` lists them all")
    return "\n".join(map(printable, lines))


def compact_text(report: CompactReport) -> str:
    """Return the result of compacting in sentences."""
    if not report.compacted:
        return f"{report.path}: nothing to do, {report.videos} videos in one segment and none removed"
    retrained = ", with a new codec" if report.retrained else ""
    merged = f"{report.merged} segments became one of {report.videos} videos{retrained}"
    sizes = f"{report.bytes_before} bytes before and {report.bytes_after} after"
    lines = [f"{report.path}: {merged}, {report.dropped} removed ones dropped, {sizes}, in {report.seconds:.1f} s"]
    if report.reencoded or report.kept:
        lines.append(f"{report.reencoded} videos were encoded again, {len(report.kept)} keep their stored tokens:")
        lines += _listed(_failures(report.kept))
    return "\n".join(map(printable, lines))


def verify_text(report: VerifyReport) -> str:
    """Return the damage and the leftover files that `verify` found, in sentences."""
    state = "intact" if report.intact else "DAMAGED"
    lines = [f"{report.path}: {state}: {report.videos} videos, {report.files} files, {report.bytes} bytes read"]
    lines += [f"  {problem.path}: {problem.detail}" for problem in report.problems]
    if report.leftovers:
        lines.append(f"{len(report.leftovers)} files belong to nothing:")
        lines += _listed(report.leftovers)
    return "\n".join(map(printable, lines))


def _failures(failures: Iterable[Failure]) -> list[str]:
    return [f"{failure.id}: {failure.kind}: {failure.detail}" for failure in failures]


def _listed(names: Sequence[str], remedy: str = "") -> list[str]:
    more = [f"  and {len(names) - MAX_FAILURES} more{remedy}"] if len(names) > MAX_FAILURES else []
    return [*(f"  {name}" for name in names[:MAX_FAILURES]), *more]


def description_table(description: Mapping[str, Any]) -> RenderableType:
    """Return a table of the properties of an index, one per row."""
    table = Table(show_header=False)
    table.add_column("property")
    table.add_column("value")
    for name, value in description.items():
        if name == "failures":
            texts = (f"{failure['id']}: {failure['kind']}: {failure['detail']}" for failure in value)
            value = "\n".join(map(printable, texts)) or "none"
        table.add_row(name.replace("_", " "), cell(str(value), lines=name == "failures"))
    return table
