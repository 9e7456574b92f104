"""Folders and names of transformers' models that cannot be used: each is refused in one line, before anything is loaded."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from tiny_transformers import save_tiny

from colbert_video import Indexer, Searcher, VideoColBERT
from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Preprocess
from colbert_video.model.backbones.transformers_backbone import TransformersBackbone
from colbert_video.model.checkpoint import settled_name

HALF = Preprocess(32, 32, (0.5,) * 3, (0.5,) * 3, "bicubic")
AMPLE = {f"weight{number}": [1000] for number in range(200)}
"""Shapes of weights that are more than the tiny models need."""

Edit = Callable[[Path], Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny models; copy them before a change."""
    folders = {kind: tmp_path_factory.mktemp(kind) / "published" for kind in ("clip", "siglip", "tipsv2")}
    for kind, folder in folders.items():
        save_tiny(kind, folder)
    return folders


def fields(file: str, **changes: Any) -> Edit:
    """Change fields of a JSON file; those of None are left out, and towers are changed in part."""

    def edit(folder: Path) -> None:
        path = folder / file
        values = json.loads(path.read_text())
        for name, change in changes.items():
            whole = not (isinstance(change, dict) and isinstance(values.get(name), dict))
            values[name] = change if whole else {**values[name], **change}
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))

    return edit


def without(*files: str) -> Edit:
    return lambda folder: [(folder / file).unlink() for file in files]


def holding(file: str, content: str) -> Edit:
    return lambda folder: (folder / file).write_text(content)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def sharded(file: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"logit_scale": file}}))

    return edit


CONFIG, PICTURES = "config.json", "preprocessor_config.json"
REFUSED: dict[str, tuple[Edit, str]] = {
    "a text model": (
        fields(CONFIG, model_type="bert"),
        "of the type 'bert', and it is no dual encoder .*Supported types: clip, metaclip_2, .*tipsv2",
    ),
    "a class token": (fields(CONFIG, model_type="videoprism"), "its text tower appends a class token"),
    "a tower alone": (fields(CONFIG, model_type="clip_text_model"), "it is a text tower alone"),
    "nearly a name": (fields(CONFIG, model_type="siglip_2"), "Did you mean siglip2"),
    "no type": (fields(CONFIG, model_type=None), "of the type None, and it is no dual encoder"),
    "no text as type": (fields(CONFIG, model_type=["clip"]), "of the type \\['clip'\\], and it is no dual encoder"),
    "no configuration": (without(CONFIG), "has no config.json; give a folder or repository that holds a whole model"),
    "no JSON": (holding(CONFIG, "{"), "config.json is no JSON .*download it again"),
    "no object": (holding(CONFIG, "[]"), "config.json holds \\[\\], not a JSON object"),
    "our own": (holding(CONFIG, '{"format": 1, "model": {}}'), "a saved model of this library: leave out 'hf:'"),
    "quantised": (fields(CONFIG, quantization_config={"quant_method": "gptq"}), "has quantised weights"),
    "an adapter": (holding("adapter_config.json", "{}"), "holds an adapter .*merge it into its model"),
    "no weights": (without("model.safetensors"), "no weights that are read: its folder lacks model.safetensors"),
    "a pickle": (pickled, "as pytorch_model.bin only, which is not read: a pickle can run code.*save_pretrained"),
    "damaged weights": (holding("model.safetensors", "x" * 100), "model.safetensors is damaged"),
    "weights elsewhere": (sharded("../other.safetensors"), "does not list files of weights beside it"),
    "a missing shard": (sharded("model-1-of-2.safetensors"), "model-1-of-2.safetensors is missing"),
    "too few weights": (sharded("model-1-of-1.safetensors"), "larger model than its weights"),
    "no words": (without("tokenizer.json"), "has no tokenizer: none of tokenizer.json.*AutoTokenizer"),
    "damaged words": (
        holding("tokenizer.json", "{"),
        "the tokenizer of hf:.* could not be loaded: .*missing or damaged",
    ),
    "another end": (
        fields(CONFIG, text_config={"eos_token_id": 5}),
        "pools the token 5 that ends a text, and its tokenizer does not write it",
    ),
    "several ends": (
        fields(CONFIG, text_config={"eos_token_id": [3, 4]}),
        "eos_token_id=\\[3, 4\\] must be one token id",
    ),
    "few words": (
        fields(CONFIG, text_config={"vocab_size": 4}),
        "the tokenizer writes the id .*, and the text tower has ids up to 3",
    ),
    "other shapes": (
        fields(CONFIG, text_config={"vocab_size": 60}),
        "lack 1 of its configuration's, or have them in other shapes, such as 'text_model.embeddings.token_embedding",
    ),
    "no picture file": (without(PICTURES), "has no preprocessor_config.json, .*or pass preprocess=Preprocess"),
    "another filter": (fields(PICTURES, resample=1), "Pillow's filter 1, and frames are resized with 2 .*or 3"),
    "other pictures": (fields(PICTURES, crop_size=48), "pictures of 48×48, and the image tower does not take them"),
    "a useless mean": (fields(PICTURES, image_mean="x"), "preprocessor_config.json is unusable"),
    "no deviation": (fields(PICTURES, image_std=[0, 0, 0]), "unusable: .*std above 0"),
    "huge pictures": (fields(PICTURES, crop_size=10**5), "unusable: frame size 100000×100000"),
    "an activation": (fields(CONFIG, text_config={"hidden_act": "none such"}), "describes no model that transformers"),
    "no patches": (fields(CONFIG, vision_config={"patch_size": 0}), "describes no model that transformers"),
    "no heads": (fields(CONFIG, text_config={"num_attention_heads": 0}), "describes no model that transformers"),
    "text as width": (fields(CONFIG, text_config={"hidden_size": "big"}), "describes no model that transformers"),
    "no tower": (fields(CONFIG, text_config=5), "describes no model that transformers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_that_cannot_be_used_is_refused(case: str, tiny: dict[str, Path], tmp_path: Path) -> None:
    edit, message = REFUSED[case]
    folder = tmp_path / "model"
    shutil.copytree(tiny["clip"], folder)
    edit(folder)
    if case == "too few weights":
        shutil.copy(tiny["clip"] / "tokenizer_config.json", folder)
        from safetensors.torch import save_file

        save_file({"logit_scale": torch.ones(())}, folder / "model-1-of-1.safetensors")
    with pytest.raises(ModelError, match=message) as refused:
        VideoColBERT.from_pretrained(f"hf:{folder}", device="cpu")
    assert "\n" not in str(refused.value)


def test_an_image_tower_without_its_head_is_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny["siglip"], tmp_path / "model")
    fields(CONFIG, vision_config={"vision_use_head": False})(tmp_path / "model")
    with pytest.raises(ModelError, match="SigLIP: its image tower is built without the head"):
        VideoColBERT.from_pretrained(f"hf:{tmp_path / 'model'}", device="cpu")


def test_a_type_that_the_installed_transformers_lacks_says_so(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.auto import configuration_auto

    monkeypatch.setattr(configuration_auto, "CONFIG_MAPPING", {})
    with pytest.raises(ModelError, match=r"the type 'tipsv2', which the installed transformers lacks: pip install -U"):
        VideoColBERT.from_pretrained(f"hf:{tiny['tipsv2']}", device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "the model is empty"),
        ("hf:bert-base-uncased", "'bert-base-uncased' is not a folder here, and not a Hub id 'user/model'"),
        ("hf:./none/such", "'./none/such' is not a folder here"),
        ("hf:a/b/c", "'a/b/c' is not a folder here"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name: str, message: str) -> None:
    for call in (VideoColBERT.from_pretrained, VideoColBERT.from_backbone, settled_name):
        with pytest.raises(ModelError, match=message):
            call(name)


def test_the_name_brings_the_weights(tiny: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="brings its own weights, so pretrained='openai' says nothing; leave it out"):
        VideoColBERT.from_backbone(f"hf:{tiny['clip']}", "openai", device="cpu")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"query_length": 99}, ModelError, "query_length=99, but hf:.* reads at most 24 tokens"),
        ({"temporal_layers": 9}, ModelError, "temporal_layers=9, but the text tower has 4 layers"),
        ({"pad_id": 64}, ModelError, "has token ids from 0 to 63"),
        ({"colour": "red"}, SettingsError, "unknown model settings: colour"),
    ],
)
def test_wrong_settings_are_refused_before_the_weights_are_read(
    settings: dict[str, Any], error: type[Exception], message: str, tiny: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny["clip"], tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(error, match=message):
        VideoColBERT.from_backbone(f"hf:{tmp_path / 'model'}", device="cpu", **settings)


def test_a_text_tower_of_another_width_gets_random_temporal_layers(tmp_path: Path) -> None:
    """Its layers cannot be copied, and untrained it needs none."""
    save_tiny("clip", tmp_path, projection_dim=16)
    model = VideoColBERT.from_backbone(f"hf:{tmp_path}", device="cpu")
    assert (model.dim, model.config.temporal_init) == (16, "random")
    with pytest.raises(ModelError, match=r"32 wide and frame features have 16 dim.*temporal_init='random'"):
        VideoColBERT.from_backbone(f"hf:{tmp_path}", device="cpu", temporal_init="text")


def test_a_model_that_is_not_ours_says_how_to_name_it(tiny: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"has no format 1;.*Hugging Face transformers, write 'hf:' before its name"):
        VideoColBERT.from_pretrained(tiny["clip"])
    with pytest.raises(ModelError, match=r"there is no model 'nowhere'.*write 'hf:' before its name"):
        VideoColBERT.from_pretrained("nowhere")


# Strangers


def stranger(tmp_path: Path, tiny: dict[str, Path], **changes: Any) -> Path:
    """A saved model of this library whose architecture was changed by somebody."""
    folder = tmp_path / "saved"
    VideoColBERT.from_pretrained(f"hf:{tiny['clip']}", device="cpu").save_pretrained(folder)
    fields("transformers_config.json", **changes)(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"text_config": {"num_hidden_layers": 10**6}},
        {"vision_config": {"num_hidden_layers": 10**6}},
        {"vision_config": {"num_hidden_layers": 500}},
        {"text_config": {"vocab_size": 10**9}},
        {"text_config": {"max_position_embeddings": 10**6}},
        {"text_config": {"hidden_size": 10**6}},
        {"text_config": {"intermediate_size": 10**7}},
        {"vision_config": {"image_size": 10**6}},
        {"vision_config": {"patch_size": 10**4}},
        {"projection_dim": 10**8},
    ],
    ids=str,
)
def test_a_stranger_gets_no_memory(changes: dict[str, Any], tiny: dict[str, Path], tmp_path: Path) -> None:
    folder = stranger(tmp_path, tiny, **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="larger model than its weights"):
        VideoColBERT.from_pretrained(folder, device="cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kilobytes


def test_sines_of_a_stranger_are_bounded_too(tiny: dict[str, Path], tmp_path: Path) -> None:
    """They are no weights."""
    folder = tmp_path / "saved"
    VideoColBERT.from_pretrained(f"hf:{tiny['tipsv2']}", device="cpu").save_pretrained(folder)
    fields("transformers_config.json", text_config={"max_position_embeddings": 10**9})(folder)
    with pytest.raises(ModelError, match="larger model than its weights"):
        VideoColBERT.from_pretrained(folder, device="cpu")


def test_a_stranger_runs_no_code_and_chooses_no_kernel(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "run"
    code = f"open({str(marker)!r}, 'w')"
    kernel = {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel"}
    auto = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
    folder = stranger(tmp_path, tiny, auto_map=auto, **kernel, dtype="float16", text_config=kernel)
    published = tmp_path / "published"
    shutil.copytree(tiny["clip"], published)
    fields(CONFIG, auto_map=auto, **kernel, dtype="float16")(published)
    for one in (folder, published):
        fields("tokenizer_config.json", auto_map=auto, tokenizer_class="EvilTokenizer")(one)
        (one / "evil.py").write_text(code)
    before = VideoColBERT.from_pretrained(f"hf:{tiny['clip']}", device="cpu")
    for name in (folder, f"hf:{published}"):
        loaded = VideoColBERT.from_pretrained(name, device="cpu")
        assert loaded.fingerprint() == before.fingerprint()
        assert loaded.backbone.towers.config.text_config._attn_implementation == "sdpa"
        assert next(loaded.parameters()).dtype == torch.float32
    assert not marker.exists()


def test_a_stranger_reads_no_other_files(tiny: dict[str, Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    shutil.copy(tiny["siglip"] / "tokenizer.json", secret)
    folder = stranger(tmp_path, tiny)
    fields("tokenizer_config.json", tokenizer_file=str(secret), vocab_file=str(secret))(folder)
    model = VideoColBERT.from_pretrained(folder, device="cpu")
    assert model.tokenize(["a dog"]).ids[0, 0] == 2  # its own tokenizer writes a start, the other one none
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        VideoColBERT.from_pretrained(folder, device="cpu")


@pytest.mark.parametrize(
    "content", ["no json", "[]", "{}", '{"model_type": "bert"}', '{"model_type": "clip", "text_config": 5}']
)
def test_a_useless_description_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "transformers_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"transformers_config\.json"):
        TransformersBackbone.from_folder(tmp_path, HALF, shapes=AMPLE)


# End to end


def test_an_index_is_made_and_searched_by_name(
    tiny: dict[str, Path],
    rendered_clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny["tipsv2"].parent)
    index = str(tmp_path / "my.index")
    code, _, errors = run(
        ["index", str(rendered_clips), "--index", index, "--model", "hf:./published", "--frames", "2"], capsys
    )
    assert (code, errors) == (0, "")
    os.chdir(tmp_path)  # the index remembers the absolute path
    code, output, _ = run(["search", "a red circle", "--index", index, "--json", "-k", "6"], capsys)
    assert code == 0
    found = {hit["id"]: hit["score"] for hit in json.loads(output)["hits"]}
    assert len(found) == 6

    model = VideoColBERT.from_pretrained(f"hf:{tiny['tipsv2']}", device="cpu")
    searcher = Searcher(index, device="cpu")
    hits = searcher.search("a red circle", k=6)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(found, abs=1e-4)
    tokens = model.encode_queries("a red circle")
    assert {hit.id: hit.score for hit in searcher.search_tokens(tokens[0], k=6)} == pytest.approx(found, abs=1e-4)
    explained = searcher.explain("a red circle", hits[0].id)
    assert [token.token for token in explained.tokens] == ["a", "red", "circle"]


def test_a_trained_model_indexes_both_bags(tiny: dict[str, Path], rendered_clips: Path, tmp_path: Path) -> None:
    model = VideoColBERT.from_backbone(f"hf:{tiny['clip']}", device="cpu", trained=True, num_frames=2)
    model.save_pretrained(tmp_path / "trained")
    Indexer(tmp_path / "my.index", model=tmp_path / "trained", device="cpu").index(rendered_clips)
    hits = Searcher(tmp_path / "my.index", device="cpu").search("a red circle", k=3)
    assert len(hits) == 3
    assert all(hit.video_score is not None for hit in hits)
