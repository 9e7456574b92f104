"""A built wheel and sdist: what is in them, and that the wheel works where no checkout is in sight.

`.ci/wheel` builds both and runs these tests with COLBERT_VIDEO_DIST naming their folder.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest
from paths import ROOT

DIST = os.environ.get("COLBERT_VIDEO_DIST")
ROOMS = {"colbert_video": "colbert_video", "indexing": "colbert_video/indexing", "training": "colbert_video/training"}
"""Where each source folder lies in the wheel."""
DATA = ("*.yaml", "*.js", "*.css", "*.html", "*.svg", "*.json", "*.safetensors", "py.typed")
SMOKE = """
import sys
from pathlib import Path
import colbert_video
from colbert_video.cli.demo import run_demo
from colbert_video.indexing.scan.kernels import kernel_name

assert Path(colbert_video.__file__).is_relative_to(sys.argv[1]), colbert_video.__file__
assert not {"indexing", "training"} & set(sys.modules)
result = run_demo(clips=4)
print(kernel_name(), result.clips, result.first)
"""

pytestmark = pytest.mark.skipif(not DIST, reason="no built wheel: .ci/wheel builds and tests one")


def built(pattern: str) -> Path:
    (found,) = Path(DIST or "").glob(pattern)
    return found


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    return zipfile.ZipFile(built("*.whl"))


def source_files() -> set[str]:
    """What an installation needs of each source folder, where it lies in the wheel."""
    found = set()
    for room, place in ROOMS.items():
        for folder, names, files in os.walk(ROOT / room, followlinks=False):
            names[:] = [name for name in names if name != "__pycache__"]
            inner = PurePosixPath(place, Path(folder).relative_to(ROOT / room).as_posix())
            wanted = {name for name in files if any(Path(name).match(form) for form in ("*.py", *DATA))}
            found |= {str(inner / name) for name in wanted}
    return found


def test_one_wheel_serves_every_python() -> None:
    name, version, python, abi, system = built("*.whl").stem.split("-")
    assert (name, python, abi) == ("colbert_video", "cp310", "abi3")
    assert system != "any"
    assert built("*.tar.gz").name == f"{name}-{version}.tar.gz"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    files = {name for name in wheel.namelist() if not name.endswith("/")}
    about = {name for name in files if ".dist-info/" in name}
    kernels = {name for name in files if PurePosixPath(name).match("colbert_video/indexing/scan/_kernels*")}
    assert len(kernels) == 1
    assert files - about - kernels == source_files()
    (licence,) = [name for name in about if name.endswith("licenses/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    (top,) = [name for name in about if name.endswith("/top_level.txt")]
    assert wheel.read(top).split() == [b"colbert_video"]


def test_the_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    about = Parser().parsestr(wheel.read(name).decode())
    assert about["Requires-Python"] == ">=3.10"
    assert "MIT" in (about["License"], about["License-Expression"])
    assert {"train", "serve", "cluster", "torchcodec", "test"} <= set(about.get_all("Provides-Extra", []))
    assert about.get_payload().startswith("# colbert_video")


def test_the_sdist_holds_every_source() -> None:
    with tarfile.open(built("*.tar.gz")) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    inside = {PurePosixPath(place): PurePosixPath(room) for room, place in ROOMS.items()}
    wanted = {PurePosixPath(name) for name in source_files()}
    for place, room in list(inside.items())[1:]:  # the mapped rooms lie at the top of the sdist
        wanted = {room / name.relative_to(place) if name.is_relative_to(place) else name for name in wanted}
    sources = {path.relative_to(ROOT) for path in (ROOT / "indexing" / "scan").glob("_kernels*.[ch]*")}
    assert wanted | {PurePosixPath(path.as_posix()) for path in sources} <= names
    assert {PurePosixPath(name) for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")} <= names


def test_the_installed_wheel_searches_with_its_kernels(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, str(built("*.whl"))], check=True, timeout=300)
    run = subprocess.run(
        [sys.executable, "-c", SMOKE, str(site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    kernels, clips, _ = run.stdout.split()
    assert kernels != "torch"
    assert clips == "4"
