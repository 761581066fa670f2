"""Reading configs of models and building them: the published ones have exactly the official weights' names."""

import json
from functools import cache

import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.registry import DefaultScope

from bmp.errors import UserError
from bmp.models.configs import load_model_config
from bmp.models.topdown import build_topdown

_PUBLISHED = [(f"models/{family}_{size}.py", family, size) for family in ("pmpose", "maskpose") for size in "sblh"]
_OFFICIAL = {"pmpose": "PMPose-{}-1.0.0", "maskpose": "MaskPose-{}-1.1.0"}


def _tiny():
    section = load_model_config("models/pmpose_b.py", "mmpose")["model"]
    section["backbone"]["arch"] = {"embed_dims": 8, "num_layers": 1, "num_heads": 1, "feedforward_channels": 8}
    section["head"].update(in_channels=8, deconv_out_channels=(8, 8))
    return section


@cache
def _published(config):
    with torch.device("meta"):
        return build_topdown(load_model_config(config, "mmpose")["model"], "random")


@pytest.mark.slow
@pytest.mark.parametrize(("config", "family", "size"), _PUBLISHED)
def test_published_models_build(config, family, size):
    model = _published(config)
    assert model.head.out_channels == 23
    assert model.head.decoder.input_size == (192, 256)
    assert not model.training


@pytest.mark.parametrize(("config", "family", "size"), _PUBLISHED)
def test_official_weights_fit(shared, config, family, size):
    listing = shared / "reference" / "checkpoints" / f"{_OFFICIAL[family].format(size)}.json"
    if not listing.exists():
        pytest.skip(f"no listing of {listing.stem} in shared/")
    ours = {name: list(value.shape) for name, value in _published(config).state_dict().items()}
    assert ours == json.loads(listing.read_text())["state_dict"]


@pytest.mark.parametrize("scope", [None, "mmdet"])
def test_the_default_scope_does_not_matter_and_is_left_alone(scope):
    with DefaultScope.overwrite_default_scope(scope):
        build_topdown(_tiny(), "random")
        assert getattr(DefaultScope.get_current_instance(), "scope_name", None) == scope


def test_made_up_weights_are_the_same_every_time_and_leave_the_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = build_topdown(_tiny(), "random").state_dict()
    assert torch.equal(torch.rand(1), expected)
    second = build_topdown(_tiny(), "random").state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_section_is_left_alone_and_pretrained_weights_are_not_fetched():
    section = _tiny()
    section["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "nowhere.pth"}
    section["pretrained"] = "nowhere.pth"
    build_topdown(section, "random")
    assert section["backbone"]["init_cfg"]["checkpoint"] == "nowhere.pth"
    assert section["pretrained"] == "nowhere.pth"


@pytest.mark.slow
def test_weights_are_loaded_strictly(tmp_path):
    model = build_topdown(_tiny(), "random")
    state = {name: torch.full_like(value, 3) for name, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "threes.pth")
    loaded = build_topdown(_tiny(), str(tmp_path / "threes.pth"))
    assert all((value == 3).all() for value in loaded.state_dict().values())
    del state["head.final_layer.bias"]
    torch.save({"state_dict": state}, tmp_path / "lacking.pth")
    with pytest.raises(UserError, match=r"1 missing: head\.final_layer\.bias"):
        build_topdown(_tiny(), str(tmp_path / "lacking.pth"))


@pytest.mark.parametrize("name", ["rtmpose-t_8xb256-420e_coco-256x192", "models/pmpose_s", "models/pmpose_s.py"])
def test_configs_by_name(name):
    assert load_model_config(name, "mmpose")["model"]["type"] == "TopdownPoseEstimator"


def test_configs_by_path_and_as_dicts(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("model = dict(type='Mine')\n")
    assert load_model_config(path, "mmpose")["model"] == {"type": "Mine"}
    assert load_model_config({"type": "Mine"}, "mmpose")["model"] == {"type": "Mine"}
    assert load_model_config({"model": {"type": "Mine"}, "more": 1}, "mmpose")["more"] == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("no_such_model", "'no_such_model': found neither a file of that name nor one of mmpose's, such as"),
        ({"backbone": {}}, "expected model=dict"),
        ({"model": 3}, "expected model=dict"),
    ],
)
def test_configs_that_are_none(config, message):
    with pytest.raises(UserError, match=message):
        load_model_config(config, "mmpose")


def test_a_broken_config_file(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("model = dict(\n")
    with pytest.raises(UserError, match=r"broken\.py cannot be read"):
        load_model_config(path, "mmpose")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "NoSuchEstimator"}, "MMPose cannot build NoSuchEstimator"),
        ({"head": {"type": "HeatmapHead", "in_channels": 8, "out_channels": 17}}, "expected a head with a decoder"),
        ({"head": None}, "MMPose cannot build TopdownPoseEstimator"),
        ({"backbone": {"type": "ResNet", "depth": 1}}, "MMPose cannot build TopdownPoseEstimator"),
        ({"type": "BottomupPoseEstimator"}, "expected a TopdownPoseEstimator, got BottomupPoseEstimator"),
    ],
)
def test_sections_that_cannot_be_built(change, message):
    with pytest.raises(UserError, match=message):
        build_topdown({**_tiny(), **change}, "random")
