"""A synthetic corpus of video token bags that is generated block by block, so that any size fits in memory.

Concepts belong to topics and are as uneven as words (Zipf). A video has one to three scenes, each a mixture of three
concepts; its 12 frame tokens are noisy copies of their scene (cosine 0.90 within a scene, 0.11 between random frames),
its 14 video tokens are smoothed frames and two expansion tokens. A query has 10 noisy content tokens about one planted
video and 22 near-duplicates, as a text encoder's padding positions give. All tokens have unit length.

The kind "outliers" adds to every token, before normalisation, a large common component in a few fixed dimensions, with
some spread, as features of CLIP have it; texts and videos share only part of it. Any block can be made again alone.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

FRAME_TOKENS, VIDEO_TOKENS, QUERY_TOKENS, CONTENT_TOKENS = 12, 14, 32, 10
CONCEPTS, TOPICS, SCENES, CONCEPTS_PER_SCENE = 2000, 100, 3, 3
BLOCK = 1024
"""Videos generated together."""
KINDS = ("plain", "outliers")
VIDEO_OUTLIERS = ((0.26, 0.85), (0.18, -0.45), (0.73, 0.25))
"""Place (as a share of the dimensions) and size of the common component of video tokens."""
QUERY_OUTLIERS = ((0.26, 0.30), (0.18, -0.15), (0.52, 0.85))
OUTLIER_SPREAD = 0.15
"""Standard deviation of that component between tokens, relative to its size."""

Floats = np.ndarray


def unit(vectors: Floats) -> Floats:
    """Scale the last axis to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Plot:
    """What the videos of a block are about."""

    scenes: Floats
    """(videos, 3, dim)."""
    concepts: np.ndarray
    """Concepts of each scene, (videos, 3, 3)."""
    weights: Floats
    """Share of each concept in its scene, (videos, 3, 3), the largest first."""
    scene_of_frame: np.ndarray
    """(videos, 12)."""


@dataclass(frozen=True)
class World:
    """All videos and queries of one corpus, none of them stored."""

    size: int
    """Videos."""
    kind: str = "plain"
    """One of KINDS."""
    dim: int = 512
    """Dimensions of a token."""
    seed: int = 7
    """Makes everything reproducible; a small corpus is the beginning of a large one."""

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    def _noise(self, generator: np.random.Generator, *shape: int) -> Floats:
        """Vectors of expected length 1."""
        return generator.standard_normal((*shape, self.dim), dtype=np.float32) / np.float32(self.dim**0.5)

    @cached_property
    def _concepts(self) -> tuple[Floats, Floats, np.ndarray]:
        """The common direction (dim,), the concepts (concepts, dim) and the topic of each."""
        generator = self._generator(0)
        common, topics = unit(self._noise(generator)), unit(self._noise(generator, TOPICS))
        topic_of = generator.integers(0, TOPICS, CONCEPTS)
        return common, unit(0.7 * topics[topic_of] + 0.7 * self._noise(generator, CONCEPTS)), topic_of

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.size // BLOCK)

    def plot(self, block: int) -> Plot:
        """Scenes of one block's videos."""
        generator = self._generator(1, block)
        common, vectors, topic_of = self._concepts
        scenes = generator.choice(3, BLOCK, p=[0.4, 0.35, 0.25])  # scenes after the first
        concepts = self._draw_concepts(generator, topic_of)
        weights = np.sort(generator.dirichlet([1.5] * 3, (BLOCK, SCENES)), -1)[..., ::-1].astype(np.float32)
        mixed = (weights[..., None] * vectors[concepts]).sum(2)
        noise = self._noise(generator, BLOCK, SCENES)
        cuts = np.sort(generator.integers(2, FRAME_TOKENS - 1, (BLOCK, 2)), 1)
        passed = np.arange(FRAME_TOKENS)[None, :, None] >= cuts[:, None]  # (videos, frames, cuts)
        exists = scenes[:, None, None] > np.arange(2)
        return Plot(unit(0.4 * common + 1.2 * mixed + 0.6 * noise), concepts, weights, (passed & exists).sum(-1))

    def _draw_concepts(self, generator: np.random.Generator, topic_of: np.ndarray) -> np.ndarray:
        """Concepts of each scene; half of those beside the first are of the first one's topic."""
        popularity = 1 / (np.arange(CONCEPTS) + 10.0)
        shape = (BLOCK, SCENES, CONCEPTS_PER_SCENE)
        concepts = generator.choice(CONCEPTS, shape, p=popularity / popularity.sum())
        order = np.argsort(topic_of, kind="stable")
        first = np.searchsorted(topic_of[order], np.arange(TOPICS))
        count = np.bincount(topic_of, minlength=TOPICS)
        topic = topic_of[concepts[..., :1]]  # (videos, scenes, 1)
        pick = (generator.random((BLOCK, SCENES, 2)) * count[topic]).astype(int)
        same = generator.random((BLOCK, SCENES, 2)) < 0.5
        concepts[..., 1:] = np.where(same, order[first[topic] + pick], concepts[..., 1:])
        return concepts

    def tokens(self, block: int) -> dict[str, Floats]:
        """Both bags of one block's videos, (videos, tokens, dim), float32."""
        plot, generator = self.plot(block), self._generator(2, block)
        frames = plot.scenes[np.arange(BLOCK)[:, None], plot.scene_of_frame]
        frames = unit(frames + 0.33 * self._noise(generator, BLOCK, FRAME_TOKENS))
        before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
        after = np.concatenate([frames[:, 1:], frames[:, -1:]], 1)
        mean = frames.mean(1, keepdims=True)
        smooth = 0.25 * before + 0.5 * frames + 0.25 * after + 0.25 * mean
        smooth = unit(smooth + 0.30 * self._noise(generator, BLOCK, FRAME_TOKENS))
        expansion = unit(mean + 0.5 * self._noise(generator, BLOCK, VIDEO_TOKENS - FRAME_TOKENS))
        bags = {"frame": frames, "video": np.concatenate([smooth, expansion], 1)}
        count = min(BLOCK, self.size - block * BLOCK)
        return {
            bag: self._shift(tokens, VIDEO_OUTLIERS, generator)[:count].astype(np.float32)
            for bag, tokens in bags.items()
        }

    def _shift(
        self, tokens: Floats, outliers: tuple[tuple[float, float], ...], generator: np.random.Generator
    ) -> Floats:
        """Tokens with the outlier dimensions of their side, if this kind of corpus has them."""
        if self.kind == "plain":
            return tokens
        shifted = tokens.copy()
        for place, size in outliers:
            spread = 1 + OUTLIER_SPREAD * generator.standard_normal(tokens.shape[:-1], dtype=np.float32)
            shifted[..., int(place * self.dim)] += size * spread
        return unit(shifted)

    def queries(self, count: int, *, stream: int = 3) -> tuple[Floats, np.ndarray]:
        """Queries (count, 32, dim), float32, and the ordinal of the video that each is about; others a stream."""
        generator = self._generator(stream, self.size)
        targets = generator.choice(self.size, count, replace=False)
        queries = np.stack([self._query(generator, int(target)) for target in targets])
        return self._shift(queries, QUERY_OUTLIERS, generator).astype(np.float32), targets

    def _query(self, generator: np.random.Generator, target: int) -> Floats:
        plot, row = self.plot(target // BLOCK), target % BLOCK
        common, vectors, _ = self._concepts
        shown = np.unique(plot.scene_of_frame[row])
        content = []
        for _ in range(CONTENT_TOKENS):
            scene = generator.choice(shown) if generator.random() < 0.4 else shown[0]  # mostly the first scene
            weights = plot.weights[row, scene].astype(np.float64)
            concept = plot.concepts[row, scene][generator.choice(3, p=weights / weights.sum())]
            clean = 0.25 * common + 0.9 * vectors[concept] + 0.25 * plot.scenes[row, scene]
            content.append(clean + 2.2 * self._noise(generator))
        tokens = unit(np.stack(content))
        padding = QUERY_TOKENS - CONTENT_TOKENS
        near = 0.6 * tokens[generator.integers(0, CONTENT_TOKENS, padding)] + tokens.mean(0)
        return np.concatenate([tokens, unit(near + 0.5 * self._noise(generator, padding))])
