"""How well `Hit.confidence` tells queries with an answer from those without: 1,000 clips of the synthetic world.

Every clip is searched by its caption; then captions of other clips whose colours, shapes and background no clip of the
corpus shows together, and texts without meaning. `min_confidence` is set to keep 95 % of the right first hits, and the
share of answerless queries is counted that find nothing at all any more. The rule was chosen on the clips of seed 401;
the figures are of another seed.

    python benchmarks/confidence.py                # writes benchmarks/results/confidence.json
    python benchmarks/confidence.py --clips 100    # a quick look
"""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reports import arguments, save

from colbert_video import Hit, Indexer, Searcher, VideoColBERT
from colbert_video.search.match_levels import MatchLevels
from colbert_video.training.world import sample_scenes, write_world
from colbert_video.training.world.scene import BACKGROUNDS, COLOURS, SHAPES, TURNING_SHAPES

CHOSEN_ON = 401
KEPT = 0.95
FIGURES = {*COLOURS, *SHAPES, *TURNING_SHAPES}
NONSENSE = (
    *("quarterly revenue of the company", "the meaning of life", "terms and conditions apply", "how do I cook rice"),
    *("xqzt blorp fnord", "asdf asdf asdf", "wug plimsy trabe", "grelf omnat uvix", "the opposite of true"),
    *("two people kiss at night", "a dog on a beach", "snow in the mountains", "stock market crash", "error 404"),
    *("the president speaks", "a train leaves the station", "next Tuesday at noon", "a proof by contradiction"),
)


def looks(caption: str, *, background: bool = True) -> frozenset[str]:
    """The figures that a caption names, and the background."""
    named = FIGURES | set(BACKGROUNDS) if background else FIGURES
    return frozenset(word for word in caption.replace(",", " ").split() if word in named)


def first_hits(searcher: Searcher, texts: Sequence[str]) -> list[Hit]:
    """The best hit of every text."""
    return [searcher.search(text, k=1)[0] for text in texts]


def shares(hits: Sequence[Hit], levels: MatchLevels, least: float) -> dict[str, Any]:
    """What the confidence of first hits says of their queries."""
    values = np.array([hit.confidence for hit in hits])
    words = Counter(levels.label(hit.confidence) for hit in hits)
    return {
        "queries": len(hits),
        "rejected": round(float((values < least).mean()), 3),
        "median": round(float(np.median(values)), 3),
        **{word: round(words[word] / len(hits), 3) for word in ("strong", "fair", "weak")},
    }


def measure(index: Path, model: VideoColBERT, answers: dict[str, str], *, others: Sequence[str]) -> dict[str, Any]:
    """Search captions with and without an answer.

    Args:
        index: The clips.
        model: What encodes queries.
        answers: The clip of each caption.
        others: Captions of other clips.
    """
    shown = {looks(caption) for caption in answers}
    figures = {looks(caption, background=False) for caption in answers}
    with Searcher(index, model=model) as searcher:
        started = time.perf_counter()
        levels = searcher.match_levels()
        seconds = time.perf_counter() - started
        assert levels is not None
        hits = first_hits(searcher, list(answers))
        right = [hit for hit, answer in zip(hits, answers.values(), strict=True) if hit.id == answer]
        wrong = [hit for hit, answer in zip(hits, answers.values(), strict=True) if hit.id != answer]
        least = float(np.quantile([hit.confidence for hit in right], 1 - KEPT))
        missing = [text for text in others if looks(text) not in shown]
        unseen = [text for text in others if looks(text, background=False) not in figures]
        groups = {"right first hits": right, "wrong first hits": wrong}
        groups["captions without a clip of the same figures and background"] = first_hits(searcher, missing)
        groups["captions without a clip of the same figures"] = first_hits(searcher, unseen)
        groups["texts without meaning here"] = first_hits(searcher, NONSENSE)
    return {
        "clips": len(answers),
        "min_confidence": round(least, 3),
        "fair_above": round(levels.fair, 3),
        "strong_from": round(levels.strong, 3),
        "levels_milliseconds": round(1000 * seconds, 1),
        "queries": {name: shares(found, levels, least) for name, found in groups.items()},
    }


def main() -> None:
    """Measure and write the figures."""
    parser = arguments(__doc__, "confidence")
    parser.add_argument("--clips", type=int, default=1000, help="clips in the corpus")
    parser.add_argument("--others", type=int, default=1500, help="clips that are not")
    parser.add_argument("--seed", type=int, default=777, help=f"which clips; the rule was chosen on {CHOSEN_ON}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = VideoColBERT.from_pretrained("toy", device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips = write_world(folder / "clips", count=options.clips, seed=options.seed, split="test")
        Indexer(folder / "index", model=model, workers=1).index(folder / "clips")
        answers = {clip.caption: clip.path.name for clip in clips}
        others = [scene.caption for scene in sample_scenes(options.others, seed=options.seed + 1, split="test")]
        figures = measure(folder / "index", model, answers, others=[text for text in others if text not in answers])
    figures = {"seed": options.seed, "chosen_on": CHOSEN_ON, **figures}
    print(figures)
    save(options.output, figures)


if __name__ == "__main__":
    main()
