"""Words, pictures or clips in, moments of video out.

`searcher` encodes a query, `view` asks the scan of every segment, `moments` finds the best frames, `hits` and `ranking`
are the results. This room uses the model and `indexing`; the service, training's evaluation and the command line use it.
"""

from typing import TYPE_CHECKING

from colbert_video.base.lazy import lazy_names

if TYPE_CHECKING:
    from colbert_video.search.explain import Explanation as Explanation
    from colbert_video.search.explain import TokenExplanation as TokenExplanation
    from colbert_video.search.explain import TokenMatch as TokenMatch
    from colbert_video.search.hit import Hit as Hit
    from colbert_video.search.hit import Moment as Moment
    from colbert_video.search.hits import Hits as Hits
    from colbert_video.search.match_levels import MatchLevels as MatchLevels
    from colbert_video.search.question import Question as Question
    from colbert_video.search.ranking import Ranking as Ranking
    from colbert_video.search.searcher import Searcher as Searcher
    from colbert_video.search.sharded.sharded_searcher import ShardedSearcher as ShardedSearcher
    from colbert_video.search.trec import read_qrels as read_qrels
    from colbert_video.search.trec import read_run as read_run
    from colbert_video.search.trec import write_qrels as write_qrels
    from colbert_video.video.subtitles.timed_line import TimedLine as TimedLine

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "colbert_video.search.explain": ["Explanation", "TokenExplanation", "TokenMatch"],
        "colbert_video.search.hit": ["Hit", "Moment"],
        "colbert_video.search.hits": ["Hits"],
        "colbert_video.search.match_levels": ["MatchLevels"],
        "colbert_video.search.question": ["Question"],
        "colbert_video.search.ranking": ["Ranking"],
        "colbert_video.search.searcher": ["Searcher"],
        "colbert_video.search.sharded.sharded_searcher": ["ShardedSearcher"],
        "colbert_video.search.trec": ["read_qrels", "read_run", "write_qrels"],
        "colbert_video.video.subtitles.timed_line": ["TimedLine"],
    },
)
