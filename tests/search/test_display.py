"""What Python's prompt and notebooks show of searchers, indexers, hits and explanations."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from token_corpus import DIM, random_bags, unit_tokens

from colbert_video import Explanation, Hit, Hits, Indexer, Searcher
from colbert_video.errors import DependencyError
from colbert_video.search.explain import PADDING, TokenExplanation, TokenMatch

FRAME = np.array([[0.1, 0.9], [0.3, 0.2], [0.5, 0.6], [0.7, 0.2]], dtype=np.float32)
VIDEO = np.array([[0.2, 0.1, 0.8], [0.4, 0.5, 0.3], [0.0, 0.0, 0.1], [0.0, 0.2, 0.1]], dtype=np.float32)


@pytest.fixture
def explanation() -> Explanation:
    labels = ("dog", "<b>", PADDING, PADDING)
    tokens = tuple(
        TokenExplanation(label, {"frame": TokenMatch(1, 2.5, 0.9, 1), "video": TokenMatch(None, None, 0.8, 2)})
        for label in labels
    )
    return Explanation("clip & 1.mp4", tokens, (0.5, 2.5), {"frame": FRAME, "video": VIDEO})


@pytest.fixture
def index(tmp_path: Path) -> Path:
    bags = random_bags(12, seed=1)
    Indexer(tmp_path / "my.index", dim=DIM).index_tokens([f"v{number}" for number in range(12)], bags)
    return tmp_path / "my.index"


def test_hits_are_printed_as_lines() -> None:
    hits = Hits(
        [
            Hit(1, "a\nb", 1.25, 0.5, 0.75, 1.0, 2.5, None, {}, confidence=0.5),
            Hit(2, "c", 1, 1, 0, None, None, None, {}),
        ]
    )
    assert repr(hits).splitlines() == [
        "2 hits",
        r"  1. a\nb  0:01.0–0:02.5  1.250  confidence 0.50",
        "  2. c  -  1.000",
    ]
    assert repr(Hits()) == "0 hits"
    many = Hits([Hit(rank, "c", 1, 1, 0, None, None, None, {}) for rank in range(1, 31)], ["shard-0001"])
    lines = repr(many).splitlines()
    assert (len(lines), lines[-2:]) == (23, ["  … 10 more", "  shard-0001 did not answer"])


def test_searchers_say_what_they_search(index: Path) -> None:
    with Searcher(index) as searcher:
        assert repr(searcher) == f"<Searcher of {index}: 12 videos, no model, frame bag of {DIM} dimensions>"
        assert f'<td style="text-align:left">{index}</td>' in searcher._repr_html_()
        assert "confidence" in searcher.search_tokens(unit_tokens(2, DIM, seed=2), 2)._repr_html_()
    assert repr(searcher) == f"<Searcher of {index}: closed>"
    assert "closed" in searcher._repr_html_()


def test_indexers_say_how_they_were_made_and_what_they_hold(index: Path, tmp_path: Path) -> None:
    new = Indexer(tmp_path / "new", model="toy", num_frames=12, window=30.0)
    assert repr(new) == f"Indexer('{tmp_path / 'new'}', model='toy', num_frames=12, window=30.0)"
    assert "nothing yet" in new._repr_html_()
    assert ">toy<" in new._repr_html_()
    assert "12 videos, " in Indexer(index)._repr_html_()
    (index / "catalog.sqlite").write_bytes(b"no database" * 1000)
    assert "damaged" in Indexer(index)._repr_html_() or "catalog" in Indexer(index)._repr_html_()


def test_an_explanation_is_printed_word_by_word(explanation: Explanation) -> None:
    assert repr(explanation).splitlines() == [
        "Explanation of clip & 1.mp4: frame 0.625, video 0.400",
        "  dog: frame 0.90 at 2.5 s, video 0.80",
        "  <b>: frame 0.90 at 2.5 s, video 0.80",
        "  2 tokens of padding",
    ]


def test_padding_is_one_row_and_expansion_tokens_have_no_times(explanation: Explanation) -> None:
    frame, video = explanation._strips()
    assert frame.rows == video.rows == ("dog", "<b>", "padding (2 tokens)")
    assert (frame.columns, video.columns) == (("0.5 s", "2.5 s"), ("0.5 s", "2.5 s", "+1"))
    assert frame.cosines == pytest.approx(np.array([[0.1, 0.9], [0.3, 0.2], [0.6, 0.4]]), abs=1e-6)
    assert video.title == "video tokens: MeanMaxSim 0.400"


def test_the_picture_holds_every_cosine_and_frames_the_best(explanation: Explanation) -> None:
    page = explanation._repr_html_()
    drawings = [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert len(drawings) == 2
    for drawing, strip in zip(drawings, explanation._strips(), strict=True):
        cells = drawing.findall("{*}rect")
        titles = [cell.findtext("{*}title") for cell in cells]
        assert titles == [
            f"{word}, {column}: {value:.3f}"
            for word, values in zip(strip.rows, strip.cosines, strict=True)
            for column, value in zip(strip.columns, values, strict=True)
        ]
        framed = [number % len(strip.columns) for number, cell in enumerate(cells) if cell.get("stroke")]
        assert framed == strip.cosines.argmax(axis=1).tolist()
    assert "clip &amp; 1.mp4" in page
    fills = [(cell.findtext("{*}title"), cell.get("fill")) for cell in drawings[0].findall("{*}rect")]
    assert ("dog, 2.5 s: 0.900", "#0b2f4a") in fills  # the highest cosine of all bags


def test_the_plot_has_a_strip_for_each_bag(explanation: Explanation) -> None:
    pytest.importorskip("matplotlib")
    figure = explanation.plot()
    assert [axes.get_title(loc="left") for axes in figure.axes] == [strip.title for strip in explanation._strips()]
    assert np.asarray(figure.axes[0].images[0].get_array()) == pytest.approx(explanation._strips()[0].cosines)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["0.5 s", "2.5 s", "+1"]


def test_the_plot_says_what_it_needs(explanation: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DependencyError, match="pip install matplotlib"):
        explanation.plot()


def test_many_columns_have_few_names(explanation: Explanation) -> None:
    times = tuple(float(number) for number in range(100))
    wide = Explanation("a", explanation.tokens[:1], times, {"frame": np.linspace(0, 1, 100, dtype=np.float32)[None]})
    page = wide._repr_html_()
    assert page.count("<rect") == 100
    assert page.count("<text") <= 2 + 13
    width = float(re.search(r'<svg[^>]*width="(\d+)"', page).group(1))  # type: ignore[union-attr]
    assert width <= 760
