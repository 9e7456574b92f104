"""The command line as people meet it: exit codes, one-line errors, JSON."""

import json
from pathlib import Path

import pytest
from command_line import exit_code, run

from colbert_video import Question
from colbert_video.cli import evaluate_command, search_verbs
from colbert_video.errors import SettingsError
from colbert_video.search import confidence
from colbert_video.search.match_levels import MatchLevels
from colbert_video.search.searcher import Searcher
from colbert_video.training.world import write_world


@pytest.fixture(scope="module")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "clips"
    write_world(folder, count=5, seed=1, split="test")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_trained_model: object) -> Path:
    path = tmp_path_factory.mktemp("cli-model") / "model"
    tiny_trained_model.save_pretrained(path)  # type: ignore[attr-defined]
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, clips_folder: Path, checkpoint: Path) -> Path:
    path = tmp_path_factory.mktemp("cli-index") / "my.index"
    assert exit_code(["index", str(clips_folder), "--index", str(path), "--model", str(checkpoint)]) == 0
    return path


def test_search_prints_hits_with_moments(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["search", "a red circle", "--index", str(index), "-k", "2"], capsys)
    assert code == 0
    assert "clip-" in out
    assert "0:00.0–" in out


def test_search_as_json(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["search", "a red circle", "--index", str(index), "--json", "--explain", "--exact"], capsys)
    found = json.loads(out)
    assert code == 0
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4, 5]
    best = found["hits"][0]
    assert best["score"] == pytest.approx(best["frame_score"] + best["video_score"], abs=1e-5)
    assert 0 <= best["start"] < best["end"] <= 3.01
    assert found["explanation"]["id"] == best["id"]


def test_search_for_several_parts(
    index: Path, clips_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from PIL import Image

    picture = tmp_path / "red.png"
    Image.new("RGB", (32, 32), "red").save(picture)
    with Searcher(index) as searcher:
        for given, question in (
            (["a red^3 circle"], Question("a red^3 circle")),
            (
                ["a red circle", "--without", "a star", "--without", "snow"],
                Question("a red circle", without=["a star", "snow"]),
            ),
            (
                ["a circle", "--all-of", "a star", "--then", "a ring"],
                Question("a circle", all_of="a star", then="a ring"),
            ),
            (["--then", "a star", "--then", "a ring"], Question(then=["a star", "a ring"])),
            (
                ["a circle", "--image", str(picture), "--image-weight", "2"],
                Question("a circle", image=picture, image_weight=2),
            ),
        ):
            code, out, _ = run(["search", *given, "--index", str(index), "--json"], capsys)
            wanted = [(hit.id, pytest.approx(hit.score, abs=1e-6)) for hit in searcher.search(question)]
            assert (code, [(hit["id"], hit["score"]) for hit in json.loads(out)["hits"]]) == (0, wanted)
    code, _, err = run(["search", "dog^two", "--index", str(index)], capsys)
    assert (code, "dog^2" in err) == (2, True)


def test_more_like_and_occurrences(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Searcher(index) as searcher:
        first = searcher.search("a circle", k=1)[0].id
        code, out, _ = run(
            ["more-like", first, "--index", str(index), "--at", "0.5", "--until", "2", "-k", "2", "--json"], capsys
        )
        likely = searcher.more_like(first, 2, time=(0.5, 2.0))
        assert (code, [hit["id"] for hit in json.loads(out)["hits"]]) == (0, [hit.id for hit in likely])
        code, out, _ = run(["occurrences", "a circle", first, "--index", str(index), "--json"], capsys)
        found = [(part["start"], part["end"]) for part in json.loads(out)["occurrences"]]
        assert (code, found) == (0, [(one.start, one.end) for one in searcher.occurrences("a circle", first)])
    code, out, _ = run(["occurrences", "a circle", first, "--index", str(index)], capsys)
    assert (code, "0:0" in out) == (0, True)
    code, _, err = run(["more-like", "nobody", "--index", str(index)], capsys)
    assert (code, "nobody" in err) == (2, True)


def test_search_with_a_least_confidence(index: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of five videos nothing is usual, so none is left out."""
    code, out, _ = run(["search", "a", "--index", str(index), "--json", "--min-confidence", "0.9"], capsys)
    assert (code, [hit["confidence"] for hit in json.loads(out)["hits"]]) == (0, [None] * 5)
    code, _, err = run(["search", "a", "--index", str(index), "--min-confidence", "1.5"], capsys)
    assert (code, "--min-confidence" in err) == (2, True)
    many = ["--queries", str(tmp_path / "q.tsv"), "--trec", str(tmp_path / "run")]
    code, _, err = run(["search", *many, "--index", str(index), "--min-confidence", "0.5"], capsys)
    assert (code, "leave --min-confidence out" in err) == (2, True)


def test_a_terminal_shows_the_word_for_a_match(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_verbs, "_on_terminal", lambda: True)
    monkeypatch.setattr(Searcher, "match_levels", lambda searcher: MatchLevels(0.1, 0.2))
    code, out, _ = run(["search", "a red circle", "--index", str(index), "-k", "1"], capsys)
    assert (code, out.split("\t")[4].strip()) == (0, "-")


@pytest.mark.parametrize("more", [["--without", "a square"], ["--then", "a square"], ["--all-of", "a square"]])
def test_questions_of_several_parts_have_the_word_too(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setattr(search_verbs, "_on_terminal", lambda: True)
    monkeypatch.setattr(Searcher, "match_levels", lambda searcher: MatchLevels(0.1, 0.2))
    monkeypatch.setattr(confidence, "MIN_SAMPLE", 1)
    code, out, _ = run(["search", "a red circle", *more, "--index", str(index), "-k", "1"], capsys)
    assert (code, out.split("\t")[4].strip() in ("strong", "fair", "weak")) == (0, True)


def test_info_add_and_remove(
    index: Path, clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more"
    write_world(more, count=2, seed=9, split="test")
    (more / "clip-0001.mp4").rename(more / "extra.mp4")
    (more / "clip-0002.mp4").unlink()
    code, out, _ = run(["add", str(more), "--index", str(index), "--json"], capsys)
    assert (code, json.loads(out)["indexed"], json.loads(out)["videos"]) == (0, 1, 6)
    code, out, _ = run(["add", str(more), "--index", str(index), "--json"], capsys)
    assert (code, json.loads(out)["indexed"], json.loads(out)["unchanged"]) == (0, 0, 1)
    assert run(["remove", "extra.mp4", "--index", str(index)], capsys)[0] == 0
    code, out, _ = run(["info", "--index", str(index), "--json"], capsys)
    assert (json.loads(out)["videos"], json.loads(out)["removed"], json.loads(out)["finished"]) == (5, 1, True)


def test_failed_files_are_listed_and_the_exit_code_is_1(
    clips_folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "not-a-video.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "good.mp4").write_bytes((clips_folder / "clip-0001.mp4").read_bytes())
    code, out, _ = run(
        ["index", str(tmp_path), "--index", str(tmp_path / "i"), "--model", str(checkpoint), "--snap", "0.25"], capsys
    )
    assert code == 1
    assert "1 video indexed" in out
    assert "2 videos refused (1 empty, 1 unreadable):" in out
    assert "not-a-video.mp4: unreadable" in out
    assert "empty.mp4: empty" in out


BAD_USAGE = [
    (["index", "{tmp}/nowhere", "--index", "{tmp}/new", "--model", "{model}"], "nowhere"),
    (["index", "{tmp}", "--index", "{tmp}/new", "--model", "{model}"], "no video"),
    (["index", "{clips}", "--index", "{tmp}/new", "--model", "no-such-model"], "there is no model 'no-such-model'"),
    (["index", "{clips}", "--index", "{index}", "--model", "{model}"], "is an index already"),
    (["index", "{clips}", "--index", "{clips}", "--model", "{model}"], "exists and is not an index"),
    (["index", "{clips}", "--index", "{tmp}/new", "--model", "{model}", "--nbits", "3"], "--nbits 3"),
    (
        ["index", "{clips}", "--index", "{tmp}/new", "--model", "{model}", "--snap", "0.5"],
        "snap is 0.5; it must be between 0 and 0.25",
    ),
    (
        ["index", "{clips}", "--index", "{tmp}/new", "--model", "{model}", "--frames", "1000"],
        "--frames 1000 is more than the model takes: it has positions for 64 frames. Give 64 or fewer",
    ),
    (["index", "{clips}", "--index", "{index}", "--model", "{model}"], "or replace it with --overwrite"),
    (["search", "", "--index", "{index}"], "at least one word"),
    (["search", "x", "--index", "{index}", "-k", "0"], "-k 0"),
    (["search", "(a dog)^0", "--index", "{index}"], "all words of 'a dog' have weight 0"),
    (
        ["search", "--image", "{clips}/clip-0001.mp4", "--index", "{index}"],
        "is not a picture that can be read: give JPEG",
    ),
    (["index", "{clips}", "--index", "{tmp}/new", "--model", ""], "the model is empty: name one, such as 'toy'"),
    (["search", "x", "--index", "{tmp}"], "no index in"),
    (["search", "x", "--index", "{tmp}/nowhere"], "no index in"),
    (["search", "x", "--index", "{index}", "--model", "toy"], "was made by another model"),
    (["add", "{clips}", "--index", "{tmp}/nowhere"], "holds no index"),
    (["remove", "unknown", "--index", "{index}"], "'unknown' is not in"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD_USAGE, ids=lambda value: value[:50] if isinstance(value, str) else value[0]
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    index: Path,
    clips_folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"tmp": tmp_path, "index": index, "clips": clips_folder, "model": checkpoint}
    code, _, err = run([argument.format(**names) for argument in arguments], capsys)
    assert code == 2, err
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_only_unreadable_files_is_an_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.mp4").write_text("hello")
    code, _, err = run(
        ["index", str(tmp_path / "words.mp4"), "--index", str(tmp_path / "i"), "--model", str(checkpoint)], capsys
    )
    assert code == 2
    assert "no video could be indexed" in err
    assert "words.mp4: unreadable" in err
    assert not (tmp_path / "i").exists()


def test_evaluate_passes_its_options_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, object] = {}

    def recorded(**options: object) -> None:
        given.update(options)
        raise SettingsError("enough")

    monkeypatch.setattr(evaluate_command, "evaluate_command", recorded)
    options = ["--captions", "first", "-k", "7", "--exact", "--missing", "report", "--cache", str(tmp_path)]
    options += ["--frames", "3"]
    code, _, err = run(["evaluate", "--index", "i", "--data", "d", *options], capsys)
    assert (code, err) == (2, "error: enough\n")
    assert (given["captions"], given["k"], given["exact"]) == ("first", 7, True)
    assert (given["missing"], given["cache"], given["num_frames"]) == ("report", tmp_path, 3)
