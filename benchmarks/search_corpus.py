"""A corpus in a folder: queries, planted targets, the exact answers, and for moderate sizes the tokens themselves.

    python benchmarks/search_corpus.py WORK/plain-20000 --size 20000 --kind plain

The exact answers are MMS_F + MMS_V of every video in single precision, computed while the tokens stream by. Tokens of
a corpus that is too large to be stored are generated again, block by block, whenever they are read.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from reports import arguments
from search_world import BLOCK, FRAME_TOKENS, KINDS, VIDEO_TOKENS, World

BAGS = {"frame": FRAME_TOKENS, "video": VIDEO_TOKENS}
TUNING_QUERIES, REPORTED_QUERIES, REPORTED_OF_LARGE = 32, 128, 32
"""The first choose settings and warm up, the others are reported: fewer where exact answers are expensive."""
LARGE = 500_000
"""Videos from which on a corpus is large."""
MAX_STORED = 200_000
"""Videos of the largest corpus whose tokens are written to disk: 53 kB each."""
TRUTH_DEPTH = 100
"""Exact answers kept for each query."""
SCORED_AT_ONCE = 128
BLOCKS_KEPT = 4


class BlockCache:
    """The last few generated blocks, and how much processor time their generation took."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seconds = 0.0
        self._blocks: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()

    def block(self, number: int) -> dict[str, np.ndarray]:
        """Both bags of one block."""
        if number not in self._blocks:
            started = time.thread_time()
            self._blocks[number] = self.world.tokens(number)
            self.seconds += time.thread_time() - started
            if len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        return self._blocks[number]


class GeneratedBag(Sequence[np.ndarray]):
    """One bag of every video, generated when it is read."""

    def __init__(self, cache: BlockCache, bag: str) -> None:
        self._cache, self._bag = cache, bag
        self.shape = (cache.world.size, BAGS[bag], cache.world.dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, videos: int | slice) -> np.ndarray:  # type: ignore[override]
        if isinstance(videos, int):
            return self._cache.block(videos // BLOCK)[self._bag][videos % BLOCK]
        start, stop, _ = videos.indices(len(self))
        first = start // BLOCK * BLOCK
        blocks = [self._cache.block(number)[self._bag] for number in range(start // BLOCK, -(-stop // BLOCK))]
        return np.concatenate(blocks)[start - first : stop - first]

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(self._cache.world.blocks):
            yield from self._cache.block(number)[self._bag]


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus folder."""

    folder: Path

    @cached_property
    def world(self) -> World:
        """What it was generated from."""
        return World(**json.loads((self.folder / "world.json").read_text(encoding="utf-8")))

    @property
    def stored(self) -> bool:
        """Whether its tokens are on disk."""
        return (self.folder / "video.npy").is_file()

    @cached_property
    def cache(self) -> BlockCache:
        """Where the tokens come from if they are not stored."""
        return BlockCache(self.world)

    def bag(self, name: str) -> np.ndarray | GeneratedBag:
        """Tokens of each video, (videos, tokens, dim)."""
        if self.stored:
            return np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return GeneratedBag(self.cache, name)

    @cached_property
    def queries(self) -> np.ndarray:
        """(queries, 32, dim), those for tuning first."""
        return np.load(self.folder / "queries.npy")

    @cached_property
    def targets(self) -> np.ndarray:
        """The video each query is about, (queries,)."""
        return np.load(self.folder / "targets.npy")

    @cached_property
    def truth(self) -> np.ndarray:
        """The exactly best videos of each query, (queries, 100), the best first."""
        return np.load(self.folder / "truth.npy")


def mean_max_sim(queries: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """MeanMaxSim of queries (queries, query_tokens, dim) and bags (videos, tokens, dim): (videos, queries)."""
    dim = tokens.shape[-1]
    similarity = tokens.reshape(-1, dim) @ queries.reshape(-1, dim).T
    best = similarity.reshape(*tokens.shape[:2], -1).max(1)  # (videos, queries * query_tokens)
    return best.reshape(len(tokens), *queries.shape[:2]).mean(2)


def fused_scores(queries: np.ndarray, bags: dict[str, np.ndarray]) -> np.ndarray:
    """MMS_F + MMS_V, (videos, queries)."""
    count = len(bags["frame"])
    parts = [slice(start, start + SCORED_AT_ONCE) for start in range(0, count, SCORED_AT_ONCE)]
    return np.concatenate([sum(mean_max_sim(queries, tokens[part]) for tokens in bags.values()) for part in parts])


@dataclass
class ExactAnswers:
    """The best videos so far of every query."""

    queries: np.ndarray
    scores: np.ndarray
    """(queries, kept), the best first."""
    videos: np.ndarray

    @classmethod
    def none_yet(cls, queries: np.ndarray) -> "ExactAnswers":
        """Before the first block."""
        return cls(queries, np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))

    def add(self, first: int, bags: dict[str, np.ndarray]) -> None:
        """Score some more videos, numbered from `first`."""
        scores = fused_scores(self.queries, bags).T
        numbers = np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)
        scores = np.concatenate([self.scores, scores], 1)
        numbers = np.concatenate([self.videos, numbers], 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :TRUTH_DEPTH]
        self.scores = np.take_along_axis(scores, order, 1)
        self.videos = np.take_along_axis(numbers, order, 1)


def prepare(folder: Path, world: World) -> Corpus:
    """Write a corpus's folder unless it is there; the exact answers are written last."""
    corpus = Corpus(folder)
    if (folder / "truth.npy").is_file() and corpus.world == world:
        return corpus
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "world.json").write_text(json.dumps(asdict(world)), encoding="utf-8")
    reported = REPORTED_QUERIES if world.size < LARGE else REPORTED_OF_LARGE
    queries, targets = world.queries(min(TUNING_QUERIES + reported, world.size))
    np.save(folder / "queries.npy", queries)
    np.save(folder / "targets.npy", targets)
    files = token_files(folder, world) if world.size <= MAX_STORED else {}
    answers = ExactAnswers.none_yet(queries)
    for number in range(world.blocks):
        bags, first = world.tokens(number), number * BLOCK
        answers.add(first, bags)
        for bag, file in files.items():
            file[first : first + BLOCK] = bags[bag]
    np.save(folder / "truth_scores.npy", answers.scores)
    np.save(folder / "truth.npy", answers.videos)
    return corpus


def token_files(folder: Path, world: World) -> dict[str, np.ndarray]:
    """Empty files for both bags."""
    return {
        bag: np.lib.format.open_memmap(folder / f"{bag}.npy", "w+", np.float32, (world.size, tokens, world.dim))
        for bag, tokens in BAGS.items()
    }


def main() -> None:
    """Prepare one corpus."""
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--kind", choices=KINDS, default="plain")
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    prepare(options.folder, World(options.size, options.kind, options.dim))


if __name__ == "__main__":
    main()
