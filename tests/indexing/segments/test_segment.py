import itertools
import json
import shutil
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import ujson
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import normalize

from colbert_video.errors import IndexFolderError, SettingsError
from colbert_video.indexing.codec.codec import EncodedTokens, ResidualCodec
from colbert_video.indexing.segments.segment import BagWriter, check_codes, inverted_lists, open_bag, write_bag

DOCLENS = [3, 1, 12, 5, 5, 2]


@lru_cache
def bag_content(nbits: int = 4) -> tuple[ResidualCodec, EncodedTokens, Int64[Tensor, "videos"]]:
    generator = torch.Generator().manual_seed(0)
    tokens = normalize(torch.randn(sum(DOCLENS), 64, generator=generator), dim=1)
    codec = ResidualCodec.train(tokens, nbits=nbits)
    return codec, codec.encode(tokens), torch.tensor(DOCLENS)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segment") / "bag"
    codec, encoded, doclens = bag_content()
    write_bag(folder, codec=codec, codes=encoded.codes, residuals=encoded.residuals, doclens=doclens)
    return folder


@pytest.fixture
def bag(template: Path, tmp_path: Path) -> Path:
    """A copy of a sound bag, to be damaged."""
    return Path(shutil.copytree(template, tmp_path / "bag"))


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_what_is_written_is_read_back(nbits: int, tmp_path: Path) -> None:
    codec, encoded, doclens = bag_content(nbits)
    write_bag(tmp_path / "b", codec=codec, codes=encoded.codes, residuals=encoded.residuals, doclens=doclens)
    stored = open_bag(tmp_path / "b")
    assert torch.equal(stored.codes, encoded.codes)
    assert torch.equal(stored.residuals, encoded.residuals)
    assert torch.equal(stored.doclens, doclens)
    assert stored.offsets.tolist() == [0, 3, 4, 16, 21, 26, 28]
    ivf, lengths = inverted_lists(encoded.codes, doclens, codec.num_centroids)
    assert torch.equal(stored.ivf, ivf)
    assert torch.equal(stored.ivf_lengths, lengths)
    assert (stored.dim, stored.nbits, stored.num_centroids) == (64, nbits, codec.num_centroids)
    assert stored.codec_fingerprint == codec.fingerprint
    assert ResidualCodec.load(tmp_path / "b").fingerprint == codec.fingerprint


def test_the_files_are_exactly_colberts_and_the_rotation(template: Path) -> None:
    assert {path.name for path in template.iterdir()} == {
        "0.codes.pt", "0.metadata.json", "0.residuals.pt", "avg_residual.pt", "buckets.pt", "centroids.pt",
        "doclens.0.json", "ivf.pid.pt", "metadata.json", "plan.json", "rotation.pt",
    }  # fmt: skip
    codec, encoded, _ = bag_content()
    metadata = json.loads((template / "metadata.json").read_text())
    assert metadata == {
        "config": {
            "dim": 64,
            "nbits": 4,
            "doc_maxlen": 12,
            "colbert_video": {"rotated": True, "rotation": "queries @ rotation.pt", "codec": codec.fingerprint},
        },
        "num_chunks": 1,
        "num_partitions": codec.num_centroids,
        "num_embeddings": 28,
        "avg_doclen": 28 / 6,
    }
    plan = json.loads((template / "plan.json").read_text())
    assert (plan["num_embeddings_est"], plan["avg_doclen_est"], plan["num_chunks"]) == (28.0, 28 / 6, 1)
    assert json.loads((template / "0.metadata.json").read_text()) == {
        "passage_offset": 0, "num_passages": 6, "num_embeddings": 28, "embedding_offset": 0,
    }  # fmt: skip
    assert json.loads((template / "doclens.0.json").read_text()) == DOCLENS
    codes, residuals = torch.load(template / "0.codes.pt"), torch.load(template / "0.residuals.pt")
    assert (codes.dtype, codes.shape) == (torch.int32, (28,))
    assert (residuals.dtype, residuals.shape) == (torch.uint8, (28, 32))
    assert torch.equal(codes, encoded.codes)
    ivf, lengths = torch.load(template / "ivf.pid.pt")
    assert (ivf.dtype, lengths.dtype, len(ivf)) == (torch.int32, torch.int64, int(lengths.sum()))


@given(st.lists(st.integers(1, len(DOCLENS) - 1), unique=True, max_size=5))
@settings(max_examples=15, deadline=None)
def test_appending_in_parts_gives_the_same_bytes(template: Path, cuts: list[int]) -> None:
    codec, encoded, doclens = bag_content()
    ends = [0, *doclens.cumsum(0).tolist()]
    folder = template.parent / "parts"
    shutil.rmtree(folder, ignore_errors=True)
    with BagWriter(folder, codec=codec) as writer:
        bounds = [0, *sorted(cuts), len(DOCLENS)]
        for first, stop in itertools.pairwise(bounds):
            part = slice(ends[first], ends[stop])
            writer.append(encoded.codes[part], encoded.residuals[part], doclens[first:stop])
        writer.finish()
    for path in template.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(list(folder.iterdir())) == len(list(template.iterdir()))


def test_codec_files_can_be_linked(tmp_path: Path) -> None:
    codec, encoded, doclens = bag_content()
    codec.save(tmp_path / "codec")
    with BagWriter(tmp_path / "bag", codec=codec, codec_folder=tmp_path / "codec") as writer:
        writer.append(encoded.codes, encoded.residuals, doclens)
        writer.finish()
    assert (tmp_path / "bag" / "centroids.pt").samefile(tmp_path / "codec" / "centroids.pt")
    assert ResidualCodec.load(tmp_path / "bag").fingerprint == codec.fingerprint


def test_the_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    codec, encoded, doclens = bag_content()
    codes, residuals = encoded.codes, encoded.residuals
    with BagWriter(tmp_path / "bag", codec=codec) as writer:
        with pytest.raises(SettingsError, match=r"residuals have shape \(28, 31\); \(28, 32\) is needed"):
            writer.append(codes, residuals[:, 1:], doclens)
        with pytest.raises(SettingsError, match="doclens sum to 26 for 28 tokens"):
            writer.append(codes, residuals, doclens[:-1])
        with pytest.raises(SettingsError, match="the least is 0"):
            writer.append(codes, residuals, torch.tensor([0, 28]))
        with pytest.raises(SettingsError, match="codes run from 7 to 7, but there are 7 centroids"):
            writer.append(torch.full_like(codes, codec.num_centroids), residuals, doclens)
        with pytest.raises(SettingsError, match="no videos were written"):
            writer.finish()
    with pytest.raises(IndexFolderError, match="is not empty"):
        BagWriter(tmp_path / "bag", codec=codec)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage"])
@pytest.mark.parametrize(
    "name", ["0.codes.pt", "0.residuals.pt", "centroids.pt", "doclens.0.json", "metadata.json", "ivf.pid.pt"]
)
def test_damaged_files_are_named(bag: Path, name: str, damage: str) -> None:
    path = bag / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\x80" * 999}[damage])
    with pytest.raises(IndexFolderError, match=name):
        _ = open_bag(bag).ivf


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("0.codes.pt", torch.zeros(28, dtype=torch.int64), "holds torch.int64"),
        ("0.codes.pt", torch.zeros(27, dtype=torch.int32), "shape .27,., not"),
        ("0.codes.pt", torch.full((28,), 7, dtype=torch.int32), "codes run from 7 to 7, but there are 7 centroids"),
        ("0.codes.pt", torch.full((28,), -1, dtype=torch.int32), "codes run from -1 to -1"),
        ("0.residuals.pt", torch.zeros(28, 31, dtype=torch.uint8), "shape .28, 31., not"),
        ("0.residuals.pt", torch.zeros(27, 32, dtype=torch.uint8), "shape .27, 32., not"),
        ("centroids.pt", torch.zeros(6, 64, dtype=torch.float16), "shape .6, 64., not"),
        ("ivf.pid.pt", (torch.zeros(3, dtype=torch.int32), torch.ones(7, dtype=torch.int64)), "do not add up"),
        ("ivf.pid.pt", (torch.full((7,), 6, dtype=torch.int32), torch.ones(7, dtype=torch.int64)), "outside 0 to 5"),
        ("ivf.pid.pt", (torch.full((7,), -1, dtype=torch.int32), torch.ones(7, dtype=torch.int64)), "outside 0 to 5"),
    ],
)
def test_hostile_tensors_are_refused(bag: Path, name: str, content: object, complaint: str) -> None:
    torch.save(content, bag / name)
    with pytest.raises(IndexFolderError, match=rf"{name}.*{complaint}"):
        _ = open_bag(bag).ivf


@pytest.mark.parametrize(
    "doclens",
    [
        [3, 1, 12, 5, 5, 1], [0, 3, 1, 12, 5, 5, 2], [-1, 4, 1, 12, 5, 5, 2], [2**62, 2**62, 2**62, 2**62, 28],
        [28.0], [[28]], [[14], 14], ["28"], {"a": 28}, 28, [], None, [2**70], [True] * 28,
    ],
)  # fmt: skip
def test_hostile_doclens_are_refused(bag: Path, doclens: object) -> None:
    (bag / "doclens.0.json").write_text(ujson.dumps(doclens) if doclens != [2**70] else str([2**70]))
    with pytest.raises(IndexFolderError, match=r"doclens\.0\.json is damaged"):
        open_bag(bag)


def test_huge_and_deep_json_is_refused(bag: Path) -> None:
    (bag / "doclens.0.json").write_text("[" + "1," * 2_000_000 + "1]")
    with pytest.raises(IndexFolderError, match=r"doclens\.0\.json is damaged: .* is more than the"):
        open_bag(bag)
    (bag / "doclens.0.json").write_text("[" * 500_000)
    with pytest.raises(IndexFolderError, match=r"doclens\.0\.json is damaged"):
        open_bag(bag)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["num_embeddings"], 27), (["num_embeddings"], "28"), (["num_embeddings"], 28.0), (["num_embeddings"], True),
        (["num_partitions"], 0), (["num_partitions"], 8), (["num_chunks"], 2), (["config", "dim"], 128),
        (["config", "dim"], -64), (["config", "nbits"], 2), (["config", "nbits"], 3), (["config"], []),
        (["config", "colbert_video"], {}), (["config", "colbert_video", "codec"], 5),
    ],
)  # fmt: skip
def test_contradicting_metadata_is_refused(bag: Path, keys: list[str], value: object) -> None:
    metadata = json.loads((bag / "metadata.json").read_text())
    place = metadata
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (bag / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(IndexFolderError, match=r"metadata\.json|codes\.pt|residuals\.pt|centroids\.pt"):
        open_bag(bag)


def test_check_codes() -> None:
    check_codes(torch.zeros(0, dtype=torch.int32), 1)
    check_codes(torch.tensor([0, 4], dtype=torch.int32), 5)
    with pytest.raises(SettingsError, match="codes run from 0 to 5, but there are 5 centroids: 0 to 4"):
        check_codes(torch.tensor([0, 5], dtype=torch.int32), 5)
