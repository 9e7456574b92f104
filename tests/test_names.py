"""Names that nothing defines: jaxtyping's shapes look like such names, so neither ruff nor mypy is asked for them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from paths import ROOT

SHAPE = re.compile(r"\b(Float|Float32|Int|Int32|Int64|UInt8|Bool|Shaped|Num|Real)\w*\[[^\]]*$")
"""What stands before a name that is a dimension: an array type with an open bracket."""


def undefined_names(source: str, folder: Path) -> list[str]:
    """Undefined names that ruff finds, without the dimensions of arrays."""
    found = subprocess.run(
        ["ruff", "check", "--isolated", "--select", "F821", "--output-format", "concise", source],
        cwd=folder, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    names = []
    for place in re.finditer(r"^(.+?):(\d+):(\d+): F821 Undefined name `(.+)`", found, re.M):
        file, line, column, name = place.groups()
        before = (folder / file).read_text(encoding="utf-8").splitlines()[int(line) - 1][: int(column) - 1]
        if before.count('"') % 2 == 0 or not SHAPE.search(before):
            names.append(f"{file}:{line}: {name}")
    return names


@pytest.mark.skipif(shutil.which("ruff") is None, reason="no ruff")
def test_every_name_is_defined(tmp_path: Path) -> None:
    assert [name for room in ("colbert_video", "indexing", "training") for name in undefined_names(room, ROOT)] == []
    (tmp_path / "bad.py").write_text(
        'def f(x: Float[Tensor, "rows columns"]) -> int:  # two undefined types\n    return missing\n'
    )
    assert [name.split(": ")[1] for name in undefined_names("bad.py", tmp_path)] == ["Float", "Tensor", "missing"]
