"""Networks of transformers: where their settings come from, what fits, and SAM 2.1 under the names of two packages."""

import copy
import functools
import json

import pytest
import tiny_models
import torch

pytest.importorskip("transformers", reason="transformers is not installed")

from bmp.errors import UserError
from bmp.models.sam2_names import config_for
from bmp.models.transformers import build_transformers
from bmp.segmenters.prompting import MaxVisibility
from bmp.segmenters.transformers import TransformersSegmenter
from bmp.structures import Image, Prompts

pytestmark = pytest.mark.slow  # transformers takes a second to import

POSE = "VitPoseForPoseEstimation"
NANO = "nano/sam-pose2seg-nano.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pose network as hubs have it: a folder with two files."""
    folder = tmp_path_factory.mktemp("pose")
    build_transformers("x", "random", tiny_models.transformers_config(POSE), [POSE]).save_pretrained(folder)
    return folder


def test_a_folder_and_a_file_in_it_give_the_network_that_was_saved(folder):
    made = build_transformers("x", "random", tiny_models.transformers_config(POSE), [POSE]).state_dict()
    for checkpoint in (folder, folder / "model.safetensors"):
        state = build_transformers("x", str(checkpoint), None, [POSE]).state_dict()
        assert state.keys() == made.keys()
        assert all(torch.equal(state[name], made[name]) for name in made)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architectures": ["BertModel"]}, "expected a network of VitPose"),
        ({"architectures": []}, "got none"),
        ({"num_labels": 3}, "does not fit"),
        ({"backbone_config": {"model_type": "no such"}}, "mend the config"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(folder, tmp_path, change, told):
    settings = json.loads((folder / "config.json").read_text())
    if "num_labels" in change:
        settings.pop("id2label", None), settings.pop("label2id", None)
    with pytest.raises(UserError, match=told) as caught:
        build_transformers("Stage", str(folder), {**settings, **change}, [POSE])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]"])
def test_a_broken_config_file_is_told(folder, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        build_transformers("Stage", str(folder), str(tmp_path / "config.json"), [POSE])


def test_made_up_weights_need_a_config():
    with pytest.raises(UserError, match="need a config"):
        build_transformers("Stage", "random", None, [POSE])


@pytest.fixture(scope="module")
def segmenters():
    pytest.importorskip("sam2", reason="sam2 is not installed")
    from bmp.segmenters.sam2 import SAM2Segmenter

    model = "models/sam2_nano.yaml"
    return TransformersSegmenter(MaxVisibility(), NANO, model), SAM2Segmenter(MaxVisibility(), NANO, model)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kind", ["points", "boxes", "both", "masks"])
def test_sam_pose2seg_gives_equal_masks_in_both_packages(segmenters, kind, multimask):
    generator = torch.Generator().manual_seed(0)
    images = [Image(torch.randint(0, 256, (90, 120, 3), dtype=torch.uint8, generator=generator)) for _ in range(2)]
    points = torch.rand(2, 0 if kind == "boxes" else 3, 2, generator=generator) * 90
    labels = torch.ones(points.shape[:2], dtype=torch.int8)
    boxes = torch.tensor([[10.0, 10, 60, 80], [0, 0, 120, 90]]) if kind in ("boxes", "both") else None
    prompts = [Prompts(points, labels, torch.zeros(points.shape[:2], dtype=torch.int64), boxes)] * 2
    answers = []
    for segmenter in segmenters:
        views = segmenter.open(images)
        previous = None
        if kind == "masks":
            previous = [torch.linspace(-9, 9, 80).expand(2, 80, 80)] * 2
        answers.append(segmenter.logits(views, prompts, previous, multimask=multimask))
    for (masks, scores), (expected, its_scores) in zip(*answers, strict=True):
        torch.testing.assert_close(masks, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(scores, its_scores, rtol=0, atol=1e-5)
        assert torch.equal(masks > 0, expected > 0)


def test_files_under_the_names_of_sam2_have_to_say_which_model_they_are():
    settings = {key: value for key, value in config_for("models/sam2_nano.yaml").items() if key != "sam2"}
    with pytest.raises(UserError, match="say which model it is"):
        TransformersSegmenter(MaxVisibility(), NANO, copy.deepcopy(settings))


@pytest.mark.parametrize("model", ["sam2.1_hiera_t", "sam2.1_hiera_s", "sam2.1_hiera_b+", "sam2.1_hiera_l"])
def test_sizes_and_names_of_the_published_models_are_those_of_sam2(model, monkeypatch):
    pytest.importorskip("sam2", reason="sam2 is not installed")
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from transformers import Sam2Config, Sam2Model

    from bmp.models.sam2 import _config_file, _import_sam2
    from bmp.models.sam2_names import to_transformers

    # sam2 reads numbers out of these while it is built, which a tensor without values does not have.
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        ours = Sam2Model(Sam2Config(**{k: v for k, v in config_for(model).items() if k != "sam2"})).state_dict()
        theirs = instantiate(OmegaConf.load(_config_file(_import_sam2(), model)).model).state_dict()
    renamed = to_transformers(theirs)
    assert {name: value.shape for name, value in renamed.items()} == {n: v.shape for n, v in ours.items()}
