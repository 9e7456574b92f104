"""Searcher: words, pictures, clips or tokens in, moments of video out."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from colbert_video.base.checks import check_flags, id_text, real_number, whole_number
from colbert_video.base.notebook_facts import facts_html
from colbert_video.base.once import Once, PerProcess
from colbert_video.base.threads import default_threads
from colbert_video.base.user_files import user_path
from colbert_video.device import Device
from colbert_video.errors import ClosedError, ColBERTVideoError, SettingsError, shown
from colbert_video.hub import HubRepository
from colbert_video.indexing.index.index_settings import IndexSettings
from colbert_video.indexing.scan.prepared_query import PreparedQuery
from colbert_video.indexing.scan.stock import PlaidSettings
from colbert_video.indexing.upkeep.index_hub import fetched_index
from colbert_video.model.encoder import VideoEncoder
from colbert_video.model.loading import Model
from colbert_video.model.precision import Precision
from colbert_video.model.query_runtime import QueryRuntime
from colbert_video.search.asking.encoded_question import AnyQuery, padding_by_bag
from colbert_video.search.asking.likeness import Time, checked_time
from colbert_video.search.asking.search_settings import SearchSettings
from colbert_video.search.asking.spoken import SearchedText, SpokenQuery, check_lines, check_text, search_both
from colbert_video.search.explain import Explanation, Relevance, explain_similarities
from colbert_video.search.hit import Hit, Moment
from colbert_video.search.hits import Hits
from colbert_video.search.match_levels import UNANSWERABLE, MatchLevels
from colbert_video.search.moments import frame_relevance
from colbert_video.search.opened import OpenIndex
from colbert_video.search.queries import (
    AnyTokens,
    Picture,
    Queries,
    QueryModel,
    check_query,
    check_tokens,
    checked_padding,
    clip_query,
    image_query,
    numbered_queries,
)
from colbert_video.search.question import Question, Texts
from colbert_video.search.ranking import Ranking
from colbert_video.search.view import Searchable
from colbert_video.video.windows import Span

LEVELS_KEPT = 4
"""Match levels that are remembered, each of one commit and some weights of bags."""
AnySearcher = TypeVar("AnySearcher", bound="Searcher")


class Searcher:
    """Searches one index, as of the last commit when it was opened or refreshed; safe to share between threads.

    Other processes may have it too: pickled or copied, it goes as its path and settings, and is opened there; a forked
    process opens the index again when it first searches, as of the commit that is the last by then.

    Videos that are added, removed or replaced meanwhile change nothing for an open searcher: each search sees one commit
    as a whole. An open searcher on a machine that also writes keeps the disk space of what was replaced.

    Args:
        path: The index folder.
        model: Encodes queries; None for the model that the index names, loaded at the first text query.
        device: Where that model runs; a GPU that is named keeps the index too, in its compressed form, and scores on it.
            None for a model on the first GPU, else on the CPU, and an index on disk.
        precision: Precision in which the model computes; None for "auto", and for that of an encoder in memory.
        compile: True to compile the model with `torch.compile`: its first query takes a minute or more, for services.
        query_runtime: "onnx" or "openvino" to run the text tower by ONNX Runtime or OpenVINO, which is faster on CPUs
            and takes up to half a minute when the model is loaded; None for torch.
        engine: "native" looks at every video. "colbert" passes each query to stock colbert-ai's IndexScorer: the
            reference for scores, read in full when the index is opened. On CPUs it counts negative best matches as
            zero; it scores on a GPU if `device` names one. Its C++ is compiled at the first use on a machine.
        plaid: How stock ColBERT looks for candidates; only for engine="colbert".
        auto_refresh: True to look for a new commit before every search, which takes a fraction of a millisecond.
        preload: True to ask the system to read the index's files into its page cache before the first search, and those of
            new commits before they are searched; otherwise first searches read them from the disk in small pieces. Does
            nothing on a GPU that keeps the index, and on systems without `posix_fadvise`.
        threads: Cores that searches use: `search_all` answers a query on each, and one query over very many videos is cut
            over them. Results are the same to the bit. None for every core that this process may use, `OMP_NUM_THREADS` at
            most; 1 where the caller searches in several threads.
        bag_weights: How much each bag counts in a score, where a search says nothing else; None for what the index says.

    Raises:
        IndexFolderError: If there is no finished index, or it is damaged.
        DependencyError: If engine="colbert" and colbert-ai or a C++ compiler is missing, or `compile` or `query_runtime`
            needs what is not installed.
        SettingsError: If there is no such engine, `plaid` is given for another engine, or `bag_weights` is not valid.
    """

    _closed = False
    _threads = 1
    _bag_weights: Mapping[str, float] | None = None

    def __init__(
        self,
        path: str | Path,
        *,
        model: Model | None = None,
        device: Device | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        query_runtime: QueryRuntime | None = None,
        engine: Literal["native", "colbert"] = "native",
        plaid: PlaidSettings | None = None,
        auto_refresh: bool = False,
        preload: bool = False,
        threads: int | None = None,
        bag_weights: Mapping[str, float] | None = None,
    ) -> None:
        check_flags(preload=preload)
        self._set_defaults(threads, bag_weights)
        self.path = user_path(path, "the index")
        self._settings: dict[str, Any] = {
            "device": device,
            "engine": engine,
            "plaid": plaid,
            "auto_refresh": auto_refresh,
        }
        self._preload = False
        self._model = QueryModel(
            self.path, model, device, precision=precision, compile=compile, query_runtime=query_runtime
        )
        self._opened = PerProcess(self._open)
        self._check_defaults()
        if preload:
            self.preload()

    def _set_defaults(self, threads: Any, bag_weights: Any) -> None:
        self._threads = default_threads() if threads is None else whole_number("threads", threads, least=1)
        self._bag_weights = bag_weights
        self._defaults = {"threads": threads, "bag_weights": bag_weights}
        self._levels: Once[MatchLevels | None] = Once(LEVELS_KEPT)

    def _check_defaults(self) -> None:
        """Check that the index has the bags that `bag_weights` names; a searcher whose index has not is closed."""
        try:
            with self._view() as view:
                view.settings.weights(self._bag_weights)
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_hub(
        cls: type[AnySearcher],
        repository: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        endpoint: str | None = None,
        **settings: Any,
    ) -> AnySearcher:
        """Fetch an index from a dataset repository of the Hugging Face Hub, check every file of it, and open it.

        Args:
            repository: "user/name".
            revision: Branch, tag or commit; None for the main branch.
            token: Access token; None for that of `hf auth login` or HF_TOKEN.
            cache_dir: Where downloads and indexes are kept; None for huggingface_hub's cache.
            endpoint: Address of another Hub than huggingface.co.
            **settings: Arguments of the class.

        Raises:
            HubError: If there is no such repository, it may not be read, it holds no index, or the Hub cannot be reached.
            IndexFolderError: If the index is damaged.
        """
        where = HubRepository(repository, "dataset", revision, token, endpoint)
        folder = None if cache_dir is None else user_path(cache_dir, "cache_dir")
        return cls(fetched_index(where, cache_dir=folder), **settings)

    def search(
        self,
        query: "str | Question | Texts | None" = None,
        k: int = 10,
        *,
        image: Picture | None = None,
        without: Texts | None = None,
        all_of: "Texts | Question | Iterable[Texts | Question] | None" = None,
        then: "Texts | Question | Iterable[Texts | Question] | None" = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
        bag_weights: Mapping[str, float] | None = None,
        min_confidence: float | None = None,
        text: SearchedText = "picture",
        speech_weight: float = 1.0,
    ) -> Hits:
        r"""Find the videos that a text describes, or that answer a question of several parts.

        How each kind of question is scored is in docs/questions.md.

        Args:
            query: Words, of which some may have weights, "a dog^2 on a beach"; or several texts with weights,
                [("a dog", 2), ("a beach", 1)]; or a question. A caret that is text is written "\\^".
            k: Most hits to return; fewer only if fewer videos are eligible.
            image: A picture of what is shown too, as `search_image` takes it.
            without: What must not be shown: a text or several. A video loses by what it fits them better than usual videos.
            all_of: What must be shown in the same video too, at any time: a text or several.
            then: What must be shown after it in the same video: a text, or several in their order.
            where: Search only videos that pass this filter on their metadata, such as {"channel": "news", "duration":
                {">": 60}}; see `colbert_video.indexing.catalog.filters`. Of a video that was cut, each window passes or not.
            ids: Search only these videos or windows; one id alone may stand without a list.
            exact: True to score every eligible video on its decoded tokens, instead of the best few hundred.
            group: True to return one hit per video, scored by its best window; False for one hit per window.
            bag_weights: How much the MeanMaxSim of each bag counts in a score, {"frame": 1.0, "video": 0.5} for example:
                λ_F and λ_V of the paper's section 4.3. A bag of weight 0 is not looked at; one that is not named keeps
                the searcher's weight, or else the index's.
            min_confidence: Leave out hits whose `Hit.confidence` is lower, from 0 to 1, so that a query which nothing answers
                may return nothing. In an index of fewer than 10 videos, where no confidence is known, none is left out.
            text: What is searched: "picture"; "speech", the lines of text beside it, such as subtitles, for which no model
                is needed; or "both", whose ranks are fused. A hit by a line has it as `Hit.line`, and is its moment.
            speech_weight: How much the rank by lines counts for "both", where that by picture counts 1.

        Returns:
            Hits, best first: a list, with `to_pandas`.

        Raises:
            SettingsError: If the query is not a text or question or empty, k is no whole number of at least 1, the filter
                is not valid, an id is not in the index, `exact` or a question with `without`, `all_of` or `then` is asked of
                engine="colbert", `bag_weights` names another bag, is negative or gives 0 to all, or `min_confidence` is no
                number from 0 to 1, or is given where lines are searched; or if lines are searched and there are none.
        """
        more = {"image": image, "without": without, "all_of": all_of, "then": then}
        if query is not None or all(value is None for value in more.values()):
            check_query(query, "search")
        question = Question.from_query(query, **more)
        wanted = SearchSettings(k, where, ids, exact, group, threads=self._threads, min_confidence=min_confidence)
        spoken = None
        if check_text(text) != "picture":
            spoken = SpokenQuery.from_query(question, text, speech_weight, min_confidence)
        with self._view() as view:
            wanted = self._weighted(wanted, view.settings, bag_weights)
            if spoken is not None:
                check_lines(view)
                if text == "speech":
                    return view.spoken(spoken.expression, wanted)
                return search_both(view, self._model.ask(question, view.settings, wanted.weights or {}), spoken, wanted)
            return view.hits(self._model.ask(question, view.settings, wanted.weights or {}), wanted)

    def more_like(
        self,
        video: str | Hit,
        k: int = 10,
        *,
        time: Time | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
        bag_weights: Mapping[str, float] | None = None,
        min_confidence: float | None = None,
    ) -> Hits:
        """Find videos that look like one of the index, or like a moment of it; that video itself is left out.

        Its stored tokens are the query, those of each bag for that bag; no model is needed. Of a long video, 256 tokens of
        a bag are taken at even steps.

        Args:
            video: The id of a video or window, or a hit, which stands for its best moment.
            k: Most hits to return.
            time: A time in seconds, for the frame next to it and its two neighbours, or a moment (start, end).
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: True to score every eligible video on its decoded tokens.
            group: True for one hit per video, False for one per window.
            bag_weights: How much the MeanMaxSim of each bag counts; see `search`.
            min_confidence: Leave out hits whose confidence is lower.

        Raises:
            SettingsError: As `search`, or if the video is not in the index, or `time` is not valid.
        """
        if isinstance(video, Hit):
            moment = None if video.start is None or video.end is None else (video.start, video.end)
            video, time = video.window or video.id, moment if time is None else time
        name, at = id_text(video, "video"), checked_time(time)
        wanted = SearchSettings(k, where, ids, exact, group, threads=self._threads, min_confidence=min_confidence)
        with self._view() as view:
            wanted = self._weighted(wanted, view.settings, bag_weights)
            whole, tokens = view.likeness(name, wanted.weights or {}, at)
            query = {bag: PreparedQuery(torch.from_numpy(own)) for bag, own in tokens.items()}
            return view.hits(query, replace(wanted, excluded=whole))

    def occurrences(
        self, query: "str | Question | Texts", video_id: str, *, bag_weights: Mapping[str, float] | None = None
    ) -> list[Moment]:
        """Find every part of one video where a query is met.

        These are the parts in which its frames answer the query by more than two fifths of the way from the video's usual to
        its best. A video that shows it nowhere has a best part too: look at the scores.

        Args:
            query: Words, texts with weights, or a question of words and a picture alone.
            video_id: The video; its window is looked into alone.
            bag_weights: How much the MeanMaxSim of each bag counts; see `search`.

        Returns:
            Parts [start, end) in seconds with their scores, MeanMaxSim over their frames, in the order of time; none overlaps
            another.

        Raises:
            SettingsError: If the query is not valid, the video is not in the index, or the index knows no times of it.
        """
        question = self._single(query, "occurrences")
        name = id_text(video_id, "video_id")
        with self._view() as view:
            weights = view.settings.weights(self._bag_weights, bag_weights)
            encoded = self._model.ask(question, view.settings, weights)
            return view.occurrences(name, encoded, weights)  # type: ignore[arg-type]

    def _single(self, query: Any, method: str) -> str | Question:
        """Return a question that asks for words and a picture alone.

        Raises:
            SettingsError: If it asks for more.
        """
        check_query(query, method)
        question = Question.from_query(query)
        if isinstance(question, Question) and not question.is_single:
            raise SettingsError(
                f"{method} takes one part: leave out without, all_of and then, or ask for each by itself."
            )
        return question

    def _words(self, query: Any, method: str) -> str | Question:
        """Return a question that asks for words alone.

        Raises:
            SettingsError: If it asks for more.
        """
        question = self._single(query, method)
        if isinstance(question, Question) and question.image is not None:
            raise SettingsError(f"{method} shows what words found: give texts, and leave the picture out.")
        return question

    def search_image(
        self,
        image: Picture,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
        bag_weights: Mapping[str, float] | None = None,
        min_confidence: float | None = None,
    ) -> Hits:
        """Find the videos that show what a picture shows.

        The picture's frame token is compared with the frame bag alone, or with the video bag where the frame bag does not
        count, so hits have one score; a video that holds the very picture scores about 1, times that bag's weight.

        Args:
            image: An image file, its content as bytes, an open file, a PIL image, or RGB pixels: an array or tensor,
                (height, width, 3) or (3, height, width), uint8 or floats from 0 to 1.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: True to score every eligible video on its decoded tokens.
            group: True for one hit per video, False for one per window.
            bag_weights: How much the MeanMaxSim of each bag counts, as {"frame": 1.0, "video": 0.5}; see `search`.
            min_confidence: Leave out hits whose `Hit.confidence` is lower, from 0 to 1; see `search`.

        Raises:
            SettingsError: As `search`, or if it is not an image, or no bag that counts has tokens of frames.
        """
        wanted = SearchSettings(k, where, ids, exact, group, threads=self._threads, min_confidence=min_confidence)
        with self._view() as view:
            wanted = self._weighted(wanted, view.settings, bag_weights)
            query = image_query(self._model.load(view.settings), image, view.settings, wanted.weights or {})
            return view.hits(query, wanted)

    def search_video(
        self,
        path: str | Path,
        k: int = 10,
        *,
        window: Span | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
        bag_weights: Mapping[str, float] | None = None,
        min_confidence: float | None = None,
    ) -> Hits:
        """Find the videos that show what a clip shows.

        Its frame tokens are compared with the frame bag, its frames in context with the video bag where there is one. It
        is decoded in a process of its own.

        Args:
            path: The clip; it need not be in the index.
            k: Most hits to return.
            window: Look only for this part of the clip, [start, end) in seconds.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: True to score every eligible video on its decoded tokens.
            group: True for one hit per video, False for one per window.
            bag_weights: How much the MeanMaxSim of each bag counts, as {"frame": 1.0, "video": 0.5}; see `search`.
            min_confidence: Leave out hits whose `Hit.confidence` is lower, from 0 to 1; see `search`.

        Raises:
            SettingsError: As `search`, or if no bag that counts has tokens of frames.
            VideoError: If the clip cannot be read.
        """
        wanted = SearchSettings(k, where, ids, exact, group, threads=self._threads, min_confidence=min_confidence)
        with self._view() as view:
            wanted = self._weighted(wanted, view.settings, bag_weights)
            model = self._model.load(view.settings)
            query = clip_query(model, path, view.settings, wanted.weights or {}, window=window)
            return view.hits(query, wanted)

    def search_tokens(
        self,
        query_tokens: AnyTokens,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        group: bool = True,
        bag_weights: Mapping[str, float] | None = None,
        min_confidence: float | None = None,
        padding: Sequence[bool] = (),
    ) -> Hits:
        """Find videos by query tokens of any encoder; no model is needed.

        Args:
            query_tokens: The scored tokens of one query (query_tokens, dim), usually unit vectors. A token of length w
                counts w times: MeanMaxSim is the sum over tokens of the best inner product, divided by their number.
            k: Most hits to return.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: True to score every eligible video on its decoded tokens.
            group: True for one hit per video, False for one per window.
            bag_weights: How much the MeanMaxSim of each bag counts, as {"frame": 1.0, "video": 0.5}; see `search`.
            min_confidence: Leave out hits whose `Hit.confidence` is lower, from 0 to 1; see `search`.
            padding: True for tokens that only fill up a short text: all are scored, but of a moment, all words together
                decide at least as much as all padding. Empty if that is not known.

        Raises:
            SettingsError: If the tokens do not fit the index, else as `search`.
        """
        wanted = SearchSettings(k, where, ids, exact, group, threads=self._threads, min_confidence=min_confidence)
        with self._view() as view:
            wanted = self._weighted(wanted, view.settings, bag_weights)
            tokens = check_tokens(query_tokens, view.settings.dim, "query tokens")
            return view.hits(PreparedQuery(tokens, checked_padding(padding, len(tokens))), wanted)

    def search_all(
        self,
        queries: Queries,
        k: int = 100,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        exact: bool = False,
        bag_weights: Mapping[str, float] | None = None,
    ) -> Ranking:
        """Search many queries, as ColBERT's `search_all` does; videos that were cut into windows rank once.

        Texts are encoded in batches; then each core of `threads` answers one query after the other.

        Args:
            queries: Texts or questions, as `search` takes them, or the tokens of each query (query_tokens, dim), as
                `search_tokens` takes them, by query id; or a list of these, whose ids are then "0", "1" and so on.
            k: Most videos for each query.
            where: Search only videos that pass this filter.
            ids: Search only these videos or windows.
            exact: True to score every eligible video on its decoded tokens.
            bag_weights: How much the MeanMaxSim of each bag counts, as {"frame": 1.0, "video": 0.5}; see `search`.

        Returns:
            A ranking that can be saved as ColBERT's rows or as a TREC run.

        Raises:
            SettingsError: If there is no query, one is neither a text nor tokens that fit the index, or some are texts and
                others tokens, else as `search`.
        """
        named = numbered_queries(queries)
        wanted = SearchSettings(k, where, ids, exact, threads=self._threads)
        with self._view() as view:
            wanted = self._weighted(wanted, view.settings, bag_weights)
            return view.ranking(self._encoded(named, view.settings, wanted.weights or {}), wanted)

    def _encoded(
        self, queries: Mapping[str, Any], settings: IndexSettings, weights: Mapping[str, float]
    ) -> dict[str, Float[Tensor, "_ dim"] | AnyQuery]:
        """Return texts encoded in batches and questions, or the tokens that the caller has made, checked."""
        if any(isinstance(query, str | Question) for query in queries.values()):
            return self._asked(queries, settings, weights)
        return {
            name: check_tokens(query, settings.dim, f"the tokens of query {shown(name)}")
            for name, query in queries.items()
        }

    def _asked(
        self, queries: Mapping[str, str | Question], settings: IndexSettings, weights: Mapping[str, float]
    ) -> dict[str, Float[Tensor, "_ dim"] | AnyQuery]:
        """Return texts, encoded in batches, and questions, each by itself."""
        questions = {name: _question_of(name, query) for name, query in queries.items()}
        texts = {name: query for name, query in questions.items() if isinstance(query, str)}
        tokens = dict(zip(texts, self._model.encode(list(texts.values()), settings) if texts else (), strict=True))
        return {
            name: tokens[name] if name in tokens else self._model.ask(query, settings, weights)
            for name, query in questions.items()
        }

    def explain(
        self,
        query: "str | Question | Texts",
        video_id: str,
        *,
        time: float | None = None,
        bag_weights: Mapping[str, float] | None = None,
    ) -> Explanation:
        """Show which frame answers each query token, and how well, in each bag that counts.

        Args:
            query: Words, some of which may have weights, or several texts with weights.
            video_id: The video or window to look into, such as `Hit.window`; of a video that was cut, the best window is
                explained.
            time: Of a video that was cut, explain the best of the windows that hold this time, in seconds; if none
                does, of those next to it.
            bag_weights: How much each bag counts, as for `search`; one of weight 0 is left out.

        Raises:
            SettingsError: If the query is not a text or empty, the video is not in the index, `time` is no number, or
                `bag_weights` is not valid.
        """
        question = self._words(query, "explain")
        video_id = id_text(video_id, "video_id")
        time = None if time is None else real_number("time", time)
        with self._view() as view:
            weights = view.settings.weights(self._bag_weights, bag_weights)
            asked = self._model.ask(question, view.settings, weights)
            labels = [label for text in _words_of(question) for label in self._model.token_texts(text, view.settings)]
            item, similarities = view.similarities(video_id, asked, weights, time)  # type: ignore[arg-type]
        lengths = None if isinstance(question, str) else asked.lengths  # type: ignore[union-attr]
        return explain_similarities(item, labels, similarities, weights, lengths)

    def relevance(
        self, query: "str | Question | Texts", items: Sequence[str], *, bag_weights: Mapping[str, float] | None = None
    ) -> Relevance:
        """Show how well each sampled frame of a video answers a query, for a curve over its length.

        Args:
            query: Words.
            items: The video's id; of a video that was cut, the ids of the windows to look into.
            bag_weights: How much each bag counts, as for `search`.

        Returns:
            Times and values of all frames; none if no bag that counts has tokens of frames.

        Raises:
            SettingsError: As `explain`.
        """
        question = self._single(query, "relevance")
        points: list[tuple[float, float]] = []
        with self._view() as view:
            weights = view.settings.weights(self._bag_weights, bag_weights)
            asked: Any = self._model.ask(question, view.settings, weights)
            for identity in items:
                item, similarities = view.similarities(id_text(identity, "items"), asked, weights)
                found = frame_relevance(similarities, len(item.frame_times), weights, padding_by_bag(asked))
                points += [] if found is None else zip(item.frame_times, found.tolist(), strict=True)
        points.sort()
        return Relevance(tuple(time for time, _ in points), tuple(value for _, value in points))

    def match_levels(self, *, bag_weights: Mapping[str, float] | None = None) -> MatchLevels | None:
        """Return from which `Hit.confidence` on a text's hit is a fair match, and a strong one, in this index by its model.

        A hit is weak if its confidence is no higher than the best that 16 lists of words without meaning find here, and
        strong if it is 1.15 times as high. The lists are encoded once, and searched once for each commit and set of weights:
        16 searches. For pictures and clips see `PICTURE_LEVELS`.

        Args:
            bag_weights: How much each bag counts, as for the search.

        Returns:
            The levels, whose `label` is "strong", "fair" or "weak"; None where hits have no confidence.

        Raises:
            SettingsError: If the index names no model and none was given, or `bag_weights` is not valid.
        """
        with self._view() as view:
            weights = view.settings.weights(self._bag_weights, bag_weights)
            key = view.version, tuple(sorted(weights.items()))
            return self._levels.get(key, lambda: self._measured_levels(view, weights))

    def _measured_levels(self, view: Searchable, weights: Mapping[str, float]) -> MatchLevels | None:
        wanted = SearchSettings(1, weights=weights, threads=self._threads)
        tokens = self._model.encode_once(UNANSWERABLE, view.settings)
        best = [hit.confidence for query in tokens for hit in view.hits(PreparedQuery(query), wanted)]
        known = [confidence for confidence in best if confidence is not None]
        return MatchLevels.from_unanswerable(known) if known else None

    def _weighted(self, wanted: SearchSettings, settings: IndexSettings, bag_weights: Any) -> SearchSettings:
        """Return what is wanted with the weights of bags: the given ones, else this searcher's, else the index's."""
        return replace(wanted, weights=settings.weights(self._bag_weights, bag_weights))

    @property
    def model(self) -> VideoEncoder:
        """The model that encodes queries.

        Raises:
            IndexFolderError: If it did not make this index.
            SettingsError: If the index names no model and none was given.
        """
        with self._view() as view:
            return self._model.load(view.settings)

    def use_model(self, model: VideoEncoder) -> None:
        """Encode queries with a model that is in memory already."""
        self._model.use(model)
        self._levels.clear()

    def refresh(self) -> bool:
        """See what was committed since the searcher was opened or refreshed.

        Returns:
            True if there was anything new.

        Raises:
            IndexFolderError: If the index can no longer be opened; then the older state stays searchable.
            ClosedError: If the searcher is closed.
        """
        self._check_open()
        return self._index.refresh()

    def preload(self) -> None:
        """Ask the system to read the index's files into its page cache, and from now on those of each new commit.

        See `IndexReader.preload`. On a GPU that keeps the index there is nothing to do.
        """
        self._check_open()
        self._preload = True
        self._index.preload()

    def close(self) -> None:
        """Close the index's files, once searches that run have ended; a second call does nothing."""
        self._closed = True
        if not self._opened.inherited:  # a forked process leaves those of the other to it
            self._index.close()

    @property
    def _index(self) -> OpenIndex:
        return self._opened.value

    def _open(self) -> OpenIndex:
        opened = OpenIndex(self.path, **self._settings)
        if self._preload:
            opened.preload()
        return opened

    def __reduce__(self) -> tuple[Any, ...]:
        """Send path and settings to other processes and copies, which open the index for themselves.

        A model in memory goes along; one that was loaded by its name is loaded again there.
        """
        settings = {**self._settings, **self._model.settings, **self._defaults, "preload": self._preload}
        return _opened_again, (type(self), self.path, settings)

    def _view(self) -> AbstractContextManager[Searchable]:
        """Lend one state of what is searched, for all of a search.

        Raises:
            ClosedError: If the searcher is closed.
        """
        self._check_open()
        return self._index.view()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"this {type(self).__name__} is closed: open a new one.")

    def __repr__(self) -> str:
        """Return class, path, and what can be searched; or why nothing can."""
        return f"<{type(self).__name__} of {self.path}: {', '.join(self._facts().values())}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show: the same as a table."""
        return facts_html(type(self).__name__, {"index": self.path, **self._facts()})

    def _facts(self) -> dict[str, str]:
        try:
            with self._view() as view:
                settings, videos = view.settings, len(self)
        except ColBERTVideoError as error:
            return {"state": "closed" if isinstance(error, ClosedError) else str(error)}
        bags = " and ".join(settings.bags)
        return {
            "holds": f"{videos:,} video{'' if videos == 1 else 's'}",
            "model": settings.model or "no model",
            "tokens": f"{bags} bag{'s' if len(settings.bags) > 1 else ''} of {settings.dim} dimensions",
        }

    def __enter__(self: AnySearcher) -> AnySearcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Videos that can be found."""
        self._check_open()
        return len(self._index)


def _words_of(question: str | Question) -> list[str]:
    """Return the texts whose tokens are the query, in their order."""
    return [question] if isinstance(question, str) else [text.text for text, weight in question.texts if weight]


def _question_of(name: str, query: str | Question) -> str | Question:
    """Return one of several queries; an error names which."""
    try:
        return Question.from_query(query)
    except SettingsError as error:
        raise SettingsError(f"query {shown(name)}: {error}") from error


def _opened_again(kind: type[Searcher], path: Path, settings: dict[str, Any]) -> Searcher:
    return kind(path, **settings)
