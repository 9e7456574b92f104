"""A model in MTEB: a task of its own making, without a network, scored as the evaluation of this library scores it."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from colbert_video.ecosystem.mteb import VideoColBERTEncoder
from colbert_video.errors import DependencyError, SettingsError
from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.evaluation.evaluate import evaluate_model
from colbert_video.training.world import write_world

# Imported by the tests that need them: each worker collects this file, and one runs it.
pytestmark = pytest.mark.skipif(not (find_spec("mteb") and find_spec("datasets")), reason="needs mteb and datasets")
VIDEOS = 6


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[ManifestRow]:
    folder = tmp_path_factory.mktemp("mteb")
    write_world(folder, count=VIDEOS, seed=3, split="test")
    return read_manifest(folder / "captions.jsonl")


def corpus_of(rows: list[ManifestRow], more: dict[str, Any] | None = None) -> Any:
    """Every other video as bytes, as parquet files hold them."""
    import datasets

    values: list[Any] = [
        {"bytes": row.path.read_bytes(), "path": None} if number % 2 else str(row.path)
        for number, row in enumerate(rows)
    ]
    ids = [row.video for row in rows]
    features = datasets.Features({"id": datasets.Value("string"), "video": datasets.Video()})
    columns = {"id": [*ids, *(more or {})], "video": [*values, *(more or {}).values()]}
    return datasets.Dataset.from_dict(columns, features=features)


def queries_of(rows: list[ManifestRow]) -> Any:
    import datasets

    ids = [f"q{number}" for number in range(len(rows))]
    return datasets.Dataset.from_dict({"id": ids, "text": [row.caption for row in rows]})


def task_of(rows: list[ManifestRow]) -> Any:
    """A text-to-video retrieval task over the videos of a manifest."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class WorldT2VRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="WorldT2VRetrieval",
            description="Shapes that move.",
            reference=None,
            dataset={"path": "none", "revision": "1"},
            type="Any2AnyRetrieval",
            category="t2v",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            modalities=["text", "video"],
        )

        def load_data(self, **kwargs: Any) -> None:
            qrels = {f"q{number}": {row.video: 1} for number, row in enumerate(rows)}
            data = {"corpus": corpus_of(rows), "queries": queries_of(rows), "relevant_docs": qrels, "top_ranked": None}
            self.dataset = {"default": {"test": data}}
            self.data_loaded = True

    return WorldT2VRetrieval()


@pytest.fixture(scope="module")
def encoder(tiny_trained_model: Any, rows: list[ManifestRow]) -> VideoColBERTEncoder:
    encoder = VideoColBERTEncoder(tiny_trained_model, name="me/tiny", workers=0)
    encoder.index(corpus_of(rows))
    return encoder


def test_mteb_scores_as_this_library_does(tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
    import mteb

    encoder = VideoColBERTEncoder(tiny_trained_model, name="me/tiny", workers=0)
    result = mteb.evaluate(encoder, task_of(rows), cache=None)
    scores = result.task_results[0].scores["test"][0]
    ours = evaluate_model(tiny_trained_model, rows, interactions=["mms_fv"], workers=0)
    metrics = ours.interactions["mms_fv"]
    assert result.model_name == "me/tiny"
    assert scores["ndcg_at_10"] == pytest.approx(metrics["nDCG@10"], abs=1e-4)
    assert scores["recall_at_1"] == pytest.approx(metrics["R@1"], abs=1e-4)
    assert scores["recall_at_5"] == pytest.approx(metrics["R@5"], abs=1e-4)
    assert 0 < scores["ndcg_at_10"] < 1


def test_the_scores_are_the_models(
    encoder: VideoColBERTEncoder, tiny_trained_model: Any, rows: list[ManifestRow]
) -> None:
    from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

    assert isinstance(encoder, SearchProtocol)
    assert not isinstance(encoder, EncoderProtocol)
    found = encoder.search(queries_of(rows), top_k=3)
    assert [*found] == [f"q{number}" for number in range(len(rows))]
    assert all(len(scored) == 3 for scored in found.values())
    queries = tiny_trained_model.encode_queries(rows[0].caption)
    video = next(iter(found["q0"]))
    score = tiny_trained_model.score(queries, encoder._gallery[video])
    assert found["q0"][video] == pytest.approx(float(score), abs=1e-5)
    assert found["q0"][video] == max(found["q0"].values())


def test_reranking_finds_what_it_is_given(encoder: VideoColBERTEncoder, rows: list[ManifestRow]) -> None:
    allowed = [rows[1].video, rows[4].video, "no such video"]
    found = encoder.search(queries_of(rows[:2]), top_k=10, top_ranked={"q0": allowed})
    every = encoder.search(queries_of(rows[:2]), top_k=10)
    assert found == {"q0": {video: every["q0"][video] for video in found["q0"]}, "q1": {}}
    assert {*found["q0"]} == {*allowed[:2]}


def test_unreadable_videos_are_told(tiny_model: Any, rows: list[ManifestRow], caplog: pytest.LogCaptureFixture) -> None:
    encoder = VideoColBERTEncoder(tiny_model, workers=0)
    caplog.set_level("WARNING", logger="colbert_video")  # the command line may have made it quiet
    encoder.index(corpus_of(rows[:2], {"bad": {"bytes": b"no video", "path": None}}))
    assert [*encoder.refused] == ["bad"]
    assert encoder.refused["bad"].startswith("unreadable: ")
    assert "1 videos of the corpus cannot be read: bad: unreadable" in caplog.text
    assert {*encoder.search(queries_of(rows[:1]), top_k=10)["q0"]} == {row.video for row in rows[:2]}
    assert encoder.mteb_model_meta.experiment_kwargs == {"interaction": "mms_f"}


def test_what_it_cannot_do_is_refused(
    encoder: VideoColBERTEncoder, tiny_model: Any, rows: list[ManifestRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="columns id, text and no 'video'"):
        encoder.index(queries_of(rows))
    with pytest.raises(SettingsError, match="the queries have no text"):
        encoder.search(corpus_of(rows), top_k=1)
    with pytest.raises(SettingsError, match="index a corpus first"):
        VideoColBERTEncoder(tiny_model).search(queries_of(rows), top_k=1)
    with pytest.raises(SettingsError, match="needs a trained model"):
        VideoColBERTEncoder(tiny_model, interaction="mms_fv")
    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", None)
    with pytest.raises(DependencyError, match=r'pip install "colbert_video\[mteb\]"'):
        VideoColBERTEncoder(tiny_model)


def test_names_fit_mteb(tiny_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tiny_model, "name", None)  # a test that saved it gave it one
    assert VideoColBERTEncoder(tiny_model).mteb_model_meta.name == "colbert_video/tiny-clip"
    assert VideoColBERTEncoder("toy").mteb_model_meta.name == "colbert_video/toy"
