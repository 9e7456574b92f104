"""What the start of a process costs: of each verb on a small index, and of a search with query tokens at hand.

Every start is a process of its own; rounds take turns, and the cheapest of each start counts, as other work on a machine only
adds. `import torch`, the yardstick, is started before each of the others. A second table says who imports what for how long, from `python -X importtime`: modules count for the package that asked
for them, so that what torchvision has torch import is torchvision's.

    python benchmarks/starting.py              # writes benchmarks/results/starting.json
    python benchmarks/starting.py --rounds 1   # a quick look
    python benchmarks/starting.py --index 20,000=WORK/plain-20000-512/ours-4bit  # one of benchmarks/search.py too

An index of --index is searched with its corpus's first query, with its files in the page cache and without them.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reports import HERE, arguments, machine, save

QUERY = "a large star"
CLIPS = 4
TOKENS_AT_HAND = """
import sys
import numpy as np
from colbert_video import Searcher
Searcher(sys.argv[1]).search_tokens(np.load(sys.argv[2]), k=3)
"""
FIRST_QUERY = """
import sys
import numpy as np
from colbert_video import Searcher
Searcher(sys.argv[1]).search_tokens(np.load(sys.argv[2], mmap_mode="r")[0], k=10)
"""
OURS, TORCH, OTHERS = "colbert_video", "torch, numpy", "others"
OWNERS = {
    **dict.fromkeys(("torch", "numpy"), TORCH),
    **dict.fromkeys(("open_clip", "ftfy"), "open_clip"),
    "torchvision": "torchvision",
    "timm": "timm",
    **dict.fromkeys(("transformers", "tokenizers", "huggingface_hub"), "transformers"),
    "colbert_video": OURS,
}
"""Whose a module is that is not imported by another of these; the columns of the second table."""
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|(\s+)(\S+)")


@dataclass(frozen=True)
class Start:
    """A process to start."""

    name: str
    command: tuple[str, ...]
    dropped: Path | None = None
    """Folder whose files are dropped from the page cache first."""


YARDSTICK = Start("`import torch`", ("-c", "import torch"))


@dataclass(frozen=True)
class Imported:
    """A module that was imported, without those that it imported itself."""

    name: str
    depth: int
    microseconds: int


def starts(folder: Path) -> list[Start]:
    """The starts that are measured, on the index and the clips of `prepare`; those that change the index come last."""
    index, clips, tokens = (str(folder / name) for name in ("index", "clips", "tokens.npy"))
    program = ("-m", "colbert_video", "--quiet")
    verbs = {
        "search": (QUERY,),
        "info": (),
        "verify": (),
        "compact": (),
        "export": (str(folder / "export-{round}"),),
        "add": (clips,),
    }
    return [
        Start("`import colbert_video`", ("-c", "import colbert_video")),
        Start("`Searcher.search_tokens`, tokens at hand", ("-c", TOKENS_AT_HAND, index, tokens)),
        Start("`import open_clip`, with torch", ("-c", "import torch, open_clip")),
        Start("`colbert-video --version`", (*program[:2], "--version")),
        *(Start(f"`colbert-video {verb}`", (*program, verb, *more, "--index", index)) for verb, more in verbs.items()),
    ]


def of_index(videos: str, index: Path) -> list[Start]:
    """The starts of a search in an index that benchmarks/search.py has built."""
    queries = str(index.parent / "corpus" / "queries.npy")
    command = ("-c", FIRST_QUERY, str(index), queries)
    named = f"`Searcher.search_tokens`, {videos} videos"
    return [Start(named, command), Start(f"{named}, files not cached", command, dropped=index)]


def drop_cached(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prepare(folder: Path) -> None:
    """Write a few clips, an index of them by the shipped checkpoint, and the tokens of a query."""
    from colbert_video import Indexer, VideoColBERT
    from colbert_video.training.world import write_world

    model = VideoColBERT.from_pretrained("toy", device="cpu")
    write_world(folder / "clips", count=CLIPS, seed=0, split="test")
    Indexer(folder / "index", model=model, device="cpu").index(folder / "clips")
    np.save(folder / "tokens.npy", model.encode_queries(QUERY)[0].numpy())


def run(command: Sequence[str], *, number: int = 0, options: Sequence[str] = ()) -> tuple[float, float, str]:
    """Start a process; return its seconds by processor and by clock, and its standard error."""
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *options, *(part.format(round=number) if "{round}" in part else part for part in command)],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall, done.stderr


def imported(log: str) -> list[Imported]:
    """Read what `-X importtime` wrote, importers before what they import."""
    found = (LINE.match(line) for line in reversed(log.splitlines()))
    return [Imported(match[3], len(match[2]) // 2, int(match[1])) for match in found if match]


def by_owner(modules: Iterable[Imported]) -> dict[str, float]:
    """Milliseconds of imports by the package that asked for them."""
    owners: list[str] = []  # of the importers of the module at hand, from the first on
    spent: Counter[str] = Counter()
    for module in modules:
        del owners[module.depth :]
        above = owners[-1] if owners else OTHERS
        own = OWNERS.get(module.name.partition(".")[0])
        # What torch imports for torchvision, say, would not be imported without torchvision.
        inherits = own is None or (own == TORCH and above not in (OURS, OTHERS))
        owner = above if inherits else own or OTHERS
        owners.append(owner)
        spent[owner] += module.microseconds
    return {owner: round(spent[owner] / 1000, 1) for owner in (*dict.fromkeys(OWNERS.values()), OTHERS)}


def measure(folder: Path, indexes: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Start everything `rounds` times, in turns."""
    taken: dict[str, list[tuple[float, float]]] = {}
    larger = [start for videos, index in indexes.items() for start in of_index(videos, index)]
    for number in range(rounds):
        for start in (start for other in [*larger, *starts(folder)] for start in (YARDSTICK, other)):
            if start.dropped is not None:
                drop_cached(start.dropped)
            cpu, wall, _ = run(start.command, number=number)
            taken.setdefault(start.name, []).append((cpu, wall))
    rows = {name: {"cpu": min(c for c, _ in times), "wall": min(w for _, w in times)} for name, times in taken.items()}
    torch_alone = rows[YARDSTICK.name]["cpu"]
    return {name: {**row, "of_torch": row["cpu"] / torch_alone} for name, row in rows.items()}


def owners(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Who imports what for how long, for a search with tokens, one with words, and open_clip; the quickest round."""
    chosen = ("`Searcher.search_tokens`, tokens at hand", "`colbert-video search`", "`import open_clip`, with torch")
    found = {}
    for start in starts(folder):
        if start.name in chosen:
            logs = (run(start.command, options=("-X", "importtime"))[2] for _ in range(rounds))
            found[start.name] = min(map(by_owner, map(imported, logs)), key=lambda spent: sum(spent.values()))
    return found


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__, "starting")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--index", action="append", default=[], metavar="VIDEOS=FOLDER")
    options = parser.parse_args()
    indexes = {videos: Path(folder) for videos, _, folder in (text.partition("=") for text in options.index)}
    with tempfile.TemporaryDirectory() as work:
        prepare(Path(work))
        rows, imports = measure(Path(work), indexes, options.rounds), owners(Path(work), options.rounds)
    for name, row in rows.items():
        print(f"{name:<45} {row['cpu']:6.2f} CPU s  {row['wall']:6.2f} s  {row['of_torch']:5.2f} × import torch")
    for name, spent in imports.items():
        print(f"{name}: " + ", ".join(f"{owner} {value:.0f} ms" for owner, value in spent.items()))
    save(options.output, {"machine": machine(), "rounds": options.rounds, "starts": rows, "imports": imports})


if __name__ == "__main__":
    main()
