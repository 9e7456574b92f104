"""What each released version wrote opens, and answers as it did then: `tests/frozen/VERSION.tar.xz` and `VERSION.json`.

`tests/frozen/make.py` wrote them. A test here that fails says that a promise of docs/compatibility.md is broken; mend the code,
never the files.
"""

import json
import runpy
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import FROZEN

import colbert_video
from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.indexing.upkeep.export import import_index
from colbert_video.model.interaction import SCORE_RESOLUTION
from colbert_video.training import evaluate_run
from colbert_video.training.run.run_folder import RunFolder
from colbert_video.training.run.run_log import read_log

VERSIONS = sorted(path.stem for path in FROZEN.glob("*.json") if not path.stem.startswith("format-"))
TOKENS = 1e-5
"""How far a token of an old checkpoint may be from what it was, in each dimension."""


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(version: str) -> dict[str, Any]:
    return json.loads((FROZEN / f"{version}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the version wrote; to be read only."""
    folder = tmp_path_factory.mktemp(version)
    with tarfile.open(FROZEN / f"{version}.tar.xz") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def program(version: str) -> dict[str, Any]:
    """The names of the program that wrote the files: searches, and frames of its videos."""
    return runpy.run_path(str(FROZEN / "make.py"))


@pytest.fixture(scope="module")
def model(written: Path) -> VideoColBERT:
    return VideoColBERT.from_pretrained(written / "model", device="cpu", precision="fp32")


def check_searches(index: Path, expected: dict[str, Any], searches: dict[str, Any]) -> None:
    with Searcher(index) as searcher:
        for kind, settings in searches.items():
            for query, wanted in zip(torch.tensor(expected["queries"]), expected[kind], strict=True):
                hits = searcher.search_tokens(query, **settings)
                assert [hit.id for hit in hits] == [hit[0] for hit in wanted], kind
                for hit, (_, *scores) in zip(hits, wanted, strict=True):
                    found = [hit.score, hit.frame_score, hit.video_score]
                    assert found == pytest.approx(scores, abs=SCORE_RESOLUTION), kind
        (best,) = searcher.search_tokens(torch.tensor(expected["queries"][0]), k=1)
        assert best.metadata == expected["metadata"]


def check_tokens(model: VideoColBERT, expected: dict[str, Any], program: dict[str, Any]) -> None:
    queries = model.encode_queries(expected["texts"])
    frames = [program["frames_by_number"](number) for number in range(2)]
    frame, video = model.encode_videos(frames)
    for name, bags in {"query": queries, "frame": frame, "video": video}.items():
        torch.testing.assert_close(bags.tokens, torch.tensor(expected["tokens"][name]), atol=TOKENS, rtol=0.0)


def test_an_index_answers_as_it_did(written: Path, expected: dict[str, Any], program: dict[str, Any]) -> None:
    check_searches(written / "tokens.index", expected["tokens"], program["SEARCHES"])


def test_every_byte_is_as_the_catalog_says(written: Path) -> None:
    for name, videos in (("tokens.index", 23), ("clips.index", 4)):
        report = Indexer(written / name).verify()
        assert (report.intact, report.videos, report.problems) == (True, videos, ())


def test_an_archive_is_imported(
    written: Path, expected: dict[str, Any], program: dict[str, Any], tmp_path: Path
) -> None:
    assert import_index(written / "tokens.tar.gz", tmp_path / "imported").videos == 23
    check_searches(tmp_path / "imported", expected["tokens"], program["SEARCHES"])


def test_an_index_is_kept_up(written: Path, expected: dict[str, Any], program: dict[str, Any], tmp_path: Path) -> None:
    index = shutil.copytree(written / "tokens.index", tmp_path / "copy")
    Indexer(index).compact()
    check_searches(index, expected["tokens"], program["SEARCHES"])
    token = torch.nn.functional.normalize(torch.tensor(expected["tokens"]["queries"]), dim=-1)
    assert Indexer(index).index_tokens(["a", "b", "c"], token, token, add=True).videos == 26
    with Searcher(index) as searcher:
        assert [searcher.search_tokens(query, k=1)[0].id for query in token] == ["a", "b", "c"]


@pytest.mark.numeric
def test_a_checkpoint_makes_the_tokens_it_made(
    model: VideoColBERT, expected: dict[str, Any], program: dict[str, Any]
) -> None:
    assert model.fingerprint() == expected["model"]["fingerprint"]
    wanted = expected["model"]["config"]
    assert {name: value for name, value in model.config.to_dict().items() if name in wanted} == {
        **wanted,
        "preprocess": model.config.to_dict()["preprocess"],
    }
    check_tokens(model, expected["model"], program)


@pytest.mark.numeric
def test_texts_find_their_moments(written: Path, expected: dict[str, Any], model: VideoColBERT) -> None:
    with Searcher(written / "clips.index", model=model) as searcher:
        for text, wanted in expected["clips"].items():
            hits = searcher.search(text, k=4)
            assert [[hit.id, hit.start, hit.end] for hit in hits] == [[hit[0], *hit[2:]] for hit in wanted]
            assert [hit.score for hit in hits] == pytest.approx([hit[1] for hit in wanted], abs=1e-4)


@pytest.mark.numeric
def test_a_run_folder_is_read(written: Path, expected: dict[str, Any], program: dict[str, Any]) -> None:
    folder = RunFolder(written / "run")
    assert (folder.started, folder.finished, folder.progress) == (True, True, "a finished run")
    assert read_log(folder.log) == expected["run"]["log"]
    best = VideoColBERT.from_pretrained(folder.best, device="cpu", precision="fp32")
    check_tokens(best, expected["run"], program)
    final = VideoColBERT.from_pretrained(folder.final, device="cpu", precision="fp32")
    assert final.config.trained


def test_a_run_is_evaluated(written: Path, expected: dict[str, Any]) -> None:
    evaluation = evaluate_run(written / "trec" / "mms_fv.trec", written / "trec" / "qrels.txt")
    (metrics,) = evaluation.interactions.values()
    assert {name: metrics[name] for name in expected["trec"]} == pytest.approx(expected["trec"])


def test_the_present_version_is_kept_too() -> None:
    """A release brings its files: `python tests/frozen/make.py` once its version is set."""
    assert colbert_video.__version__ in VERSIONS
