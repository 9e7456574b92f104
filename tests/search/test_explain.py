import numpy as np
import pytest

from colbert_video.errors import SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry
from colbert_video.search.explain import explain_similarities

ENTRY = VideoEntry(id="clip", frame_times=(0.5, 1.5), end=2.0)
FRAME = np.array([[0.1, 0.9], [0.4, 0.2]])
VIDEO = np.array([[0.3, 0.2, 0.1], [0.0, 0.1, 0.8]])  # the last column is an expansion token


def test_each_query_token_names_its_best_frame() -> None:
    explanation = explain_similarities(ENTRY, ["red", "star"], {"frame": FRAME, "video": VIDEO})
    red, star = explanation.tokens
    assert (red.token, red.matches["frame"].frame, red.matches["frame"].time) == ("red", 1, 1.5)
    assert red.matches["frame"].score == pytest.approx(0.9)
    assert (star.matches["video"].frame, star.matches["video"].time) == (None, None)
    assert star.matches["video"].score == pytest.approx(0.8)
    assert explanation.scores == pytest.approx({"frame": (0.9 + 0.4) / 2, "video": (0.3 + 0.8) / 2})
    assert np.allclose(explanation.similarities["frame"], FRAME)


def test_labels_must_match_the_query_tokens() -> None:
    with pytest.raises(SettingsError, match="1 labels for 2 query tokens of the frame bag"):
        explain_similarities(ENTRY, ["red"], {"frame": FRAME})


def test_the_explanation_is_json() -> None:
    import json

    explanation = explain_similarities(ENTRY, ["red", "star"], {"frame": FRAME, "video": VIDEO})
    assert json.loads(json.dumps(explanation.to_dict()))["tokens"][1]["matches"]["video"]["time"] is None
