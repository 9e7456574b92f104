import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import amount

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.catalog.entries import VideoEntry, check_name, check_relative, video_entry, video_values

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SECONDS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | SECONDS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {
        "id": TEXT.filter(bool),
        "path": st.none() | TEXT,
        "parent": st.none() | TEXT,
        "start": st.none() | SECONDS,
        "end": st.none() | SECONDS,
        "duration": st.none() | SECONDS,
        "frame_times": st.lists(SECONDS, max_size=4).map(tuple),
        "metadata": st.dictionaries(TEXT, JSON, max_size=3),
        "source_size": st.none() | st.integers(0, 2**62),
        "source_mtime_ns": st.none() | st.integers(-(2**62), 2**62),
    }
)


@given(FIELDS)
@settings(max_examples=amount(20, thorough=60), deadline=None)
def test_rows_come_back_as_they_went(fields: dict) -> None:
    entry = VideoEntry(**fields)
    assert video_entry(video_values(entry)) == entry


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_times_that_sqlite_would_drop_are_refused(time: float) -> None:
    for name in ("start", "end", "duration"):
        with pytest.raises(SettingsError, match=r"'v' has the time (nan|inf); times must be finite"):
            VideoEntry("v", **{name: time})
    with pytest.raises(SettingsError, match="times must be finite"):
        VideoEntry("v", frame_times=(0.0, time))


def test_pooled_frames_come_back_as_they_went() -> None:
    entry = VideoEntry("v", frame_times=(0.5, 1.5, 2.5), frame_tokens=(0, 1, 0))
    assert video_entry(video_values(entry)) == entry


@pytest.mark.parametrize("tokens", [(0, 1), (0, 2, 0), (1, 1, 1), (0, -1, 0)])
def test_frames_without_a_token_of_their_own_are_refused(tokens: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match=r"has 3 frames and the frame tokens \("):
        VideoEntry("v", frame_times=(0.5, 1.5, 2.5), frame_tokens=tokens)


def test_bad_ids_are_refused() -> None:
    with pytest.raises(SettingsError, match="a video id is empty"):
        VideoEntry("")
    with pytest.raises(SettingsError, match=r"id .* is not valid Unicode"):
        VideoEntry("caf\udce9.mp4")
    with pytest.raises(SettingsError, match=r"path .* is not valid Unicode"):
        VideoEntry("v", path="caf\udce9.mp4")


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": float("inf")}, {"a": b"x"}, {"a": {None: 1}}])
def test_metadata_that_is_not_json_is_refused(metadata: dict) -> None:
    with pytest.raises(SettingsError, match="metadata of video 'v'"):
        video_values(VideoEntry("v", metadata=metadata))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, ""),
        (0, None),
        (3, "soon"),
        (6, b"1234567"),
        (6, None),
        (7, "{"),
        (7, '{"a": NaN}'),
        (7, "[" * 100_000),
        (6, b"\xff" * 8),
        (6, np.array([1.0, np.nan, 0.5]).tobytes()),
        (6, np.array([1.0, np.nan, 1.0]).tobytes()),
        (6, np.array([1.0, np.nan, np.inf]).tobytes()),
        (6, np.array([1.0, np.nan, 1e15]).tobytes()),  # all numbers up to it take no memory
        (6, np.array([1.0, np.nan, 0.0, 0.0]).tobytes()),
    ],
)
def test_damaged_rows_are_refused(place: int, value: object) -> None:
    row = list(video_values(VideoEntry("v", frame_times=(1.0,))))
    row[place] = value
    with pytest.raises(IndexFolderError, match=r"row of video .* is damaged"):
        video_entry(tuple(row))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "a\\b", "C:", ".hidden", "a\0b", "a b", "-/..", None, "é"]
)
def test_names_that_could_lead_elsewhere_are_refused(name: object) -> None:
    with pytest.raises(SettingsError, match=r"name .* may hold letters"):
        check_name(name)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a/", "C:/a", "C:a", "a\\..\\b", "a\0", 5]
)
def test_paths_that_could_lead_elsewhere_are_refused(path: object) -> None:
    with pytest.raises(SettingsError, match="must be relative to the index folder"):
        check_relative(path)


def test_good_names_and_paths_pass() -> None:
    assert check_name("0af3-b_1.2") == "0af3-b_1.2"
    assert check_relative("segments/0af3/frame/0.codes.pt") == "segments/0af3/frame/0.codes.pt"
