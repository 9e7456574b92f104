"""The bridge to stock colbert-ai: its scores are ours, its retrieval is PLAID's, and the process stays as it was."""

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import python_path
from stock_colbert_scores import compiler_found
from test_stock_colbert import video_like
from thorough import thorough_only
from torch import Tensor
from window_corpus import WindowSource, window_entries

from colbert_video import Indexer, Searcher
from colbert_video.cli import main
from colbert_video.errors import DependencyError, IndexFolderError, SettingsError
from colbert_video.indexing.build.commit import commit_segment
from colbert_video.indexing.codec.codec import ResidualCodec
from colbert_video.indexing.index.folder import writing
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.index_reader import IndexReader
from colbert_video.indexing.scan.stock import PlaidSettings, StockEngine, settings_kept

VIDEOS = 60
stock = [
    pytest.mark.stock,
    thorough_only,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("colbert") is None, reason="colbert-ai is not installed"),
    pytest.mark.skipif(not compiler_found(), reason="colbert-ai's C++ needs a compiler and ninja"),
]


def bags(videos: int, dim: int, seed: int) -> list[Tensor]:
    """Bags of 1 to 7 tokens in a narrow cone: every best match is positive, or stock's clamp at zero would show."""
    lengths = torch.randint(1, 8, (videos,), generator=torch.Generator().manual_seed(seed)).tolist()
    return list(video_like(sum(lengths), dim, seed).split(lengths))


def write_index(path: Path, dim: int, nbits: int) -> Path:
    """Three segments; three videos removed, one of them replaced."""
    ids, frame, video = [f"v{number}" for number in range(VIDEOS)], bags(VIDEOS, dim, 1), bags(VIDEOS, dim, 2)
    indexer = Indexer(path, dim=dim, nbits=nbits)
    indexer.index_tokens(ids[:30], frame[:30], video[:30])
    indexer.index_tokens(ids[30:59], frame[30:59], video[30:59], add=True)
    indexer.remove(["v3", "v29", "v31"])
    indexer.index_tokens(["v31"], frame[59:], video[59:], add=True)
    return path


def write_windows(path: Path, videos: dict[str, int]) -> None:
    """Films of many windows beside one that stays whole."""
    entries = window_entries(videos)
    tokens = {"frame": bags(len(entries), 64, 1), "video": bags(len(entries), 64, 2)}
    with writing(path, create=True) as catalog:
        settings = IndexSettings(64, tuple(tokens), nbits=8)
        commit_segment(catalog, WindowSource(entries, tokens), settings, replace_all=True)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_index(tmp_path_factory.mktemp("engine") / "i", 64, 4)


class TestWithStock:
    pytestmark = stock

    @pytest.mark.parametrize("dim", [64, 512])
    @pytest.mark.parametrize("nbits", [1, 2, 4, 8])
    def test_scores_are_the_native_ones(self, tmp_path: Path, dim: int, nbits: int) -> None:
        path, query = write_index(tmp_path / "i", dim, nbits), video_like(9, dim, 3)
        native = {hit.id: hit for hit in Searcher(path).search_tokens(query, k=VIDEOS, exact=True)}
        hits = Searcher(path, engine="colbert").search_tokens(query, k=VIDEOS)
        assert len(hits) == len(native) == VIDEOS - 3
        for hit in hits:
            assert hit.frame_score == pytest.approx(native[hit.id].frame_score, abs=1e-5)
            assert hit.video_score == pytest.approx(native[hit.id].video_score, abs=1e-5)
            assert hit.score == pytest.approx(hit.frame_score + hit.video_score, abs=1e-6)
            assert hit.confidence == pytest.approx(native[hit.id].confidence, abs=0.01)
        assert hits[0].confidence
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_ids_restrict_the_search(self, index: Path) -> None:
        query, wanted = video_like(4, 64, 3), ["v1", "v31", "v58"]
        hits = Searcher(index, engine="colbert").search_tokens(query, k=10, ids=wanted)
        native = Searcher(index).search_tokens(query, k=10, ids=wanted)
        assert [hit.id for hit in hits] == [hit.id for hit in native]
        assert set(wanted) == {hit.id for hit in hits}

    def test_windows_are_one_hit_a_video_as_they_are_natively(self, tmp_path: Path) -> None:
        write_windows(tmp_path / "i", {"film": 12, "short": 0, "talk": 5})
        query = video_like(4, 64, 3)
        for group, count in ((True, 3), (False, 18)):
            native = Searcher(tmp_path / "i").search_tokens(query, k=18, exact=True, group=group)
            hits = Searcher(tmp_path / "i", engine="colbert").search_tokens(query, k=18, group=group)
            assert len(hits) == count
            assert [(hit.id, hit.parent, hit.start, hit.end) for hit in hits] == [
                (hit.id, hit.parent, hit.start, hit.end) for hit in native
            ]
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in native], abs=1e-5)
            assert [[moment.start for moment in hit.moments] for hit in hits] == [
                [moment.start for moment in hit.moments] for hit in native
            ]

    def test_an_index_of_one_video_in_one_bag(self, tmp_path: Path) -> None:
        tokens = video_like(2, 64, 1)
        Indexer(tmp_path / "i", dim=64, nbits=8).index_tokens(["only"], [tokens])
        (hit,) = Searcher(tmp_path / "i", engine="colbert").search_tokens(tokens)
        assert (hit.id, hit.video_score) == ("only", None)
        assert hit.score == pytest.approx(1, abs=0.01)

    def test_an_emptied_index_finds_nothing(self, tmp_path: Path) -> None:
        tokens = video_like(2, 64, 1)
        Indexer(tmp_path / "i", dim=64).index_tokens(["only"], [tokens])
        Indexer(tmp_path / "i").remove(["only"])
        assert Searcher(tmp_path / "i", engine="colbert").search_tokens(tokens) == []

    def test_negative_matches_count_as_zero_on_cpus(self, index: Path) -> None:
        query = -video_like(4, 64, 3)
        assert all(hit.score < -0.5 for hit in Searcher(index).search_tokens(query))
        hits = Searcher(index, engine="colbert").search_tokens(query)
        assert [(hit.frame_score, hit.video_score) for hit in hits] == [(0, 0)] * 10

    def test_candidates_are_what_the_inverted_lists_give(self, tmp_path: Path) -> None:
        ids, kinds = [f"v{number}" for number in range(VIDEOS)], (bags(VIDEOS, 64, 1), bags(VIDEOS, 64, 2))
        Indexer(tmp_path / "i", dim=64).index_tokens(ids, *kinds)
        query = video_like(2, 64, 5)
        ranked = [hit.id for hit in Searcher(tmp_path / "i").search_tokens(query, k=VIDEOS, exact=True)]
        near = probed_videos(tmp_path / "i", query)
        probed = [name for name in ranked if int(name[1:]) in near]
        allowed = [name for name in ranked if name not in probed[:3]]
        expected = probed[3:8]
        assert len(probed) < 40 < len(allowed)
        assert expected != allowed[:5]
        plaid = PlaidSettings(ncells=1, ndocs=160)  # survivors: 40
        searcher = Searcher(tmp_path / "i", engine="colbert", plaid=plaid)
        assert [hit.id for hit in searcher.search_tokens(query, k=5, ids=allowed)] == expected
        everything = searcher.search_tokens(query, k=39, ids=allowed)  # more than the lists gave
        assert [hit.id for hit in everything] == allowed[:39]

    def test_a_high_threshold_prunes_all_centroids_alike(self, tmp_path: Path) -> None:
        """And ties go to the last videos: why our default ignores no centroid."""
        ids, kinds = [f"v{number}" for number in range(VIDEOS)], (bags(VIDEOS, 64, 1), bags(VIDEOS, 64, 2))
        Indexer(tmp_path / "i", dim=64).index_tokens(ids, *kinds)
        query = kinds[0][12]  # an early video's own tokens
        best = Searcher(tmp_path / "i").search_tokens(query, k=1, exact=True)[0].id
        assert best == "v12"

        def found(threshold: float) -> set[str]:
            plaid = PlaidSettings(ncells=32, centroid_score_threshold=threshold, ndocs=40)
            searcher = Searcher(tmp_path / "i", engine="colbert", plaid=plaid)
            return {hit.id for hit in searcher.search_tokens(query, k=10)}

        assert best in found(-1)
        assert all(int(name[1:]) >= 20 for name in found(1))  # the last 40 of 60 survived

    def test_exact_contradicts_the_engine(self, index: Path) -> None:
        searcher = Searcher(index, engine="colbert")
        with pytest.raises(SettingsError, match=r"exact=True contradicts engine='colbert'.*engine='native'"):
            searcher.search_tokens(video_like(2, 64, 3), exact=True)

    def test_a_bag_that_stock_cannot_read_is_named(self, tmp_path: Path) -> None:
        path = write_index(tmp_path / "i", 64, 4)
        next(path.glob("segments/*/video/avg_residual.pt")).unlink()
        with pytest.raises(IndexFolderError, match=r"video/avg_residual\.pt is damaged: it is missing"):
            Searcher(path, engine="colbert")

    def test_another_than_the_first_gpu_is_refused(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        with pytest.raises(SettingsError, match="first GPU only; set CUDA_VISIBLE_DEVICES=3"):
            Searcher(index, engine="colbert", device="cuda:3")

    def test_the_process_stays_as_it_was(self, index: Path) -> None:
        program = (
            "import json, multiprocessing, os, sys\n"
            "from colbert_video import Searcher\n"
            "import torch\n"
            f"Searcher({str(index)!r}, engine='colbert').search_tokens(torch.eye(64)[:2])\n"
            "from colbert.infra.config.settings import RunSettings\n"
            "assert 'colbert' in sys.modules\n"
            "print(json.dumps([multiprocessing.get_start_method(allow_none=True),"
            " os.environ.get('TOKENIZERS_PARALLELISM'), RunSettings.total_visible_gpus]))\n"
        )
        run = python(program)
        assert run.returncode == 0, run.stderr
        # the whole of stdout: what stock prints is logged instead
        assert json.loads(run.stdout) == [None, None, torch.cuda.device_count()]
        assert "it/s" not in run.stderr  # and no progress bars

    @thorough_only
    def test_a_missing_compiler_is_named_with_its_remedy(self, index: Path, tmp_path: Path) -> None:
        program = f"from colbert_video import Searcher\nSearcher({str(index)!r}, engine='colbert')\n"
        run = python(program, CXX="no-such-compiler", TORCH_EXTENSIONS_DIR=str(tmp_path))
        assert run.returncode == 1
        last = run.stderr.strip().splitlines()[-1]
        assert last.startswith("colbert_video.errors.DependencyError: engine='colbert' compiles C++")
        assert "Install a C++ compiler (g++ or clang) and ninja (pip install ninja), or use engine" in last

    def test_the_command_line_offers_it(
        self, tmp_path: Path, tiny_trained_model: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tiny_trained_model.save_pretrained(tmp_path / "m")  # type: ignore[attr-defined]
        Indexer(tmp_path / "i", dim=64).index_tokens(list("abc"), bags(3, 64, 1), bags(3, 64, 2))
        command = ["-q", "search", "a dog", "--index", str(tmp_path / "i"), "--model", str(tmp_path / "m")]
        with pytest.raises(SystemExit) as found:
            main([*command, "--engine", "colbert", "--json"])
        assert not found.value.code
        assert {hit["id"] for hit in json.loads(capsys.readouterr().out)["hits"]} == set("abc")
        with pytest.raises(SystemExit) as refused:
            main([*command, "--engine", "colbert", "--exact"])
        assert refused.value.code == 2
        assert "--exact contradicts --engine colbert" in capsys.readouterr().err


def probed_videos(path: Path, query: Tensor) -> set[int]:
    """Videos with a token in the nearest cell of some query token, in either bag."""
    reader, found = IndexReader.open(path), set()
    (segment,) = reader.segments
    for bag, codec in reader.codecs(segment).items():
        assert isinstance(codec, ResidualCodec)
        cells = (codec.centroids @ codec.rotate(query).T).argmax(dim=0)
        stored = segment.bags[bag]
        videos = torch.arange(len(segment)).repeat_interleave(stored.doclens)
        found |= set(videos[torch.isin(stored.codes.long(), cells)].tolist())
    reader.close()
    return found


def python(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in a process of its own, where colbert is not imported yet."""
    environment = {**os.environ, "PYTHONPATH": python_path(os.environ.get("PYTHONPATH", "")), **environment}
    environment.pop("TOKENIZERS_PARALLELISM", None)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


def import_badly() -> None:
    with settings_kept():
        multiprocessing.set_start_method("forkserver", force=True)
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        raise ImportError("half done")


def test_settings_are_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    before = multiprocessing.get_start_method(allow_none=True)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    for method in ("spawn", None):
        multiprocessing.set_start_method(method, force=True)
        with pytest.raises(ImportError, match="half done"):
            import_badly()
        assert multiprocessing.get_start_method(allow_none=True) == method
        assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    multiprocessing.set_start_method(before, force=True)


def test_a_missing_package_is_named_with_its_remedy(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "colbert.search.index_storage", None)
    with pytest.raises(DependencyError, match=r"needs the package colbert-ai.*pip install 'colbert-ai>=0.2.22'"):
        StockEngine(IndexReader.open(index))


def test_plaid_settings_are_for_stock_only(index: Path) -> None:
    with pytest.raises(SettingsError, match="for engine='colbert'; engine='native' has none"):
        Searcher(index, plaid=PlaidSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ncells": 0}, "ncells=0 must be at least 1"),
        ({"ndocs": 3}, "ndocs=3 must be at least 4"),
        ({"centroid_score_threshold": 1.5}, "threshold=1.5 is a cosine: -1 to 1"),
        ({"centroid_score_threshold": float("nan")}, "threshold=nan must be a finite number"),
    ],
)
def test_impossible_plaid_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        PlaidSettings(**settings)
