"""`colbert-video reproduce` on a small download in MSR-VTT's own form, from the files to the row beside the paper's."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run

from colbert_video.cli.options import print_result
from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbones import open_clip as open_clip_models
from colbert_video.model.video_colbert import VideoColBERT
from colbert_video.training.evaluation.evaluation import Evaluation
from colbert_video.training.reproduce import reproduce as chain
from colbert_video.training.reproduce import reproduce_seeds as several
from colbert_video.training.reproduce.paper_rows import find_row
from colbert_video.training.reproduce.plan import SMOKE_VIDEOS, ReproducePlan
from colbert_video.training.reproduce.reproduce import reproduce
from colbert_video.training.reproduce.reproduce_folder import ReproduceFolder
from colbert_video.training.reproduce.reproduce_report import Reference, Reproduction
from colbert_video.training.run.recipe import load_recipe, recipe_names
from colbert_video.training.world import write_world

TRAIN, TEST = 5, 4


@pytest.fixture(scope="module")
def msrvtt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MSR-VTT in small: the field's three annotation files, and a clip for each id."""
    folder = tmp_path_factory.mktemp("msrvtt")
    clips = write_world(folder / "videos", count=TRAIN + TEST, seed=4, split="test", size=32, frames=14)
    ids = [f"video{number}" for number in range(len(clips))]
    for name, clip in zip(ids, clips, strict=True):
        clip.path.rename(folder / "videos" / f"{name}.mp4")
    (folder / "videos" / "captions.jsonl").unlink()
    said = [
        {"video_id": name, "caption": f"{clip.caption}{more}", "sen_id": number}
        for number, (name, clip) in enumerate(zip(ids, clips, strict=True))
        for more in ("", " slowly")
    ]
    videos = [{"video_id": name, "start time": 0.0, "end time": 1.2} for name in ids]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": said}))
    (folder / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *ids[:TRAIN]]) + "\n")
    with (folder / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "vid_key", "video_id", "sentence"])
        for name, clip in list(zip(ids, clips, strict=True))[TRAIN:]:
            rows.writerow([f"ret{name}", f"msr{name}", name, clip.caption])
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_names: Any) -> Path:
    """A backbone brought along as a folder, as one does without a network."""
    from tiny_models import build_tiny

    folder = tmp_path_factory.mktemp("weights") / "backbone"
    build_tiny(tiny_names.clip).save_pretrained(folder)
    return folder


@pytest.fixture
def plan(msrvtt: Path, weights: Path) -> ReproducePlan:
    """One step of the paper's row on the tiny backbone."""
    return ReproducePlan(
        row=find_row("msrvtt", "clip-b32"),
        annotations=msrvtt,
        videos=msrvtt / "videos",
        weights=str(weights),
        settings={
            "model.backbone": "tiny-clip",
            "training.batch_size": 4,
            "training.max_steps": 1,
            "training.chunk_size": 2,
        },
    )


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Fail if a stage of the chain runs."""

    def refuse(name: str) -> Callable[..., None]:
        def fail(*_: Any, **__: Any) -> None:
            raise AssertionError(f"{name} ran again")

        return fail

    for name in names:
        monkeypatch.setattr(chain, name, refuse(name))


@pytest.mark.slow
def test_the_whole_chain_and_again(plan: ReproducePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = reproduce(plan, tmp_path / "run", workers=0, device="cpu")
    assert result is not None
    values = result.to_dict()
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == values
    assert (values["row"], values["split"], values["seed"]) == ("msrvtt-clip-b32", "9k", 0)
    assert (values["queries"], values["videos"], values["expected_videos"]) == (TEST, TEST, 1000)
    (compared,) = values["comparisons"]
    assert compared["published"] == {"R@1": 48.1, "R@5": 74.9, "R@10": 83.9, "nDCG@10": 0.652}
    assert compared["ours"]["R@10"] == 100.0
    assert compared["difference"]["R@10"] == pytest.approx(16.1)
    assert set(values["ours"]) == {"mms_fv", "mms_f", "mms_v", "mp_f", "mp_v", "rrf"}
    assert not values["comparable"]
    assert "model.backbone='tiny-clip' is set" in values["reservations"]
    assert any("backbone does not say what it was made of" in reservation for reservation in values["reservations"])
    assert not any("chunk_size" in reservation for reservation in values["reservations"])
    assert "train has 5 videos, 10 captions; published: 9,000 videos, 180,000 captions" in values["reservations"]
    assert values["reservations"][-1] == "incomplete: 4 of 1,000 videos, 4 of 1,000 queries"
    recorded = values["provenance"]
    begun = json.loads((tmp_path / "run" / "training" / "run.json").read_text())["provenance"]
    assert recorded["training"] == begun
    assert recorded["versions"] == begun["versions"]
    assert recorded["versions"]["torch"] == torch.__version__
    assert recorded["weights_sha256"] == VideoColBERT.from_pretrained(values["model"], device="cpu").fingerprint()
    assert recorded["weights_sha256"] != begun["weights_sha256"]  # trained since
    assert recorded["test_videos"]["files"] == TEST
    assert begun["data"]["manifest_sha256"] == recorded["manifest_sha256"]

    forbid(monkeypatch, "check_dataset", "run_recipe", "evaluate_model")
    with monkeypatch.context() as second_process:
        second_process.setenv("RANK", "1")
        assert reproduce(plan, tmp_path / "run", workers=0, device="cpu") is None
    again = reproduce(plan, tmp_path / "run", workers=0, device="cpu")
    assert again is not None
    assert again.to_dict() == values
    with pytest.raises(SettingsError, match=r"holds another reproduction: seed \(was 0, is 1\)\. Repeat"):
        reproduce(replace(plan, seed=1), tmp_path / "run", device="cpu")

    monkeypatch.undo()
    forbid(monkeypatch, "check_dataset", "run_recipe")
    (tmp_path / "run" / "evaluation.json").unlink()
    measured = reproduce(plan, tmp_path / "run", workers=0, device="cpu")
    assert measured is not None
    assert measured.to_dict() == values


@pytest.mark.slow
def test_a_smoke_run_on_the_command_line(
    msrvtt: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["reproduce", "msrvtt", "--annotations", str(msrvtt), "--smoke", "--device", "cpu"]
    arguments += ["--weights", str(weights), "--set", "model.backbone=tiny-clip", "--workers", "1"]
    arguments += ["--variant", "mms_f", "--output", str(tmp_path / "run")]
    code, out, err = run(arguments, capsys)
    assert code == 0, err
    flat = " ".join(out.split())
    assert "NOT COMPARABLE with the published figures: smoke run: 2 training steps, at most 8" in flat
    assert "paper, Table 3" in flat
    assert "ours, mms_f" in flat
    code, out, _ = run([*arguments, "--json"], capsys)
    assert code == 0
    report = json.loads(out)
    assert report["row"] == "msrvtt-clip-b32-mms_f"
    assert list(report["ours"]) == ["mms_f"]
    assert report["comparisons"][0]["published"] == {"R@1": 44.3}


def test_zero_shot_needs_the_test_files_alone(
    msrvtt: Path, plan: ReproducePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "test"
    test.mkdir()
    shutil.copy(msrvtt / "MSRVTT_JSFUSION_test.csv", test)
    zero_shot = replace(plan, annotations=test, zero_shot=True, settings={"model.backbone": "tiny-clip"})
    result = reproduce(zero_shot, tmp_path / "run", workers=0, device="cpu")
    assert result is not None
    assert (result.row, result.split, result.seed) == ("msrvtt-clip-b32-zero-shot", "1k-a", None)
    assert list(result.ours) == ["mp_f", "mms_f_pooled"]
    assert result.references == {"mp_f": [], "mms_f_pooled": []}  # nothing is known of the tiny model
    assert not (tmp_path / "run" / "training").exists()
    with pytest.raises(SettingsError, match="zero-shot evaluation has no variant 'mms_f'"):
        replace(zero_shot, row=find_row("msrvtt", "clip-b32", "mms_f"))


class TestMissingVideos:
    @pytest.fixture
    def damaged(self, plan: ReproducePlan, msrvtt: Path, tmp_path: Path) -> ReproducePlan:
        """One test video is gone, another does not play; without training, for what is tested is the evaluation."""
        videos = tmp_path / "videos"
        shutil.copytree(msrvtt / "videos", videos)
        (videos / f"video{TRAIN}.mp4").unlink()
        (videos / f"video{TRAIN + 1}.mp4").write_bytes(b"nothing that plays")
        settings = {"model.backbone": "tiny-clip"}
        return replace(plan, videos=videos, zero_shot=True, settings=settings)

    def test_are_refused_before_anything_is_made(self, damaged: ReproducePlan, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"MSR-VTT is incomplete: 1 of 4 videos of test .*--allow-missi"):
            reproduce(damaged, tmp_path / "run", workers=0, device="cpu")
        assert not (tmp_path / "run").exists()

    def test_mark_the_row(
        self, damaged: ReproducePlan, msrvtt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copy(msrvtt / "videos" / f"video{TRAIN}.mp4", damaged.videos)
        with pytest.raises(SettingsError, match=r"1 of 4 test videos cannot be read: .*video6\.mp4 \(unreadable"):
            reproduce(damaged, tmp_path / "run", workers=0, device="cpu")
        assert not (tmp_path / "run" / "evaluation.json").exists()
        result = reproduce(damaged, tmp_path / "run", allow_missing=True, workers=0, device="cpu")
        assert result is not None
        assert not result.complete
        assert result.reservations[-1] == "incomplete: 3 of 1,000 videos, 3 of 1,000 queries"
        assert any(str(part).find("missing") >= 0 and "video6.mp4" in str(part) for part in result.report())


class TestWeights:
    def test_a_failed_download_names_the_remedies(
        self, plan: ReproducePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def offline(*names: Any) -> Any:
            raise ModelError("cannot reach the hub")

        monkeypatch.setattr(open_clip_models, "fetch_weights", offline)
        downloading = replace(plan, weights=None, settings={"training.batch_size": 4})
        saved = r"from_backbone\('ViT-B-32-quickgelu', 'openai'\)\.save_pretrained\('backbone'\)"
        with pytest.raises(ModelError, match=rf"cannot reach the hub.*{saved}.*--weights backbone"):
            reproduce(downloading, tmp_path / "run", workers=0, device="cpu")

    def test_the_wrong_ones_are_refused(self, plan: ReproducePlan, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"there are no weights at .*gone\.pt \(--weights\); give a we"):
            replace(plan, weights=str(tmp_path / "gone.pt"))
        other = replace(plan, settings={"training.batch_size": 4})
        with pytest.raises(ModelError, match=r"holds the backbone tiny-clip, and model\.backbone is ViT-B-32-q"):
            reproduce(other, tmp_path / "run", workers=0, device="cpu")

    def test_a_trained_model_is_no_backbone(self, plan: ReproducePlan, tmp_path: Path, tiny_names: Any) -> None:
        from tiny_models import build_tiny

        build_tiny(tiny_names.clip, trained=True).save_pretrained(tmp_path / "trained")
        with pytest.raises(ModelError, match=r"holds a trained model; to continue from it, give it as model\.che"):
            reproduce(replace(plan, weights=str(tmp_path / "trained")), tmp_path / "run", device="cpu")


class TestPlan:
    def test_the_recipe_has_what_row_and_user_change(self, plan: ReproducePlan) -> None:
        row = find_row("msrvtt", "clip-b32", "layers_2")
        own = {"model.settings": {"pad_id": 31}, "training.epochs": 3}
        recipe = replace(plan, row=row, seed=7, settings=own).recipe(Path("c.jsonl"), workers=2, cache=None)
        base = load_recipe("msrvtt-clip-b32")
        assert recipe.model.settings == {**base.model.settings, "temporal_layers": 2, "pad_id": 31}
        (stage,) = recipe.stages
        assert (stage.training.seed, stage.training.epochs, stage.training.batch_size) == (7, 3, 256)
        assert (stage.data.manifest, stage.data.workers, stage.data.validation_split) == ("c.jsonl", 2, None)

    @pytest.mark.parametrize(("dataset", "split"), [("msvd", "val"), ("activitynet", None)])
    def test_models_are_chosen_where_there_are_validation_videos(
        self, plan: ReproducePlan, dataset: str, split: str | None
    ) -> None:
        other = replace(plan, row=find_row(dataset, "siglip-b16"), settings={})
        assert other.recipe(Path("c.jsonl")).stages[0].data.validation_split == split
        held = replace(plan, row=find_row("activitynet", "clip-b16"), hold_out=5)
        assert held.recipe(Path("c.jsonl")).stages[0].data.validation_split == "val"

    def test_a_smoke_run_is_small_whatever_is_set(self, plan: ReproducePlan) -> None:
        set_large = {"training.batch_size": 64, "training.chunk_size": 32}
        (stage,) = replace(plan, smoke=True, settings=set_large).recipe(Path("c.jsonl")).stages
        assert (stage.training.batch_size, stage.training.chunk_size, stage.training.max_steps) == (4, None, 2)

    def test_the_paper_as_it_is_has_no_departures(self, plan: ReproducePlan) -> None:
        as_it_is = replace(plan, settings={"training.chunk_size": 32, "data.workers": 4}, seed=3, weights=None)
        assert as_it_is.departures() == []
        assert replace(plan, split_name="7k").departures()[0] == "split 7k instead of 9k"
        assert replace(plan, hold_out=9).departures()[0].startswith("9 training videos are held out")
        assert "smoke run" in replace(plan, smoke=True).departures()[0]

    def test_zero_shot_figures_belong_to_the_model_that_is_set(self, plan: ReproducePlan) -> None:
        settings = {"model.backbone": "PE-Core-B-16", "model.pretrained": "meta"}
        zero_shot = replace(plan, zero_shot=True, settings=settings, weights=None)
        assert zero_shot.model_name == "PE-Core-B-16:meta"
        assert zero_shot.departures() == []


class TestReport:
    evaluation = Evaluation(
        interactions={"mms_fv": {"R@1": 0.5, "R@5": 0.75, "nDCG@10": 0.6, "MdR": 2.0}},
        protocol="single-caption",
        queries=1000,
        videos=1000,
    )

    def reproduction(self, **changes: Any) -> Reproduction:
        reference = Reference("paper, main results", {"R@1": 48.1, "R@5": 74.9, "nDCG@10": 0.652})
        values = {
            "row": "msrvtt-clip-b32",
            "split": "9k",
            "model": "final",
            "seed": 0,
            "evaluation": self.evaluation,
            "references": {"mms_fv": [reference]},
            "expected_videos": 1000,
            "expected_queries": 1000,
        }
        return Reproduction(**{**values, **changes})

    def test_a_whole_run_is_comparable(self) -> None:
        values = self.reproduction().to_dict()
        assert (values["comparable"], values["complete"], values["reservations"]) == (True, True, [])
        difference = values["comparisons"][0]["difference"]
        assert difference == pytest.approx({"R@1": 1.9, "R@5": 0.1, "nDCG@10": -0.052})

    def test_too_few_or_too_many_queries_are_not(self) -> None:
        short = self.reproduction(expected_queries=1001)
        assert not short.complete
        assert short.reservations == ["incomplete: 1,000 of 1,000 videos, 1,000 of 1,001 queries"]
        assert not self.reproduction(evaluation=replace(self.evaluation, missing={"a": "gone"})).complete
        assert not self.reproduction(departures=["a smoke run"]).to_dict()["comparable"]


class TestFolder:
    def test_nothing_of_others_is_touched(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(SettingsError, match="is not empty and holds no reproduction; choose another folder"):
            ReproduceFolder(tmp_path).claim({"row": "a"})

    def test_a_damaged_stage_says_so(self, tmp_path: Path) -> None:
        folder = ReproduceFolder(tmp_path / "run")
        folder.claim({"row": "a"})
        folder.claim({"row": "a"})
        folder.request.write_text("{")
        with pytest.raises(SettingsError, match=r"request\.json is unreadable .* remove it to run that stage"):
            folder.claim({"row": "a"})


class TestVerb:
    def test_lists_the_rows(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(["reproduce", "--list"], capsys)
        assert code == 0
        assert "msrvtt-clip-b32" in out
        assert "zero-shot" in out
        code, out, _ = run(["reproduce", "--list", "--json"], capsys)
        assert json.loads(out)["paper"][0]["figures"]["R@1"] == 48.1

    def test_needs_a_dataset_and_its_files(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = run(["reproduce", "msrvtt"], capsys)
        assert code == 2
        assert "name a DATASET and the folder of its --annotations, or print the rows with --list" in err

    @pytest.mark.parametrize(("expected", "code"), [(1000, 0), (1001, 1)])
    def test_an_incomplete_row_has_an_exit_code_of_its_own(
        self,
        expected: int,
        code: int,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        given: dict[str, Any] = {}

        def recorded(plan: ReproducePlan, output: Path, **options: Any) -> Reproduction:
            given.update(options, plan=plan, output=output)
            return TestReport().reproduction(expected_queries=expected)

        monkeypatch.setattr(chain, "reproduce", recorded)
        options = ["--seed", "5", "--hold-out", "9", "--split-name", "7k", "--allow-missing", "--device", "cpu"]
        arguments = ["reproduce", "msrvtt", "--backbone", "clip-b16", "--annotations", str(tmp_path), *options]
        found, out, _ = run(arguments, capsys)
        assert (found, "NOT COMPARABLE" in out) == (code, bool(code))
        assert given["output"] == Path("reproduce-msrvtt-clip-b16")
        assert (given["allow_missing"], given["device"]) == (True, "cpu")
        plan = given["plan"]
        assert (plan.seed, plan.hold_out, plan.protocol, plan.videos) == (5, 9, "7k", tmp_path)


def test_several_seeds_have_folders_of_their_own_and_a_common_report(
    plan: ReproducePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def recorded(plan: ReproducePlan, output: Path, **options: Any) -> Reproduction:
        assert output == tmp_path / f"seed-{plan.seed}"
        found = {name: value + 0.1 * plan.seed for name, value in TestReport.evaluation.interactions["mms_fv"].items()}
        metrics = {"R@10": 0.9, "MnR": 3.0, **found}
        return TestReport().reproduction(
            seed=plan.seed, evaluation=replace(TestReport.evaluation, interactions={"mms_fv": metrics})
        )

    monkeypatch.setattr(several, "reproduce", recorded)
    result = several.reproduce_seeds(plan, tmp_path, (0, 2), workers=0)
    values = json.loads((tmp_path / "seeds.json").read_text())
    assert values == result.to_dict()
    assert values["ours"]["mms_fv"]["R@1"]["mean"] == pytest.approx(60.0)
    assert values["ours"]["mms_fv"]["R@1"]["std"] == pytest.approx(14.142, abs=1e-3)
    assert list(values["seeds"]) == ["0", "2"]
    print_result(result.report())
    shown = capsys.readouterr().out
    for figure in ("60.0", "14.1", "+11.9", "+10.1"):  # mean, deviation, and each metric that the paper prints
        assert figure in shown
    for refused, message in ((replace(plan, zero_shot=True), "has no seeds"), (plan, "one seed at a time")):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(SettingsError, match=message):
            several.reproduce_seeds(refused, tmp_path, (0,))


def test_the_recipes_of_long_videos_take_exact_frames() -> None:
    for name in recipe_names():
        snaps = {stage.data.snap for stage in load_recipe(name).stages}
        assert snaps == ({0} if name.startswith(("didemo", "activitynet")) else {None})


def test_a_smoke_run_takes_a_few_videos_that_are_there(plan: ReproducePlan, tmp_path: Path) -> None:
    assert SMOKE_VIDEOS > TRAIN, "else this test would not see who is left out"
    shutil.copytree(plan.videos, tmp_path / "videos")
    (tmp_path / "videos" / "video0.mp4").unlink()
    few = chain._checked(replace(plan, smoke=True, videos=tmp_path / "videos"))
    assert [video.id for video in few.annotations.splits["train"]] == ["video1", "video2", "video3", "video4"]
    assert few.problems == []
