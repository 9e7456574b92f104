"""Questions of several parts score as their formulas say, whatever the way they are asked."""

import inspect
import pickle
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from question_corpus import (
    Bags,
    commit_questions,
    naive_order,
    naive_score,
    stored_items,
    tokens_of,
    word_encoder,
    word_vector,
)
from thorough import amount

from colbert_video import Question, Searcher
from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.upkeep.sharding import shard_index
from colbert_video.search.asking.encoded_question import EncodedQuestion
from colbert_video.search.asking.exclusions import EXCLUSION, EXPLAINED, lost_scores, with_usual_scores
from colbert_video.search.asking.word_weights import WeightedText
from colbert_video.search.sharded.sharded_searcher import ShardedSearcher

WEIGHTS = {"frame": 1.0, "video": 1.0}
EVERY = 100
PLAIN = ("red dog", "blue", "a green ball rolls", "snow on a hill")
texts = st.sampled_from(PLAIN)
few = settings(max_examples=amount(25, thorough=200), deadline=None)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("questions") / "one.index"
    commit_questions(path)
    return path


@pytest.fixture(scope="module")
def items(index: Path) -> list[tuple[VideoEntry, Bags]]:
    return stored_items(index)


@pytest.fixture(scope="module")
def searcher(index: Path) -> Iterator[Searcher]:
    with Searcher(index, model=word_encoder()) as opened:
        yield opened


@pytest.fixture(scope="module")
def sharded(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardedSearcher]:
    folder = tmp_path_factory.mktemp("question-shards") / "three"
    shard_index(index, folder, shards=3)
    with ShardedSearcher(folder, model=word_encoder()) as opened:
        yield opened


def units(items: list[tuple[VideoEntry, Bags]], *, group: bool) -> dict[str, list[tuple[VideoEntry, Bags]]]:
    found: defaultdict[str, list[tuple[VideoEntry, Bags]]] = defaultdict(list)
    for entry, bags in items:
        found[entry.video if group else entry.id].append((entry, bags))
    return found


def naive_lost(
    parts: list[tuple[str, float]],
    without: list[tuple[str, float]],
    items: list[tuple[VideoEntry, Bags]],
    bag_weights: dict[str, float],
) -> dict[str, float]:
    """What each item loses for what must not be shown: by the formula of docs/questions.md, over all of a small corpus."""
    total = sum(weight for _, weight in parts)
    score = {
        entry.id: sum(weight * naive_score(tokens_of(text), bags, bag_weights) for text, weight in parts) / total
        for entry, bags in items
    }
    lost = dict.fromkeys(score, 0.0)
    for text, weight in without:
        found = {entry.id: naive_score(tokens_of(text), bags, bag_weights) for entry, bags in items}
        slope = statistics.linear_regression(list(score.values()), list(found.values())).slope
        excess = {name: found[name] - EXPLAINED * slope * score[name] for name in found}
        usual = statistics.median(excess.values())
        lost = {name: max(lost[name], EXCLUSION * weight * (excess[name] - usual)) for name in lost}
    return lost


def assert_scores(hits: list[Any], wanted: dict[str, float]) -> None:
    assert {hit.id: hit.score for hit in hits} == pytest.approx(wanted, abs=2e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@few
@given(
    parts=st.lists(st.tuples(texts, st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=3),
    bag_weights=st.sampled_from([WEIGHTS, {"frame": 2.0, "video": 0.5}, {"frame": 1.0, "video": 0.0}]),
    exact=st.booleans(),
)
def test_the_score_of_weighted_texts_is_the_mean_of_their_scores(
    searcher: Searcher,
    items: list[tuple[VideoEntry, Bags]],
    parts: list[tuple[str, float]],
    bag_weights: dict[str, float],
    exact: bool,
) -> None:
    hits = searcher.search(parts, k=EVERY, group=False, exact=exact, bag_weights=bag_weights)
    counting = {bag: weight for bag, weight in bag_weights.items() if weight}
    total = sum(weight for _, weight in parts)
    assert_scores(
        hits,
        {
            entry.id: sum(weight * naive_score(tokens_of(text), bags, counting) for text, weight in parts) / total
            for entry, bags in items
        },
    )


@few
@given(words=st.dictionaries(st.sampled_from(["green", "ball", "rolls"]), st.sampled_from([0.0, 0.5, 2.0, 10.0])))
def test_weights_of_words_scale_their_tokens(
    searcher: Searcher, items: list[tuple[VideoEntry, Bags]], words: dict[str, float]
) -> None:
    text = " ".join(f"{word}^{words[word]:g}" if word in words else word for word in ["a", "green", "ball", "rolls"])
    hits = searcher.search(text, k=EVERY, group=False)
    part = tokens_of("a green ball rolls", words)
    assert_scores(hits, {entry.id: naive_score(part, bags, WEIGHTS) for entry, bags in items})
    best = searcher.search(text, k=1)[0]
    explained = searcher.explain(text, best.window or best.id)
    assert sum(explained.scores.values()) == pytest.approx(best.score, abs=1e-5)


@few
@given(weight=st.sampled_from([0.25, 1.0, 4.0]), text=texts, pixel=st.integers(0, 255))
def test_a_picture_counts_beside_the_words(
    searcher: Searcher, items: list[tuple[VideoEntry, Bags]], weight: float, text: str, pixel: int
) -> None:
    picture = np.full((4, 4, 3), pixel, np.uint8)
    hits = searcher.search(Question(text, image=picture, image_weight=weight), k=EVERY, group=False)
    shown = word_vector(f"pixel {pixel}").numpy()[None], np.ones(1)
    words = tokens_of(text)
    assert_scores(
        hits,
        {
            entry.id: (naive_score(words, bags, WEIGHTS) + weight * naive_score(shown, bags, {"frame": 1.0}))
            / (1 + weight)
            for entry, bags in items
        },
    )


def test_a_picture_alone_scores_as_search_image(searcher: Searcher) -> None:
    picture = np.full((4, 4, 3), 7, np.uint8)
    found, wanted = searcher.search(image=picture, k=5), searcher.search_image(picture, k=5)
    assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in wanted]


@few
@given(
    text=texts,
    without=st.lists(st.tuples(texts, st.sampled_from([0.5, 1.0])), min_size=1, max_size=2),
    exact=st.booleans(),
    group=st.booleans(),
    bag_weights=st.sampled_from([WEIGHTS, {"frame": 2.0, "video": 0.5}]),
)
def test_what_must_not_be_shown_is_taken_off(
    searcher: Searcher,
    sharded: ShardedSearcher,
    items: list[tuple[VideoEntry, Bags]],
    text: str,
    without: list[tuple[str, float]],
    exact: bool,
    group: bool,
    bag_weights: dict[str, float],
) -> None:
    options: dict[str, Any] = {"k": EVERY, "exact": exact, "group": group, "bag_weights": bag_weights}
    hits = searcher.search(text, without=without, **options)
    lost = naive_lost([(text, 1.0)], without, items, bag_weights)
    scores = {
        name: max(naive_score(tokens_of(text), bags, bag_weights) - lost[entry.id] for entry, bags in own)
        for name, own in units(items, group=group).items()
    }
    assert_scores(hits, scores)
    answers = [
        sharded.search(text, without=without, **options),
        searcher.search(text, without=without[::-1], **options),
        searcher.search(text, without=[*without, *without], **options),
    ]
    for other in answers:
        assert [(hit.id, hit.score, hit.confidence) for hit in other] == [
            (hit.id, pytest.approx(hit.score, abs=1e-6), pytest.approx(hit.confidence, abs=1e-6)) for hit in hits
        ]
    if len(without) == 1:
        assert len(items) / 2 <= sum(value == 0 for value in lost.values()) < len(items)


def test_what_is_excluded_loses_the_same_whatever_is_filtered(searcher: Searcher, sharded: ShardedSearcher) -> None:
    question = Question("red dog", without=["blue", ("snow", 2)])
    scores = {hit.id: hit.score for hit in searcher.search(question, k=EVERY)}
    for one in (searcher, sharded):
        for some in ({"where": {"name": {"in": ["a", "b"]}}}, {"ids": ["c"]}, {"k": 1}):
            hits = one.search(question, **({"k": EVERY} | some))
            assert {hit.id: hit.score for hit in hits} == {hit.id: pytest.approx(scores[hit.id]) for hit in hits}
            assert hits


def test_nothing_excluded_and_the_question_itself_change_nothing(searcher: Searcher, sharded: ShardedSearcher) -> None:
    plain = [(hit.id, hit.score, hit.confidence) for hit in searcher.search("red dog", k=EVERY)]
    for one in (searcher, sharded):
        for without in ([], ("blue", 0.0)):
            hits = one.search(Question("red dog", without=without), k=EVERY)
            assert [hit.id for hit in hits] == [name for name, _, _ in plain]
            assert [hit.score for hit in hits] == pytest.approx([score for _, score, _ in plain], abs=1e-6)
            assert [hit.confidence for hit in hits] == pytest.approx([sure for _, _, sure in plain], abs=0.01)


def test_confidence_counts_what_is_excluded(searcher: Searcher, items: list[tuple[VideoEntry, Bags]]) -> None:
    text, without = "red dog", [("blue", 1.0)]
    lost = naive_lost([(text, 1.0)], without, items, WEIGHTS)
    scores = [naive_score(tokens_of(text), bags, WEIGHTS) - lost[entry.id] for entry, bags in items]
    usual, perfect = statistics.median(scores), sum(WEIGHTS.values())
    for hit in searcher.search(text, k=EVERY, without=without, group=False):
        assert hit.confidence == pytest.approx(max((hit.score - usual) / (perfect - usual), 0.0), abs=1e-4)


def test_of_videos_that_are_alike_none_loses_anything() -> None:
    """Then no line goes through the scores."""
    query = PreparedQuery(torch.ones(1, 4))
    question = EncodedQuestion(((query, 1.0),), without=((query, 2.0),))
    for sample in (np.full((2, 12), 0.25), np.zeros((2, 0)), np.array([[0.5], [0.9]])):
        known = with_usual_scores(question, sample)
        assert lost_scores(known, sample).tolist() == [0.0] * sample.shape[1]


@few
@given(
    text=st.none() | texts,
    all_of=st.lists(st.tuples(texts, st.sampled_from([0.5, 1.0])), max_size=2),
    then=st.lists(texts, max_size=2),
    without=st.lists(texts, max_size=1),
    exact=st.booleans(),
    group=st.booleans(),
    bag_weights=st.sampled_from([WEIGHTS, {"frame": 2.0, "video": 0.5}]),
)
def test_all_parts_must_be_met_in_one_video_and_steps_in_their_order(
    searcher: Searcher,
    sharded: ShardedSearcher,
    items: list[tuple[VideoEntry, Bags]],
    text: str | None,
    all_of: list[tuple[str, float]],
    then: list[str],
    without: list[str],
    exact: bool,
    group: bool,
    bag_weights: dict[str, float],
) -> None:
    if text is None and not all_of and not then:
        return
    own = [] if text is None else [(text, 1.0)]
    together, steps = (all_of, [*own, *((step, 1.0) for step in then)]) if then else ([*own, *all_of], [])
    total = sum(weight for _, weight in (*together, *steps))
    lost = naive_lost([*together, *steps], [(part, 1.0) for part in without], items, bag_weights)
    scores = {}
    for name, places in units(items, group=group).items():
        found = sum(
            weight * max(naive_score(tokens_of(part), bags, bag_weights) for _, bags in places)
            for part, weight in together
        )
        if steps:
            found += naive_order([tokens_of(step) for step, _ in steps], [1.0] * len(steps), places, bag_weights)
        scores[name] = found / total - max(lost[entry.id] for entry, _ in places)
    if len(together) + len(steps) == 1 and without and group:
        return  # one part alone: each window counts for itself, which the test above holds
    question = Question(text or (), all_of=all_of, then=then, without=without)
    options: dict[str, Any] = {"k": EVERY, "exact": exact, "group": group, "bag_weights": bag_weights}
    hits = searcher.search(question, **options)
    assert_scores(hits, scores)
    for hit in hits:
        assert sum(bag_weights[bag] * score for bag, score in hit.bag_scores.items()) == pytest.approx(
            hit.score + max(lost[entry.id] for entry, _ in units(items, group=group)[hit.id]), abs=2e-5
        )
    assert_scores(sharded.search(question, **options), scores)
    few_hits = searcher.search(question, **(options | {"k": 3}))
    assert [(hit.id, hit.score) for hit in few_hits] == [(hit.id, hit.score) for hit in hits[:3]]


def test_the_moments_of_steps_follow_each_other(searcher: Searcher) -> None:
    hits = searcher.search("red dog", k=EVERY, then=["blue", "snow"])
    for hit in hits:
        if hit.start is None:
            continue
        assert len(hit.moments) == 3
        assert [moment.start for moment in hit.moments] == sorted(moment.start for moment in hit.moments)
        assert (hit.start, hit.end) == (hit.moments[0].start, hit.moments[-1].end)
    assert {hit.id for hit in hits if hit.start is None} == {"timeless"}


def test_a_plain_text_is_searched_as_ever(searcher: Searcher) -> None:
    plain = searcher.search("red dog", k=EVERY)
    assert searcher.search(Question("red dog"), k=EVERY) == plain
    assert searcher.search(("red dog", 3.0), k=EVERY) == plain
    assert searcher.search(r"red dog\^", k=3) == searcher.search(Question(r"red dog\^"), k=3)


def test_search_all_takes_questions_beside_texts(searcher: Searcher, sharded: ShardedSearcher) -> None:
    queries = {
        "plain": "red dog",
        "weights": "red^3 dog",
        "order": Question("red dog", then="blue"),
        "without": Question("red dog", without="blue"),
    }
    for one in (searcher, sharded):
        run = one.search_all(queries, k=4).todict()
        for name, query in queries.items():
            hits = one.search(query, k=4)
            assert [row[0] for row in run[name]] == [hit.id for hit in hits]
            assert [row[2] for row in run[name]] == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_filters_ids_and_groups_hold_for_every_question(searcher: Searcher) -> None:
    for question in (Question("red", without="blue"), Question("red", all_of="blue"), Question("red", then="blue")):
        assert {hit.id for hit in searcher.search(question, k=EVERY, where={"name": {"in": ["a", "b"]}})} == {"a", "b"}
        assert {hit.id for hit in searcher.search(question, k=EVERY, ids=["c", "d"])} == {"c", "d"}
        window = "c#t=5,15"
        (hit,) = searcher.search(question, k=EVERY, ids=[window])
        assert (hit.id, hit.window) == ("c", window)
        assert searcher.search(question, k=EVERY, where={"name": "nobody"}) == []


def test_more_like_is_a_search_by_stored_tokens_without_the_video(
    searcher: Searcher, sharded: ShardedSearcher, items: list[tuple[VideoEntry, Bags]]
) -> None:
    stored = {entry.id: bags for entry, bags in items}
    for name in ("b", "c#t=5,15", "timeless"):
        wanted = {
            entry.id: sum(
                naive_score((stored[name][bag], np.ones(len(stored[name][bag]))), bags, {bag: 1.0}) for bag in bags
            )
            for entry, bags in items
            if entry.video != name.split("#")[0]
        }
        assert_scores(searcher.more_like(name, k=EVERY, group=False), wanted)
        assert_scores(sharded.more_like(name, k=EVERY, group=False), wanted)


def test_more_like_a_moment_takes_the_frames_around_it(
    searcher: Searcher, items: list[tuple[VideoEntry, Bags]]
) -> None:
    entry, own = next((entry, bags) for entry, bags in items if len(entry.frame_times) >= 4 and entry.parent is None)
    for time, frames in ((entry.frame_times[0], [0, 1]), (entry.frame_times[2], [1, 2, 3])):
        wanted = {
            other.id: sum(naive_score((own[bag][frames], np.ones(len(frames))), bags, {bag: 1.0}) for bag in bags)
            for other, bags in items
            if other.id != entry.id
        }
        assert_scores(searcher.more_like(entry.id, k=EVERY, time=time, group=False), wanted)
    moment = (entry.frame_times[1], entry.frame_times[3])
    hit = next(hit for hit in searcher.search("red", k=EVERY) if hit.id == entry.id)
    by_moment = searcher.more_like(entry.id, k=3, time=moment)
    assert by_moment != searcher.more_like(entry.id, k=3)
    assert searcher.more_like(hit, k=3, time=moment) == by_moment
    assert hit.id not in {other.id for other in searcher.more_like(hit, k=EVERY)}


@pytest.mark.parametrize("time", [(3, 1), (1, 2, 3), "soon", float("nan"), (1, 1), -1, (-1, 2)])
def test_a_moment_that_is_none_is_refused(searcher: Searcher, time: Any) -> None:
    with pytest.raises(SettingsError, match="time"):
        inspect.unwrap(Searcher.more_like)(searcher, "b", time=time)


def test_encoded_questions_travel(searcher: Searcher) -> None:
    question = Question(("red dog", 2.0), all_of=[Question("blue", image_weight=2.0)], then="snow", without="hill")
    assert pickle.loads(pickle.dumps(question)) == question
    assert str(question) == "(red dog)^2, all of blue, then snow, without hill"


@pytest.mark.parametrize(
    ("text", "plain", "words"),
    [
        ("a dog^2 on a beach", "a dog on a beach", [("dog", 2.0)]),
        ("dog^.5, cat^0", "dog, cat", [("dog", 0.5), ("cat", 0.0)]),
        ("(a red dog)^3 runs", "a red dog runs", [("a red dog", 3.0)]),
        ("x (a dog^2)^3", "x a dog", [("dog", 2.0), ("a dog", 3.0)]),
        (r"x\^2 dog^2", "x^2 dog", [("dog", 2.0)]),
        ("^_^ smiles", "^_^ smiles", []),
        ("5 ^ 3", "5 ^ 3", []),
        ("(a) dog", "(a) dog", []),
        ("dog)^2", "dog)", [("dog)", 2.0)]),
        ("café^2\nbar", "café\nbar", [("café", 2.0)]),
        ("(狗)^2在沙滩", "狗在沙滩", [("狗", 2.0)]),
    ],
)
def test_carets_give_weights(text: str, plain: str, words: list[tuple[str, float]]) -> None:
    found = WeightedText.parse(text)
    assert found.text == plain
    assert [(plain[word.start : word.end], word.weight) for word in found.words] == words


@pytest.mark.parametrize("text", ["dog^", "dog^two", "dog^-1", "dog^1e3", "dog^2^3", "dog^2cats", "dog^nan", "dog^ 2"])
def test_a_weight_that_is_no_number_is_refused(searcher: Searcher, text: str) -> None:
    with pytest.raises(SettingsError, match=r"weight in .* is not a number.*\\\^"):
        searcher.search(text)
    with pytest.raises(SettingsError, match="query '0': the weight"):
        searcher.search_all([text])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "the question is empty"),
        ({"without": "snow"}, "the question is empty"),
        ({"text": "a", "without": " "}, "empty text"),
        ({"text": ["a", ""]}, "empty text"),
        ({"text": ("a", -1)}, "without="),
        ({"text": ("a", 101)}, "100"),
        ({"text": ("a", float("nan"))}, "finite"),
        ({"text": ("a", True)}, "finite"),
        ({"text": ("a", 0)}, "weight 0"),
        ({"text": "a^0 dog^101"}, "100"),
        ({"text": "a", "all_of": 5}, "all_of"),
        ({"text": "a", "then": [5]}, "then"),
        ({"text": {"a": 2}}, "text"),
        ({"text": "a", "then": Question("b", without="c")}, "outer question"),
        ({"text": "a", "without": [Question("b")]}, "without"),
        ({"text": ["a"] * 33}, "32"),
        ({"all_of": [("a", 0)]}, "weight 0"),
    ],
)
def test_questions_that_say_nothing_or_nonsense_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        inspect.unwrap(Question.__init__)(object.__new__(Question), **arguments)


def test_search_refuses_what_is_no_question(searcher: Searcher) -> None:
    for query in (["a", "b"], 5, {"a": 1}, None, [("a", 1), "b", 3]):
        with pytest.raises(SettingsError, match="search takes one query"):
            inspect.unwrap(Searcher.search)(searcher, query)
    with pytest.raises(SettingsError, match="together with a Question"):
        searcher.search(Question("a"), without="b")
    with pytest.raises(SettingsError, match="occurrences takes one part"):
        searcher.occurrences(Question("a", then="b"), "c")
    with pytest.raises(SettingsError, match="leave the picture out"):
        searcher.explain(Question("a", image=np.zeros((4, 4, 3), np.uint8)), "c")
