"""Workers of a cluster that come to harm: what happens to them is said by the ids of the videos that they are given."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from colbert_video.cluster.indexing.cluster_worker import Encoder, Receipt
from colbert_video.indexing.build.index_run import Work
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.video.sources import VideoRecord
from colbert_video.video.workers.pool import FramePool

WORKER = Path(__file__).with_name("poison_worker.py")
COMMAND = (sys.executable, str(WORKER))


class PoisonEncoder(Encoder):
    """Dies of "fatal", dies once of "unlucky", raises at "bug", and decodes with `poison_worker`."""

    def __init__(self, work: Work, model: VideoColBERT | str, device: str) -> None:
        super().__init__(work, model, device)
        self._processes.close()
        os.environ["PYTHONPATH"] = os.pathsep.join([str(WORKER.parent), os.environ.get("PYTHONPATH", "")])
        self._processes = FramePool(self._sampling, workers=work.decoding.workers, command=COMMAND, grace=1.0)

    def encode(self, records: Sequence[VideoRecord]) -> Receipt:
        ids = [record.id for record in records]
        with (self._work.folder.parent / "encoded.txt").open("a") as log:
            log.write("".join(f"{name}\n" for name in ids))
        if "fatal" in ids:
            ctypes.string_at(0)  # a fault of this thread: a signal that is sent may come when the work is done
        mark = self._work.folder.parent / "unlucky"
        if "unlucky" in ids and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "bug" in ids:
            raise RuntimeError("a worker's own bug")
        return super().encode(records)
