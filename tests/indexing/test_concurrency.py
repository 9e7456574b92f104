"""One writer, any number of readers: a second writer is refused at once, and readers always see whole commits."""

from pathlib import Path

import pytest
from kill_worker import live, preloaded, read_without_end, try_to_write
from operations import add_tokens
from thorough import amount

from colbert_video import Indexer
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog

COMMITS = amount(30, thorough=200)
REFUSED = "another process is writing to .*; wait for it to end, or end it, and try again"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    add_tokens(tmp_path / "i", "kpq", seed=0, add=False)
    return tmp_path / "i"


def test_a_second_writer_in_this_process_is_refused(index: Path) -> None:
    with Catalog.open(index, writable=True):
        for write in (
            lambda: add_tokens(index, "z", seed=1),
            lambda: Indexer(index).remove("k"),
            lambda: Indexer(index).compact(retrain="stored"),
            lambda: add_tokens(index, "z", seed=1, add=False, overwrite=True),
        ):
            with pytest.raises(IndexFolderError, match=REFUSED):
                write()
        assert live(index) == {"k": 0, "p": 0, "q": 0}
    add_tokens(index, "z", seed=1)
    assert live(index) == {"k": 0, "p": 0, "q": 0, "z": 1}


@pytest.mark.slow
def test_a_second_writer_in_another_process_is_refused(index: Path) -> None:
    context = preloaded()
    for held, expected in ((True, "IndexFolderError: another process is writing to "), (False, "done")):
        pipe, end = context.Pipe()
        writer = Catalog.open(index, writable=True)
        if not held:
            writer.close()
        child = context.Process(target=try_to_write, args=(index, end))
        child.start()
        assert pipe.poll(120)
        assert pipe.recv().startswith(expected)
        child.join()
        writer.close()


@pytest.mark.slow
def test_readers_see_whole_commits_while_a_writer_works(tmp_path: Path) -> None:
    """Videos go one by one, in order, and two are replaced together: no reader sees it otherwise, or going back."""
    index, going = tmp_path / "i", [f"v{number:03}" for number in range(COMMITS)]
    add_tokens(index, ["p", "q", *going], seed=0, add=False)
    context = preloaded()
    pipe, end = context.Pipe()
    reader = context.Process(target=read_without_end, args=(index, end))
    reader.start()
    assert pipe.poll(120)
    assert pipe.recv() == "ready"
    for number, name in enumerate(going, start=1):
        Indexer(index).remove(name)
        if number % 12 == 0:
            add_tokens(index, "pq", seed=number)
        if number % 40 == 0:
            Indexer(index).compact(retrain="stored" if number % 80 == 0 else None)
    pipe.send("stop")
    assert pipe.poll(120)
    seen = pipe.recv()
    reader.join()
    assert isinstance(seen, list), seen
    for state in seen:
        assert state["p"] == state["q"]
        assert sorted(state.keys() - {"p", "q"}) == going[len(going) + 2 - len(state) :]
    moments = [(COMMITS + 2 - len(state), state["p"]) for state in seen]
    assert moments == sorted(moments)
    assert (
        len(set(moments)) > 2
    )  # the reader really ran beside the writer: it saw commits between the first and the last
