from pathlib import Path

import numpy as np
import pytest
import torch
from token_corpus import DIM, random_bags, unit_tokens

from colbert_video.errors import SettingsError
from colbert_video.indexing.build import arrays
from colbert_video.indexing.build.arrays import ArraySource
from colbert_video.model.tokens import float_tokens


def test_lists_and_arrays_give_the_same_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "VIDEOS_PER_CHUNK", 3)
    stacked = unit_tokens(7, 4, DIM, seed=0)
    ids = [f"v{number}" for number in range(7)]
    sources = [
        ArraySource(ids, {"frame": tokens}, dim=DIM)
        for tokens in (stacked, stacked.numpy(), list(stacked), list(stacked.numpy()))
    ]
    for source in sources:
        assert source.counts() == {"frame": 28}
        chunks = list(source)
        assert [len(chunk.entries) for chunk in chunks] == [3, 3, 1]
        assert torch.equal(torch.cat([chunk.tokens["frame"] for chunk in chunks]), stacked.reshape(-1, DIM))
        assert chunks[0].doclens["frame"].tolist() == [4, 4, 4]


class Dataset:
    """What h5py and zarr give: a shape and slices, here with a count of what is read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.read = values, values.shape, []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, videos: slice) -> np.ndarray:
        self.read.append((videos.start, videos.stop))
        return self.values[videos]


def test_a_dataset_is_read_once_and_by_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "VIDEOS_PER_CHUNK", 3)
    dataset = Dataset(unit_tokens(7, 4, DIM, seed=0).numpy())
    source = ArraySource([str(number) for number in range(7)], {"frame": dataset}, dim=DIM)
    assert source.counts() == {"frame": 28}
    tokens = torch.cat([chunk.tokens["frame"] for chunk in source])
    assert torch.equal(tokens, torch.from_numpy(dataset.values).flatten(0, 1))
    assert dataset.read == [(0, 3), (3, 6), (6, 7)]


@pytest.mark.parametrize("form", ["block", "list"])
def test_chunks_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(arrays, "BYTES_PER_CHUNK", 4 * DIM * 10)  # ten tokens
    frame, video = unit_tokens(7, 3, DIM, seed=0), unit_tokens(7, 4, DIM, seed=1)
    bags = {"frame": frame, "video": video}
    if form == "list":
        bags = {bag: list(tokens) for bag, tokens in bags.items()}
    chunks = list(ArraySource([str(number) for number in range(7)], bags, dim=DIM))
    assert [len(chunk.entries) for chunk in chunks] == [2, 2, 2, 1]  # three videos would be 12 video tokens
    assert torch.equal(torch.cat([chunk.tokens["video"] for chunk in chunks]), video.flatten(0, 1))


def test_a_video_larger_than_a_chunk_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BYTES_PER_CHUNK", 4 * DIM * 2)
    source = ArraySource(["a", "b"], {"frame": [unit_tokens(9, DIM, seed=0), unit_tokens(1, DIM, seed=1)]}, dim=DIM)
    assert [chunk.doclens["frame"].tolist() for chunk in source] == [[9], [1]]


def test_metadata_travels_with_its_video() -> None:
    source = ArraySource(["a", "b"], {"frame": random_bags(2, seed=1)}, dim=DIM, metadata=[{"x": 1}, {"x": 2}])
    assert [(entry.id, entry.metadata) for chunk in source for entry in chunk.entries] == [
        ("a", {"x": 1}),
        ("b", {"x": 2}),
    ]


@pytest.mark.parametrize(
    ("ids", "count", "metadata", "message"),
    [
        ([], 0, None, "no ids were given"),
        (["a", "a"], 2, None, "id 'a' is given twice"),
        (["a", "b"], 3, None, "2 ids but 3 frame tokens"),
        (["a", "b"], 2, [{}], "2 ids but 1 metadata"),
    ],
)
def test_lengths_must_agree(ids: list[str], count: int, metadata: list[dict] | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ArraySource(ids, {"frame": random_bags(count, seed=1)}, dim=DIM, metadata=metadata)


def _broken(kind: str) -> torch.Tensor:
    good = unit_tokens(3, DIM, seed=0)
    return {
        "long": good * 2,
        "nan": torch.where(torch.arange(3)[:, None] == 1, torch.nan, good),
        "empty": good[:0],
        "narrow": unit_tokens(3, 32, seed=0),
        "flat": good[0],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("long", r"frame tokens of video 'b' are not unit vectors \(a length is 2\)"),
        ("nan", "not unit vectors"),
        ("empty", r"shape \(0, 64\); \(tokens, 64\) with a token is needed"),
        ("narrow", r"shape \(3, 32\)"),
        ("flat", r"shape \(64,\)"),
    ],
)
def test_unusable_tokens_are_refused_by_name(kind: str, message: str) -> None:
    source = ArraySource(["a", "b"], {"frame": [unit_tokens(2, DIM, seed=1), _broken(kind)]}, dim=DIM)
    with pytest.raises(SettingsError, match=message):
        list(source)


def test_tokens_belong_to_ids_by_their_order() -> None:
    with pytest.raises(SettingsError, match="ids is a set, which has no order; give a list"):
        ArraySource({"a", "b"}, {"frame": random_bags(2, seed=1)}, dim=DIM)


def test_tokens_without_a_form_that_can_be_read() -> None:
    with pytest.raises(SettingsError, match="frame tokens are a sparse tensor; give"):
        ArraySource(["a", "b"], {"frame": unit_tokens(2, 3, DIM, seed=1).to_sparse()}, dim=DIM)
    for empty in (torch.zeros(2, 0, DIM), [torch.zeros(0, DIM)] * 2):
        with pytest.raises(SettingsError, match="frame tokens are empty; each video needs a token at least"):
            ArraySource(["a", "b"], {"frame": empty}, dim=DIM).counts()


def test_memory_maps_are_read_without_a_copy_of_the_whole(tmp_path: Path) -> None:
    path = f"{tmp_path}/tokens.npy"
    np.save(path, unit_tokens(5, 2, DIM, seed=3).numpy())
    mapped = np.load(path, mmap_mode="r")
    source = ArraySource([str(number) for number in range(5)], {"frame": mapped}, dim=DIM)
    assert sum(len(chunk.entries) for chunk in source) == 5


def test_a_repeated_id_among_many_is_found_in_one_pass() -> None:
    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Counted(number) for number in (*range(5000), 0)]
    with pytest.raises(SettingsError, match="id '0' is given twice"):
        ArraySource(names, {"frame": []}, dim=DIM)
    assert Counted.compared < 20 * len(names)  # pairs of names would be 12 million


def test_metadata_are_checked_before_the_work_by_name() -> None:
    bags = {"frame": random_bags(2, seed=1)}
    with pytest.raises(SettingsError, match="the metadata of video 'b' holds b'x' under 'k'"):
        ArraySource(["a", "b"], bags, dim=DIM, metadata=[{}, {"k": b"x"}])
    source = ArraySource([1, 2], bags, dim=DIM, metadata=({"n": np.int64(n)} for n in range(2)))
    assert [(entry.id, entry.metadata) for chunk in source for entry in chunk.entries] == [
        ("1", {"n": 0}),
        ("2", {"n": 1}),
    ]


@pytest.mark.parametrize(
    "form", ["reversed", "foreign", "fortran", "object", "double", "lists", "parameter", "read-only"]
)
def test_tokens_of_any_form_are_the_same_tokens(form: str) -> None:
    tokens = np.array(unit_tokens(3, DIM, seed=0))
    given = {
        "reversed": tokens[::-1].copy()[::-1],
        "foreign": tokens.astype(">f4"),
        "fortran": np.asfortranarray(tokens),
        "object": tokens.astype(object),
        "double": tokens.astype(np.float64),
        "lists": tokens.tolist(),
        "parameter": torch.nn.Parameter(torch.tensor(tokens)),
        "read-only": np.broadcast_to(tokens, tokens.shape),
    }[form]
    assert np.array_equal(float_tokens(given, "tokens").numpy(), tokens)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.empty(2, 4, device="meta"), 'tokens are on the device "meta"'),
        (torch.ones(2, dtype=torch.complex64), "tokens are of dtype torch.complex64"),
        (np.array(["a"]), "tokens are of dtype <U1"),
        ([[1, 2], [3]], "not an array of numbers"),
        (np.array([object()]), "not an array of numbers"),
    ],
)
def test_what_holds_no_tokens(given: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        float_tokens(given, "tokens")


def test_a_bag_without_a_length_is_named() -> None:
    nested = torch.nested.nested_tensor([torch.ones(1, 2), torch.ones(2, 2)])
    with pytest.raises(SettingsError, match=r"the tokens of video 1 are .*; give"):
        ArraySource(["a", "b"], {"frame": [torch.ones(1, 2) / 2**0.5, nested]}, dim=2).counts()


def test_ids_have_a_largest_length() -> None:
    bags = {"frame": [torch.tensor([[1.0, 0.0]])]}
    assert ArraySource(["x" * 2**16], bags, dim=2).ids == ["x" * 2**16]
    with pytest.raises(
        SettingsError, match=r"an id of ids has 65537 characters .*; at most 65536 are allowed"
    ) as refused:
        ArraySource(["x" * (2**16 + 1)], bags, dim=2)
    assert len(str(refused.value)) < 400
