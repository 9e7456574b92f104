import zipfile
from pathlib import Path

import pytest
import torch

from colbert_video.errors import IndexFolderError
from colbert_video.indexing.codec.tensors import read_tensor, read_tensor_pair


@pytest.mark.parametrize("mmap", [True, False])
def test_reads_what_torch_saved(mmap: bool, tmp_path: Path) -> None:
    path, array = tmp_path / "a.pt", torch.arange(12, dtype=torch.int32).view(3, 4)
    torch.save(array, path)
    assert torch.equal(read_tensor(path, torch.int32, (None, 4), mmap=mmap), array)
    torch.save((array, array.long()), path)
    first, second = read_tensor_pair(path, (torch.int32, torch.int64), ((3, 4), (None, None)), mmap=mmap)
    assert torch.equal(first, array)
    assert torch.equal(second, array.long())


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3, 4),  # other dtype
        torch.zeros(3, 5, dtype=torch.int32),  # other shape
        torch.zeros(12, dtype=torch.int32),  # other dimensions
        torch.zeros(4, 3, dtype=torch.int32).T,  # other strides
        torch.zeros(1, 4, dtype=torch.int32).expand(3, 4),  # fewer numbers than it claims
        torch.zeros(3, 4, dtype=torch.int32).to_sparse(),
        [1, 2, 3],
    ],
)
def test_anything_else_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(content, path)
    with pytest.raises(IndexFolderError, match=r"a\.pt holds .*not .*torch\.int32 of shape \('any', 4\)"):
        read_tensor(path, torch.int32, (None, 4))


@pytest.mark.parametrize("content", [torch.zeros(2), (torch.zeros(2),), (torch.zeros(2), 3), "text"])
def test_anything_but_a_pair_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(content, path)
    with pytest.raises(IndexFolderError, match=r"a\.pt holds"):
        read_tensor_pair(path, (torch.float32, torch.float32), ((2,), (2,)))


def test_a_storage_shorter_than_its_tensor_is_refused(tmp_path: Path) -> None:
    # the pickled part promises 1000 numbers, the stored part holds ten
    source, path = tmp_path / "source.pt", tmp_path / "a.pt"
    torch.save(torch.arange(1000, dtype=torch.int32), source)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:40] if "/data/" in name else data)
    for mmap in (True, False):
        with pytest.raises(IndexFolderError, match=r"a\.pt"):
            read_tensor(path, torch.int32, (None,), mmap=mmap)
