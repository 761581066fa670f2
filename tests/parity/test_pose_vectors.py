"""Reference vectors of the published pose models, and how near each step comes to them."""

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from reference_vectors import read_vectors

from bmp.ops.heatmaps import decode_dark_udp, decode_expected_oks, oks_targets
from bmp.poses.crops import crop, windows_around
from bmp.structures import Detections, Image, Poses

_CROP = {"width": 192, "height": 256, "unbiased": True}


@pytest.fixture(scope="module")
def vectors(shared):
    return lambda name: read_vectors(shared, f"{name}.npz")


@pytest.fixture(scope="module")
def photos(shared):
    """A function from a person of a reference file to the RGB image and the annotated mask."""
    folder = shared / "data" / "coco_mini"
    content = json.loads((folder / "test_coco.json").read_text())
    annotations = {annotation["id"]: annotation for annotation in content["annotations"]}

    def load(person):
        pixels = torch.from_numpy(cv2.imread(str(folder / person["file_name"]))[..., ::-1].copy())
        segmentation = annotations[person["annotation_id"]]["segmentation"]
        if isinstance(segmentation, list):
            segmentation = rle.merge(rle.frPyObjects(segmentation, *pixels.shape[:2]))
        elif isinstance(segmentation["counts"], list):
            segmentation = rle.frPyObjects(segmentation, *pixels.shape[:2])
        return pixels, torch.from_numpy(rle.decode(segmentation)).bool()

    return load


def _weights(vectors):
    return {name: torch.from_numpy(value) for name, value in vectors.beginning_with("weight/").items()}


def test_dark_udp(vectors):
    expected = vectors("heatmap_decode")
    places, scores = decode_dark_udp(torch.from_numpy(expected["heatmaps"]))
    keypoints = places.numpy() * (192 / 47, 256 / 63)
    # 5e-5 px: the reference inverts the Hessian in float64; it also holds MMPose's own UDP codec.
    np.testing.assert_allclose(keypoints, expected["dark_udp_keypoints"], atol=5e-5, rtol=0)
    np.testing.assert_allclose(keypoints, expected["udp_keypoints"], atol=5e-5, rtol=0)
    np.testing.assert_array_equal(scores.numpy(), expected["dark_udp_scores"])


def test_expected_oks(vectors):
    expected = vectors("heatmap_decode")
    places, scores = decode_expected_oks(torch.from_numpy(expected["heatmaps"]))
    # One unit in the last place of a float32 around 60.
    np.testing.assert_allclose(places.numpy(), expected["expected_oks_locations"], atol=4e-6, rtol=0)
    np.testing.assert_array_equal(scores.numpy(), expected["expected_oks_values"])


def test_targets(vectors):
    expected = vectors("heatmap_decode")
    keypoints = torch.from_numpy(expected["target_keypoints"][0])
    np.testing.assert_array_equal(oks_targets(keypoints, 64, 48).numpy(), expected["target_maps"])


@pytest.mark.slow
def test_crops(vectors, shared, photos):
    expected = vectors("topdown_crop")["crops_bgr"]
    people = read_vectors(shared, "topdown_crop.json")
    for person, reference in zip(people, expected, strict=True):
        pixels, mask = photos(person)
        windows = windows_around(torch.tensor([person["bbox_xyxy"]]), aspect=0.75, padding=1.25)
        np.testing.assert_array_equal(windows.centers[0].numpy(), np.float32(person["input_center"]))
        np.testing.assert_array_equal(windows.sizes[0].numpy(), np.float32(person["input_scale"]))
        ours = crop(pixels, windows, masks=mask[None], alpha=0.25, **_CROP)[0].flip(0).permute(1, 2, 0).numpy()
        difference = np.abs(ours.astype(int) - reference)
        # OpenCV accumulates sample positions in another order of float32 operations, so that values within 1e-4 of
        # a half round the other way: fewer than 3 in 10 000 are off, by one level.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 3e-4


def test_probabilistic_head(vectors):
    pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)
    from bmp.models.pmpose.heads import ProbabilisticHeatmapHead

    expected = vectors("prob_head")
    head = ProbabilisticHeatmapHead(32, 17, (24, 24), (4, 4)).eval()
    head.load_state_dict(_weights(expected))
    with torch.no_grad():
        found = head((torch.from_numpy(expected["input"]),))
    # Convolution kernels differ between processors in the order of sums; on the same one the result is equal.
    for name, values in zip(("heatmaps", "probability", "visibility", "oks"), found[:4], strict=True):
        np.testing.assert_allclose(values.numpy(), expected[name].reshape(values.shape), atol=1e-5, rtol=0)
    error = expected["error"].reshape(found.expected_error.shape)
    np.testing.assert_allclose(found.expected_error.numpy(), error, atol=1e-3, rtol=0)


def _tiny_model(shared, vectors, folder):
    from bmp.models.configs import load_model_config

    section = load_model_config("models/pmpose_b.py", "mmpose")["model"]
    section["backbone"]["arch"] = {"embed_dims": 48, "num_layers": 2, "num_heads": 3, "feedforward_channels": 96}
    section["head"].update(in_channels=48, deconv_out_channels=(32, 32))
    expected = vectors("pose_model")
    torch.save({"state_dict": _weights(expected)}, folder / "tiny.pth")
    people = read_vectors(shared, "pose_model.json")
    return section, str(folder / "tiny.pth"), expected, people


@pytest.mark.slow
def test_pose_model_end_to_end(shared, vectors, photos, tmp_path):
    pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)
    from bmp.poses.mmpose import MMPoseEstimator

    section, checkpoint, expected, description = _tiny_model(shared, vectors, tmp_path)
    images, people = [], []
    for name in dict.fromkeys(person["file_name"] for person in description["people"]):
        group = [person for person in description["people"] if person["file_name"] == name]
        loaded = [photos(person) for person in group]
        images.append(Image(loaded[0][0]))
        boxes = torch.tensor([person["bbox_xyxy"] for person in group])
        people.append(Detections(boxes, torch.ones(len(group)), torch.stack([mask for _, mask in loaded])))
    poses = Poses.concat(MMPoseEstimator(section, checkpoint, batch_size=4).estimate(images, people))
    # The crops differ by one level in a few pixels of ten thousand (see test_crops), and the made-up weights of this
    # model are sharp: half a thousandth of a map's range, and less than a twentieth of a pixel.
    difference = np.abs(poses.keypoints.numpy() - expected["keypoints"][:, :17])
    assert difference.max() < 0.06
    assert np.median(difference) < 1e-4
    np.testing.assert_allclose(poses.presence.numpy(), expected["keypoints_probs"][:, :17], atol=2e-4, rtol=0)
    np.testing.assert_allclose(poses.visibility.numpy(), expected["keypoints_visible"][:, :17], atol=2e-4, rtol=0)
    np.testing.assert_allclose(poses.expected_oks.numpy(), expected["keypoints_oks"][:, :17], atol=2e-4, rtol=0)
    np.testing.assert_allclose(poses.scores.numpy(), expected["keypoint_scores"][:, :17], atol=2e-4, rtol=0)
    by_map = MMPoseEstimator(section, checkpoint, batch_size=4, scores_from="map").estimate(images, people)
    peaks = expected["heatmaps"].reshape(2, 23, -1).max(-1)[:, :17]
    np.testing.assert_allclose(Poses.concat(by_map).scores[:2].numpy(), peaks, atol=2e-3, rtol=0)


@pytest.mark.slow
def test_pose_model_in_mmpose_on_the_same_crops(shared, vectors, tmp_path):
    pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)
    from mmpose.structures import PoseDataSample

    from bmp.models.topdown import build_topdown

    section, checkpoint, expected, description = _tiny_model(shared, vectors, tmp_path)
    model = build_topdown(section, checkpoint)
    sample = PoseDataSample(metainfo={"flip_indices": description["flip_indices"]})
    batch = {"inputs": list(torch.from_numpy(expected["crops_bgr_chw"])), "data_samples": [sample] * 6}
    with torch.no_grad():
        inputs = model.data_preprocessor(batch)["inputs"]
        features = [model.extract_feat(inputs), model.extract_feat(inputs.flip(-1))]
        found, maps = model.head.predict(features, [sample] * 6, {**model.test_cfg, "output_heatmaps": True})
    boxes = torch.tensor([person["bbox_xyxy"] for person in description["people"]])
    windows = windows_around(boxes, aspect=0.75, padding=1.25)
    keypoints = windows.to_image(torch.cat([torch.from_numpy(each.keypoints) for each in found]), 192, 256)
    # Float32 through a network; in pixels of the image, whose windows are up to 430 px high.
    np.testing.assert_allclose(keypoints.numpy(), expected["keypoints"], atol=5e-4, rtol=0)
    for name in ("keypoint_scores", "keypoints_probs", "keypoints_visible", "keypoints_oks", "keypoints_error"):
        values = np.concatenate([each[name] for each in found])
        np.testing.assert_allclose(values, expected[name], atol=2e-6, rtol=0)
    heatmaps = np.stack([each.heatmaps.numpy() for each in maps[:2]])
    np.testing.assert_allclose(heatmaps, expected["heatmaps"], atol=1e-5, rtol=0)
