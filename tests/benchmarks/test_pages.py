"""The pages: templates filled with canned figures, and that `docs/` holds the committed figures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from paths import BENCHMARKS, ROOT

DOCS, RESULTS, TEMPLATES = ROOT / "docs", BENCHMARKS / "results", BENCHMARKS / "pages"
PAGES = ("ablations.md", "performance.md", "scale.md", "video.md")
MACHINE = {"processor": "a processor", "cores": 2, "system": "Linux", "ffmpeg": "5.1"}


def section(load: Any, name: str, block: str, figures: Mapping[str, Any], argument: str | None = None) -> str:
    return load("pages").render(name, block, json.loads(json.dumps(figures)), argument)


# the committed pages


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_the_committed_figures(load: Any, name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    assert load("pages").fill(text) == text, "run python benchmarks/pages.py"


def test_the_command_line_page_holds_the_help_texts(load: Any) -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert load("pages").fill(text).split() == text.split(), "run python benchmarks/pages.py"


def test_every_block_of_every_template_is_in_a_page(load: Any) -> None:
    pages = load("pages")
    texts = [(DOCS / name).read_text(encoding="utf-8") for name in pages.PAGES]
    shown = {(name, block) for text in texts for _, name, block, *_ in pages.SECTION.findall(text)}
    templates = {path.stem for path in TEMPLATES.glob("*.md")} - {"macros"}
    assert shown == {
        (name, block) for name in templates for block in pages.environment().get_template(f"{name}.md").blocks
    }


def test_other_figures_change_a_page_and_missing_ones_leave_it(load: Any, tmp_path: Path) -> None:
    text = (DOCS / "scale.md").read_text(encoding="utf-8")
    assert load("pages").fill(text, tmp_path) == text
    figures = json.loads((RESULTS / "scale.json").read_text())
    figures["extrapolated"]["plans"][2]["machines"] = 12_345
    (tmp_path / "scale.json").write_text(json.dumps(figures))
    assert "| 12,345 |" in load("pages").fill(text, tmp_path)


def test_the_hour_in_the_text_is_the_measured_one() -> None:
    figures = json.loads((RESULTS / "moments.json").read_text(encoding="utf-8"))
    found = f"{100 * figures['one long file']['right_minute']:.0f} % of the captions"
    assert found in (DOCS / "video.md").read_text(encoding="utf-8")


# decoding


def entry(shows: bool, **outcomes: Any) -> dict[str, Any]:
    return {"shows": shows, "readers": outcomes}


DECODE: dict[str, Any] = {
    "machine": {"processor": "a processor", "cores": 2, "system": "Linux", "ffmpeg": "5.1"},
    "versions": {"ours": "av 18", "decord": "decord 0.6", "opencv": "opencv 5"},
    "speed": {
        "240 lines": {"ours": [50.0, 50.0], "decord": [100.0, 120.0], "opencv": [400.0, 400.0]},
        "720 lines": {"ours": [200.0, 100.0], "decord": [400.0, 380.0], "opencv": [900.0, 900.0]},
    },
    "hours": {
        "MP4": {
            "ours": {"outcome": "frames", "cpu_ms": 41.5, "wrong": 0},
            "decord": {"outcome": "frames", "cpu_ms": 1500.0},
            "opencv": {"outcome": "hang"},
        }
    },
    "kinds": {
        "MP4": entry(
            True,
            ours={"outcome": "right", "warnings": []},
            decord={"outcome": "wrong", "wrong": 5},
            opencv={"outcome": "error", "detail": "RuntimeError: x"},
        ),
        "sound": entry(
            False,
            ours={"outcome": "refused", "detail": "no_video: no video stream"},
            decord={"outcome": "error", "detail": "RuntimeError: x"},
            opencv={"outcome": "crash", "detail": "exit code 1"},
        ),
    },
    "clips": {
        "a.mp4": entry(
            True,
            ours={"outcome": "right", "warnings": []},
            decord={"outcome": "right", "warnings": []},
            opencv={"outcome": "right", "warnings": []},
        ),
        "b.mp4": entry(
            True,
            ours={"outcome": "right", "warnings": ["1 damaged packets or frames"]},
            decord={"outcome": "hang", "detail": "no answer"},
            opencv={"outcome": "right", "warnings": []},
        ),
    },
    "memory": {"ours": {"opens": 500, "early_megabytes": 70.2, "late_megabytes": 71.4}},
}


def test_decoding_tables_say_what_the_figures_say(load: Any) -> None:
    blocks = ("speed", "hours", "kinds", "clips", "right", "memory", "machine")
    text = "\n".join(section(load, "decode", block, DECODE) for block in blocks)
    for line in (
        "| colbert_video | 50 | 150 | 10.00 | 2.50 |",
        "| decord, Pillow | 110 | 390 | 4.00 | 1.00 |",
        "| colbert_video | 42 (0 wrong) |",
        "| decord, Pillow | 1500 |",
        "| OpenCV | hang |",
        "| MP4 | right | **5 wrong** | error |",
        "| sound | `no_video` | refused | **crash** |",
        "All readers read 1 of 2 clips right",
        "| `b.mp4` | right, with a warning | **hang** | right |",
        "| colbert_video | 1 of 1 | 2 of 2 |",
        "| decord | 0 of 1 | 1 of 2 |",
        "70 MB after 100 opens and 71 MB after the last",
        "a processor, 2 cores, Linux, busy with other work; reference: ffmpeg 5.1. Versions: av 18; decord 0.6; opencv 5.",
    ):
        assert line in text


# indexing and moments


INDEXING: dict[str, Any] = {
    "machine": {"processor": "a processor", "cores": 2, "system": "Linux", "ffmpeg": "5.1"},
    "torch": "2.15",
    "rows": [
        {
            "model": "toy",
            "device": "cpu",
            "indexed": 64,
            "workers": 2,
            "threads": 1,
            "seconds": 8.0,
            "waited": 2.0,
            "cpu_seconds": {"decode": 3.2, "encode": 1.28, "write": 0.064, "compress": 0.64, "other": 1.216},
            "loaded_megabytes": 300.4,
            "peak_megabytes": 410.6,
        }
    ],
}
INDEXING["rows"].append({**INDEXING["rows"][0], "model": "ViT-B-32"})


def test_indexing_tables_say_what_the_figures_say(load: Any) -> None:
    text = section(load, "indexing", "throughput", INDEXING)
    row = "| 64 | 2 | 1 | 50.0 | 20.0 | 1.0 | 10.0 | 19.0 | 10.0 | 8.0 | 25 % |"
    assert f"| toy (cpu) {row}" in text
    assert f"| ViT-B-32 (cpu) {row}" in text
    memory = section(load, "indexing", "memory", INDEXING)
    assert "| toy | 64 | 300 | 411 |" in memory
    assert "ViT-B-32" not in memory  # Memory is compared for one model at several sizes.
    machine = section(load, "indexing", "machine", INDEXING)
    assert "a processor, 2 cores, Linux; torch 2.15." in machine


def test_a_row_of_moments_says_what_the_figures_say(load: Any) -> None:
    row = {"queries": 200, "found_first": 150, "iou_at_least_0.5": 0.9, "iou_at_least_0.7": 0.625}
    text = section(load, "moments", "table", {"whole": row, "seed": 1})
    assert "| whole | 200 | 75 % | 90 % | 62 % |" in text


# searching


def canned_row(engine: str, size: int, figures: dict[str, tuple[float, float]], **extra: Any) -> dict[str, Any]:
    """A row of the report; figures are recall and CPU ms by setting."""
    results = {
        setting: {
            "queries": 128,
            "recall": recall,
            "success": 0.906,
            "cpu_ms": {"p50": cost, "p95": 2 * cost, "rounds": [cost, cost]},
            "wall_ms": {"p50": cost, "p95": cost},
            "peak_megabytes": 512.0,
        }
        for setting, (recall, cost) in figures.items()
    }
    best = max(figures, key=lambda setting: figures[setting][0])
    return {
        "engine": engine,
        "size": size,
        "corpus": "plain",
        "dim": 512,
        "tuning_queries": 32,
        "tuning": {setting: {"recall": recall, "cpu_ms": cost} for setting, (recall, cost) in figures.items()},
        "reads_tokens": ["b"],
        "open_wall_seconds": 0.4,
        "build_cpu_seconds": 61.4,
        "index_bytes_per_video": 7000.0,
        "token_bytes_per_video": 53248,
        "best": best,
        "results": results,
        **extra,
    }


def test_the_page_says_who_is_faster_at_the_same_recall(load: Any, tmp_path: Path) -> None:
    rows = [
        canned_row("ours-4bit", 20_000, {"default": (0.97, 1.5)}),
        canned_row("colbert", 20_000, {"a": (0.93, 10.0), "b": (0.99, 30.0)}),
        canned_row("faiss-hnsw", 20_000, {"a": (0.966, 6.0), "b": (0.90, 1.0)}),
        canned_row("ours-4bit", 100_000, {"default": (0.96, 4.0)}),
        {"engine": "fast-plaid", "size": 20_000, "corpus": "plain", "dim": 512, "failed": "out of memory"},
    ]
    figures = {"machine": MACHINE, "rows": rows}
    headlines = section(load, "search", "headlines", figures)
    assert (
        "1.50 ms at recall 0.970; the fastest other engine with that recall is faiss HNSW16-SQ8 (a), 6.00 ms"
        in headlines
    )
    assert "4.0 times as long" in headlines
    assert "4.00 ms at recall 0.960; no other engine reached that recall." in headlines
    tables = section(load, "search", "tables", figures)
    for line in (
        "| stock colbert-ai, 4 bits | **b** | 0.990 | 0.906 | 30.00 | 60.00 |  | 61 | 0.4 | 60.2 | 0.5 |",
        "| colbert_video, 4 bits | **default** | 0.970 | 0.906 | 1.50 | 3.00 |  | 61 | 0.4 | 7.0 | 0.5 |",
    ):
        assert line in tables
    missing = section(load, "search", "not_measured", figures)
    assert "fast-plaid, 4 bits failed: `out of memory`" in missing
    assert "100,000 videos, plain corpus: not run: colbert_video, 8 bits, stock" in missing
    pytest.importorskip("matplotlib")
    (tmp_path / "search.json").write_text(json.dumps(figures))
    load("plots").draw_all(tmp_path, tmp_path / "figures")
    for name in ("search_recall.svg", "search_cost.svg"):
        assert "faiss HNSW16-SQ8" in (tmp_path / "figures" / name).read_text()


def test_the_page_shows_what_pooling_saves(load: Any, tmp_path: Path) -> None:
    shares = {"tokens_per_video": 14, "bytes_per_video": 504, "R@1": 0.9, "R@10": 1.0}
    rules = (("none", None), ("factor", 2.0), ("similarity", 0.95))
    rows = [{"rule": rule, "value": value, **shares} for rule, value in rules]
    text = section(load, "pooling", "section", {"clips": 1000, "seed": 1, "dim": 64, "nbits": 4, "rows": rows})
    assert "| none | 14.0 | 504 | 0.900 | 1.000 |" in text
    assert "| similarity 0.95 | 14.0 | 504 | 0.900 | 1.000 |" in text
    pytest.importorskip("matplotlib")
    load("plots").draw_pooling(rows, tmp_path / "pooling.svg")
    assert "by similarity" in (tmp_path / "pooling.svg").read_text()


# ablations


def canned_run(load: Any, seed: int, recall: float, **settings: Any) -> dict[str, Any]:
    """A run with made-up figures; RRF is two points worse, long captions ten."""
    chosen = load("ablation_variants").Settings(**settings)
    names = load("ablation_measures").interactions_of(chosen)
    metrics = {
        name: {"R@1": recall - 0.02 * (name == "rrf"), "R@5": 0.9, "nDCG@10": 0.8, "motion pairs": 0.5}
        for name in names
    }
    by_length = {name: {"short": recall, "medium": recall, "long": recall - 0.1} for name in names}
    return load("ablation_measures").Measurement(seed, chosen, metrics, by_length, 60.0).to_dict()


def ablation_figures(load: Any, *runs: dict[str, Any], budget: str = "full") -> dict[str, Any]:
    return {"budget": asdict(load("ablation_training").BUDGETS[budget]), "runs": list(runs)}


def test_a_table_shows_mean_spread_and_paired_difference(load: Any) -> None:
    recalls = {(0, False): 0.30, (1, False): 0.38, (0, True): 0.40, (1, True): 0.42}
    runs = [canned_run(load, seed, recall, query_augmentation=on) for (seed, on), recall in recalls.items()]
    text = section(load, "ablations", "table", ablation_figures(load, *runs), "augmentation")
    assert "| off | 45.3 | −2.8 | 34.0 ± 5.7 | −7.0 ± 4.2 | 90.0 ± 0.0 | 80.0 ± 0.0 | 50.0 ± 0.0 | 2 |" in text
    assert "| **on** | 48.1 | – | 41.0 ± 1.4 |  |" in text
    assert "| **on** | 41.0 ± 1.4 | 41.0 ± 1.4 | 31.0 ± 1.4 |" in text
    assert "| gain | +7.0 ± 4.2 | +7.0 ± 4.2 | +7.0 ± 4.2 |" in text
    assert "- **As in the paper**: off (−2.8 in the paper, −7.0 here)." in text


def test_rrf_is_measured_on_the_run_of_the_default(load: Any) -> None:
    runs = [load("ablation_measures").Measurement.from_dict(canned_run(load, 0, 0.5))]
    rows = {row.variant.name: row for row in load("views").ablation_rows("interaction", runs)}
    assert rows["RRF of MMS_F and MMS_V"].figures("R@1") == {0: 48.0}
    assert rows["**MMS_FV**"].figures("R@1") == {0: 50.0}
    assert rows["MMS_F"].figures("R@1") == {}


@pytest.mark.parametrize(
    ("paper", "ours", "expected"),
    [
        (-3.0, [-2.5, -4.0, -9.0], "As in the paper"),
        (3.0, [2.5, 4.0, 9.0], "As in the paper"),
        (-3.0, [2.5, 4.0, 9.0], "Other than in the paper"),
        (-3.0, [-9.0, -9.0, 0.5], "Undecided"),
        (-3.0, [-1.0, -1.5, -2.0], "Undecided"),
        (-3.0, [-9.0], "Undecided"),
    ],
)
def test_judgement(load: Any, paper: float, ours: list[float], expected: str) -> None:
    assert load("views").judgement(paper, ours) == expected


def test_the_page_names_what_is_missing_and_how_it_was_made(load: Any) -> None:
    figures = ablation_figures(load, *(canned_run(load, seed, 0.5) for seed in (0, 1)))
    text = section(load, "ablations", "method", figures)
    assert "So far: 2 runs; 0 of 2 seeds are complete (23 runs each). The default's run takes 60 seconds" in text
    assert "4,000 clips" in text
    assert "bias −20" in text
    table = section(load, "ablations", "table", figures, "interaction")
    assert "| MMS_V | 47.0 | −1.1 | – | – | – | – | – | 0 |" in table


def test_the_page_of_no_run_has_no_verdict(load: Any) -> None:
    text = section(load, "ablations", "table", ablation_figures(load, budget="quick"), "loss")
    assert "As in the paper" not in text
    assert "**Undecided**" not in text


def test_every_table_of_the_ablations_is_on_the_page(load: Any) -> None:
    variants, page = load("ablation_variants"), (DOCS / "ablations.md").read_text(encoding="utf-8")
    for table, title in variants.TABLES.items():
        assert f"## {title}\n\n<!-- figures: ablations.table {table} -->" in page
    assert set(variants.TABLES) == {variant.table for variant in variants.VARIANTS}
