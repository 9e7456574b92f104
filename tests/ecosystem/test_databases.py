"""Indexes as tables of Parquet, npz, LanceDB and Qdrant, and back: the real packages, in folders."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run

from colbert_video import Indexer, Searcher
from colbert_video.ecosystem import export_tokens, import_tokens
from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.index.folder import load_settings
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.indexing.upkeep.stored import open_segments
from colbert_video.indexing.upkeep.verify import verify_index

DIM, VIDEOS = 32, 40
PACKAGES = {"lance": "lancedb", "npz": "numpy", "parquet": "pyarrow", "qdrant": "qdrant_client"}


def needs(name: str) -> Any:
    package = PACKAGES[name]
    return pytest.param(name, marks=pytest.mark.skipif(not find_spec(package), reason=f"needs {package}"))


EVERY = [needs(name) for name in PACKAGES]
WITH_CODES = [needs("npz"), needs("parquet")]


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, DIM), dim=-1)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments, bags of several lengths, a removed and a replaced video, metadata of many kinds."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("databases") / "my.index"
    ids = [f"ü video/{number:02} \"'" for number in range(VIDEOS)]
    metadata: list[dict[str, Any]] = [
        {
            "channel": "news" if row % 3 else "sport",
            "length": row / 2,
            "odd": bool(row % 2),
            "mixed": [row, "x"][row % 2],
        }
        for row in range(VIDEOS)
    ]
    metadata[5] = {"nested": {"deep": [1, None, "ß"]}, "channel": None}
    frame, video = [unit(2 + row % 3) for row in range(VIDEOS)], [unit(4) for _ in range(VIDEOS)]
    indexer = Indexer(path, dim=DIM, nbits=4, bag_weights={"video": 0.5})
    indexer.index_tokens(ids[:30], frame[:30], video[:30], metadata=metadata[:30])
    indexer.index_tokens(ids[28:], frame[28:], video[28:], metadata=metadata[28:], add=True)
    indexer.remove(ids[3])
    return path


@pytest.fixture(scope="module")
def clips_index(tmp_path_factory: pytest.TempPathFactory, rendered_clips: Path, tiny_trained_model: Any) -> Path:
    """Rendered clips in windows, with paths and times."""
    path = tmp_path_factory.mktemp("databases") / "clips.index"
    Indexer(path, model=tiny_trained_model, window=1.0, workers=1).index(rendered_clips)
    return path


def entries(path: Path) -> list[Any]:
    with Catalog.open(path) as catalog:
        known = catalog.live_rows()
        by_segment = {name: catalog.entries_at(name, [row for n, row, _ in known if n == name]) for name, _, _ in known}
    return [by_segment[name][row] for name, row, _ in known]


def plain(entry: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if name not in ("segment", "row")}


def decoded(path: Path) -> dict[str, torch.Tensor]:
    """All live tokens of an index by bag."""
    with Catalog.open(path) as catalog:
        chunks = [segment.decoded(segment.live) for segment in open_segments(catalog, load_settings(catalog))]
    return {bag: torch.cat([chunk.tokens[bag] for chunk in chunks]) for bag in ("frame", "video")}


def hits(path: Path, query: torch.Tensor, **settings: Any) -> dict[str, float]:
    with Searcher(path) as searcher:
        return {hit.id: hit.score for hit in searcher.search_tokens(query, **{"k": VIDEOS, "exact": True, **settings})}


def target_of(folder: Path, kind: str) -> Path:
    return folder / ("tokens" + {"npz": ".npz", "parquet": ".parquet"}.get(kind, ""))


@pytest.mark.parametrize("kind", EVERY)
def test_tokens_come_back(index: Path, tmp_path: Path, kind: Any) -> None:
    """Ids, order, metadata, and scores within the bound: the largest distance of a token from what is stored of it."""
    report = export_tokens(index, target_of(tmp_path, kind), to=kind)
    assert (report.format, report.videos, report.codes) == (kind, VIDEOS - 1, False)
    back = import_tokens(target_of(tmp_path, kind), tmp_path / "back.index")
    assert (back.format, back.videos, back.exact, back.tokens) == (kind, VIDEOS - 1, False, report.tokens)
    assert [plain(entry) for entry in entries(tmp_path / "back.index")] == [plain(entry) for entry in entries(index)]
    assert verify_index(tmp_path / "back.index").intact
    before, after = decoded(index), decoded(tmp_path / "back.index")
    moved = {bag: float((after[bag] - before[bag]).norm(dim=1).max()) for bag in before}
    query = unit(7)
    old, new = hits(index, query), hits(tmp_path / "back.index", query)
    assert old.keys() == new.keys()
    assert max(abs(new[name] - old[name]) for name in old) <= moved["frame"] + 0.5 * moved["video"] + 1e-5
    assert max(moved.values()) < 0.2


@pytest.mark.parametrize("kind", WITH_CODES)
def test_codes_come_back_to_the_bit(index: Path, tmp_path: Path, kind: Any) -> None:
    target = target_of(tmp_path, kind)
    assert export_tokens(index, target, to=kind, codes=True).codes
    assert import_tokens(target, tmp_path / "back.index").exact
    query = unit(7)
    for settings in ({}, {"where": {"channel": "sport"}}, {"bag_weights": {"frame": 2.0}}):
        old, new = hits(index, query, **settings), hits(tmp_path / "back.index", query, **settings)
        assert [*old.items()] == [*new.items()]
    fewer = import_tokens(target, tmp_path / "fewer.index", nbits=2)
    assert not fewer.exact
    assert verify_index(tmp_path / "fewer.index").intact
    added = unit(1, 4)
    Indexer(tmp_path / "back.index").index_tokens(["new"], added, added, add=True)  # it lives on


@pytest.mark.parametrize("kind", EVERY)
def test_windows_paths_and_models_come_back(
    clips_index: Path, tmp_path: Path, kind: Any, tiny_trained_model: Any
) -> None:
    target = target_of(tmp_path, kind)
    export_tokens(clips_index, target, to=kind)
    import_tokens(target, tmp_path / "back.index")
    found = entries(tmp_path / "back.index")
    assert [plain(entry) for entry in found] == [plain(entry) for entry in entries(clips_index)]
    assert found[0].parent is not None
    with Searcher(tmp_path / "back.index", model=tiny_trained_model) as searcher:
        (hit,) = searcher.search("a red circle", k=1)
    assert hit.end > hit.start
    assert Path(hit.path).is_file()


@pytest.mark.parametrize("kind", EVERY)
def test_paths_are_left_out(clips_index: Path, tmp_path: Path, kind: Any) -> None:
    target = target_of(tmp_path, kind)
    export_tokens(clips_index, target, to=kind, keep_paths=False, half=True)
    import_tokens(target, tmp_path / "back.index")
    assert {entry.path for entry in entries(tmp_path / "back.index")} == {None}
    folder = str(Path(entries(clips_index)[0].path).parent).encode()
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    assert not any(folder in path.read_bytes() for path in files)


def scores_of(index: Path, query: torch.Tensor) -> dict[str, float]:
    """MMS_F + 0.5 MMS_V of every video, by this library."""
    return hits(index, query)


@pytest.mark.skipif(not find_spec("lancedb"), reason="needs lancedb")
def test_lancedb_scores_as_this_library(index: Path, tmp_path: Path) -> None:
    import lancedb

    export_tokens(index, tmp_path / "db", to="lance", name="clips")
    table = lancedb.connect(tmp_path / "db").open_table("clips")
    query = unit(7)
    found: dict[str, float] = {}
    for bag, weight in (("frame", 1.0), ("video", 0.5)):
        rows = table.search(query.numpy(), vector_column_name=bag).distance_type("cosine").limit(VIDEOS).to_list()
        for row in rows:
            found[row["id"]] = found.get(row["id"], 0.0) + weight * (1 - row["_distance"] / len(query))
    expected = scores_of(index, query)
    assert found == pytest.approx(expected, abs=2e-5)
    news = table.search().where("channel = 'news' AND length > 5 AND odd").limit(VIDEOS).to_list()
    assert {row["id"] for row in news} == {
        entry.id
        for entry in entries(index)
        if entry.metadata["channel"] == "news" and entry.metadata["length"] > 5 and entry.metadata["odd"]
    }
    assert "mixed" not in table.schema.names


@pytest.mark.skipif(not find_spec("qdrant_client"), reason="needs qdrant-client")
def test_qdrant_scores_as_this_library(index: Path, tmp_path: Path) -> None:
    from qdrant_client import QdrantClient, models

    export_tokens(index, tmp_path / "db", to="qdrant")
    client = QdrantClient(path=str(tmp_path / "db"))
    query = unit(7)
    found = client.query_points(
        "videos",
        prefetch=[models.Prefetch(query=query.tolist(), using=bag, limit=VIDEOS) for bag in ("frame", "video")],
        query=models.FormulaQuery(
            formula=models.MultExpression(
                mult=[
                    1 / len(query),
                    models.SumExpression(sum=["$score[0]", models.MultExpression(mult=[0.5, "$score[1]"])]),
                ]
            )
        ),
        limit=VIDEOS,
    )
    scores = {point.payload["id"]: point.score for point in found.points}
    client.close()
    expected = scores_of(index, query)
    assert [*scores] == sorted(expected, key=lambda name: -expected[name])
    assert scores == pytest.approx(expected, abs=2e-5)


@pytest.mark.skipif(not find_spec("pyarrow"), reason="needs pyarrow")
def test_a_table_of_another_program_is_imported(tmp_path: Path) -> None:
    """Plain nested lists, and columns of its own, which become metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    bags = [unit(3), unit(1), unit(2)]
    rows = {"id": ["a", "b", "c"], "speech": [bag.tolist() for bag in bags], "year": [2020, None, 2022]}
    parquet.write_table(pa.table(rows), tmp_path / "other.parquet")
    import_tokens(tmp_path / "other.parquet", tmp_path / "other.index", nbits=4)
    with Searcher(tmp_path / "other.index") as searcher:
        (hit,) = searcher.search_tokens(bags[2], k=1, where={"year": 2022})
    assert (hit.id, dict(hit.metadata), [*hit.bag_scores]) == ("c", {"year": 2022}, ["speech"])


def test_arrays_of_another_program_are_imported(tmp_path: Path) -> None:
    tokens = unit(5, 3).numpy()
    np.savez_compressed(
        tmp_path / "other.npz", ids=np.array(list("abcde")), **{"frame.tokens": tokens.astype(np.float64)}
    )
    import_tokens(tmp_path / "other.npz", tmp_path / "other.index")
    with Searcher(tmp_path / "other.index") as searcher:
        assert searcher.search_tokens(torch.from_numpy(tokens[3]), k=1)[0].id == "d"


def test_what_npz_holds_is_what_the_page_says(index: Path, tmp_path: Path) -> None:
    export_tokens(index, tmp_path / "t.npz", to="npz", half=True)
    with np.load(tmp_path / "t.npz") as arrays:
        assert arrays["frame.tokens"].dtype == np.float16
        assert arrays["frame.lengths"].sum() == len(arrays["frame.tokens"])
        assert [*arrays["ids"]] == [entry.id for entry in entries(index)]
        assert json.loads(arrays["videos.jsonl"].splitlines()[0])["metadata"]["channel"] == "sport"
        query, ends = unit(7).numpy(), np.cumsum(arrays["frame.lengths"])
        bags = np.split(arrays["frame.tokens"].astype(np.float32), ends[:-1])
        scores = {
            str(name): float((query @ bag.T).max(1).mean()) for name, bag in zip(arrays["ids"], bags, strict=True)
        }
    expected = hits(index, torch.from_numpy(query), bag_weights={"frame": 1.0, "video": 0.0})
    assert scores == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_done_is_said(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="codes=True is for npz and parquet"):
        export_tokens(index, tmp_path / "x", to="qdrant", codes=True)
    (tmp_path / "there.npz").touch()
    with pytest.raises(IndexFolderError, match="exists"):
        export_tokens(index, tmp_path / "there.npz", to="npz")
    with pytest.raises(IndexFolderError, match="cannot be read as npz"):
        import_tokens(tmp_path / "there.npz", tmp_path / "new.index")
    with pytest.raises(SettingsError, match="is not a table of tokens"):
        import_tokens(tmp_path / "nothing", tmp_path / "new.index")
    with pytest.raises(IndexFolderError, match="check the path"):
        import_tokens(tmp_path / "nothing", tmp_path / "new.index", kind="npz")
    export_tokens(index, tmp_path / "t.npz", to="npz")
    with pytest.raises(IndexFolderError, match=r"overwrite|exists|already"):
        import_tokens(tmp_path / "t.npz", index)
    assert not (tmp_path / "new.index").exists()


@pytest.mark.parametrize("kind", [needs("lance"), needs("qdrant"), needs("parquet")])
def test_odd_metadata_come_back(tmp_path: Path, kind: Any) -> None:
    """Keys that are names of columns, differ by capitals alone, or hold what a column would round."""
    odd = {"ID": 1, "id": "x", "Frame": "a", "frame": 3, "huge": 2**62 + 1, "a b": "c", "é": True, "start": "00:12"}
    odd |= {"_distance": 1.5, "x.y": 1, "": "e", "frame_codes": "z", "metadata": {"metadata": None}}
    Indexer(tmp_path / "a.index", dim=DIM).index_tokens(["a", "b"], unit(2, 2), unit(2, 2), metadata=[odd, {}])
    export_tokens(tmp_path / "a.index", target_of(tmp_path, kind), to=kind)
    import_tokens(target_of(tmp_path, kind), tmp_path / "b.index")
    assert [dict(entry.metadata) for entry in entries(tmp_path / "b.index")] == [odd, {}]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "é", "x" * 300, ".x"])
def test_names_that_some_system_refuses_are_refused(index: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="name="):
        export_tokens(index, tmp_path / "x", to="qdrant", name=name)
    with pytest.raises(SettingsError, match="name="):
        import_tokens(tmp_path, tmp_path / "new.index", kind="lance", name=name)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", EVERY)
def test_places_without_tokens_are_refused(index: Path, tmp_path: Path, kind: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tokens")
    for place in (index, tmp_path / "empty", tmp_path / "text"):
        with pytest.raises((SettingsError, IndexFolderError)):
            import_tokens(place, tmp_path / "new.index", kind=kind)
    assert not (tmp_path / "new.index").exists()
    assert Indexer(index).verify().intact


@pytest.mark.skipif(not find_spec("qdrant_client"), reason="needs qdrant-client")
def test_a_server_that_is_not_there_is_an_error_in_words(index: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match=r"127\.0\.0\.1:9"):
        export_tokens(index, "http://127.0.0.1:9", to="qdrant")
    with pytest.raises(IndexFolderError, match=r"127\.0\.0\.1:9"):
        import_tokens("http://127.0.0.1:9", tmp_path / "new.index")


def test_a_corpus_says_how_it_is_exported(index: Path, tmp_path: Path) -> None:
    shard_index(index, tmp_path / "c.shards", shards=2)
    with pytest.raises(SettingsError, match="export each of them"):
        export_tokens(tmp_path / "c.shards", tmp_path / "x.npz", to="npz")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "twice": ({"ids": np.array(["a", "a"])}, "twice"),
    "empty id": ({"ids": np.array(["", "a"])}, "empty"),
    "not unit": ({"frame.tokens": np.ones((2, 2, DIM), np.float32)}, "unit vectors"),
    "NaN": ({"frame.tokens": np.full((2, 2, DIM), np.nan, np.float32)}, "unit vectors|NaN"),
    "no ids": ({"ids": None}, "needed are 'ids'"),
    "too short": ({"ids": np.array(["a", "b", "c"])}, "shorter|damaged"),
    "pickles": ({"ids": np.array(["a", {}], dtype=object)}, "damaged"),
    "lengths": ({"frame.tokens": np.eye(DIM, dtype=np.float32)[:4], "frame.lengths": np.array([9, 1])}, "shorter"),
    "no token": ({"frame.tokens": np.eye(DIM, dtype=np.float32)[:4], "frame.lengths": np.array([4, 0])}, "shape"),
    "no rows": ({"ids": np.array([], str), "frame.tokens": np.zeros((0, 2, DIM), np.float32)}, "no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(tmp_path: Path, case: str) -> None:
    changed, message = BAD[case]
    arrays = {"ids": np.array(["a", "b"]), "frame.tokens": unit(2, 2).numpy(), **changed}
    np.savez(tmp_path / "bad.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises((SettingsError, IndexFolderError), match=message):
        import_tokens(tmp_path / "bad.npz", tmp_path / "new.index")
    assert not (tmp_path / "new.index").exists()


def test_bad_codes_are_refused(index: Path, tmp_path: Path) -> None:
    """Codes that name no centroid would be read beyond the end of an array."""
    export_tokens(index, tmp_path / "t.npz", to="npz", codes=True)
    with np.load(tmp_path / "t.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if not name.startswith(("videos", "colbert"))}
    for name, value in {"frame.codes": 10**6, "video.codes": -1}.items():
        changed = {**kept, name: np.where(np.arange(len(kept[name])) == 3, value, kept[name]).astype(np.int32)}
        np.savez(tmp_path / "bad.npz", **changed)
        with pytest.raises(SettingsError, match="is not one of"):
            import_tokens(tmp_path / "bad.npz", tmp_path / "new.index")
        assert not (tmp_path / "new.index").exists()


def test_the_command_line_exports_and_imports(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, back = str(tmp_path / "t.npz"), str(tmp_path / "back.index")
    code, out, _ = run(["export", str(index), source, "--to", "npz", "--codes"], capsys)
    assert (code, out.strip()) == (0, f"{source}: codes of 39 rows, 117 frame tokens and 156 video tokens")
    code, out, _ = run(["import", source, back, "--json"], capsys)
    assert (code, json.loads(out)["exact"]) == (0, True)
    code, _, err = run(["export", source, "--index", str(index), "--half"], capsys)
    assert (code, "add --to" in err) == (2, True)
    code, _, err = run(["export", source], capsys)
    assert (code, "give INDEX and TARGET" in err) == (2, True)
    code, _, err = run(["import", back, str(tmp_path / "more"), "--nbits", "4"], capsys)
    assert (code, "SOURCE is not one" in err) == (2, True)
    code, _, err = run(["export", str(index), source, "--to", "csv"], capsys)
    assert (code, "'lance'" in err) == (2, True)
