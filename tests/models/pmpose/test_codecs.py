"""The OKS heatmap codec: targets, labels and decoding in crop pixels."""

import numpy as np
import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmpose.datasets.transforms import GenerateTarget, PackPoseInputs
from mmpose.registry import KEYPOINT_CODECS

import bmp.models.pmpose  # noqa: F401 -- registers

_SIZES = {"input_size": (192, 256), "heatmap_size": (48, 64)}


def _codec(**changes):
    return KEYPOINT_CODECS.build({"type": "OKSHeatmap", **_SIZES, **changes})


def _keypoints(seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform((20, 20), (170, 230), (1, 17, 2))


@pytest.mark.parametrize("decoder", ["dark_udp", "expected_oks"])
def test_decoding_undoes_encoding(decoder):
    codec, keypoints = _codec(decoder=decoder), _keypoints()
    maps = codec.encode(keypoints)["heatmaps"]
    decoded, scores = codec.decode(maps)
    assert decoded.shape == (1, 17, 2)
    assert scores.shape == (1, 17)
    # Encoding maps the crop's outermost pixel centres to those of the map, decoding its outer edges (as published);
    # the difference is a pixel at most, and refinement adds up to a tenth of a cell.
    np.testing.assert_allclose(decoded, keypoints, atol=1.6)
    np.testing.assert_allclose(scores, 1)


@pytest.mark.slow
def test_a_batch_is_decoded_like_its_people():
    codec = _codec()
    maps = np.stack([codec.encode(_keypoints(seed))["heatmaps"] for seed in range(3)])
    keypoints, scores = codec.batch_decode(torch.from_numpy(maps))
    assert len(keypoints) == len(scores) == 3
    for person in range(3):
        alone = codec.decode(maps[person])
        np.testing.assert_allclose(keypoints[person], alone[0], atol=1e-4)
        np.testing.assert_allclose(scores[person], alone[1])


def test_labels():
    keypoints = np.array([[[10.0, 10], [190, 250], [-30, 100], [50, 300], [96, 128]]])
    flags = np.array([[2, 1, 2, 1, 0]])
    encoded = _codec(sigmas=(0.05,) * 5).encode(keypoints, flags > 0, flags)
    assert encoded["presence"].tolist() == [[1, 1, 0, 0, 1]]
    assert encoded["presence_weights"].tolist() == [[1, 1, 1, 1, 0]]
    assert encoded["keypoint_weights"].tolist() == [[1, 1, 0, 0, 0]]
    assert encoded["visibility"].tolist() == [[1, 0, 1, 0, 0]]
    assert encoded["visibility_weights"].tolist() == [[1, 1, 0, 0, 0]]
    assert {value.dtype for value in encoded.values()} == {np.dtype(np.float32)}


def test_without_flags_visibility_is_not_supervised():
    encoded = _codec().encode(_keypoints())
    assert encoded["visibility_weights"].sum() == 0
    assert encoded["keypoint_weights"].sum() == 17


def test_it_works_in_mmposes_pipeline():
    results = {
        "img": np.zeros((256, 192, 3), np.uint8),
        "transformed_keypoints": _keypoints(),
        "keypoints_visible": np.ones((1, 17), np.float32),
        "keypoints_visibility": np.full((1, 17), 2),
    }
    results = GenerateTarget(encoder={"type": "OKSHeatmap", **_SIZES})(results)
    sample = PackPoseInputs()(results)["data_samples"]
    assert sample.gt_fields.heatmaps.shape == (17, 64, 48)
    assert sample.gt_instance_labels.visibility.sum() == 17
    assert sample.gt_instance_labels.keypoint_locations.shape == (1, 17, 2)


@pytest.mark.parametrize(("name", "decoder"), [("ArgMaxProbMap", "dark_udp"), ("ProbMap", "expected_oks")])
def test_published_names(name, decoder):
    assert KEYPOINT_CODECS.build({"type": name, **_SIZES, "sigma": -1}).decoder == decoder


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ValueError, match="'dark_udp' or 'expected_oks', got 'best'"):
        _codec(decoder="best")
