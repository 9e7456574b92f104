"""What encoders cost: the towers of a model by this library, by open_clip, and by runtimes on the same exported weights.

Each engine runs in a process of its own, for one model and number of threads; the engines take turns, and the cheapest of the
rounds counts. A video is 12 frames through the image tower, a query all tokens of one text through the text tower. Weights are
random, the same for all; cosines are those to this library in fp32, whose time the ratios divide. Runtimes that are not
installed get no row: `pip install onnxruntime onnx onnxscript openvino`, or `--python` of an environment that has them beside
this library. The report has a part for each kind of processor, to which a run adds its rounds.

    python benchmarks/encoding.py                        # writes benchmarks/results/encoding.json
    python benchmarks/encoding.py --models tiny --rounds 1   # a quick look
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reports import HERE, TINY, arguments, load, machine, save

MODELS = ("ViT-B-32", "ViT-B-16-SigLIP", "PE-Core-B-16")
FRAMES = 12
QUERY_LENGTHS = (32, 64)
ENGINES = {
    "colbert_video, auto": "torch",
    "colbert_video, fp32": "torch",
    "colbert_video, compiled": "torch",
    "colbert_video, queries by OpenVINO": "openvino",
    "open_clip, fp32": "open_clip",
    "ONNX Runtime, fp32": "onnxruntime",
    "ONNX Runtime, int8": "onnxruntime",
    "OpenVINO, its default": "openvino",
}
"""The package that each engine needs."""
REFERENCE = "colbert_video, fp32"
MISSING = 3
"""Exit status of a process whose package is not installed."""


def towers(name: str) -> Any:
    """A backbone with random weights, the same in every process."""
    import open_clip
    import torch

    from colbert_video.model.backbone import Preprocess
    from colbert_video.model.backbones.open_clip import OpenClipBackbone
    from colbert_video.training.run.model_recipe import register_backbone

    if name == "tiny":
        register_backbone("tiny", TINY)
    torch.manual_seed(0)
    clip = open_clip.create_model(name, load_weights=False).eval()
    architecture = open_clip.get_model_config(name)
    size = clip.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    preprocess = Preprocess(height, width, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")
    return OpenClipBackbone(clip, tokenizer=None, architecture=architecture, preprocess=preprocess).eval()


def inputs(backbone: Any) -> dict[str, Any]:
    """Pixels of one video, and the ids of one query of each length that the text tower takes."""
    import torch

    random = torch.Generator().manual_seed(1)
    size = backbone.preprocess.height, backbone.preprocess.width
    lengths = [length for length in QUERY_LENGTHS if length <= backbone.context_length]
    if backbone.bidirectional:
        lengths = [backbone.context_length]
    ids = {
        f"query, {length} tokens": torch.randint(1, backbone.vocabulary_size, (1, length), generator=random)
        for length in lengths
    }
    return {"video": torch.randn(FRAMES, 3, *size, generator=random), **ids}


def plain_towers(name: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """open_clip's own towers with the same weights; its `encode_text` takes full contexts alone and gives the pooled token."""
    import open_clip
    import torch

    backbone = towers(name)
    clip = open_clip.create_model(name, load_weights=False).eval()
    clip.load_state_dict(backbone.clip.state_dict())

    def text(ids: Any) -> Any:
        padded = torch.zeros(len(ids), backbone.context_length, dtype=ids.dtype)
        padded[:, : ids.shape[1]] = ids
        return clip.encode_text(padded)

    return clip.encode_image, text


def our_towers(name: str, precision: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """This library's towers in a precision, or "compiled" in that of "auto"."""
    import torch

    from colbert_video.model.precision import DTYPES, choose_precision

    chosen = choose_precision("auto" if precision == "compiled" else precision, torch.device("cpu"))
    backbone = towers(name).to(DTYPES[chosen])
    if precision == "compiled":
        return tuple(torch.compile(tower, dynamic=False) for tower in (backbone.frame_tokens, backbone.text_tokens))
    return backbone.frame_tokens, backbone.text_tokens


def queries_by_runtime(name: str) -> Callable[[Any], Any]:
    """This library's text tower as `query_runtime="openvino"` runs it, in the precision of "auto"."""
    import torch

    from colbert_video.model.precision import choose_precision
    from colbert_video.model.query_runtime import TextRuntime

    return TextRuntime(towers(name), "openvino", choose_precision("auto", torch.device("cpu")))


def exported(name: str, key: str) -> Any:
    """One of the towers as a module of one input."""
    import torch

    backbone = towers(name).requires_grad_(False)

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, x: Any) -> Any:
            return backbone.frame_tokens(x) if key == "video" else backbone.text_tokens(x)

    return Tower().eval()


def onnx_runner(name: str, key: str, example: Any, threads: int, *, int8: bool) -> Callable[[Any], Any]:
    """A tower in ONNX Runtime, fp32 or with its dynamic quantisation."""
    import onnxruntime
    import torch

    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "tower.onnx"
        torch.onnx.export(exported(name, key), (example,), str(path), input_names=["x"], dynamo=True)
        if int8:
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(path, path.with_name("int8.onnx"))
            path = path.with_name("int8.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def openvino_runner(name: str, key: str, example: Any, threads: int) -> Callable[[Any], Any]:
    """A tower in OpenVINO, in the precision that it chooses for the processor."""
    import openvino
    import torch

    model = openvino.convert_model(exported(name, key), example_input=example)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})
    return lambda x: torch.from_numpy(compiled(x.numpy())[0])


def runner(engine: str, name: str, key: str, example: Any, threads: int) -> Callable[[Any], Any]:
    """What an engine computes of one input."""
    import torch

    kind, _, how = engine.partition(", ")
    if how == "queries by OpenVINO":
        return queries_by_runtime(name)
    with torch.inference_mode():
        if kind == "ONNX Runtime":
            return onnx_runner(name, key, example, threads, int8=how == "int8")
        if kind == "OpenVINO":
            return openvino_runner(name, key, example, threads)
    image, text = plain_towers(name) if kind == "open_clip" else our_towers(name, how)
    return image if key == "video" else text


def work(engine: str, name: str, threads: int, reference: Path, seconds: float) -> dict[str, Any]:
    """Measure one engine in this process."""
    import torch

    torch.set_num_threads(threads)
    given, found = inputs(towers(name)), {}
    if engine.endswith("queries by OpenVINO"):
        del given["video"]  # torch's, as in the other rows
    for key, example in given.items():
        run = runner(engine, name, key, example, threads)
        with torch.inference_mode():
            tokens = run(example).float()
            times, begin = [], time.perf_counter()
            while len(times) < 2 or time.perf_counter() - begin < seconds:
                cpu, wall = time.process_time(), time.perf_counter()
                run(example)
                times.append((time.process_time() - cpu, time.perf_counter() - wall))
        file = reference / f"{name}-{key.replace(' ', '')}.pt"
        if engine == REFERENCE:
            torch.save(tokens, file)
        true = torch.load(file)
        cosine = torch.cosine_similarity(tokens, true, dim=-1).min().item() if tokens.shape == true.shape else None
        best = {"cpu_ms": min(cpu for cpu, _ in times) * 1000, "wall_ms": min(wall for _, wall in times) * 1000}
        found[key] = {**best, "cosine": cosine}
    return {"rows": found, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def started(python: str, *task: str, threads: int) -> dict[str, Any] | None:
    """Run `work` in a process; None if its package is not installed there."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parent)}
    command = [python, __file__, "--work", *task]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == MISSING:
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(task)}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def better(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """The cheaper of two rounds, input by input."""
    if one is None:
        return other
    rows = {key: min(one["rows"][key], row, key=lambda found: found["cpu_ms"]) for key, row in other["rows"].items()}
    return {"rows": rows, "megabytes": min(one["megabytes"], other["megabytes"])}


def measure(options: Any, name: str, threads: int) -> list[dict[str, Any]]:
    """All engines for a model, in turns."""
    found: dict[str, dict[str, Any]] = {}
    order = [
        REFERENCE,
        *(engine for engine in options.engines if engine != REFERENCE),
    ]  # the others are compared with it
    with tempfile.TemporaryDirectory() as reference:
        for _ in range(options.rounds):
            for engine in order:
                task = (engine, name, str(threads), reference, str(options.seconds))
                result = started(options.python, *task, threads=threads)
                if result is None:
                    continue
                found[engine] = better(found.get(engine), result)
                print(
                    name,
                    threads,
                    engine,
                    {key: round(row["cpu_ms"], 1) for key, row in result["rows"].items()},
                    flush=True,
                )
    of = {"model": name, "threads": threads, "rounds": options.rounds}
    return [{**of, "engine": engine, **result} for engine, result in found.items()]


def main() -> None:
    """Measure, print and write; with --work, measure one engine and print it as JSON."""
    if sys.argv[1:2] == ["--work"]:
        engine, name, threads, reference, seconds = sys.argv[2:]
        try:
            __import__(ENGINES[engine])
        except ImportError:
            sys.exit(MISSING)
        print(json.dumps(work(engine, name, int(threads), Path(reference), float(seconds))))
        return
    parser = arguments(__doc__, "encoding")
    parser.add_argument("--models", nargs="+", default=MODELS, help="names of open_clip")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each input in a round")
    parser.add_argument("--python", default=sys.executable, help="the interpreter, with the runtimes installed")
    options = parser.parse_args()
    for name in options.models:
        for threads in options.threads:
            keep(options.output, measure(options, name, threads))


def keep(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add the rounds of a run to those of the same kind of processor; delete the report after a change of the code."""
    from colbert_video.model.precision import cpu_has_bf16

    report = load(path, default={"machines": []})
    here = {**machine(), "bf16": cpu_has_bf16()}
    part = part_of(report["machines"], here)
    found = {(row["model"], row["threads"], row["engine"]): row for row in part.get("engines", [])}
    for row in rows:
        place = (row["model"], row["threads"], row["engine"])
        older = found.get(place)
        rounds = row["rounds"] + (older["rounds"] if older else 0)
        found[place] = {**row, **better(older, row), "rounds": rounds}
    part.update(machine=here, engines=list(found.values()))
    save(path, report)


def part_of(machines: list[dict[str, Any]], here: dict[str, Any]) -> dict[str, Any]:
    """The part of a report on the same kind of processor, which is added where there is none."""
    kind = ("processor", "cores", "bf16")
    for part in machines:
        if all(part["machine"][name] == here[name] for name in kind):
            return part
    machines.append({"machine": here})
    return machines[-1]


if __name__ == "__main__":
    main()
