"""Put the search service under an address of your own FastAPI application.

    python examples/serve_behind_an_app.py my.index

Then /videos/ is the search page, /videos/api/search?query= the service, and /best?query= an answer of your own. Needs the
extra `serve`.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from colbert_video import Searcher
from colbert_video.serve import IndexRegistry, create_app


def build(index: str) -> FastAPI:
    """An application that searches an index in two ways."""
    service = create_app(IndexRegistry.open([index]))
    searcher = Searcher(index, auto_refresh=True)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.app.router.lifespan_context(
            service.app
        ):  # mounted applications are not started by themselves
            yield
        searcher.close()

    app = FastAPI(lifespan=lifespan)
    app.mount("/videos", service)

    @app.get("/best")
    def best(query: str) -> dict[str, object]:
        hit = searcher.search(query, k=1)[0]
        return {"video": hit.id, "start": hit.start, "end": hit.end}

    return app


def main() -> None:
    """Serve on this machine alone."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    options = parser.parse_args()
    uvicorn.run(build(options.index), host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main()
