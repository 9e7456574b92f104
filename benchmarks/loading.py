"""CPU time of an epoch whose frames are all in the cache, beside the least that any loader does with these bytes.

    python benchmarks/loading.py

The least is to read the chosen frames from a file that the system has in memory, to check their sums, and to copy them to
their places in a batch, in one thread. The loader reads in a few threads. Milliseconds of CPU and of the clock a video.
"""

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from reports import arguments, machine, save

from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.loader import CaptionLoader
from colbert_video.training.data.manifest import ManifestRow
from colbert_video.video.frames import SamplingSettings

FRAMES, SIDE, ROUNDS = 12, 224, 5
SHIFTS = (0, 4)


def kept_videos(folder: Path, count: int, sampling: SamplingSettings, cache: FrameCache) -> list[ManifestRow]:
    """Fill the cache with noise under the names of files that are never decoded."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        path.write_bytes(bytes(number))
        size = (cache.dense(sampling).num_frames, SIDE, SIDE, 3)
        cache.store(path, sampling, random.integers(0, 255, size, dtype=np.uint8))
        rows.append(ManifestRow(f"v{number}", path, "a caption", "train"))
    return rows


def least(folder: Path, count: int, batch: int) -> Callable[[], None]:
    """Read, check and copy as many bytes of one file."""
    path, frame = folder / "bytes", SIDE * SIDE * 3
    path.write_bytes(bytes(FRAMES * frame))

    def epoch() -> None:
        read = np.empty((FRAMES, frame), dtype=np.uint8)
        for number in range(count):
            if number % batch == 0:
                out = np.empty((batch, FRAMES, frame), dtype=np.uint8)
            with path.open("rb", buffering=0) as file:
                file.readinto(read)
            for one in read:
                zlib.crc32(one)
            out[number % batch] = read

    return epoch


def milliseconds(epoch: Callable[[], object], videos: int) -> dict[str, float]:
    """CPU and clock milliseconds a video, medians over rounds; the first round warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.process_time(), time.perf_counter()
        epoch()
        times.append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    cpu, clock = np.median(times[1:], axis=0) * 1000 / videos
    return {"cpu": round(float(cpu), 3), "clock": round(float(clock), 3)}


def main() -> None:
    """Measure and write the report."""
    parser = arguments(__doc__, "loading")
    parser.add_argument("--videos", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    sampling = SamplingSettings(num_frames=FRAMES, height=SIDE, width=SIDE)
    with TemporaryDirectory() as name:
        folder = Path(name)
        cache = FrameCache(folder / "cache")
        rows = kept_videos(folder, given.videos, sampling, cache)
        figures = {"least": milliseconds(least(folder, given.videos, given.batch), given.videos)}
        for shift in SHIFTS:
            loader = CaptionLoader(
                rows, sampling=sampling, batch_size=given.batch, seed=0, workers=0, cache=cache, random_shift=shift
            )
            figures[f"shift {shift}"] = milliseconds(
                lambda loader=loader: sum(map(len, loader.iterate())), given.videos
            )
    for what, value in figures.items():
        print(f"{what:10} {value['cpu']:6.2f} CPU ms a video, {value['clock']:6.2f} ms by the clock")
    save(given.output, {"machine": machine(), "frames": FRAMES, "side": SIDE, "ms_a_video": figures})


if __name__ == "__main__":
    main()
