"""Every kind of damage is found and named; cheap damage is noticed when an index is opened."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from operations import add_tokens

from colbert_video import Indexer, Searcher
from colbert_video.errors import IndexFolderError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.upkeep.verify import verify_index


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "i"
    add_tokens(path, "abcd", seed=0, add=False)
    add_tokens(path, "bef", seed=1)
    Indexer(path).remove("a")
    return path


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "i")


def files(path: Path) -> list[str]:
    with Catalog.open(path) as catalog:
        return list(catalog.files())


def test_an_intact_index_passes(index: Path) -> None:
    report = Indexer(index).verify()
    assert (report.intact, report.videos, report.problems, report.leftovers) == (True, 5, (), ())
    assert report.files == len(files(index)) == len([p for p in index.rglob("*/*") if p.is_file()])
    assert report.to_dict()["intact"] is True


def test_a_flipped_bit_in_any_file_is_found_and_named(index: Path) -> None:
    for name in files(index):
        path = index / name
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 4
        path.unlink()  # the codec's files are linked into the segments
        path.write_bytes(flipped)
        report = verify_index(index)
        assert [(problem.path, problem.detail) for problem in report.problems] == [
            (name, "its content has changed (SHA-256)")
        ]
        path.write_bytes(content)
    assert verify_index(index).intact


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer"])
def test_cheap_damage_is_noticed_when_the_index_is_opened(index: Path, damage: str) -> None:
    name = next(name for name in files(index) if name.endswith("doclens.0.json"))
    content = (index / name).read_bytes()
    (index / name).unlink()
    if damage != "missing":
        (index / name).write_bytes(content[:-1] if damage == "shorter" else content + b"\n")
    (problem,) = verify_index(index).problems
    assert problem.path == name
    with pytest.raises(IndexFolderError, match=r"doclens\.0\.json is damaged: it (is missing|has \d+ bytes)"):
        Searcher(index)


def test_codes_outside_the_codec_are_found_though_checksums_agree(index: Path) -> None:
    """What a faulty writer would leave, or someone who forged the checksums."""
    from colbert_video.durable import checksum

    name = next(name for name in files(index) if name.endswith("frame/0.codes.pt"))
    content = bytearray((index / name).read_bytes())
    for start in range(0, len(content) - 4, 4):
        wrong = bytearray(content)
        wrong[start : start + 4] = b"\xff\xff\xff\x7f"
        (index / name).write_bytes(wrong)
        try:
            from colbert_video.indexing.segments.segment import open_bag

            open_bag((index / name).parent)
        except IndexFolderError as error:
            if "codes run from" in str(error):
                break
    connection = sqlite3.connect(index / "catalog.sqlite")
    connection.execute("UPDATE files SET sha256 = ? WHERE path = ?", (checksum(index / name)[1], name))
    connection.commit()
    connection.close()
    (problem,) = verify_index(index).problems
    assert problem.path == str(Path(name).parent.as_posix())
    assert "codes run from" in problem.detail


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE videos SET ordinal = 7 WHERE id = 'c'", "do not fill segment"),
        ("UPDATE videos SET metadata = '{' WHERE id = 'c'", "row of video 'c' is damaged"),
        ("DELETE FROM videos WHERE id = 'c'", "4 live videos, its segments hold 5"),
        ("UPDATE settings SET value = '{\"dim\": 64}' WHERE key = 'index'", "settings are damaged"),
        ("UPDATE settings SET value = '{}' WHERE key = 'drift'", "record of codec errors is damaged"),
    ],
)
def test_a_catalog_that_contradicts_itself_is_found(index: Path, statement: str, message: str) -> None:
    connection = sqlite3.connect(index / "catalog.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    problems = verify_index(index).problems
    assert [problem.path for problem in problems] == ["catalog.sqlite"]
    assert message in problems[0].detail


def test_a_damaged_database_is_named(index: Path) -> None:
    path = index / "catalog.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xa5" * (len(content) - 8192))
    (problem,) = verify_index(index).problems
    assert problem.path == "catalog.sqlite"


def test_leftovers_are_listed_but_no_damage(index: Path) -> None:
    (index / "segments" / "crashed" / "frame").mkdir(parents=True)
    (index / "segments" / "crashed" / "frame" / "codes.tmp").write_bytes(b"x")
    (index / "notes.txt").write_text("mine")
    report = verify_index(index)
    assert report.intact
    assert report.leftovers == ("notes.txt", "segments/crashed/frame/codes.tmp")


def test_journals_that_a_power_cut_brings_back_are_harmless(index: Path) -> None:
    """SQLite deletes its journals without syncing the folder, so that an empty one may reappear."""
    before = verify_index(index)
    (index / "writer.lock").write_bytes(b"")
    for name in ("catalog.sqlite-journal", "catalog.new-journal", "writer.lock-journal"):
        (index / name).write_bytes(b"")
    found = verify_index(index)
    assert (found.problems, found.leftovers) == ((), ("catalog.new-journal",))
    assert (found.videos, found.files, found.bytes) == (before.videos, before.files, before.bytes)
    add_tokens(index, "g", seed=2)
    after = verify_index(index)
    assert (after.problems, after.leftovers, after.videos) == ((), (), before.videos + 1)


def test_damaged_staged_videos_are_found(index: Path) -> None:
    with Catalog.open(index, writable=True) as catalog:
        catalog.stage("chunk", [VideoEntry("new")])
    (problem,) = verify_index(index).problems
    assert problem.path == "staging/chunk.safetensors"
    assert "missing or damaged" in problem.detail


def test_there_must_be_an_index(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match="there is no index in"):
        verify_index(tmp_path)
