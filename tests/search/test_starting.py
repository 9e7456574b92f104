"""What a search does not import: packages that take longer to start than the search."""

import json
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

SLOW = {
    *("open_clip", "torchvision", "transformers", "timm", "ftfy", "huggingface_hub"),  # for names of models
    *(
        "torch._dynamo",
        "torch._inductor",
        "torch.fx.experimental.symbolic_shapes",
        "sympy",
        "triton",
    ),  # torch's compiler
    *("colbert", "faiss", "pandas", "scipy", "sklearn", "matplotlib", "datasets", "mteb", "ray", "fastapi"),
    *("av", "colbert_video.training.world", "colbert_video.training.run"),
}
AT_IMPORT = {"torch", "numpy", "safetensors", "rich", "click", "PIL", "jaxtyping", *SLOW}
PROGRAM = """
import json, sys

def loaded(names):
    return sorted(names & set(sys.modules))

slow, at_import, index, tokens = (json.loads(argument) for argument in sys.argv[1:])
found = {}
import colbert_video
found["import"] = loaded(set(at_import))
with colbert_video.Searcher(index) as searcher:
    searcher.search_tokens(tokens, k=1)
    found["tokens"] = loaded(set(slow))
    searcher.search("a large star")
    found["words"] = loaded(set(slow))
try:
    from colbert_video.cli import main
    main(["--quiet", "search", "a large star", "--index", index])
except SystemExit as left:
    assert not left.code, left.code
found["command line"] = loaded(set(slow))
sys.stderr.write(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Modules of `SLOW` and `AT_IMPORT` that are there after each step of one process."""
    from colbert_video import Indexer, VideoColBERT

    model = VideoColBERT.from_pretrained("toy", device="cpu")
    index = tmp_path_factory.mktemp("starting") / "index"
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 48, 48, 3), dtype=np.uint8)
    encoded = model.encode_videos(list(frames))
    assert encoded.video is not None
    Indexer(index, model=model, device="cpu").index_tokens(
        ["a", "b"], encoded.frame.unpadded(), encoded.video.unpadded()
    )
    query = model.encode_queries("a large star")[0].tolist()
    arguments = (json.dumps(value) for value in (sorted(SLOW), sorted(AT_IMPORT), str(index), query))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, list[str]] = json.loads(run.stderr)
    return result


@pytest.mark.parametrize("step", ["import", "tokens", "words", "command line"])
def test_a_search_imports_nothing_slow(found: dict[str, list[str]], step: str) -> None:
    assert found[step] == []
