"""An index of videos and overlapping windows with random tokens, an encoder of words, and naive scores of questions."""

import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from token_corpus import DIM, unit_tokens
from window_corpus import WindowSource

from colbert_video.indexing.build.commit import commit_segment
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.index.folder import load_settings, writing
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.upkeep.stored import open_segments
from colbert_video.model.encoders.function_encoder import FunctionEncoder
from colbert_video.video.windows import window_id

PADS = 2
WINDOWS = {"a": 3, "b": 0, "c": 5, "d": 0, "e": 0, "f": 2, "g": 0, "h": 0, "i": 4, "j": 0}
Bags = dict[str, np.ndarray]


def word_vector(word: str) -> torch.Tensor:
    """The unit vector of a word."""
    return unit_tokens(DIM, seed=zlib.crc32(word.encode()))


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def word_encoder() -> FunctionEncoder:
    """An encoder whose tokens are those of the words and two of padding; frames are told apart by their first byte."""

    def encode_queries(texts: list[str]) -> list[torch.Tensor]:
        return [torch.stack([word_vector(word) for word in (*words_of(text), *["<pad>"] * PADS)]) for text in texts]

    def encode_frames(frames: np.ndarray) -> torch.Tensor:
        return torch.stack([word_vector(f"pixel {frame.flat[0]}") for frame in frames])

    def token_texts(text: str) -> list[str]:
        return [*words_of(text), *["<pad>"] * PADS]

    return FunctionEncoder(
        encode_queries=encode_queries,
        encode_frames=encode_frames,
        token_texts=token_texts,
        dim=DIM,
        fingerprint="words",
        height=4,
        width=4,
    )


def entries() -> Iterator[VideoEntry]:
    """Videos of 10 seconds, and some in windows of 10 seconds every 5; one has no times."""
    rng = np.random.default_rng(5)
    for name, windows in WINDOWS.items():
        for number in range(max(windows, 1)):
            start = 5.0 * number
            times = tuple(np.sort(rng.uniform(start, start + 10, (number + ord(name)) % 5 + 1)).tolist())
            place = (window_id(name, (start, start + 10)), None, name) if windows else (name, None, None)
            yield VideoEntry(*place, start, start + 10, frame_times=times, metadata={"name": name})
    yield VideoEntry("timeless", metadata={"name": "timeless"})


def commit_questions(path: Path) -> None:
    """Commit the corpus in two segments, both with a frame bag and a video bag, which has one token more."""
    rows = list(entries())
    for number, part in enumerate((rows[:9], rows[9:])):
        bags = {
            bag: [
                unit_tokens(max(len(row.frame_times), 1) + more, DIM, seed=1000 * number + 100 * more + place)
                for place, row in enumerate(part)
            ]
            for bag, more in (("frame", 0), ("video", 1))
        }
        with writing(path, create=not number) as catalog:
            settings = load_settings(catalog) if number else IndexSettings(DIM, ("frame", "video"), nbits=8)
            commit_segment(catalog, WindowSource(part, bags), settings, replace_all=not number)


def stored_items(path: Path) -> list[tuple[VideoEntry, Bags]]:
    """Every item with its decoded tokens, in the order of the index."""
    found = []
    with Catalog.open(path) as catalog:
        for segment in open_segments(catalog, load_settings(catalog)):
            by_row = catalog.entries_at(segment.row.name, segment.live.tolist())
            for row in segment.live.tolist():
                chunk = segment.decoded(torch.tensor([row]))
                found.append((by_row[row], {bag: tokens.numpy() for bag, tokens in chunk.tokens.items()}))
    return found


def tokens_of(text: str, words: dict[str, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A text's tokens and their weights."""
    names = [*words_of(text), *["<pad>"] * PADS]
    tokens = np.stack([word_vector(name).numpy() for name in names])
    return tokens, np.array([(words or {}).get(name, 1.0) for name in names])


def naive_score(part: tuple[np.ndarray, np.ndarray], bags: Bags, weights: dict[str, float]) -> float:
    """Weighted MeanMaxSim, summed over bags."""
    tokens, counts = part
    total = 0.0
    for bag, weight in weights.items():
        best = [max(float(query @ token) for token in bags[bag]) for query in tokens]
        total += weight * float(np.dot(counts, best) / counts.sum())
    return total


def naive_order(
    steps: Sequence[tuple[np.ndarray, np.ndarray]],
    step_weights: Sequence[float],
    items: Sequence[tuple[VideoEntry, Bags]],
    weights: dict[str, float],
) -> float:
    """The best weighted sum of the steps' scores over every way to place them in order."""
    best = -np.inf
    count = len(steps)
    for sizes in itertools.chain.from_iterable(_compositions(count, parts) for parts in range(1, count + 1)):
        for chosen in itertools.permutations(range(len(items)), len(sizes)):
            spans = [(items[number][0].start or 0.0, items[number][0].end or np.inf) for number in chosen]
            if all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(spans)):
                total, step = 0.0, 0
                for number, size in zip(chosen, sizes, strict=True):
                    own = range(step, step + size)
                    total += _block(steps, step_weights, own, items[number], weights)
                    step += size
                best = max(best, total)
    return best


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    return [sizes for sizes in itertools.product(range(1, total + 1), repeat=parts) if sum(sizes) == total]


def _block(
    steps: Sequence[tuple[np.ndarray, np.ndarray]],
    step_weights: Sequence[float],
    own: range,
    item: tuple[VideoEntry, Bags],
    weights: dict[str, float],
) -> float:
    entry, bags = item
    if len(own) == 1 or not entry.frame_times:
        return sum(step_weights[step] * naive_score(steps[step], bags, weights) for step in own)
    frames = len(entry.frame_times)
    best = -np.inf
    for cuts in itertools.combinations_with_replacement(range(frames), len(own) - 1):
        edges = (0, *cuts, frames - 1)
        total = 0.0
        for position, step in enumerate(own):
            run = slice(edges[position], edges[position + 1] + 1)
            total += step_weights[step] * naive_score(steps[step], {bag: bags[bag][run] for bag in weights}, weights)
        best = max(best, total)
    return best
