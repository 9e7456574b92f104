"""Index a folder of videos once, keep it up to date, and search it.

python examples/search_a_folder.py VIDEOS "a dog catches a frisbee" --model PE-Core-B-16:meta
"""

import argparse
from pathlib import Path

from colbert_video import Indexer, Searcher


def main() -> None:
    """Index what is new, then print the best videos with their moments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="a folder of videos")
    parser.add_argument("query", help="what to look for")
    parser.add_argument("--index", type=Path, default=Path("my.index"))
    parser.add_argument("--model", default="toy", help="the model that encodes the videos")
    options = parser.parse_args()

    report = Indexer(options.index, model=options.model).sync(options.videos)
    print(f"{report.indexed} new videos, {report.unchanged} unchanged, {len(report.removed)} removed")
    for failure in report.failures:
        print(f"refused: {failure.path}: {failure.kind}: {failure.detail}")

    with Searcher(options.index) as searcher:
        for hit in searcher.search(options.query, k=5):
            print(f"{hit.rank}. {hit.id}  {hit.start:.1f} to {hit.end:.1f} s  {hit.score:.3f}")


if __name__ == "__main__":
    main()
