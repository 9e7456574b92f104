"""The model's switches: defaults of the paper, contradictions, JSON."""

import json
from typing import Any

import pytest

from colbert_video.errors import ModelError, SettingsError
from colbert_video.model.backbone import Preprocess
from colbert_video.model.config import ModelConfig

HALF = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")


def config(**settings: Any) -> ModelConfig:
    values = {"backbone": "ViT-B-32-quickgelu", "pretrained": "openai", "preprocess": HALF, "query_length": 32}
    return ModelConfig(**{**values, **settings})


def test_the_defaults_are_the_papers() -> None:
    found = config()
    assert (found.num_frames, found.temporal_layers, found.temporal_init) == (12, 4, "text")
    assert (found.expansion_tokens, found.interaction, found.query_augmentation) == (2, "mms_fv", True)
    assert found.frame_positions
    assert found.outer_residual
    assert found.score_start_token
    assert found.pad_id is None
    assert not found.trained


def test_json_keeps_every_switch() -> None:
    changed = config(pad_id=49407, num_frames=64, trained=True, interaction="rrf", pretrained=None)
    assert ModelConfig.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"query_length": 2}, "query_length=2 must be at least 3"),
        ({"num_frames": 0}, "num_frames=0 must be at least 1"),
        ({"temporal_layers": -1}, "temporal_layers=-1 must be at least 0"),
        ({"expansion_tokens": -1}, "expansion_tokens=-1 must be at least 0"),
        ({"num_frames": 10**5000}, "num_frames=a value of type int must be at most 18446744073709551615"),
        ({"query_length": -(10**20)}, "query_length=-100000000000000000000 must be at least -18446744073709551615"),
        ({"num_frames": 65}, "num_frames=65 exceeds max_frames=64; raise max_frames"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        config(**settings)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"interaction": "sum"}, "interaction='sum' must be one of mms_fv"),
        ({"temporal_init": "zero"}, "temporal_init='zero' must be one of text, random"),
    ],
)
def test_unknown_choices_are_refused(change: dict[str, Any], match: str) -> None:
    class Unchecked(ModelConfig):
        """Reaches the library's own checks past the test suite's type checks."""

        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                object.__setattr__(self, name, value)
            ModelConfig.__post_init__(self)

    with pytest.raises(SettingsError, match=match):
        Unchecked(**{**config().to_dict(), **change})


@pytest.mark.parametrize("change", [{"colour": "red"}, {"preprocess": None}, {"preprocess": {"height": 3}}])
def test_a_description_with_other_fields_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="the model configuration is unusable: "):
        ModelConfig.from_dict({**config().to_dict(), **change})


def test_a_description_without_a_field_is_refused() -> None:
    values = config().to_dict()
    del values["query_length"]
    with pytest.raises(ModelError, match=r"unusable: .*'query_length'"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("interaction", "bags"),
    [
        ("mms_fv", ("frame", "video")),
        ("rrf", ("frame", "video")),
        ("mms_f", ("frame",)),
        ("mp_f", ("frame",)),
        ("mms_v", ("video",)),
        ("mp_v", ("video",)),
    ],
)
def test_bags_are_those_that_the_interaction_reads(interaction: str, bags: tuple[str, ...]) -> None:
    assert config(interaction=interaction, trained=True).bags == bags
    assert config(interaction=interaction, trained=False).bags == ("frame",)


def test_more_frames_than_positions_are_refused_before_sampling() -> None:
    assert config(max_frames=64).sampling(64).num_frames == 64
    assert config(num_frames=12).sampling().num_frames == 12
    with pytest.raises(SettingsError, match="num_frames=65 is more than the model takes: it has positions for 64"):
        config(max_frames=64).sampling(65)
