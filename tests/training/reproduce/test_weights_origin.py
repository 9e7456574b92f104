"""Weights that users bring along: told from those that a row names, whatever they are called."""

import hashlib
import json
from pathlib import Path

import open_clip
import pytest

from colbert_video.training.reproduce.weights_origin import doubt_about

ROW = "ViT-B-32-quickgelu:openai"


def saved(folder: Path, **config: str | None) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_saved_model_says_what_it_was_made_of(tmp_path: Path) -> None:
    right = saved(tmp_path / "right", backbone="ViT-B-32-quickgelu", pretrained="openai")
    assert doubt_about(right, ROW) is None
    random = saved(tmp_path / "random", backbone="ViT-B-32-quickgelu", pretrained=None)
    assert "does not say what it was made of, not of 'ViT-B-32-quickgelu:openai'" in str(doubt_about(random, ROW))
    other = saved(tmp_path / "other", backbone="ViT-B-32-quickgelu", pretrained="laion400m_e32")
    assert "was made of 'ViT-B-32-quickgelu:laion400m_e32', not" in str(doubt_about(other, ROW))
    assert doubt_about(tmp_path, ROW) is not None


def test_a_file_is_known_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"any numbers")
    assert "are not known to be 'ViT-B-32-quickgelu:openai'" in str(doubt_about(file, ROW))
    address = f"https://example.org/{hashlib.sha256(b'any numbers').hexdigest()}/ViT-B-32.pt"
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: {"url": address})
    assert doubt_about(file, ROW) is None
    file.write_bytes(b"other numbers")
    assert doubt_about(file, ROW) is not None


def test_the_published_digests_are_where_they_are_looked_for() -> None:
    from colbert_video.training.reproduce.weights_origin import _published_digest

    assert _published_digest(ROW) == "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    assert _published_digest("ViT-B-16-SigLIP:webli") is None
    assert _published_digest("no-such-model:openai") is None
