"""Evaluation against the reference scores, its protocols, its honesty about what is missing, and its commands."""

import copy
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from counting_clips import write_manifest
from rich.console import Console

from colbert_video import Indexer, Searcher, training
from colbert_video.cli.evaluate_command import evaluate_command
from colbert_video.errors import SettingsError
from colbert_video.model.interaction import INTERACTIONS, fuse
from colbert_video.training.data.frame_cache import FrameCache
from colbert_video.training.data.manifest import ManifestRow, read_manifest
from colbert_video.training.evaluation import evaluate, gallery
from colbert_video.training.evaluation.evaluate import (
    caption_queries,
    evaluate_index,
    evaluate_model,
    evaluate_run,
    evaluate_toy,
)
from colbert_video.training.evaluation.evaluation import Evaluation
from colbert_video.training.evaluation.metrics import retrieval_metrics
from colbert_video.training.evaluation.trec_folder import TrecFolder
from colbert_video.training.world import write_world
from colbert_video.video.decode.read import read_frames
from colbert_video.video.frames import SamplingSettings

pytestmark = pytest.mark.numeric

CLIPS = 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, count=CLIPS, seed=3, split="test", paired_fraction=0.6, size=32, frames=14)
    return folder


@pytest.fixture(scope="module")
def rows(world: Path) -> list[ManifestRow]:
    return read_manifest(world / "captions.jsonl")


def shown(evaluation: Evaluation) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(evaluation.table())
    return console.file.getvalue()


class TestModel:
    def test_metrics_are_those_of_the_reference_scores(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        model = tiny_trained_model
        evaluation = evaluate_model(model, rows, workers=0)
        sampling = SamplingSettings(num_frames=12, height=32, width=32)
        videos = model.encode_videos([read_frames(row.path, sampling).pixels for row in rows])
        queries = model.encode_queries([row.caption for row in rows])
        assert tuple(evaluation.interactions) == INTERACTIONS
        for name, metrics in evaluation.interactions.items():
            scores = fuse(queries, videos, name)
            assert metrics == pytest.approx(retrieval_metrics(scores, torch.arange(CLIPS))), name
        assert (evaluation.queries, evaluation.videos) == (CLIPS, CLIPS)
        assert evaluation.protocol == "single-caption"

    def test_a_file_that_is_spelled_in_two_ways_counts_once(
        self, tiny_trained_model: Any, rows: list[ManifestRow], world: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(world)
        other = [replace(row, video=f"./{row.video}", path=tmp_path / "link" / row.path.name) for row in rows[:3]]
        doubled = evaluate_model(tiny_trained_model, [*rows, *other], workers=0)
        single = evaluate_model(tiny_trained_model, [*rows, *rows[:3]], workers=0)
        assert doubled == single
        assert (doubled.queries, doubled.videos) == (CLIPS + 3, CLIPS)

    def test_what_no_file_can_hold_is_known_before_a_video_is_read(
        self, tiny_trained_model: Any, rows: list[ManifestRow], tmp_path: Path
    ) -> None:
        folder = TrecFolder(tmp_path / "t")
        gone = [replace(row, path=tmp_path / "gone.mp4") for row in rows[:1]]
        for wrong, message in (
            ({"caption": "a \udcff"}, "cannot be written: its line 1"),
            ({"video": "a b"}, "white space"),
        ):
            with pytest.raises(SettingsError, match=message):
                evaluate_model(tiny_trained_model, [replace(gone[0], **wrong)], workers=0, trec=folder)

    def test_parts_and_the_cache_change_nothing(
        self, tiny_trained_model: Any, rows: list[ManifestRow], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        whole = evaluate_model(tiny_trained_model, rows, workers=0)
        cache = FrameCache(tmp_path, 2**30)
        monkeypatch.setattr(gallery, "VIDEOS_PER_ROUND", 3)
        monkeypatch.setattr(gallery, "QUERIES_AT_ONCE", 4)
        for _ in range(2):  # decoded, then read from the cache
            parts = evaluate_model(tiny_trained_model, rows, workers=1, cache=cache)
            for name, metrics in whole.interactions.items():
                assert parts.interactions[name] == pytest.approx(metrics, abs=1e-6), name

    def test_transductive_rows_are_beside_the_same_figures(
        self, tiny_trained_model: Any, rows: list[ManifestRow]
    ) -> None:
        plain = evaluate_model(tiny_trained_model, rows, workers=0)
        both = evaluate_model(tiny_trained_model, rows, workers=0, transductive=True)
        assert both.interactions == plain.interactions
        assert both.transductive is not None
        assert [*both.transductive] == [*plain.interactions]
        assert all([*found] == ["DSL", "QB-Norm", "CSLS"] for found in both.transductive.values())

    def test_chosen_interactions_alone(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        whole = evaluate_model(tiny_trained_model, rows, workers=0)
        chosen = evaluate_model(tiny_trained_model, rows, interactions=("rrf", "mp_v"), workers=0)
        assert list(chosen.interactions) == ["rrf", "mp_v"]
        assert chosen.interactions == {name: whole.interactions[name] for name in ("rrf", "mp_v")}

    def test_an_untrained_model_has_frame_tokens_alone(self, tiny_model: Any, rows: list[ManifestRow]) -> None:
        assert list(evaluate_model(tiny_model, rows, workers=0).interactions) == ["mms_f", "mp_f"]
        with pytest.raises(SettingsError, match="'mms_fv' needs a trained model; this one has mms_f, mp_f"):
            evaluate_model(tiny_model, rows, interactions=["mms_fv"], workers=0)
        with pytest.raises(SettingsError, match="interaction 'mms' is unknown; choose from mms_fv"):
            evaluate_model(tiny_model, rows, interactions=["mms"], workers=0)

    def test_a_model_in_training_stays_in_training(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        model = copy.deepcopy(tiny_trained_model).train()
        evaluate_model(model, rows[:3], interactions=["mms_f"], workers=0)
        assert model.training
        assert all(module.training for module in model.modules())

    def test_other_numbers_of_frames(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        row = rows[0]
        tokens, refused = gallery.encode_gallery(tiny_trained_model, {row.video: row.path}, num_frames=5, workers=0)
        assert refused == {}
        assert tokens[row.video].frame.shape == (1, 5, 64)
        assert tokens[row.video].video.shape == (1, 7, 64)

    def test_no_rows_are_refused(self, tiny_model: Any) -> None:
        with pytest.raises(SettingsError, match="no rows to evaluate on"):
            evaluate_model(tiny_model, [])


class TestProtocols:
    def several(self, rows: list[ManifestRow]) -> list[ManifestRow]:
        """Each video again with other words, in between and in the end."""
        more = [replace(row, caption=f"{row.caption}, slowly") for row in rows]
        return [*rows[:4], *more[:4], *rows[4:], *more[4:]]

    def test_every_caption_is_a_query(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        evaluation = evaluate_model(tiny_trained_model, self.several(rows), workers=0)
        assert (evaluation.queries, evaluation.videos) == (2 * CLIPS, CLIPS)
        assert evaluation.protocol == "multi-caption, averaged over captions"
        more = [replace(row, caption=f"{row.caption}, slowly") for row in rows]
        halves = [evaluate_model(tiny_trained_model, part, workers=0).interactions["mms_fv"] for part in (rows, more)]
        assert evaluation.interactions["mms_fv"]["MnR"] == pytest.approx((halves[0]["MnR"] + halves[1]["MnR"]) / 2)

    def test_the_first_caption_of_each_video(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        first = evaluate_model(tiny_trained_model, self.several(rows), captions="first", workers=0)
        assert first == evaluate_model(tiny_trained_model, rows, workers=0)

    def test_queries_and_qrels_of_rows(self, rows: list[ManifestRow]) -> None:
        queries, qrels = caption_queries(self.several(rows))
        assert len(queries) == 2 * CLIPS
        assert queries["4"] == f"{rows[0].caption}, slowly"
        assert qrels["4"] == {rows[0].video: 1}
        assert len(caption_queries(self.several(rows), "first")[0]) == CLIPS

    def test_groups_are_told_apart_by_their_own_videos_alone(
        self, tiny_trained_model: Any, rows: list[ManifestRow], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Scores by hand: a pair told apart, one confused, one tied; a lone member of a group is not asked."""
        groups = ["a", "a", "b", "b", "c", "c", "alone", None, None, None]
        grouped = [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]
        scores = torch.zeros(CLIPS, CLIPS)
        scores[0, 0] = scores[1, 1] = scores[2, 3] = scores[3, 2] = 1.0
        scores[:, 9] = 5.0  # outside of all groups
        monkeypatch.setattr(evaluate, "score_gallery", lambda *arguments: {"mms_fv": scores})
        evaluation = evaluate_model(tiny_trained_model, grouped, interactions=["mms_fv"], workers=0)
        assert evaluation.groups.queries == 6
        assert evaluation.groups.interactions["mms_fv"]["R@1"] == pytest.approx((1 + 1 + 0 + 0 + 0.5 + 0.5) / 6)
        assert evaluation.interactions["mms_fv"]["R@1"] == pytest.approx(0.1)
        assert evaluation.to_dict()["groups"]["queries"] == 6

    def test_no_groups_no_figure(self, tiny_trained_model: Any, rows: list[ManifestRow]) -> None:
        plain = [replace(row, group=None) for row in rows]
        evaluation = evaluate_model(tiny_trained_model, plain, interactions=["mms_f"], workers=0)
        assert evaluation.groups is None
        assert "groups" not in evaluation.to_dict()


class TestMissing:
    def damaged(self, rows: list[ManifestRow], folder: Path) -> list[ManifestRow]:
        """The second video is gone, the fourth is no video."""
        (folder / "broken.mp4").write_bytes(b"nothing that plays")
        changed = list(rows)
        changed[1] = replace(rows[1], video="gone.mp4", path=folder / "gone.mp4")
        changed[3] = replace(rows[3], video="broken.mp4", path=folder / "broken.mp4")
        return changed

    def test_a_smaller_gallery_is_refused(
        self, tiny_trained_model: Any, rows: list[ManifestRow], tmp_path: Path
    ) -> None:
        damaged = self.damaged(rows, tmp_path)
        with pytest.raises(
            SettingsError, match=r"1 of 10 videos cannot be evaluated: gone\.mp4 \(missing: no such file"
        ):
            evaluate_model(tiny_trained_model, damaged, workers=0)
        with pytest.raises(SettingsError, match=r"1 of 9 .* broken\.mp4 \(unreadable: .*easier than it should be"):
            evaluate_model(tiny_trained_model, damaged[:1] + damaged[2:], workers=0)

    def test_or_reported_first_of_all(self, tiny_trained_model: Any, rows: list[ManifestRow], tmp_path: Path) -> None:
        evaluation = evaluate_model(
            tiny_trained_model, self.damaged(rows, tmp_path), interactions=["mms_fv"], missing="report", workers=0
        )
        rest = [row for number, row in enumerate(rows) if number not in (1, 3)]
        without = evaluate_model(tiny_trained_model, rest, interactions=["mms_fv"], workers=0)
        assert evaluation.interactions["mms_fv"] == pytest.approx(without.interactions["mms_fv"], abs=1e-6)
        assert (evaluation.queries, evaluation.videos) == (8, 8)
        assert (evaluation.complete, evaluation.to_dict()["complete"], evaluation.expected) == (False, False, 10)
        assert list(evaluation.missing) == ["gone.mp4", "broken.mp4"]
        assert evaluation.missing["gone.mp4"].startswith("missing: ")
        assert shown(evaluation).startswith(
            "2 of 10 videos are missing; these figures are not those of the whole gallery:"
        )
        assert "incomplete: 8 of 10 videos" in shown(evaluation)

    def test_nothing_left_is_refused_in_any_case(
        self, tiny_trained_model: Any, rows: list[ManifestRow], tmp_path: Path
    ) -> None:
        damaged = self.damaged(rows, tmp_path)
        with pytest.raises(SettingsError, match="not one of 2 videos can be evaluated"):
            evaluate_model(tiny_trained_model, [damaged[1], damaged[3]], missing="report", workers=0)


class TestResult:
    evaluation = Evaluation(
        interactions={"run": {"R@1": 0.4567, "MdR": 2.0, "MnR": 12.25, "nDCG@10": 0.65249}},
        protocol="single-caption",
        queries=3,
        videos=7,
        unranked=1,
    )

    def test_is_json_that_says_how_it_was_made(self) -> None:
        assert json.loads(json.dumps(self.evaluation.to_dict())) == {
            "interactions": {"run": {"R@1": 0.4567, "MdR": 2.0, "MnR": 12.25, "nDCG@10": 0.65249}},
            "protocol": "single-caption",
            "ties": "expected over random orders of videos with equal scores",
            "queries": 3,
            "videos": 7,
            "complete": True,
            "missing": {},
            "unranked": 1,
        }

    def test_is_a_table_in_the_units_of_papers(self) -> None:
        text = shown(self.evaluation)
        for figure in (
            "45.7",
            "2.0",
            "12.2",
            "0.652",
            "3 queries, 7 videos; single-caption",
            "queries that found none of their videos and count as ranked last: 1",
        ):
            assert figure in text
        assert "missing" not in text

    def test_long_lists_of_missing_videos_are_cut(self) -> None:
        many = replace(self.evaluation, missing={f"{number}.mp4": "gone" for number in range(25)})
        assert "25 of 32 videos are missing" in shown(many)
        assert "  and 5 more; --json lists them all" in shown(many)


class TestToy:
    def test_fresh_clips_and_their_motion_pairs(self, tiny_trained_model: Any) -> None:
        result = evaluate_toy(tiny_trained_model, split="test", seed=5, clips=8, workers=1).to_dict()
        assert (result["queries"], result["videos"]) == (8, 8)
        assert tuple(result["interactions"]) == INTERACTIONS
        assert result["motion_pairs"]["queries"] == 4
        pairs = result["motion_pairs"]["interactions"]
        assert 0 <= pairs["mms_fv"]["R@1"] <= 1
        again = evaluate_toy(tiny_trained_model, split="test", seed=5, clips=8, workers=1).to_dict()
        assert again == result


@pytest.fixture(scope="module")
def index(world: Path, tiny_trained_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluate") / "world.index"
    Indexer(path, model=tiny_trained_model, nbits=8, workers=1).index(world)
    return path


def test_one_function_evaluates_whatever_is_given(
    index: Path, rows: list[ManifestRow], tiny_trained_model: Any, tmp_path: Path
) -> None:
    asked = {"interactions": ["mms_f"], "workers": 0}
    assert training.evaluate(tiny_trained_model, rows, **asked) == evaluate_model(tiny_trained_model, rows, **asked)
    with Searcher(index, model=tiny_trained_model) as searcher:
        assert training.evaluate(searcher, rows, k=3) == evaluate_index(searcher, *caption_queries(rows), k=3)
    run, qrels = tmp_path / "run.trec", tmp_path / "qrels.txt"
    run.write_text("q Q0 a 1 2.0 x\nq Q0 b 2 1.0 x\n")
    qrels.write_text("q 0 b 1\n")
    assert training.evaluate(run, str(qrels)).interactions["run"]["MnR"] == 2.0
    with pytest.raises(SettingsError, match=r"evaluate was given \w+Path and list: give a model or a searcher"):
        training.evaluate(run, rows)


class TestIndex:
    def test_metrics_are_those_of_its_rankings(
        self, index: Path, rows: list[ManifestRow], tiny_trained_model: Any
    ) -> None:
        queries, qrels = caption_queries(rows)
        with Searcher(index, model=tiny_trained_model) as searcher:
            evaluation = evaluate_index(searcher, queries, qrels, k=CLIPS)
            short = evaluate_index(searcher, queries, qrels, k=3)
            found = [[hit.id for hit in searcher.search(row.caption, k=CLIPS)] for row in rows]
        ranks = [ids.index(row.video) + 1 for ids, row in zip(found, rows, strict=True)]
        metrics = evaluation.interactions["index"]
        assert metrics["R@1"] == pytest.approx(sum(rank == 1 for rank in ranks) / CLIPS)
        assert metrics["MnR"] == pytest.approx(sum(ranks) / CLIPS)
        assert (evaluation.queries, evaluation.videos, evaluation.unranked) == (CLIPS, CLIPS, 0)
        assert short.unranked == sum(rank > 3 for rank in ranks) > 0
        cut = [rank if rank <= 3 else CLIPS for rank in ranks]
        assert short.interactions["index"]["MnR"] == pytest.approx(sum(cut) / CLIPS)

    def test_videos_that_are_not_indexed(self, index: Path, rows: list[ManifestRow], tiny_trained_model: Any) -> None:
        queries, qrels = caption_queries([*rows, replace(rows[0], video="other.mp4")])
        with Searcher(index, model=tiny_trained_model) as searcher:
            with pytest.raises(SettingsError, match=r"1 of 11 .* other\.mp4 \(not in the index\)"):
                evaluate_index(searcher, queries, qrels)
            evaluation = evaluate_index(searcher, queries, qrels, missing="report")
            with pytest.raises(SettingsError, match="no query has a relevant video"):
                evaluate_index(searcher, {"unknown": "words"}, qrels)
        assert evaluation.missing == {"other.mp4": "not in the index"}
        assert evaluation.queries == CLIPS


class TestCommand:
    def test_a_run_against_qrels(self, tmp_path: Path) -> None:
        run, qrels = tmp_path / "run", tmp_path / "qrels"
        run.write_text("q1 Q0 a 1 2.0 x\nq1 Q0 b 2 1.0 x\nq2 Q0 b 1 1.0 x\n")
        qrels.write_text("q1 0 b 1\nq2 0 c 1\nq3 0 a 0\n")
        evaluation = evaluate_command(run=run, qrels=qrels)
        assert evaluation == evaluate_run(run, qrels)
        assert evaluation.interactions["run"]["R@5"] == 0.5
        assert evaluation.interactions["run"]["MnR"] == 2.5  # second of three, and last
        assert (evaluation.queries, evaluation.videos, evaluation.unranked) == (2, 3, 1)
        qrels.write_text("other 0 a 1\n")
        with pytest.raises(SettingsError, match="have no query in common; do their ids agree"):
            evaluate_command(run=run, qrels=qrels)

    def test_a_model_on_a_manifest_and_on_an_index(
        self, world: Path, index: Path, rows: list[ManifestRow], tiny_trained_model: Any, tmp_path: Path
    ) -> None:
        tiny_trained_model.save_pretrained(tmp_path / "model")
        data = world / "captions.jsonl"
        on_data = evaluate_command(
            model=str(tmp_path / "model"), data=data, interactions=["mms_f"], workers=1, device="cpu"
        )
        cached = evaluate_command(
            model=str(tmp_path / "model"), data=data, interactions=["mms_f"], cache=tmp_path / "cache", device="cpu"
        )
        assert cached.queries == CLIPS
        assert any((tmp_path / "cache").iterdir())
        assert on_data == evaluate_model(tiny_trained_model, rows, interactions=["mms_f"], workers=0)
        on_index = evaluate_command(model=str(tmp_path / "model"), index=index, data=data, device="cpu")
        assert on_index.queries == CLIPS
        toy = evaluate_command(model=str(tmp_path / "model"), data="toy", clips=4, interactions=["mms_f"], workers=1)
        assert toy.to_dict()["motion_pairs"]["queries"] == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "give --data MANIFEST or --data toy, or --run with --qrels"),
            ({"data": "toy"}, "give --model NAME, --index FOLDER, or --run with --qrels"),
            ({"run": "run"}, "--run and --qrels belong together"),
            ({"run": "run", "qrels": "qrels", "model": "toy"}, "--model has no effect with --run and --qrels"),
            ({"index": "folder", "data": "toy"}, "--data toy renders new clips, which no index holds"),
            ({"model": "toy", "data": "gone.csv"}, "gone.csv cannot be read"),
            ({"model": "toy", "data": "toy", "num_frames": 3}, "--frames 3 works only with --model and a"),
        ],
    )
    def test_options_that_contradict_each_other(self, options: dict, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            evaluate_command(**options)

    def test_an_unknown_split_costs_no_time(self, tmp_path: Path) -> None:
        write_manifest(tmp_path, [{"video": "a.mp4", "caption": "a cat", "split": "train"}])
        with pytest.raises(SettingsError, match="split 'test' has no rows; the manifest has 'train'"):
            evaluate_command(model="no such model", data=tmp_path / "captions.jsonl")
