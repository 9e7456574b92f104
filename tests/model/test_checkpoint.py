"""Saving and loading: the same tokens come back, damage is named, and an interrupted save loses nothing."""

import copy
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY_SIGLIP, save_word_tokenizer

from colbert_video import hub
from colbert_video.errors import ModelError
from colbert_video.model import checkpoint
from colbert_video.model.backbone import Preprocess
from colbert_video.model.backbones.open_clip import OpenClipBackbone
from colbert_video.model.video_colbert import VideoColBERT

CPU = torch.device("cpu")
TEXTS = ["a dog", "two people"]
FILES = {"config.json", "open_clip_config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 20, 40, 3), dtype=np.uint8)


@pytest.fixture
def saved(tiny_trained_model: VideoColBERT, tmp_path: Path) -> Path:
    tiny_trained_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def tokens_of(model: VideoColBERT, frames: np.ndarray) -> list[torch.Tensor]:
    videos = model.encode_videos([frames])
    return [model.encode_queries(TEXTS).tokens, *(bags.tokens for bags in videos if bags is not None)]


def test_a_saved_model_makes_the_same_tokens(tiny_trained_model: VideoColBERT, saved: Path, frames: np.ndarray) -> None:
    loaded = VideoColBERT.from_pretrained(saved, device="cpu")
    assert loaded.config == tiny_trained_model.config
    assert loaded.fingerprint() == tiny_trained_model.fingerprint()
    assert not loaded.training
    for one, other in zip(tokens_of(loaded, frames), tokens_of(tiny_trained_model, frames), strict=True):
        assert torch.equal(one, other)
    assert {path.name for path in saved.iterdir()} == FILES


def test_every_switch_survives(tiny_names: SimpleNamespace, tmp_path: Path, frames: np.ndarray) -> None:
    preprocess = Preprocess(height=32, width=32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), interpolation="bilinear")
    model = VideoColBERT.from_backbone(
        tiny_names.clip,
        device="cpu",
        preprocess=preprocess,
        trained=True,
        temporal_init="random",
        temporal_layers=1,
        expansion_tokens=3,
        frame_positions=False,
        outer_residual=False,
        pad_id=31,
        query_augmentation=False,
        max_frames=20,
    )
    model.save_pretrained(tmp_path / "model")
    loaded = VideoColBERT.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.config == model.config
    assert loaded.backbone.preprocess == preprocess
    for one, other in zip(tokens_of(loaded, frames), tokens_of(model, frames), strict=True):
        assert torch.equal(one, other)


def test_saving_twice_writes_the_same_bytes(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny_trained_model.save_pretrained(tmp_path / name)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_half_precision_halves_the_file_and_hardly_moves_tokens(
    tiny_trained_model: VideoColBERT, saved: Path, tmp_path: Path, frames: np.ndarray
) -> None:
    tiny_trained_model.save_pretrained(tmp_path / "half", half=True)
    size, half_size = ((path / "model.safetensors").stat().st_size for path in (saved, tmp_path / "half"))
    assert half_size == pytest.approx(size / 2, rel=0.01)
    loaded = VideoColBERT.from_pretrained(tmp_path / "half", device="cpu")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    for one, other in zip(tokens_of(loaded, frames), tokens_of(tiny_trained_model, frames), strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)


def test_loaded_models_are_known_by_their_folder(saved: Path, tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    loaded = VideoColBERT.from_pretrained(saved, device="cpu")
    assert loaded.name == str(saved.resolve())
    loaded.save_pretrained(tmp_path / "other")
    assert loaded.name == str(saved.resolve())
    assert tiny_trained_model.name is None  # saving does not name what is in memory


# Names


def test_shipped_models_have_short_names(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHIPPED", saved.parent)
    assert VideoColBERT.from_pretrained("model", device=CPU).name == "model"
    with pytest.raises(ModelError, match=r"no model 'modl': it is neither a shipped one \(.*model.*\), nor a folder"):
        VideoColBERT.from_pretrained("modl", device=CPU)


def test_a_backbone_and_its_weights_are_a_name(tiny_model: VideoColBERT, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def from_backbone(*args: Any, **kwargs: Any) -> VideoColBERT:
        calls.append((args, kwargs))
        return tiny_model

    monkeypatch.setattr(VideoColBERT, "from_backbone", from_backbone)
    VideoColBERT.from_pretrained("PE-Core-B-16:meta", device=CPU)
    VideoColBERT.from_pretrained("ViT-B-32:/some/weights.pt", device=CPU)
    assert calls == [
        (("PE-Core-B-16",), {"pretrained": "meta", "device": CPU, "precision": "fp32", "compile": False}),
        (("ViT-B-32",), {"pretrained": "/some/weights.pt", "device": CPU, "precision": "fp32", "compile": False}),
    ]


def test_hub_names_are_fetched(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(hub, "hub_problem", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(saved))
    assert VideoColBERT.from_pretrained("user/model", device=CPU).name == "user/model"


def test_without_network_hub_names_have_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("cannot\nreach the Hub.")

    monkeypatch.setattr(hub, "hub_problem", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match=r"no folder 'user/model', and .*: cannot reach the Hub\. Check the network"):
        VideoColBERT.from_pretrained("user/model", device=CPU)


@pytest.mark.parametrize("name", ["nowhere", "./nowhere/at all", "/no/where/at/all", "a/b/c"])
def test_names_that_lead_nowhere_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"there is no model '{name}': .*nor BACKBONE:TAG such as 'PE-Core-B-16:meta'"):
        VideoColBERT.from_pretrained(name, device=CPU)


def test_a_path_is_never_looked_up_on_the_hub() -> None:
    with pytest.raises(ModelError, match="there is no folder runs/best"):
        VideoColBERT.from_pretrained(Path("runs/best"), device=CPU)


# Damage


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{tmp_path} is not a checkpoint: config.json is missing"):
        VideoColBERT.from_pretrained(tmp_path, device=CPU)


@pytest.mark.parametrize(
    "content", ["no json", "[]", '{"model_type": "bert"}', '{"format": 2, "model": {}}', '{"format": 1}']
)
def test_a_foreign_or_newer_description_is_refused(content: str, saved: Path) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json (is no JSON|has no format 1)"):
        VideoColBERT.from_pretrained(saved, device=CPU)


@pytest.mark.parametrize("change", [{"num_frames": 0}, {"colour": "red"}, {"preprocess": {}}, {"query_length": 99}])
def test_impossible_settings_are_refused(change: dict[str, Any], saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())
    values["model"].update(change)
    (saved / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"config\.json: |query_length=99, but tiny-clip reads at most 32 tokens"):
        VideoColBERT.from_pretrained(saved, device=CPU)


@pytest.mark.parametrize("name", ["temporal_layers", "expansion_tokens", "max_frames"])
def test_settings_larger_than_the_weights_are_refused_before_memory_is_taken(name: str, saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())
    values["model"] |= {name: 10**6, "temporal_init": "random"}
    (saved / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=f"{name}=1000000 is more than the weights hold"):
        VideoColBERT.from_pretrained(saved, device=CPU)


@pytest.mark.parametrize("name", ["open_clip_config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, saved: Path) -> None:
    (saved / name).unlink()
    with pytest.raises(ModelError, match=f"{name}.* is missing"):
        VideoColBERT.from_pretrained(saved, device=CPU)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_named_pipe_is_not_waited_for(name: str, saved: Path) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(ModelError, match=f"{name} cannot be read: it is a named pipe, not a plain file"):
        VideoColBERT.from_pretrained(saved, device=CPU)


@pytest.mark.parametrize("size", [0, 5, 1000, -100])
def test_cut_weights_are_refused(size: int, saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors (is damaged, or does not fit|cannot be read)"):
        VideoColBERT.from_pretrained(saved, device=CPU)


@pytest.mark.parametrize(("change", "match"), [(None, "Missing key"), ("extra", "Unexpected key")])
def test_too_few_or_too_many_weights_are_refused(change: str | None, match: str, saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    tensor = weights.pop("temporal.expansion") if change is None else weights["temporal.expansion"].clone()
    save_file({**weights, change: tensor} if change else weights, saved / "model.safetensors")
    with pytest.raises(ModelError, match=rf"model\.safetensors .*does not fit.*{match}"):
        VideoColBERT.from_pretrained(saved, device=CPU)


def test_weights_of_another_model_are_refused(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text())
    values["model"]["expansion_tokens"] = 5
    (saved / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"model\.safetensors .*does not fit.*size mismatch for temporal.expansion"):
        VideoColBERT.from_pretrained(saved, device=CPU)


# What saving replaces, and what it keeps


def test_a_checkpoint_is_replaced(saved: Path, tiny_trained_model: VideoColBERT) -> None:
    model = copy.deepcopy(tiny_trained_model)
    with torch.no_grad():
        model.temporal.expansion += 1
    model.save_pretrained(saved)
    assert torch.equal(load_file(saved / "model.safetensors")["temporal.expansion"], model.temporal.expansion)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_missing_parents_are_made_and_an_empty_folder_filled(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b"):
        tiny_trained_model.save_pretrained(folder)
        assert {path.name for path in folder.iterdir()} == FILES


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_a_folder_of_something_else_is_not_replaced(
    name: str, tiny_trained_model: VideoColBERT, tmp_path: Path
) -> None:
    (tmp_path / name).write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="exists and is not a checkpoint; choose another folder or remove it"):
        tiny_trained_model.save_pretrained(tmp_path)
    assert (tmp_path / name).is_file()


def test_a_file_is_not_replaced(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="exists and is not a checkpoint"):
        tiny_trained_model.save_pretrained(tmp_path / "file")


def test_files_beside_the_checkpoint_are_not_deleted(saved: Path, tiny_trained_model: VideoColBERT) -> None:
    (saved / "log.txt").write_text("valuable")
    with pytest.raises(ModelError, match=r"would delete log\.txt; choose another folder or move them away"):
        tiny_trained_model.save_pretrained(saved)
    assert (saved / "log.txt").read_text() == "valuable"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("moment", ["weights", "move"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_interrupted_save_leaves_the_old_checkpoint(
    moment: str,
    kind: type[BaseException],
    saved: Path,
    tiny_trained_model: VideoColBERT,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = contents(saved)

    def fail(*_: Any, **__: Any) -> None:
        raise kind("no space left")

    rename = Path.rename
    if moment == "weights":
        monkeypatch.setattr(checkpoint, "save_file", fail)
    else:
        monkeypatch.setattr(Path, "rename", lambda path, to: fail() if path.name == "checkpoint" else rename(path, to))
    expected = ModelError if kind is OSError else KeyboardInterrupt
    with pytest.raises(expected, match="no space left"):
        tiny_trained_model.save_pretrained(saved)
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_an_unwritable_folder_is_an_error_that_names_it(tiny_trained_model: VideoColBERT, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match=r"the checkpoint .*file/model cannot be written: "):
        tiny_trained_model.save_pretrained(tmp_path / "file" / "model")


# Hugging Face tokenizers travel in the folder


def word_level_tokenizer(folder: Path) -> Any:
    save_word_tokenizer(folder)
    return open_clip.tokenizer.HFTokenizer(folder, context_length=16)


@pytest.mark.slow
def test_a_hugging_face_tokenizer_travels_in_the_folder(
    tiny_siglip_model: VideoColBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "tokenizer").mkdir()
    text_cfg = {**TINY_SIGLIP["text_cfg"], "hf_tokenizer_name": "nobody/has-this-tokenizer"}
    backbone = OpenClipBackbone(
        tiny_siglip_model.backbone.clip,
        tokenizer=word_level_tokenizer(tmp_path / "tokenizer"),
        architecture={**TINY_SIGLIP, "text_cfg": text_cfg},
        preprocess=tiny_siglip_model.config.preprocess,
    )
    model = VideoColBERT(tiny_siglip_model.config, backbone).eval()
    model.save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "tokenizer")

    loaded = VideoColBERT.from_pretrained(tmp_path / "model", device="cpu")
    batch = loaded.backbone.tokenize(["a dog", "a a zebra"], length=16)
    assert batch.ids[:, :5].tolist() == [[3, 4, 1, 1, 1], [3, 3, 2, 1, 1]]
    assert batch.content.sum(dim=1).tolist() == [3, 4]
    assert torch.equal(loaded.encode_queries(TEXTS).tokens, model.encode_queries(TEXTS).tokens)

    loaded.save_pretrained(tmp_path / "model")  # tokenizer files do not stand in the way
    for path in (tmp_path / "model").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="lacks its tokenizer files, or they are damaged: save or download it again"):
        VideoColBERT.from_pretrained(tmp_path / "model", device=CPU)


def test_weights_are_as_readable_as_the_other_files(tmp_path: Path, tiny_model: VideoColBERT) -> None:
    tiny_model.save_pretrained(tmp_path / "model")
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


# Weights that are no numbers, or too large for sums of them


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_no_numbers_are_refused(saved: Path, value: float, dtype: torch.dtype) -> None:
    weights = load_file(saved / "model.safetensors")
    weights["temporal.expansion"][0, 0] = value
    save_file({name: weight.to(dtype) for name, weight in weights.items()}, saved / "model.safetensors")
    with pytest.raises(ModelError, match=r"model.safetensors: 'temporal.expansion' holds NaN or infinity"):
        VideoColBERT.from_pretrained(saved, device="cpu")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("backbone.clip.text_projection", "query"),
        ("backbone.clip.visual.proj", "frame"),
        ("temporal.expansion", "video"),
    ],
)
@pytest.mark.parametrize("factor", [1e38, 0.0])
def test_weights_that_leave_tokens_without_a_direction_are_named(
    saved: Path, frames: np.ndarray, name: str, kind: str, factor: float
) -> None:
    """Sums of huge numbers are infinite, and scores of such tokens were NaN or 0."""
    model = VideoColBERT.from_pretrained(saved, device="cpu")
    with torch.no_grad():
        model.get_parameter(name).mul_(factor)
    if (name, factor) == ("temporal.expansion", 0.0):  # positions and layers give it a direction
        model.encode_videos([frames])
        return
    with pytest.raises(ModelError, match=rf"the model makes a {kind} token of length (nan|0), which must be 1"):
        model.encode_queries(TEXTS) if kind == "query" else model.encode_videos([frames])
