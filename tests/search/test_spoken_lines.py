"""Searching lines of text: BM25 and RRF by their formulas, in any language, in windows, shards, and after removals."""

import inspect
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from question_corpus import WINDOWS, commit_questions, word_encoder
from thorough import amount

from colbert_video import Hit, Indexer, Question, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.catalog import Catalog
from colbert_video.indexing.catalog.line_words import query_phrases, words_of
from colbert_video.indexing.catalog.spoken_lines import VideoLines, place_lines
from colbert_video.indexing.upkeep.export import export_index, import_index
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.indexing.upkeep.verify import verify_index
from colbert_video.search.asking import spoken
from colbert_video.search.asking.spoken import check_text
from colbert_video.search.fusion import RRF_CONSTANT
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher
from colbert_video.video.subtitles.timed_line import TimedLine

K1, B = 1.2, 0.75
Texts = Mapping[str, list[tuple[float, str]]]
"""Start and text of the lines of each video; each lasts a second."""
SAID: Texts = {
    "a": [(1.0, "good morning penguin"), (8.0, "the penguin walks"), (17.0, "and a bear, and a bear")],
    "b": [(0.0, "a penguin swims in the sea"), (4.0, "nothing else")],
    "c": [(2.0, "the bear says good night"), (28.0, "to the penguin, the penguin")],
    "d": [(0.5, "Der Bär sagt: Größe!"), (3.0, "我喜欢企鹅,一只狗在海滩上跑")],
    "f": [(3.0, "犬がペンギンと走る"), (5.0, "مَرْحَبًا بِكُم في القطب")],
    "g": [(1.0, "the sea"), (2.0, "the sea, the cold sea, and the ice"), (5.0, "it's 100% \"cold\" (isn't it?)")],
    "timeless": [(1.0, "a line without a picture")],
}


def lines_of(said: Texts) -> list[VideoLines]:
    return [
        VideoLines(video, "subtitles", "stamp", tuple(TimedLine(start, start + 1.0, text) for start, text in lines))
        for video, lines in said.items()
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spoken") / "one.index"
    commit_questions(path)
    with Catalog.open(path, writable=True) as catalog:
        catalog.set_lines(lines_of(SAID))
    return path


@pytest.fixture(scope="module")
def searcher(index: Path) -> Iterator[Searcher]:
    with Searcher(index, model=word_encoder()) as opened:
        yield opened


@pytest.fixture
def own(index: Path, tmp_path: Path) -> Path:
    return shutil.copytree(index, tmp_path / "own.index")


def naive_bm25(query: str, said: Texts) -> dict[tuple[str, float], float]:
    """The score of each line that holds a word, by video and start, with the formula that SQLite documents."""
    documents = {(video, start): words_of(text) for video, lines in said.items() for start, text in lines}
    mean = sum(map(len, documents.values())) / len(documents)
    scores: Counter[tuple[str, float]] = Counter()
    for phrase in query_phrases(query):
        wanted = phrase.split()
        found = {
            place: sum(words[at : at + len(wanted)] == wanted for at in range(len(words)))
            for place, words in documents.items()
        }
        holding = sum(count > 0 for count in found.values())
        rarity = max(math.log((len(documents) - holding + 0.5) / (holding + 0.5)), 1e-6)
        for place, count in found.items():
            if count:
                length = K1 * (1 - B + B * len(documents[place]) / mean)
                scores[place] += rarity * count * (K1 + 1) / (count + length)
    return dict(scores)


def naive_videos(query: str, said: Texts) -> dict[str, tuple[float, float]]:
    """Score and start of each video's best line."""
    best: dict[str, tuple[float, float]] = {}
    for (video, start), score in naive_bm25(query, said).items():
        if video not in best or score > best[video][0] + 1e-12:
            best[video] = (score, start)
    return best


QUERIES = (
    "penguin",
    "good penguin",
    "the cold sea",
    "bear",
    "Grosse",
    "企鹅",
    "狗在跑",
    "ペンギン",
    "مرحبا",
    "isn't it cold",
    "line",
)


@pytest.mark.parametrize("query", QUERIES)
def test_videos_rank_by_the_bm25_of_their_best_line(searcher: Searcher, query: str) -> None:
    wanted = naive_videos(query, SAID)
    hits = searcher.search(query, text="speech")
    assert wanted
    assert {hit.id: hit.score for hit in hits} == pytest.approx({video: score for video, (score, _) in wanted.items()})
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        _, start = wanted[hit.id]
        assert hit.line is not None
        assert hit.line.text == dict(SAID[hit.id])[start]
        assert (hit.start, hit.end) == (hit.line.start, hit.line.end) == (start, start + 1.0)
        assert (hit.frame_score, hit.video_score, hit.confidence, dict(hit.bag_scores)) == (None, None, None, {})
        assert hit.metadata == {"name": hit.id}


WORDS = ("red", "dog", "sea", "ice", "狗", "海", "企鹅", "Bär")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
CORPORA = st.fixed_dictionaries({}, optional={name: st.lists(TEXTS, max_size=4) for name in (*WINDOWS, "timeless")})


@given(drawn=CORPORA, query=TEXTS, removed=st.sets(st.sampled_from([*WINDOWS]), max_size=3))
@settings(max_examples=amount(25, thorough=300), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_stay_right_after_changes(
    index: Path, tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, list[str]], query: str, removed: set[str]
) -> None:
    path = shutil.copytree(index, tmp_path_factory.mktemp("drawn") / "i")
    said = {video: [(float(number), text) for number, text in enumerate(lines)] for video, lines in drawn.items()}
    live = {**{video: lines for video, lines in SAID.items() if video not in said}, **said}
    with Catalog.open(path, writable=True) as catalog:
        catalog.set_lines(lines_of(said))
    Indexer(path).remove(sorted(removed)) if removed else None
    live = {video: lines for video, lines in live.items() if video not in removed}
    wanted = naive_videos(query, live) if any(live.values()) else {}
    assert verify_index(path).intact
    with Searcher(path) as opened:
        hits = opened.search(query, k=20, text="speech") if any(live.values()) else []
    assert {hit.id: hit.score for hit in hits} == pytest.approx({video: score for video, (score, _) in wanted.items()})


@pytest.mark.parametrize(
    "query",
    [
        '"', "'", '"penguin', "penguin*", "penguin OR bear", "NOT penguin", "penguin NEAR bear", "words: penguin", "^penguin",
        "penguin AND (", "{penguin}", "-penguin", "penguin; DROP TABLE timed_lines", "penguin\0bear", "penguin\ud800",
        "penguin' OR 1=1 --", "penguin) OR 1", "a" * 10_000 + " penguin", "penguin " * 5000, "?1 penguin", "\u202epenguin",
    ],
)  # fmt: skip
def test_nothing_in_a_query_is_an_operator(searcher: Searcher, query: str) -> None:
    if not words_of(query):
        with pytest.raises(SettingsError, match="has no word that a line could hold"):
            searcher.search(query.replace("^", "\\^"), text="speech")
        return
    hits = searcher.search(query.replace("^", "\\^"), text="speech")
    wanted = naive_videos(query, SAID)
    assert {hit.id for hit in hits} == set(wanted)
    assert "a" in wanted  # which says "penguin"


def test_both_fuses_the_ranks(searcher: Searcher) -> None:
    query, weight = "penguin on the ice", 0.5
    pictures = searcher.search(query, k=100)
    said = searcher.search(query, k=100, text="speech")
    wanted = {hit.id: 1 / (RRF_CONSTANT + hit.rank) for hit in pictures}
    for hit in said:
        better = sum(other.score > hit.score + 1e-9 for other in said)  # tied ones share a rank
        wanted[hit.id] += weight / (RRF_CONSTANT + 1 + better)
    hits = searcher.search(query, k=100, text="both", speech_weight=weight)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(wanted)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(hit.confidence is None for hit in hits)


def test_a_hit_of_both_points_at_its_line_and_keeps_the_moment_of_the_picture(searcher: Searcher) -> None:
    (pictured,) = searcher.search("penguin", ids="b")
    (hit,) = searcher.search("penguin", ids="b", text="both")
    assert hit.line == TimedLine(0.0, 1.0, "a penguin swims in the sea")
    assert (hit.start, hit.end) == (0.0, 1.0)
    assert (hit.frame_score, hit.video_score) == (pictured.frame_score, pictured.video_score)
    moments = [(one.start, one.end) for one in hit.moments]
    overlaps = pictured.start < 1.0
    assert ((pictured.start, pictured.end) in moments) == (not overlaps)
    (without,) = searcher.search("penguin", ids="e", text="both")
    assert without.line is None
    assert (without.start, without.end) == (searcher.search("penguin", ids="e")[0].start, without.end)


def test_hits_are_printed_with_their_lines(searcher: Searcher) -> None:
    hits = searcher.search("cold", text="speech")
    assert "“it's 100% \"cold\" (isn't it?)”" in repr(hits) or "“the sea, the cold sea, and the ice”" in repr(hits)
    assert "cold" in hits._repr_html_()
    assert hits[0].to_dict()["line"] == vars(hits[0].line)
    assert hits.to_pandas()["line"][0]["text"] == hits[0].line.text


def test_a_weight_of_zero_ranks_by_picture_alone(searcher: Searcher) -> None:
    ranked = [hit.id for hit in searcher.search("penguin", k=20)]
    assert [hit.id for hit in searcher.search("penguin", k=20, text="both", speech_weight=0)] == ranked


def test_the_default_looks_at_pictures_alone(searcher: Searcher) -> None:
    assert searcher.search("penguin") == searcher.search("penguin", text="picture")
    assert all(hit.line is None for hit in searcher.search("penguin"))
    assert inspect.signature(Searcher.search).parameters["text"].default == "picture"


def test_further_lines_are_further_moments(searcher: Searcher) -> None:
    hits = searcher.search("penguin", text="speech")
    moments = {hit.id: [(one.start, one.end) for one in hit.moments] for hit in hits}
    assert moments["a"] == [(8.0, 9.0)] or moments["a"] == [(1.0, 2.0)]
    assert moments["b"] == []


def test_filters_and_ids(searcher: Searcher) -> None:
    def found(**options: object) -> set[str]:
        return {hit.id for hit in searcher.search("penguin", text="speech", **options)}  # type: ignore[arg-type]

    assert found() == {"a", "b", "c"}
    assert found(where={"name": "b"}) == {"b"}
    assert found(where={"not": {"name": {"in": ["a", "b"]}}}) == {"c"}
    assert found(ids=["a", "g"]) == {"a"}
    assert found(ids=["a", "b"], where={"name": "b"}) == {"b"}
    assert found(k=1) < {"a", "b", "c"}
    assert found(where={"start": {">=": 5}}) == {"a", "c"}  # windows whose own lines say it
    with pytest.raises(SettingsError, match="id 'x' is not in the index"):
        found(ids=["x"])
    with pytest.raises(SettingsError, match="no video has 'nam'"):
        found(where={"nam": "b"})
    both = searcher.search("penguin", text="both", where={"name": {"in": ["b", "e"]}})
    assert {hit.id for hit in both} == {"b", "e"}


def test_windows_are_hits_of_their_own_where_they_are_not_grouped(searcher: Searcher) -> None:
    hits = searcher.search("penguin", text="speech", group=False)
    assert {hit.id for hit in hits} == {"a#t=0,10", "a#t=5,15", "b", "c#t=20,30"}
    both = searcher.search("penguin", k=50, text="both", group=False)
    assert {hit.id for hit in hits} <= {hit.id for hit in both}
    assert {hit.id: hit.line for hit in both if hit.line} == {hit.id: hit.line for hit in hits}


def test_lines_belong_to_the_window_around_them() -> None:
    windows = [(f"w{start}", "v", float(start), float(start + 10), 40.0) for start in (0, 5, 20)]
    lines = [TimedLine(start, start + 1.0, "x") for start in (0.0, 6.0, 8.5, 12.0, 16.0, 17.6, 35.0)]
    assert [item for item, _ in place_lines(lines, windows)] == ["w0", "w0", "w5", "w5", "w5", "w20", "w20"]
    part = [("v", None, 10.0, 20.0, 40.0)]
    inside = [line.start for _, line in place_lines([TimedLine(float(s), s + 1.5, "x") for s in range(0, 40, 3)], part)]
    assert inside == [9.0, 12.0, 15.0, 18.0]
    assert len(list(place_lines(lines, [("v", None, 0.0, 10.0, 10.0)]))) == len(
        lines
    )  # late ones of a whole video stay


def test_a_removed_window_takes_its_lines_along(own: Path) -> None:
    Indexer(own).remove("a#t=0,10")
    with Searcher(own) as searcher:
        (hit,) = searcher.search("penguin", text="speech", ids="a")
    assert hit.line == TimedLine(8.0, 9.0, "the penguin walks")


def rows(hits: list[Hit]) -> list[tuple[object, ...]]:
    return [(hit.id, round(hit.score, 9), hit.start, hit.end, hit.line, hit.moments) for hit in hits]


def test_compacting_and_exporting_keep_the_lines(own: Path, tmp_path: Path) -> None:
    Indexer(own).remove(["b"])
    with Searcher(own) as searcher:
        before = rows(searcher.search("penguin", text="speech"))
    assert Indexer(own).compact().compacted
    export_index(own, tmp_path / "out.tar", keep_paths=False)
    import_index(tmp_path / "out.tar", tmp_path / "in")
    Indexer(own).compact(retrain="stored")
    for path in (own, tmp_path / "in"):
        assert verify_index(path).intact
        with Searcher(path) as searcher:
            assert rows(searcher.search("penguin", text="speech")) == before


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_have_their_lines(index: Path, tmp_path: Path, searcher: Searcher, shards: int) -> None:
    shard_index(index, tmp_path / "shards", shards=shards)
    with ShardedSearcher(tmp_path / "shards", model=word_encoder()) as sharded:
        for query in QUERIES:
            found, whole = sharded.search(query, text="speech"), searcher.search(query, text="speech")
            assert {hit.id: hit.line for hit in found} == {hit.id: hit.line for hit in whole}
            if shards == 1:
                assert rows(found) == rows(whole)
                both = sharded.search(query, k=20, text="both")
                assert rows(both) == rows(searcher.search(query, k=20, text="both"))
        assert {hit.id for hit in sharded.search("penguin", text="both", ids=["a", "e"])} == {"a", "e"}


def test_many_lines_of_few_videos_are_fetched_until_there_are_k(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "LINES_PER_VIDEO", 2)
    said = {
        "b": [(float(number), "ice ice ice") for number in range(200)],
        "g": [(1.0, "ice and snow and more than that")],
    }
    with Catalog.open(own, writable=True) as catalog:
        catalog.set_lines(lines_of(said))
    with Searcher(own) as searcher:
        assert [hit.id for hit in searcher.search("ice", k=2, text="speech")] == ["b", "g"]


def test_no_model_is_needed_for_lines(index: Path) -> None:
    with Searcher(index) as searcher:
        assert searcher.search("penguin", text="speech")
        with pytest.raises(SettingsError, match="model"):
            searcher.search("penguin", text="both")


def test_questions(searcher: Searcher) -> None:
    plain = searcher.search("penguin", text="speech")
    assert searcher.search(Question("penguin^2"), text="speech") == plain
    assert searcher.search([("penguin", 1), ("bear", 0)], text="speech") == plain
    with pytest.raises(SettingsError, match="text='speech' takes words alone"):
        searcher.search("penguin", without="bear", text="speech")
    assert searcher.search("penguin", then="sea", text="both")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "speech", "min_confidence": 0.1}, "leave min_confidence out"),
        ({"text": "both", "speech_weight": -1}, "speech_weight=-1 is negative"),
        ({"text": "both", "speech_weight": math.nan}, "speech_weight"),
    ],
)
def test_settings_are_checked(searcher: Searcher, options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        searcher.search("penguin", **options)  # type: ignore[arg-type]


def test_what_is_searched_has_three_names() -> None:
    with pytest.raises(SettingsError, match="text='sound' must be 'picture', 'speech' or 'both'"):
        check_text("sound")


def test_an_index_without_lines_says_how_to_get_some(tmp_path: Path) -> None:
    commit_questions(tmp_path / "i")
    with Searcher(tmp_path / "i", model=word_encoder()) as searcher:
        for text in ("speech", "both"):
            with pytest.raises(SettingsError, match=r"no lines of text: put subtitles .* film\.srt .* lines="):
                searcher.search("penguin", text=text)  # type: ignore[arg-type]
