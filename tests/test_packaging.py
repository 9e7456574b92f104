"""What setup.py asks for on each platform, and that it copes with compilers that cannot build the kernels."""

import runpy
from importlib.metadata import PackageNotFoundError, requires
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version
from paths import ROOT

import colbert_video

setuptools = pytest.importorskip("setuptools")
PLATFORMS = {
    "Linux x86_64": ("linux", "x86_64", "posix", "Linux"),
    "Linux aarch64": ("linux", "aarch64", "posix", "Linux"),
    "macOS arm64": ("darwin", "arm64", "posix", "Darwin"),
    "macOS x86_64": ("darwin", "x86_64", "posix", "Darwin"),
    "Windows AMD64": ("win32", "AMD64", "nt", "Windows"),
    "Windows ARM64": ("win32", "ARM64", "nt", "Windows"),
}


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """The arguments of `setup` in setup.py."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("no setup.py: an installed copy")
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **arguments: found.update(arguments))
        runpy.run_path("setup.py", run_name="__main__")
    return found


def installed_on(requirements: list[str], platform: str) -> set[str]:
    """Names of what is installed there."""
    system, machine, os_name, kind = PLATFORMS[platform]
    environment = {
        **default_environment(),
        "sys_platform": system,
        "platform_machine": machine,
        "os_name": os_name,
        "platform_system": kind,
    }
    wanted = [Requirement(text) for text in requirements]
    return {one.name for one in wanted if one.marker is None or one.marker.evaluate(environment)}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_gets_one_faiss_and_decord_where_it_has_wheels(given: dict[str, Any], platform: str) -> None:
    names = installed_on(given["install_requires"], platform)
    faiss = {name for name in names if name.startswith("faiss")}
    assert faiss == ({"faiss-gpu"} if platform == "Linux x86_64" else {"faiss-cpu"})
    assert ("decord" in names) == (platform in ("Linux x86_64", "Windows AMD64"))
    assert {"av", "torch", "open_clip_torch"} <= names


def test_every_requirement_has_a_floor(given: dict[str, Any]) -> None:
    """So that the oldest versions that work are known, and tested."""
    for text in given["install_requires"]:
        assert any(part.operator == ">=" for part in Requirement(text).specifier), text


def test_what_few_use_comes_by_extras_alone(given: dict[str, Any]) -> None:
    """Neither directly, nor by way of what is required, as it is installed here."""
    extras = {
        "matplotlib",
        "ray",
        "mcp",
        "wandb",
        "tensorboard",
        "fastapi",
        "uvicorn",
        "lancedb",
        "qdrant-client",
        "mteb",
    }
    named = {one.name for one in map(Requirement, given["install_requires"])}
    waiting, seen = set(named), set(named)
    while waiting:
        for text in requirements_of(waiting.pop()):
            one = Requirement(text)
            if one.name not in seen and (one.marker is None or one.marker.evaluate({"extra": ""})):
                seen.add(one.name)
                waiting.add(one.name)
    assert seen & {"rich", "markdown-it-py"}  # indirect ones were found
    assert not seen & extras


def requirements_of(package: str) -> list[str]:
    try:
        return requires(package) or []
    except PackageNotFoundError:
        return []


def test_extras_are_sound_requirements(given: dict[str, Any]) -> None:
    extras = {name: [Requirement(text) for text in texts] for name, texts in given["extras_require"].items()}
    assert {"train", "serve", "cluster", "torchcodec", "test"} <= set(extras)
    tested = {one.name for one in extras["test"]}
    assert {one.name for name in ("train", "serve") for one in extras[name]} <= tested


def test_microsofts_compiler_is_not_given_the_kernels(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written with GCC's vector types; an installation without them works."""
    (kernels,) = given["ext_modules"]
    assert kernels.optional
    compiled: list[str] = []
    monkeypatch.setattr(
        "setuptools.command.build_ext.build_ext.build_extension",
        lambda command, extension: compiled.append(command.compiler.compiler_type),
    )
    command = given["cmdclass"]["build_ext"](setuptools.Distribution())
    for compiler in ("msvc", "unix", "mingw32"):
        command.compiler = SimpleNamespace(compiler_type=compiler)
        command.build_extension(kernels)
    assert compiled == ["unix", "mingw32"]


def test_the_oldest_versions_that_are_tested_are_the_floors(given: dict[str, Any]) -> None:
    lines = (ROOT / "tests" / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    oldest = {one.name: one for one in map(Requirement, (line for line in lines if not line.startswith("#")))}
    floors = {one.name: one for one in map(Requirement, given["install_requires"])}
    assert set(oldest) == set(floors) - {"faiss-cpu"}  # on Linux it is faiss-gpu
    for name, exact in oldest.items():
        (floor,) = (Version(part.version) for part in floors[name].specifier if part.operator == ">=")
        (pinned,) = exact.specifier
        assert (pinned.operator, Version(pinned.version)) == ("==", floor), name


def test_extras_of_the_tests_can_be_had_on_the_oldest_python(given: dict[str, Any]) -> None:
    """MTEB has no release for Python 3.10 at our floor; its tests skip there."""
    marked = {one.name for one in map(Requirement, given["extras_require"]["test"]) if one.marker is not None}
    assert marked == {"mteb"}


def test_releases_are_published_without_a_password(given: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    path = ROOT / ".github" / "workflows" / "wheels.yml"
    if not path.is_file():
        pytest.skip("an installed copy")
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    publish, checks = jobs["publish"], [step.get("run", "") for step in jobs["check"]["steps"]]
    assert (publish["needs"], publish["environment"]["name"]) == ("check", "pypi")
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert "password" not in str(publish)
    assert [tool for tool in ("twine check", "check-wheel-contents", "abi3audit") for run in checks if tool in run] == [
        "twine check", "check-wheel-contents", "abi3audit",
    ]  # fmt: skip
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_the_version_is_one(given: dict[str, Any]) -> None:
    assert given["version"] == colbert_video.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {given['version']}\n" in citation
