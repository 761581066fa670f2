"""The presets of the paper: full-size networks, made-up weights, the official files' format, what users are told."""

import json

import pytest
import torch
from matplotlib import cbook
from torchvision.ops import box_convert, box_iou

import bmp
from bmp import UserError
from bmp.config import config_names, load_config
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.detectors.mmdet import MMDetDetector
from bmp.io.annotations import labelled_mask
from bmp.models.configs import load_model_config
from bmp.poses.mmpose import MMPoseEstimator
from bmp.segmenters.mask_prompted import MaskPromptedSegmenter
from bmp.segmenters.prompting import MaxSpread, MaxVisibility
from bmp.segmenters.sam2 import SAM2Segmenter
from bmp.suppression.released import OldMasksStay, ReleasedOKSSuppressor

pytest.importorskip("mmpose", reason="needs the extra openmmlab")

RELEASED = "bmp_v2_released.py"
PAPER = [
    name
    for name in config_names()
    if not name.startswith(("lite", "modern", "nano", "samp", "torchvision")) and name != RELEASED
]
RANDOM = {f"pipeline.{stage}.checkpoint": "random" for stage in ("detector", "pose", "segmenter")}
PHOTO = cbook._get_data_path("sample_data/grace_hopper.jpg")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", PAPER)
def test_presets_build_without_a_gpu(name):
    overrides = dict(RANDOM)
    pipeline = load_config(name).pipeline
    if "parts" in pipeline:  # no weights of a full-size parser are published
        overrides["pipeline.parts"] = None
    if "shared" in pipeline:
        overrides |= {"pipeline.shared": {}, "pipeline.encoder": None, "pipeline.segmenter.encoder": None}
    model = bmp.load(name, device="cpu", overrides=overrides)
    assert isinstance(model.detector, MMDetDetector)
    assert isinstance(model.pose, MMPoseEstimator)
    assert isinstance(model.segmenter, SAM2Segmenter)
    modern = name not in ("bmp_v1.py", "sam21.py")
    assert isinstance(model.segmenter.prompter, MaxVisibility if modern else MaxSpread)
    assert model.segmenter.prompter.count == (3 if modern else 6)


@pytest.mark.slow
def test_the_released_rules_are_switches_of_their_own():
    """Each can be taken back to what bmp_v2.py has, and everything else is bmp_v2.py."""
    released, ours = (load_config(name).pipeline.to_dict() for name in (RELEASED, "bmp_v2.py"))
    assert released["rounds"] == ours["rounds"] == 2
    assert released.pop("overlaps") == {"type": "OldMasksStay"}
    assert released["suppressor"].pop("type") == "ReleasedOKSSuppressor"
    assert released["suppressor"] == {"threshold": 0.8, "keypoint_threshold": 0.5}
    assert released["detector"].pop("type") == "ReleasedMMDetDetector"
    assert load_model_config(released["detector"].pop("config"), "mmdet")["model"]["test_cfg"]["max_per_img"] == 40
    assert released["pose"].pop("type") == "FilledContours"
    assert released["pose"] == {"pose": ours["pose"]}
    assert released["segmenter"].pop("type") == "ExchangedColours"
    segmenter = released["segmenter"].pop("segmenter")
    assert segmenter.pop("without_prompts") == "unprompted"
    gated = {"type": "GatedMaxVisibility", "count": 3, "threshold": 0.5, "score_threshold": 0.5}
    assert segmenter.pop("prompter") == gated
    for stage, rest in (("detector", released["detector"]), ("segmenter", segmenter)):
        assert rest.items() <= ours[stage].items()


@pytest.mark.slow
def test_the_released_rules_run_together():
    """On the small networks, in which the loop is the same."""
    overrides = {
        "pipeline.detector.config": "models/rtmdet_ins_nano.py",
        "pipeline.detector.checkpoint": "nano/rtmdet-ins-nano.safetensors",
        "pipeline.pose.pose.config": "models/pmpose_nano.py",
        "pipeline.pose.pose.checkpoint": "nano/pmpose-nano.safetensors",
        "pipeline.segmenter.segmenter.model": "models/sam2_nano.yaml",
        "pipeline.segmenter.segmenter.checkpoint": "nano/sam-pose2seg-nano.safetensors",
    }
    model = bmp.load(RELEASED, device="cpu", overrides=overrides)
    assert isinstance(model.overlaps, OldMasksStay)
    assert isinstance(model.suppressor, ReleasedOKSSuppressor)
    scene = SynthCrowd("test", count=2).load(0)
    people = model(scene.pixels.numpy(), trace=True)
    assert len(people) > 0
    for number in set(people.round.tolist()):  # within a round no pixel belongs to two people
        assert people.masks[people.round == number].sum(0).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "segmenter"), [("nano.py", MaskPromptedSegmenter), ("nano_points.py", SAM2Segmenter)])
def test_nano_networks_find_drawn_people(name, segmenter):
    """With the weights that come with the package; the numbers are half of what they are on the whole split."""
    model = bmp.load(name, device="cpu")
    assert isinstance(model.segmenter, segmenter)
    scenes = SynthCrowd("test", count=6)
    people = found = 0
    overlaps = []
    for index, ground_truth in enumerate(scenes.ground_truth["images"]):
        image = scenes.load(index)
        rows = [
            row
            for row in scenes.ground_truth["annotations"]
            if row["image_id"] == ground_truth["id"] and not row["iscrowd"]
        ]
        result = model(image.pixels.numpy())
        masks = torch.stack([labelled_mask(row, image) for row in rows])
        boxes = box_convert(torch.tensor([row["bbox"] for row in rows]), "xywh", "xyxy")
        best = box_iou(boxes, torch.as_tensor(result.boxes)).max(dim=1)
        hits = best.values > 0.5
        people, found = people + len(rows), found + int(hits.sum())
        drawn = torch.as_tensor(result.masks)[best.indices[hits]]
        overlaps += ((drawn & masks[hits]).sum((1, 2)) / (drawn | masks[hits]).sum((1, 2))).tolist()
    assert found / people > 0.4
    assert sum(overlaps) / len(overlaps) > 0.3


@pytest.mark.slow
def test_the_whole_loop_runs_at_full_size():
    model = bmp.load("bmp_v2.py", device="cpu", overrides=RANDOM | {"pipeline.rounds": 1, "pipeline.repose": True})
    people = model(PHOTO, boxes=[[20, 10, 500, 600], [150, 40, 400, 300]], trace=True)
    assert 1 <= len(people) <= 2
    assert people.masks.shape == (len(people), 600, 512)
    assert torch.isfinite(people.keypoints).all()
    (only,) = people.trace
    assert (only.segmented.prompts.labels == 1).sum(1).tolist() == [3] * len(only.segmented)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_official_files_given_by_path_are_loaded_by_their_stages(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("bmp.detectors.mmdet.fold_batch_norms", lambda *_: None)  # which changes the numbers
    files = {"detector": "rtmdet-ins-l-mask", "pose": "PMPose-b-1.0.0", "segmenter": "sam2.1_hiera_base_plus"}
    overrides = {}
    for stage, name in files.items():
        shapes = json.loads((shared / f"reference/checkpoints/{name}.json").read_text())["state_dict"]
        state = {key: torch.full(shape, 0.25, dtype=torch.float16) for key, shape in shapes.items()}
        path = tmp_path / f"{name}.pth"
        torch.save({"model" if stage == "segmenter" else "state_dict": state}, path)
        overrides[f"pipeline.{stage}.checkpoint"] = str(path)
    model = bmp.load("bmp_v2.py", device="cpu", overrides=overrides)
    weight = model.pose._model.backbone.patch_embed.projection.weight
    assert weight.dtype == torch.float32
    assert (weight == 0.25).all()
    assert (model.detector._model.backbone.stem[0].conv.weight == 0.25).all()
    assert (next(model.segmenter.network.image_encoder.parameters()) == 0.25).all()


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("stage", ["pose", "segmenter"])
def test_a_checkpoint_of_another_size_is_refused_by_name(stage, shared, tmp_path):
    name = {"pose": "PMPose-s-1.0.0", "segmenter": "sam2.1_hiera_tiny"}[stage]
    shapes = json.loads((shared / f"reference/checkpoints/{name}.json").read_text())["state_dict"]
    state = {key: torch.zeros((), dtype=torch.float16).expand(shape) for key, shape in shapes.items()}
    torch.save({"model": state} if stage == "segmenter" else {"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: does not fit .* (missing|misshapen): "):
        bmp.load(
            "bmp_v2.py", device="cpu", overrides=RANDOM | {f"pipeline.{stage}.checkpoint": str(tmp_path / "other.pth")}
        )


def test_without_the_weights_one_line_says_where_to_put_them(monkeypatch, tmp_path):
    monkeypatch.setenv("BMP_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        bmp.load("bmp_v2.py", device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    name = "PMPose/PMPose-b-1.0.0.pth"  # the pose estimator is made first: other parts get its keypoints
    for word in (name, f"hf://vrg-prague/BBoxMaskPose/{name}", str(tmp_path / name)):
        assert word in message
