"""With the packages of no extra installed, everything can be imported but what is an extra itself."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

OPTIONAL = (
    *("accelerate", "matplotlib", "tensorboard", "yaml"),  # train; yaml comes with others, but is not asked for
    *("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn"),  # serve
    *("ray", "torchcodec", "decord"),
    *("lancedb", "langchain_core", "llama_index", "pyarrow", "qdrant_client"),
    *("colbert", "datasets", "httpx", "ir_measures", "mteb", "pandas", "ranx", "sentence_transformers", "webdataset"),
)
PROGRAM = f"""
import importlib, json, pkgutil, sys

MISSING = {OPTIONAL!r}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{{event}} while importing")

sys.meta_path.insert(0, Blocked())
sys.addaudithook(offline)
import colbert_video
from colbert_video.errors import DependencyError

failed, imported = {{}}, []
for module in pkgutil.walk_packages(colbert_video.__path__, "colbert_video."):
    if module.name.endswith((".__main__", ".worker")):
        continue
    try:
        importlib.import_module(module.name)
        imported.append(module.name)
    except ModuleNotFoundError as error:
        failed[module.name] = error.name
    except DependencyError as error:
        failed[module.name] = error.__cause__.name
torch = sys.modules.get("torch")
print(json.dumps([imported, failed, torch is not None and torch.cuda.is_initialized()]))
"""
SERVICE = ("colbert_video.serve.", "colbert_video.cluster.deployment")
CHILDREN = {
    "colbert_video.ecosystem.token_module": "sentence_transformers",
    "colbert_video.ecosystem.langchain_retriever": "langchain_core",
    "colbert_video.ecosystem.llama_index_retriever": "llama_index",
}
"""Modules whose classes have a parent of another library."""


@pytest.fixture(scope="module")
def outcome() -> tuple[list[str], dict[str, str], bool]:
    """Modules that were imported, what the others missed, and whether a GPU was touched."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    imported, failed, cuda = json.loads(run.stdout)
    return imported, failed, cuda


def test_only_the_service_and_children_of_other_libraries_need_an_extra_to_be_imported(
    outcome: tuple[list[str], dict[str, str], bool],
) -> None:
    imported, failed, _ = outcome
    assert {name: failed.pop(name) for name in CHILDREN} == CHILDREN
    assert {name: missing for name, missing in failed.items() if not name.startswith(SERVICE)} == {}
    assert set(failed.values()) <= {"fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn"}
    assert len(imported) > 100
    assert {
        "colbert_video.cli.program",
        "colbert_video.training.run.trainer",
        "colbert_video.serve.service_settings",
    } <= set(imported)
    assert "colbert_video.serve.app" in failed  # the blocked packages really were missing


def test_importing_touches_no_gpu(outcome: tuple[list[str], dict[str, str], bool]) -> None:
    assert outcome[2] is False
