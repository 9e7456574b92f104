"""A decoding process that reads files as always, but does what the names of some say: see `fake_worker.act`."""

from typing import Any

from fake_worker import act

from colbert_video.video.workers import worker


def main() -> None:
    read = worker._answer

    def answer(request: dict[str, Any]) -> Any:
        act(request["path"])
        return read(request)

    worker._answer = answer
    worker.main()


if __name__ == "__main__":
    main()
