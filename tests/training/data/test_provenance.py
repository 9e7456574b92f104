"""Versions and digests: what changes them, and what does not."""

import subprocess
from pathlib import Path

import pytest
import torch

import colbert_video
from colbert_video.training.data import provenance
from colbert_video.training.data.digests import EDGE, files_digest
from colbert_video.training.data.provenance import changed_versions, code_digest, git_commit, versions


def test_versions_are_those_of_this_process() -> None:
    found = versions()
    assert (found["colbert_video"], found["torch"]) == (colbert_video.__version__, torch.__version__)
    assert {"python", "numpy", "platform", "git"} <= found.keys()
    assert found["code_sha256"] == code_digest()
    assert len(code_digest()) == 64


def test_the_digest_of_the_code_changes_with_a_name_or_a_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_home", lambda: tmp_path)
    digests = set()
    for name, text in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        (tmp_path / name).write_text(text)
        code_digest.cache_clear()
        digests.add(code_digest())
    (tmp_path / "notes.txt").write_text("no code")
    code_digest.cache_clear()
    assert code_digest() in digests
    assert len(digests) == 3
    code_digest.cache_clear()


def test_the_commit_is_that_of_our_own_repository(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        named = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True)

    assert git_commit(tmp_path) is None
    (tmp_path / "__init__.py").write_text("x = 1")
    git("init")
    git("commit", "--allow-empty", "-m", "one")
    assert git_commit(tmp_path) is None  # somebody's repository that we merely lie in
    git("add", "__init__.py")
    git("commit", "-m", "two")
    commit = git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "__init__.py").write_text("x = 2")
    assert git_commit(tmp_path) == f"{commit}+changes"


def test_the_digest_of_files_sees_length_and_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    whole = bytearray(3 * EDGE)
    seen = set()
    for change in (0, EDGE - 1, 3 * EDGE - 1):
        changed = bytearray(whole)
        changed[change] = 1
        path.write_bytes(changed)
        seen.add(files_digest({"a": path})["edges_sha256"])
    path.write_bytes(whole + b"\0")
    seen |= {files_digest({"a": path})["edges_sha256"], files_digest({"b": path})["edges_sha256"]}
    assert len(seen) == 5
    counted = files_digest({"a": path, "gone": tmp_path / "gone"})
    assert (counted["files"], counted["missing"], counted["bytes"]) == (2, 1, 3 * EDGE + 1)


def test_changes_are_named() -> None:
    assert changed_versions(None, {"torch": "2"}) == []
    assert changed_versions({"torch": "1", "python": "3"}, {"torch": "2", "python": "3"}) == ["torch 2 (was 1)"]
