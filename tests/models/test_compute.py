"""Number format, memory layout and compilation change how a network computes and, but for rounding, not what."""

import copy
import pickle
from functools import partial
from pathlib import Path

import pytest
import tiny_models
import torch
from fakes import detections
from prompt_fakes import NOBODY, PosePrompter, crowd, picture
from torch import nn

from bmp import UserError
from bmp.models.compute import (
    autocast,
    cast_weights,
    compute_in,
    default_dtype,
    dtype_of,
    fold_batch_norms,
    prepare,
    to_float32,
)


def test_number_formats():
    assert dtype_of("bfloat16") == torch.bfloat16
    with pytest.raises(UserError, match="expected one of float32, bfloat16, got 'float16'"):
        dtype_of("float16")
    product = torch.ones(2, 2)
    with autocast("cpu", torch.float32):
        assert (product @ product).dtype == torch.float32
    with autocast("cpu", torch.bfloat16):
        assert (product @ product).dtype == torch.bfloat16


def test_channels_last_is_a_layout_and_keeps_the_answer():
    network = nn.Conv2d(4, 8, 3)
    pixels = torch.rand(1, 4, 9, 9)
    before = network(pixels)
    prepare(network, channels_last=True, compiled=False)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(pixels), before)


def test_the_number_format_on_cuda_is_bfloat16_unless_somebody_says_otherwise():
    assert [default_dtype(None, device) for device in ("cpu", "cuda:1", "mps")] == ["float32", "bfloat16", "float32"]
    assert default_dtype(None, "cuda", "onnxruntime") == "float32"
    assert default_dtype("float32", "cuda") == "float32"


def _trained(network):
    """Give batch norms numbers that are not those of the beginning, and return the network as it is used."""
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight, part.bias, part.running_mean, part.running_var):
                values.data = 0.5 + torch.rand(values.shape, generator=generator)
    return network.eval().requires_grad_(False)


def _norms(network):
    return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]


def test_batch_norms_of_sequences_are_folded():
    network = _trained(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, 2, bias=False),
            nn.BatchNorm2d(6), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6)),
        )
    )  # fmt: skip
    pixels = torch.rand(2, 3, 9, 9)
    before = network(pixels)
    fold_batch_norms(network)
    torch.testing.assert_close(network(pixels), before)
    assert len(_norms(network)) == 1  # the one that follows on no convolution
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    fold_batch_norms(network)
    assert len(_norms(network)) == 1  # it is being trained


def test_batch_norms_of_mmcv_are_folded_also_where_levels_share_a_convolution():
    bricks = pytest.importorskip("mmcv.cnn", reason="needs the extra openmmlab")
    norm = {"type": "BN"}
    levels = [bricks.ConvModule(4, 4, 3, padding=1, norm_cfg=norm) for _ in range(2)]
    levels[1].conv = levels[0].conv
    other = bricks.ConvModule(4, 4, 1, norm_cfg=norm, order=("norm", "conv", "act"))
    network = _trained(nn.ModuleList([*levels, other, bricks.ConvModule(4, 4, 1)]))
    pixels = torch.rand(2, 4, 5, 5)
    before = [layer(pixels) for layer in network]
    assert not torch.equal(before[0], before[1])
    fold_batch_norms(network)
    for layer, expected in zip(network, before, strict=True):
        torch.testing.assert_close(layer(pixels), expected)
    assert len(_norms(network)) == 1


def test_weights_cast_once_give_what_autocast_gives():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.GELU(), nn.Flatten(), nn.Linear(8 * 49, 5))
    pixels = torch.rand(2, 3, 9, 9)
    with autocast("cpu", torch.bfloat16), torch.no_grad():
        before = network(pixels)
        cast_weights(network, dtype=torch.bfloat16)
        assert torch.equal(network(pixels), before)
    assert [each.dtype for each in network.parameters()].count(torch.float32) == 2  # those of the norm


class Recursive(nn.Linear):
    """Calls itself in its own method, as heads of MMDetection do; says in which format it computed."""

    def predict(self, values):
        return self([values])

    def forward(self, values):
        product = super().forward(values[0])
        self.computed_in = product.dtype
        return [product, (product.argmax(), product)]


@pytest.mark.parametrize("copied", [lambda it: it, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_wrapped_network_computes_in_another_format_and_stays_what_it_is(copied):
    network = Recursive(3, 4)
    names = list(network.state_dict())
    compute_in(network, torch.float32)
    compute_in(network, torch.bfloat16)  # the last one counts
    network = copied(network)
    outputs = network.predict(torch.rand(2, 3))
    assert network.computed_in == torch.bfloat16
    assert [outputs[0].dtype, outputs[1][0].dtype, outputs[1][1].dtype] == [torch.float32, torch.int64, torch.float32]
    assert isinstance(network, Recursive)
    assert list(network.state_dict()) == names
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert type(Recursive(3, 4)) is Recursive  # other networks of the class are left alone


def test_outputs_of_a_network_become_float32():
    rounded = torch.ones(1, dtype=torch.bfloat16)
    one, (two, three) = to_float32([rounded, (rounded, torch.ones(1, dtype=torch.int64))])
    assert (one.dtype, two.dtype, three.dtype) == (torch.float32, torch.float32, torch.int64)
    assert to_float32(rounded).dtype == torch.float32


def _pose(**options):
    pytest.importorskip("mmpose")
    from bmp.poses.mmpose import MMPoseEstimator

    estimator = MMPoseEstimator(tiny_models.pose_section(), "random", **options)
    (poses,) = estimator.estimate([picture(60, 80)], [detections((5, 5, 40, 55), (20, 0, 80, 60))])
    return poses.expected_oks


def _sam2(folder: Path, **options):
    pytest.importorskip("sam2")
    from bmp.segmenters.sam2 import SAM2Segmenter

    segmenter = SAM2Segmenter(PosePrompter(), "random", tiny_models.sam2_config(folder), **options)
    people, poses = crowd(2, 60, 80)
    (masks,) = segmenter.segment(segmenter.open([picture(60, 80)]), [people], [poses], [NOBODY])
    return masks.scores


def _detector(**options):
    pytest.importorskip("mmcv.ops")
    from bmp.detectors.mmdet import MMDetDetector

    detector = MMDetDetector(tiny_models.rtmdet("rtmdet-ins"), "random", score_threshold=0, **options)
    (people,) = detector.detect([picture(200, 320)])
    return people.scores[:20]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["channels_last", "compile"])
@pytest.mark.parametrize("stage", ["detector", "pose", "segmenter"])
def test_every_network_takes_the_options(stage, option, tmp_path, monkeypatch):
    """All are traced and run as graphs; to make C++ of one of them, as below, would take a minute."""

    def answer(**options):
        if stage == "segmenter":
            return _sam2(tmp_path, **options)
        return (_pose if stage == "pose" else _detector)(**options)

    from torch._dynamo.utils import counters  # slow to import

    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = answer(**{option: True})
    assert (counters["stats"]["unique_graphs"] > 0) == (option == "compile")
    torch.testing.assert_close(found, answer(**{option: False}), atol=2e-3, rtol=0)


@pytest.mark.slow
def test_a_network_is_compiled_for_the_processor():
    from torch._inductor import config, metrics  # slow to import

    network = nn.Sequential(nn.Linear(8, 4), nn.GELU())
    values = torch.rand(2, 8)
    with torch.inference_mode(), config.patch("aot_inductor.debug_compile", True):  # its optimisations are not ours
        before = network(values)
        metrics.reset()
        prepare(network, channels_last=False, compiled=True)
        torch.testing.assert_close(network(values), before)
    assert metrics.generated_kernel_count > 0
