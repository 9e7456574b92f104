"""Building backbones by name: each trap of open_clip's is an error that says what to do."""

import json
import logging
import resource
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import list_pretrained
from tiny_models import TINY_CLIP

from colbert_video.errors import ModelError, in_one_line
from colbert_video.model.backbone import Preprocess
from colbert_video.model.backbones import open_clip as open_clip_models
from colbert_video.model.backbones import open_clip_downloads
from colbert_video.model.backbones.open_clip import OpenClipBackbone

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
HALF = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")


@pytest.fixture
def weight_file(tiny_names: SimpleNamespace, tmp_path: Path) -> Path:
    clip = open_clip.create_model(tiny_names.clip, load_weights=False)
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


AMPLE = {str(number): [10**6] for number in range(99)}
"""Shapes of weights that any small model fits into."""


def test_a_model_without_weights_is_random(tiny_names: SimpleNamespace) -> None:
    backbone = OpenClipBackbone.from_name(tiny_names.clip)
    assert (backbone.dim, backbone.context_length) == (64, 32)
    assert backbone.preprocess == Preprocess(32, 32, OPENAI_MEAN, (0.26862954, 0.26130258, 0.27577711), "bicubic")
    assert backbone.architecture == TINY_CLIP


def test_weights_come_from_a_file(tiny_names: SimpleNamespace, weight_file: Path) -> None:
    backbone = OpenClipBackbone.from_name(tiny_names.clip, str(weight_file), preprocess=HALF)
    assert backbone.preprocess == HALF
    stored = torch.load(weight_file, weights_only=True)
    assert torch.equal(backbone.clip.state_dict()["text_projection"], stored["text_projection"])


def test_a_weight_file_of_unknown_preprocessing_is_refused(tiny_names: SimpleNamespace, weight_file: Path) -> None:
    """open_clip would silently assume OpenAI's constants."""
    with pytest.raises(ModelError, match=r"use 0 kinds of preprocessing.*Pass preprocess=Preprocess\(\.\.\.\)"):
        OpenClipBackbone.from_name(tiny_names.clip, str(weight_file))


def test_a_weight_file_of_ambiguous_preprocessing_is_refused(tmp_path: Path) -> None:
    """ViT-L-14 was published with OpenAI's constants and with 0.5."""
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(ModelError, match="the published weights of ViT-L-14 use 2 kinds of preprocessing"):
        OpenClipBackbone.from_name("ViT-L-14", str(tmp_path / "weights.pt"))


def test_a_foreign_weight_file_is_refused(tiny_names: SimpleNamespace, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "foreign.pt")
    with pytest.raises(ModelError, match=r"the weight file '.*foreign.pt' does not load into tiny-clip: .*Missing key"):
        OpenClipBackbone.from_name(tiny_names.clip, str(tmp_path / "foreign.pt"), preprocess=HALF)


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(ModelError, match="open_clip has no model 'ViT-B-33'; did you mean ViT-B-32"):
        OpenClipBackbone.from_name("ViT-B-33")
    with pytest.raises(ModelError, match=r"no model 'zzz'; see open_clip.list_models\(\)"):
        OpenClipBackbone.from_name("zzz")


@pytest.mark.parametrize("name", ["hf-hub:timm/ViT-B-16-SigLIP", "local-dir:/somewhere"])
def test_names_that_point_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="must be one of open_clip's own model names"):
        OpenClipBackbone.from_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("coca_ViT-B-32", "CoCa's text tower appends a class token"),
        ("roberta-ViT-B-32", "its text tower is the Hugging Face model roberta-base"),
        ("nllb-clip-base", "its text tower is the Hugging Face model facebook/nllb-200"),
    ],
)
def test_text_towers_without_tokens_are_refused_before_any_download(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=f"{name}: {reason}.*Supported families: CLIP"):
        OpenClipBackbone.from_name(name)


def test_an_unknown_tag_lists_the_known_ones(tiny_names: SimpleNamespace) -> None:
    with pytest.raises(ModelError, match=r"PE-Core-B-16 has no pretrained weights 'openai'; its tags are meta\."):
        OpenClipBackbone.from_name("PE-Core-B-16", "openai")
    with pytest.raises(
        ModelError, match=r"tiny-clip has no .* 'openai'; it has no tags: give the path of a weight file"
    ):
        OpenClipBackbone.from_name(tiny_names.clip, "openai")


@pytest.mark.parametrize(
    ("name", "tag", "other"),
    [("ViT-B-32", "openai", "ViT-B-32-quickgelu"), ("ViT-B-16", "dfn2b", "ViT-B-16-quickgelu")],
)
def test_weights_trained_with_quickgelu_need_it(name: str, tag: str, other: str) -> None:
    with pytest.raises(ModelError, match=f"were trained with QuickGELU, but {name} computes GELU.*'{other}'"):
        OpenClipBackbone.from_name(name, tag)


def test_every_published_tag_passes_or_names_a_model_that_fits() -> None:
    for name, tag in list_pretrained():
        model_cfg = open_clip.get_model_config(name)
        if "hf_model_name" in model_cfg["text_cfg"]:
            continue  # refused anyway
        try:
            open_clip_models._check_tag(name, tag, model_cfg)
        except ModelError as error:
            other = str(error).split("'")[-2]
            open_clip_models._check_tag(other, tag, open_clip.get_model_config(other))


@pytest.mark.parametrize(
    ("name", "tag", "mean", "interpolation"),
    [
        ("ViT-B-32-quickgelu", "openai", OPENAI_MEAN, "bicubic"),
        ("ViT-B-16-SigLIP", "webli", (0.5, 0.5, 0.5), "bicubic"),
        ("PE-Core-B-16", "meta", (0.5, 0.5, 0.5), "bilinear"),
        ("MobileCLIP2-S0", "dfndr2b", (0.0, 0.0, 0.0), "bilinear"),
    ],
)
def test_preprocessing_belongs_to_the_tag(name: str, tag: str, mean: tuple[float, ...], interpolation: str) -> None:
    found = open_clip_models._preprocess(name, tag, open_clip.get_model_config(name))
    assert (found.mean, found.interpolation) == (mean, interpolation)
    by_file = open_clip_models._preprocess(name, "a/weight/file", open_clip.get_model_config(name))
    assert by_file == found


def offline(*_: Any, **__: Any) -> None:
    raise OSError("cannot reach\nthe hub.")


def test_a_failed_download_says_how_to_fetch_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip_downloads, "hub_problem", lambda: None)
    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    command = r"open_clip.create_model\('ViT-B-32-quickgelu', pretrained='openai'\)"
    with pytest.raises(
        ModelError, match=f"could not be fetched: cannot reach the hub\\. To fetch .*{command}.* or pass"
    ):
        OpenClipBackbone.from_name("ViT-B-32-quickgelu", "openai")


def test_a_failed_tokenizer_says_how_to_fetch_it_before_any_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip_downloads, "hub_problem", lambda: None)
    monkeypatch.setattr(open_clip, "get_tokenizer", offline)
    monkeypatch.delattr(open_clip, "create_model")
    with pytest.raises(
        ModelError, match=r"tokenizer of ViT-B-16-SigLIP could not .*get_tokenizer\('ViT-B-16-SigLIP'\)"
    ):
        OpenClipBackbone.from_name("ViT-B-16-SigLIP", "webli")


def test_building_leaves_logging_and_warnings_alone(
    tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # a program that has not set up logging yet
    level, filters = logging.root.level, list(warnings.filters)
    OpenClipBackbone.from_name(tiny_names.clip)
    assert (logging.root.handlers, logging.root.level, logging.root.filters) == ([], level, [])
    assert list(warnings.filters) == filters


def test_only_open_clip_is_muted_while_a_model_is_built(
    tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def other_thread() -> None:
        logging.getLogger("colbert_video.serve").error("heard from another thread")
        logging.warning("the program's own")

    def create(*names: Any, **options: Any) -> Any:
        logging.error("chatter")
        logging.getLogger("colbert_video.model.video_colbert").warning("heard from this thread")
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        return original(*names, **options)

    original = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", create)
    OpenClipBackbone.from_name(tiny_names.clip)
    assert caplog.messages == ["heard from this thread", "heard from another thread", "the program's own"]


def test_a_program_without_logging_hears_others_too(
    tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create(*names: Any, **options: Any) -> Any:
        logging.error("chatter")
        thread = threading.Thread(target=logging.getLogger("colbert_video.serve").error, args=["heard"])
        thread.start()
        thread.join()
        return original(*names, **options)

    original = open_clip.create_model
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(open_clip, "create_model", create)
    OpenClipBackbone.from_name(tiny_names.clip)
    assert capsys.readouterr().err == "heard\n"


@pytest.mark.parametrize("configured", [True, False])
def test_models_built_at_once_leave_logging_and_warnings_alone(
    tiny_names: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, configured: bool
) -> None:
    if not configured:
        monkeypatch.setattr(logging.root, "handlers", [])
    level, handlers, filters = logging.root.level, list(logging.root.handlers), list(warnings.filters)
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def create(*names: Any, **options: Any) -> Any:
        if first_is_in.is_set():
            second_is_in.set()
            assert first_is_out.wait(60)
        else:
            first_is_in.set()
            second_is_in.wait(0.5)  # it never is if builds are one at a time
        return original(*names, **options)

    def first() -> None:
        OpenClipBackbone.from_name(tiny_names.clip)
        first_is_out.set()

    original = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", create)
    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(60)
    OpenClipBackbone.from_name(tiny_names.clip)
    thread.join()
    assert (logging.root.level, logging.root.handlers, logging.root.filters) == (level, handlers, [])
    assert list(warnings.filters) == filters


def folder_with(tmp_path: Path, content: str) -> Path:
    (tmp_path / "open_clip_config.json").write_text(content)
    return tmp_path


def test_a_description_rebuilds_the_architecture(tmp_path: Path) -> None:
    backbone = OpenClipBackbone.from_folder(
        folder_with(tmp_path, json.dumps({"model_cfg": TINY_CLIP})), HALF, shapes=AMPLE
    )
    assert (backbone.dim, backbone.context_length, backbone.preprocess) == (64, 32, HALF)


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        '{"model_cfg": {}}',
        json.dumps({"model_cfg": {**TINY_CLIP, "text_cfg": {"width": "wide"}}}),
    ],
)
def test_a_useless_description_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"open_clip_config.json describes no model that open_clip can build: "):
        OpenClipBackbone.from_folder(folder_with(tmp_path, content), HALF, shapes=AMPLE)


def test_a_description_cannot_run_code(tmp_path: Path) -> None:
    text_cfg = {**TINY_CLIP["text_cfg"], "hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    content = json.dumps({"model_cfg": {**TINY_CLIP, "text_cfg": text_cfg}})
    with pytest.raises(ModelError, match="wants to run code of its own"):
        OpenClipBackbone.from_folder(folder_with(tmp_path, content), HALF, shapes=AMPLE)


def changed(part: str, **values: Any) -> str:
    return json.dumps({"model_cfg": {**TINY_CLIP, part: {**TINY_CLIP[part], **values}}})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("vision_cfg", timm_model_name="hf-hub:someone/model"), "loaded from elsewhere"),
        (changed("vision_cfg", timm_model_name="local-dir:/etc"), "loaded from elsewhere"),
        (
            changed("vision_cfg", timm_model_name="vit_tiny_patch16_224", timm_model_pretrained=True),
            "loaded from elsewhere",
        ),
        (changed("vision_cfg", layers=10**6), "larger model than its weights"),
        (changed("text_cfg", layers=10**6), "larger model than its weights"),
        (changed("vision_cfg", layers=[3, 4, 10**6, 3]), "larger model than its weights"),
        (changed("text_cfg", width=10**6), "larger model than its weights"),
        (changed("text_cfg", vocab_size=10**9), "larger model than its weights"),
        (changed("text_cfg", context_length=10**6), "larger model than its weights"),
        (changed("vision_cfg", image_size=10**6, pos_embed_type="sin_cos_2d"), "larger model than its weights"),
        (changed("vision_cfg", width=10**7), "larger model than its weights"),
    ],
)
def test_a_stranger_gets_neither_network_nor_memory(content: str, message: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=message):
        OpenClipBackbone.from_folder(folder_with(tmp_path, content), HALF, shapes=AMPLE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kilobytes


def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    text_cfg = {**TINY_CLIP["text_cfg"], "hf_tokenizer_name": "some/tokenizer"}
    content = json.dumps({"model_cfg": {**TINY_CLIP, "text_cfg": text_cfg}})
    with pytest.raises(ModelError, match="lacks its tokenizer files, or they are damaged"):
        OpenClipBackbone.from_folder(folder_with(tmp_path, content), HALF, shapes=AMPLE)


def test_an_error_in_one_line() -> None:
    assert in_one_line(OSError("one\n  two.")) == "one two"
    assert in_one_line(KeyError()) == "KeyError"
    assert in_one_line(OSError("x" * 400)) == "x" * 300 + " ..."
