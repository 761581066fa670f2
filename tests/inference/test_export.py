"""``bmp export``: a folder that its own runner understands as the stages do, without torch, and one line for the rest."""

import ast
import hashlib
import importlib.util
import json
import sys
from functools import partial

import cv2
import numpy as np
import pytest
import tiny_models
import torch
from mmengine.config import Config

from bmp.build import build
from bmp.cli import main
from bmp.config import load_config
from bmp.models.engines import runner_file
from bmp.ops.heatmaps import decode_dark_udp, decode_expected_oks
from bmp.structures import Detections, Image, Poses

for library in ("onnx", "onnxruntime", "mmcv.ops", "mmpose", "sam2"):
    pytest.importorskip(library, reason="the extras engines and openmmlab are not installed")

pytestmark = pytest.mark.slow


def written(folder, name, settings):
    """Write a config, and return its path."""
    file = folder / f"{name}.py"
    Config(settings).dump(str(file))
    return str(file)


def section(folder):
    """A pipeline of tiny networks, with the detector's masks as prompts."""
    pose = written(folder, "pose", dict(model=tiny_models.pose_section("pmpose")))
    sam = dict(type="SAM2Segmenter", model=tiny_models.sam2_config(folder), checkpoint="random")
    sam |= dict(prompter=dict(type="MaxVisibility", count=3, threshold=0.3), hole_area=3, speck_area=9)
    detector = written(folder, "detector", tiny_models.rtmdet("rtmdet-ins", 128).to_dict())
    return dict(
        rounds=2,
        suppressor=dict(type="OKSSuppressor"),
        detector=dict(type="MMDetDetector", config=detector, checkpoint="random", score_threshold=0.5),
        pose=dict(type="MMPoseEstimator", config=pose, checkpoint="random", dtype="bfloat16"),
        segmenter=dict(type="MaskPromptedSegmenter", start=dict(type="DetectedMasks"), segmenter=sam),
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    return written(folder, "tiny", dict(pipeline=section(folder)))


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", "-c", str(config), "-o", str(folder), "-q"]) == 0
    return folder


@pytest.fixture(scope="module")
def stages(config):
    return build(load_config(config, {"pipeline.pose.dtype": "float32"}), "cpu")


@pytest.fixture(scope="module")
def runner(folder):
    specification = importlib.util.spec_from_file_location("exported_runner", folder / "runner.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    yield module
    del sys.modules[specification.name]


@pytest.fixture(scope="module")
def model(runner, folder):
    return runner.Model(folder, threads=1)


def picture(height, width):
    """Smooth colours, as a photo has: float32 differs little from another float32 there."""
    coarse = np.random.default_rng(height).integers(0, 256, (7, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def ours(pixels):
    return Image(torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1])))


SIZES = [(150, 200), (301, 97), (64, 128), (1, 1), (640, 480)]


def people(height, width):
    """Boxes inside and half outside: with a mask, without a pixel of one, and with one of specks."""
    corners = np.array([[0.1, 0.1, 0.6, 0.9], [0.5, -0.2, 1.3, 0.7], [0.3, 0.3, 0.4, 0.5]], np.float32)
    masks = np.zeros((3, height, width), bool)
    masks[0, height // 8 : height - height // 4, width // 8 : max(1, width // 2)] = True
    masks[2, ::5, ::7] = True
    return corners * np.array([width, height] * 2, np.float32), masks


def test_the_manifest_tells_what_the_files_are(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["stages"]) == {"detector", "pose", "segmenter"}
    graphs = [graph for stage in manifest["stages"].values() for graph in stage["graphs"].values()]
    assert len(graphs) == 4
    for graph in graphs:
        content = (folder / graph["file"]).read_bytes()
        assert graph["sha256"] == hashlib.sha256(content).hexdigest()
        assert graph["bytes"] == len(content)
        assert graph["opset"] == 17
        assert all(value["shape"][0] == "rows" for value in (*graph["inputs"], *graph["outputs"]))
        assert all(isinstance(size, int) for value in graph["outputs"] for size in value["shape"][1:])
    pixels = manifest["stages"]["detector"]["graphs"]["network"]["inputs"]
    assert pixels == [{"name": "pixels", "dtype": "float", "shape": ["rows", 3, 128, 128]}]
    points = manifest["stages"]["segmenter"]["graphs"]["decoder"]["inputs"][3]
    assert points == {"name": "points", "dtype": "float", "shape": ["rows", "points", 2]}
    assert any("rounds" in line for line in manifest["left_out"])


def test_the_runner_needs_neither_torch_nor_this_package():
    tree = ast.parse(runner_file().read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names}
    assert roots - set(sys.stdlib_module_names) == {"cv2", "numpy", "onnxruntime"}


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_same_detections(model, stages, height, width):
    pixels = picture(height, width)
    boxes, scores, masks = model.detect(pixels)
    (expected,) = stages.detector.detect([ours(pixels)])
    assert len(boxes) == len(expected)
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.05)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-3)
    assert (masks != expected.masks.numpy()).mean() < 1e-3


@pytest.mark.parametrize("decoder", ["dark_udp", "expected_oks"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_same_poses(model, stages, height, width, decoder, monkeypatch):
    pixels, (boxes, masks) = picture(height, width), people(height, width)
    settings = model._stages["pose"]["settings"]
    monkeypatch.setitem(settings, "decoder", decoder)
    monkeypatch.setitem(settings, "blur_kernel_size", 11)
    pose = stages.pose
    decode = {"dark_udp": decode_dark_udp, "expected_oks": partial(decode_expected_oks, sigmas=pose.keypoints.sigmas)}
    monkeypatch.setattr(pose, "_decode", decode[decoder])
    keypoints, numbers = model.estimate(pixels, boxes, masks)
    given = Detections(torch.from_numpy(boxes), torch.ones(3), torch.from_numpy(masks))
    (expected,) = pose.estimate([ours(pixels)], [given])
    np.testing.assert_allclose(keypoints, expected.keypoints, atol=0.02 * max(height, width) / 100 + 1e-3)
    for name in ("scores", "visibility", "presence", "expected_oks"):
        np.testing.assert_allclose(numbers[name], getattr(expected, name), atol=1e-3)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_same_masks(model, stages, height, width):
    pixels, (boxes, masks) = picture(height, width), people(height, width)
    generator = np.random.default_rng(0)
    keypoints = (generator.random((3, 17, 2)) * [width, height]).astype(np.float32)
    visibility = generator.random((3, 17)).astype(np.float32)
    visibility[1] = visibility[1] * 0.4  # fewer points than the others have
    visibility[2, 1:] = 0.1
    found, ious, prompts = model.segment(pixels, masks, keypoints, {"visibility": visibility})
    given = Detections(torch.from_numpy(boxes), torch.ones(3), torch.from_numpy(masks))
    numbers = torch.from_numpy(visibility)
    poses = Poses(torch.from_numpy(keypoints), numbers, numbers, numbers)
    segmenter = stages.segmenter
    (expected,) = segmenter.segment(segmenter.open([ours(pixels)]), [given], [poses], [Poses.empty(17)])
    np.testing.assert_array_equal(prompts, expected.prompts.keypoints)
    np.testing.assert_allclose(ious, expected.scores, atol=1e-3)
    assert (found != expected.bits.numpy()).mean() < 2e-3


def test_a_photo_from_the_command_line(runner, folder, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), picture(150, 200))
    assert runner.main([str(photo), "--threads", "1", "--output", str(tmp_path / "people.json")]) == 0
    told = json.loads((tmp_path / "people.json").read_text())
    assert (told["height"], told["width"]) == (150, 200)
    assert told["people"]
    assert len(told["people"][0]["keypoints"]) == 17
    assert runner.main([str(photo), "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_nobody_in_the_photo(model, monkeypatch):
    monkeypatch.setitem(model._stages["detector"]["settings"], "score_threshold", 1.0)
    found = model(picture(90, 70))
    assert found.boxes.shape == (0, 4)
    assert found.keypoints.shape == (0, 17, 2)
    assert found.masks.shape == (0, 90, 70)


def test_the_runner_says_what_it_cannot_read(runner, folder, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert runner.main([str(tmp_path / "broken.jpg")]) == 2
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), picture(20, 20))
    assert runner.main([str(photo), "--models", str(tmp_path)]) == 2
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    assert runner.main([str(photo), "--models", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["runner"] * 3
    assert "format 99" in lines[2]


def exported_line(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_folder_with_something_in_it_is_kept(config, folder, capsys):
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert "--overwrite" in exported_line(capsys, "-c", config, "-o", folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("segmenter", dict(type="DetectedMasks"), "segmenter: DetectedMasks cannot be exported"),
        (
            "segmenter",
            dict(type="SAM2Segmenter", checkpoint="random", prompter=dict(type="MaxSpread", count=6)),
            "prompts of MaxSpread cannot be exported",
        ),
        ("detector", dict(config="rtmdet/rtmdet_tiny_8xb32-300e_coco.py"), "detector: RTMDet cannot be exported"),
    ],
)
def test_what_the_runner_could_not_do_is_said(part, changes, said, tmp_path, capsys):
    pipeline = section(tmp_path)
    if part == "segmenter":
        model = pipeline["segmenter"]["segmenter"]["model"]
        pipeline["segmenter"] = {**changes, **({"model": model} if "SAM2" in changes["type"] else {})}
    else:
        pipeline[part].update(changes)
    assert said in exported_line(
        capsys, "-c", written(tmp_path, "other", dict(pipeline=pipeline)), "-o", tmp_path / "out"
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_missing_extra_is_said_before_anything_is_built(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert ".[engines]" in exported_line(capsys, "-c", "no such config", "-o", tmp_path / "out")
