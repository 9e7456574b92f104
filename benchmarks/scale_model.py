"""What very many videos would need: the measured costs of one shard, extrapolated under stated assumptions.

Every figure says where it comes from: measured (a file of `results/`), assumed, or extrapolated from these two. A
corpus is cut into shards of a size that was measured, so that nothing is extrapolated within a shard; what grows is
the number of shards.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colbert_video.indexing.scan.scan import CANDIDATE_GROWTH

Rows = Sequence[Mapping[str, Any]]
ENGINE, CORPUS = "ours-4bit", "plain"
STAGES = ("centroid products", "scan and selection", "candidates in int8", "finalists in fp32")
KILO, MILLION, GIGA = 1e3, 1e6, 1e9
HOUR = 3600


@dataclass(frozen=True)
class Measured:
    """What was measured, of one shard and of one video."""

    sizes: tuple[int, ...]
    """Videos of the shards that were measured."""
    query_ms: tuple[float, ...]
    """CPU milliseconds of a query in each, median, one thread."""
    peak_megabytes: tuple[float, ...]
    """Resident memory of a searching process on each."""
    disk_bytes: float
    """Of a video in the largest shard, the codec's share included."""
    build_ms: float
    """CPU milliseconds to train the codec and compress the tokens, a video of the largest shard."""
    open_seconds: float
    """CPU seconds to open the largest shard."""
    stages: Mapping[str, float]
    """CPU milliseconds of a query in the largest shard, by stage; measured apart from `query_ms`."""
    decode_ms: float
    """CPU milliseconds to decode a generated clip."""
    encode_ms: float
    """CPU milliseconds to encode its frames with ViT-B/32 on a CPU."""
    frames: int
    """Frames of a video."""

    @property
    def resident_bytes(self) -> float:
        """Memory that one more video takes: the slope between the smallest and the largest shard."""
        return MILLION * (self.peak_megabytes[-1] - self.peak_megabytes[0]) / (self.sizes[-1] - self.sizes[0])

    @property
    def process_bytes(self) -> float:
        """Memory of a process without videos."""
        return MILLION * self.peak_megabytes[0] - self.sizes[0] * self.resident_bytes

    def shard_ms(self, videos: float) -> float:
        """CPU milliseconds of a query in a shard, between the measured sizes on straight lines of logarithms.

        Raises:
            ValueError: Outside of what was measured.
        """
        if not self.sizes[0] <= videos <= self.sizes[-1]:
            raise ValueError(f"a shard of {videos} videos was not measured; {self.sizes[0]} to {self.sizes[-1]} were.")
        above = next(number for number, size in enumerate(self.sizes) if size >= videos)
        if self.sizes[above] == videos:
            return self.query_ms[above]
        low, high = self.sizes[above - 1], self.sizes[above]
        share = math.log(videos / low) / math.log(high / low)
        return self.query_ms[above - 1] ** (1 - share) * self.query_ms[above] ** share


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here: machines, networks, encoders on GPUs."""

    shard_videos: int = 1_000_000
    """Videos of a shard; one that was measured."""
    cores: int = 64
    """Cores of a serving machine, each as fast as the one that was measured."""
    memory_gigabytes: float = 512
    """Its memory, GB."""
    memory_share: float = 0.8
    """Share of it that indexes may fill."""
    load: float = 0.5
    """Share of the cores that queries keep busy, so that they do not queue."""
    replicas: int = 2
    """Copies of every shard, on different machines."""
    disk_factor: float = 2.0
    """Disk beside the index itself: compacting writes a second copy."""
    build_cores: int = 1024
    """Cores that decode and compress."""
    gpus: int = 16
    """GPUs that encode."""
    gpu_frames: float = 5000.0
    """Frames that one of them encodes a second (ViT-B/32, bfloat16)."""
    query_tokens: int = 32
    """Tokens of a query, sent as float32."""
    dim: int = 512
    """Dimensions of a token."""
    hits: int = 10
    """Hits that every shard answers with."""
    hit_bytes: int = 500
    """Bytes of a hit with id, scores, moment and metadata."""
    list_share: float = 0.06
    """Share of a shard's videos that inverted lists would leave to the scan."""
    wanted_qps: float = 100.0
    """Queries a second that machines are counted for."""


@dataclass(frozen=True)
class Plan:
    """What a corpus of some size needs; every figure is extrapolated."""

    videos: int
    shards: int
    resident_gigabytes: float
    disk_terabytes: float
    shards_a_machine: int
    machines: int
    """One copy of everything."""
    query_cpu_seconds: float
    queries_a_second: float
    """Of these machines."""
    wanted_machines: int
    """For the wanted queries a second, copies included; never fewer than one copy needs."""
    decode_hours: float
    encode_gpu_hours: float
    encode_cpu_hours: float
    compress_hours: float
    build_days: float
    """On the assumed cores and GPUs, the two working side by side."""
    recode_hours: float
    """CPU hours to train a codec again and write all tokens with it."""
    query_kilobytes: float
    """Over the network, if each machine is asked once for all its shards."""
    query_kilobytes_flat: float
    """If each shard is asked by itself."""
    merged_hits: int
    """Hits that the asking process merges, if each shard answers by itself."""
    scanned_gigabytes: float
    """What a query reads at least: the codes of every token, as they are stored."""


def measured(results: Path) -> Measured:
    """Read the figures of the other benchmarks.

    Args:
        results: Their folder.
    """
    search = [row for row in _load(results / "search.json")["rows"] if _key(row) == (ENGINE, CORPUS) and "best" in row]
    search.sort(key=lambda row: row["size"])
    answers = [row["results"][row["best"]] for row in search]
    largest = search[-1]
    scan = next(row for row in _load(results / "scan.json")["rows"] if row["videos"] == largest["size"])
    indexing = _load(results / "indexing.json")["rows"]
    toy, clip = _row(indexing, "toy"), _row(indexing, "ViT-B-32-quickgelu")
    return Measured(
        sizes=tuple(row["size"] for row in search),
        query_ms=tuple(answer["cpu_ms"]["p50"] for answer in answers),
        peak_megabytes=tuple(1.048576 * answer["peak_megabytes"] for answer in answers),
        disk_bytes=largest["index_bytes_per_video"],
        build_ms=KILO * largest["build_cpu_seconds"] / largest["size"],
        open_seconds=largest["open_cpu_seconds"],
        stages={name: scan["cpu_ms"][name] for name in STAGES},
        decode_ms=KILO * toy["cpu_seconds"]["decode"] / toy["indexed"],
        encode_ms=KILO * clip["cpu_seconds"]["encode"] / clip["indexed"],
        frames=clip["frames"],
    )


def plan(videos: int, known: Measured, given: Assumed) -> Plan:
    """Extrapolate to a corpus.

    Args:
        videos: How many it has.
        known: What was measured.
        given: What is assumed.
    """
    shards = math.ceil(videos / given.shard_videos)
    shard_bytes = known.process_bytes + given.shard_videos * known.resident_bytes
    shards_a_machine = max(1, math.floor(GIGA * given.memory_gigabytes * given.memory_share / shard_bytes))
    machines = math.ceil(shards / shards_a_machine)
    cpu_seconds = shards * known.shard_ms(given.shard_videos) / KILO
    rate = given.cores * given.load / cpu_seconds
    encode_gpu = videos * known.frames / given.gpu_frames / HOUR
    decode, compress = videos * known.decode_ms / KILO / HOUR, videos * known.build_ms / KILO / HOUR
    return Plan(
        videos=videos,
        shards=shards,
        resident_gigabytes=shards * shard_bytes / GIGA,
        disk_terabytes=videos * known.disk_bytes * given.replicas * given.disk_factor / (KILO * GIGA),
        shards_a_machine=shards_a_machine,
        machines=machines,
        query_cpu_seconds=cpu_seconds,
        queries_a_second=machines * rate,
        wanted_machines=max(given.replicas * machines, math.ceil(given.wanted_qps / rate)),
        decode_hours=decode,
        encode_gpu_hours=encode_gpu,
        encode_cpu_hours=videos * known.encode_ms / KILO / HOUR,
        compress_hours=compress,
        build_days=max((decode + compress) / given.build_cores, encode_gpu / given.gpus) / 24,
        recode_hours=compress,
        query_kilobytes=machines * _message_bytes(given) / KILO,
        query_kilobytes_flat=shards * _message_bytes(given) / KILO,
        merged_hits=shards * given.hits,
        scanned_gigabytes=videos * (2 * known.frames + 2) * 4 / GIGA,  # int32 codes; two expansion tokens
    )


def improvements(known: Measured, given: Assumed, videos: int) -> dict[str, float]:
    """CPU milliseconds of a query in one shard of a corpus, if the search is changed step by step.

    Args:
        known: What was measured.
        given: What is assumed.
        videos: Of the whole corpus.

    Returns:
        Milliseconds by what is changed; each line has the changes of the lines before it.
    """
    shards = math.ceil(videos / given.shard_videos)
    stages = dict(known.stages)
    costs = {"as it is": sum(stages.values())}
    stages["centroid products"] /= min(shards, plan(videos, known, given).shards_a_machine)
    costs["centroid products once a machine"] = sum(stages.values())
    stages["candidates in int8"] *= shards**CANDIDATE_GROWTH / shards  # those of the corpus, not of each shard alone
    costs["candidates counted over the corpus"] = sum(stages.values())
    stages["scan and selection"] *= given.list_share
    costs["inverted lists"] = sum(stages.values())
    return costs


def improved(known: Measured, given: Assumed, videos: int) -> Measured:
    """The measured shard, with all `improvements`."""
    costs = list(improvements(known, given, videos).values())
    cheaper = tuple(milliseconds * costs[-1] / costs[0] for milliseconds in known.query_ms)
    return replace(known, query_ms=cheaper)


def _message_bytes(given: Assumed) -> int:
    """A query's tokens and the answer."""
    return given.query_tokens * given.dim * 4 + given.hits * given.hit_bytes


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["engine"], row["corpus"]


def _row(rows: Rows, model: str) -> Mapping[str, Any]:
    """The model's row with one thread and most videos."""
    return max((row for row in rows if row["model"] == model and row["threads"] == 1), key=lambda row: row["videos"])
