"""The operators of mmcv-ext-torchvision, called as users call them (through mmcv.ops), against formulas written here.

It knows no model; test_openmmlab_inference.py runs whole networks.
"""

import ast
import importlib.machinery
import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

operators = pytest.importorskip("mmcv_ext_torchvision", reason="third_party/mmcv-ext-torchvision is not installed")
mmcv = pytest.importorskip("mmcv", reason="mmcv-lite is not installed")
ops = pytest.importorskip("mmcv.ops", reason="mmcv-lite is not installed")
_ext = pytest.importorskip("mmcv._ext")

pytestmark = pytest.mark.skipif(
    not str(_ext.__file__).endswith("_ext.py"), reason="a compiled mmcv is installed and its operators are used"
)

HALVES = [torch.float16, torch.bfloat16]
EXTRA_DIGITS = {torch.float16: 2e-3, torch.bfloat16: 2e-2}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_boxes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    corners = random(count, 2, seed=seed) * 20
    boxes = torch.cat((corners, corners + 1 + random(count, 2, seed=seed + 1) * 15), 1)
    return boxes.float(), torch.randperm(count, generator=torch.Generator().manual_seed(seed)).float() / count


def iou(first: list[float], second: list[float], offset: int = 0) -> float:
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]) + offset)
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """Sample a plane (..., H, W) between its cell centres; cells outside are 0."""
    height, width = plane.shape[-2:]
    top, left = math.floor(y), math.floor(x)
    total = torch.zeros(plane.shape[:-2], dtype=plane.dtype)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * plane[..., row, column]
    return total


# Names


@pytest.mark.slow
def test_every_operator_that_mmcv_loads_exists_and_no_other():
    loaded = set()
    for file in (Path(mmcv.__file__).parent / "ops").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load_ext":
                loaded.update(ast.literal_eval(node.args[1]))
    assert len(loaded) > 100
    assert set(operators.OPERATORS) == loaded
    assert all(getattr(_ext, name) is operator for name, operator in operators.OPERATORS.items())


def test_an_operator_that_is_not_implemented_names_itself_and_the_way_out():
    with pytest.raises(NotImplementedError, match=r"operator nms_rotated .* compiled mmcv"):
        ops.nms_rotated(torch.tensor([[5.0, 5, 4, 4, 0]]), torch.tensor([0.9]), 0.5)


def test_a_compiled_ext_in_the_same_folder_wins(tmp_path):
    (tmp_path / "_ext.py").touch()
    (tmp_path / f"_ext{importlib.machinery.EXTENSION_SUFFIXES[0]}").touch()
    spec = importlib.machinery.PathFinder.find_spec("_ext", [str(tmp_path)])
    assert isinstance(spec.loader, importlib.machinery.ExtensionFileLoader)


def test_mmcv_reports_its_environment():
    assert "mmcv-ext-torchvision" in ops.get_compiler_version()
    assert ops.get_compiling_cuda_version() == "not available"


# Boxes


def greedy_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        if all(iou(boxes[row].tolist(), boxes[other].tolist(), offset) <= threshold for other in kept):
            kept.append(row)
    return kept


@pytest.mark.slow
@given(st.integers(0, 30), st.integers(0, 1000), st.sampled_from([0, 1]), st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_nms_keeps_what_the_greedy_rule_keeps(count, seed, offset, threshold):
    boxes, scores = random_boxes(count, seed)
    dets, rows = ops.nms(boxes, scores, threshold, offset=offset)
    assert rows.tolist() == greedy_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), 1)[rows])


def test_nms_offset_widens_boxes():
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1]]), torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, 0.3, offset=0)[1].tolist() == [0, 1]  # they touch
    assert ops.nms(boxes, scores, 0.3, offset=1)[1].tolist() == [0]  # two of six cells are shared


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
def test_nms_takes_every_float_type(dtype):
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], dtype=dtype)
    dets, rows = ops.nms(boxes, torch.tensor([0.5, 0.75, 0.25], dtype=dtype), 0.5)
    assert dets.dtype == dtype
    assert rows.tolist() == [1, 2]


def test_batched_nms_leaves_classes_apart():
    boxes, scores = torch.tensor([[0.0, 0, 10, 10]] * 3), torch.tensor([0.5, 0.9, 0.7])
    _, rows = ops.batched_nms(boxes, scores, torch.tensor([0, 0, 1]), dict(type="nms", iou_threshold=0.5))
    assert rows.tolist() == [1, 2]


def greedy_soft_nms(boxes, scores, threshold, sigma, minimum, method, offset):
    rest, result = [[row, float(score)] for row, score in enumerate(scores)], []
    while rest:
        best = max(rest, key=lambda entry: entry[1])
        rest.remove(best)
        result.append(best)
        for entry in rest:
            overlap = iou(boxes[best[0]].tolist(), boxes[entry[0]].tolist(), offset)
            if method == "gaussian":
                entry[1] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                entry[1] *= 1 - overlap if method == "linear" else 0
        rest = [entry for entry in rest if entry[1] >= minimum]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@given(st.integers(0, 20), st.integers(0, 1000), st.sampled_from([0, 1]))
@settings(max_examples=25, deadline=None)
def test_soft_nms_lowers_scores_as_the_rule_says(method, count, seed, offset):
    boxes, scores = random_boxes(count, seed)
    dets, rows = ops.soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=1e-3, method=method, offset=offset)
    expected = greedy_soft_nms(boxes, scores, 0.3, 0.5, 1e-3, method, offset)
    assert rows.tolist() == [row for row, _ in expected]
    assert torch.equal(dets[:, :4], boxes[rows])
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))


def test_soft_nms_refuses_an_unknown_method():
    with pytest.raises(ValueError, match="method 0"):
        _ext.softnms(torch.zeros(1, 4), torch.zeros(1), torch.zeros(1, 5), 0.5, 0.5, 0.1, method=3, offset=0)


@given(st.integers(0, 20), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_nms_match_groups_each_row_once_around_its_best(count, seed):
    boxes, scores = random_boxes(count, seed)
    groups = [group.tolist() for group in ops.nms_match(torch.cat((boxes, scores[:, None]), 1), 0.4)]
    assert sorted(itertools.chain(*groups)) == list(range(count))
    for number, (best, *others) in enumerate(groups):
        assert all(iou(boxes[best].tolist(), boxes[other].tolist()) >= 0.4 for other in others)
        assert all(scores[best] >= scores[other] for other in others)
        later = itertools.chain(*groups[number + 1 :])
        assert all(iou(boxes[best].tolist(), boxes[other].tolist()) < 0.4 for other in later)


def test_nms_match_keeps_a_box_without_area():
    assert ops.nms_match(torch.tensor([[1.0, 1, 1, 1, 0.5]]), 0.5)[0].tolist() == [0]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("aligned", [False, True])
def test_bbox_overlaps_agrees_with_mmcv_fallback(mode, aligned, offset):
    first, second = random_boxes(7, 1)[0], random_boxes(7, 2)[0]
    found = ops.bbox_overlaps(first, second, mode, aligned, offset)
    torch.testing.assert_close(found, ops.bbox._bbox_overlaps_cpu(first, second, mode, aligned, offset))


def test_bbox_overlaps_of_boxes_without_area_are_zero():
    point = torch.tensor([[1.0, 1, 1, 1]])
    assert ops.bbox_overlaps(point, point).tolist() == [[0.0]]
    assert ops.bbox_overlaps(torch.zeros(0, 4), point).shape == (0, 1)


# RoI align


def region_samples(features: Tensor, roi: list[float], size: int, scale: float, ratio: int, aligned: bool) -> list:
    """Return for each bin, row by row, the list of its samples (C,)."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (edge * scale - shift for edge in roi[1:])
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    down, across = (ratio, ratio) if ratio else (math.ceil(height / size), math.ceil(width / size))
    plane = features[int(roi[0])]
    bins = []
    for row, column in itertools.product(range(size), range(size)):
        samples = []
        for i, j in itertools.product(range(down), range(across)):
            y = y1 + (row + (i + 0.5) / down) * height / size
            x = x1 + (column + (j + 0.5) / across) * width / size
            if y < -1 or x < -1 or y > plane.shape[1] or x > plane.shape[2]:
                samples.append(torch.zeros(plane.shape[0], dtype=plane.dtype))
            else:  # up to one cell outside, the border counts on
                inside = [min(max(c, 0), limit - 1) for c, limit in zip((y, x), plane.shape[1:], strict=True)]
                samples.append(bilinear(plane, *inside))
        bins.append(samples)
    return bins


ROIS = [[0, 1.3, 2.1, 9.7, 12.2], [1, 0, 0, 3.5, 2.5], [1, 6, 4, 19, 15.5], [0, 5, 5, 5.5, 5.25]]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_samples_each_bin(mode, ratio, aligned):
    features, rois = random(2, 3, 8, 9), torch.tensor(ROIS, dtype=torch.float64)
    found = ops.roi_align(features, rois, (2, 2), 0.5, ratio, mode, aligned)
    for roi, maps in zip(ROIS, found, strict=True):
        bins = [torch.stack(samples) for samples in region_samples(features, roi, 2, 0.5, ratio, aligned)]
        expected = torch.stack([samples.mean(0) if mode == "avg" else samples.amax(0) for samples in bins])
        torch.testing.assert_close(maps.flatten(1).T, expected)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_gradient(mode, ratio):
    rois = torch.tensor(ROIS, dtype=torch.float64)
    features = random(2, 2, 6, 7).requires_grad_()
    torch.autograd.gradcheck(lambda values: ops.roi_align(values, rois, (2, 3), 0.5, ratio, mode, True), features)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_of_no_region(mode):
    features = random(1, 3, 8, 8).requires_grad_()
    found = ops.roi_align(features, torch.zeros(0, 5, dtype=torch.float64), (2, 2), 1.0, 0, mode, True)
    assert found.shape == (0, 3, 2, 2)
    found.sum().backward()
    assert not features.grad.any()


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("dtype", HALVES)
def test_roi_align_in_half_precision(dtype, mode):
    exact = random(2, 3, 8, 9).to(dtype).float().requires_grad_()
    short = exact.detach().to(dtype).requires_grad_()
    rois = torch.tensor(ROIS)
    for values in (exact, short):
        ops.roi_align(values, rois, (2, 2), 0.5, 0, mode, True).sum().backward()
    found = ops.roi_align(short, rois, (2, 2), 0.5, 0, mode, True)
    assert found.dtype == short.grad.dtype == dtype
    expected = ops.roi_align(exact, rois, (2, 2), 0.5, 0, mode, True)
    torch.testing.assert_close(found.float(), expected, atol=EXTRA_DIGITS[dtype], rtol=EXTRA_DIGITS[dtype])
    torch.testing.assert_close(short.grad.float(), exact.grad, atol=2e-2, rtol=EXTRA_DIGITS[dtype])


# Deformable and masked convolution


def deformed(values, offset, weight, mask, stride, padding, dilation, groups, deform_groups):
    """Deformable convolution by its definition, in loops."""
    images, channels, _, _ = values.shape
    filters, per_group, kernel_h, kernel_w = weight.shape
    height, width = offset.shape[2:]
    output = torch.zeros(images, filters, height, width, dtype=values.dtype)
    moves = offset.view(images, deform_groups, kernel_h * kernel_w, 2, height, width)
    scales = None if mask is None else mask.view(images, deform_groups, kernel_h * kernel_w, height, width)
    for n, f, row, column in itertools.product(range(images), range(filters), range(height), range(width)):
        group = f // (filters // groups)
        for c, i, j in itertools.product(range(per_group), range(kernel_h), range(kernel_w)):
            channel, tap = group * per_group + c, i * kernel_w + j
            deform_group = channel // (channels // deform_groups)
            dy, dx = moves[n, deform_group, tap, :, row, column].tolist()
            y = row * stride - padding + i * dilation + dy
            x = column * stride - padding + j * dilation + dx
            sample = bilinear(values[n, channel], y, x)
            scale = 1 if scales is None else scales[n, deform_group, tap, row, column]
            output[n, f, row, column] += weight[f, c, i, j] * sample * scale
    return output


GEOMETRIES = [  # stride, padding, dilation, groups, deform groups, output height, output width
    (1, 1, 1, 1, 1, 3, 4),
    (2, 1, 1, 2, 1, 2, 2),
    (1, 2, 2, 1, 2, 3, 4),
]


def convolution_inputs(groups: int, deform_groups: int, height: int, width: int) -> tuple[Tensor, ...]:
    return (
        random(2, 4, 3, 4, seed=1),
        (random(2, deform_groups * 18, height, width, seed=2) - 0.5) * 3,
        random(2, 4 // groups, 3, 3, seed=3),
        random(2, deform_groups * 9, height, width, seed=4),
        random(2, seed=5),
    )


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_deform_conv_is_its_definition(geometry):
    values, offset, weight, _, _ = convolution_inputs(*geometry[3:])
    found = ops.deform_conv2d(values, offset, weight, *geometry[:5])
    torch.testing.assert_close(found, deformed(values, offset, weight, None, *geometry[:5]))


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_modulated_deform_conv_is_its_definition(geometry, with_bias):
    values, offset, weight, mask, bias = convolution_inputs(*geometry[3:])
    found = ops.modulated_deform_conv2d(values, offset, mask, weight, bias if with_bias else None, *geometry[:5])
    expected = deformed(values, offset, weight, mask, *geometry[:5])
    torch.testing.assert_close(found, expected + bias[:, None, None] * with_bias)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_deform_conv_gradients(geometry):
    inputs = [part.requires_grad_() for part in convolution_inputs(*geometry[3:])[:3]]
    torch.autograd.gradcheck(lambda *parts: ops.deform_conv2d(*parts, *geometry[:5]), inputs, fast_mode=True)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_modulated_deform_conv_gradients(geometry):
    values, offset, weight, mask, bias = (part.requires_grad_() for part in convolution_inputs(*geometry[3:]))
    inputs = [values, offset, mask, weight, bias]
    torch.autograd.gradcheck(lambda *parts: ops.modulated_deform_conv2d(*parts, *geometry[:5]), inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", HALVES)
def test_deform_conv_in_half_precision(dtype):
    parts = [part.to(dtype) for part in convolution_inputs(1, 1, 3, 4)]
    exact = [part.float().requires_grad_() for part in parts]
    short = [part.requires_grad_() for part in parts]
    found, expected = (ops.modulated_deform_conv2d(p[0], p[1], p[3], p[2], p[4], 1, 1) for p in (short, exact))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0, rtol=EXTRA_DIGITS[dtype])
    found.sum().backward()
    expected.sum().backward()
    for part, reference in zip(short, exact, strict=True):
        torch.testing.assert_close(part.grad.float(), reference.grad, atol=1e-2, rtol=EXTRA_DIGITS[dtype])


def test_modulated_deform_conv_reads_larger_maps_one_number_after_the_other():
    values, offset, weight, mask, _ = convolution_inputs(1, 1, 3, 4)
    large_offset = (
        torch.cat((offset.flatten(1), torch.full((2, 18 * 108), 7.0)), 1).view(2, 18, 10, 12).requires_grad_()
    )
    large_mask = torch.cat((mask.flatten(1), torch.full((2, 9 * 108), 7.0)), 1).view(2, 9, 10, 12)
    found = ops.modulated_deform_conv2d(values, large_offset, large_mask, weight, None, 1, 1)
    torch.testing.assert_close(found, ops.modulated_deform_conv2d(values, offset, mask, weight, None, 1, 1))
    found.sum().backward()
    gradient = large_offset.grad.flatten(1)
    assert gradient[:, : 18 * 12].any()
    assert not gradient[:, 18 * 12 :].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_deform_conv_leaves_out_samples_with_an_offset_that_is_not_finite(bad):
    values, offset, weight, _, _ = convolution_inputs(1, 1, 3, 4)
    offset[:, 4] = bad  # of the third of nine taps
    without = weight.clone()
    without[:, :, 0, 2] = 0
    inputs = [part.requires_grad_() for part in (values, offset, weight)]
    found = ops.deform_conv2d(*inputs, 1, 1)
    torch.testing.assert_close(found, ops.deform_conv2d(values, offset.nan_to_num(0, 0, 0), without, 1, 1))
    found.sum().backward()
    assert all(part.grad.isfinite().all() for part in inputs)


@pytest.mark.filterwarnings("ignore:This overload of addmm is deprecated")  # mmcv's own call
def test_masked_convolution_is_the_convolution_at_the_marked_places():
    layer = ops.MaskedConv2d(3, 4, 3, padding=1).eval()
    values = random(1, 3, 6, 7, dtype=torch.float32)
    mask = random(1, 6, 7) > 0.5
    with torch.no_grad():
        found = layer(values, mask)
        expected = functional.conv2d(values, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(found, expected * mask, atol=1e-5, rtol=1e-5)
    assert not layer(values, torch.zeros_like(mask)).any()


# Multi-scale deformable attention

SHAPES = torch.tensor([[4, 5], [2, 3]])
STARTS = torch.tensor([0, 20])


def attention_inputs() -> tuple[Tensor, Tensor, Tensor]:
    weights = random(2, 3, 2, 2, 4, seed=3)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    return random(2, 26, 2, 3, seed=1), random(2, 3, 2, 2, 4, 2, seed=2) * 1.2 - 0.1, weights


def attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    function = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    return function.apply(value, SHAPES, STARTS, locations, weights, 64)


def test_deformable_attention_is_its_definition():
    value, locations, weights = attention_inputs()
    expected = torch.zeros(2, 3, 2, 3, dtype=value.dtype)
    for b, q, h, level, p in itertools.product(range(2), range(3), range(2), range(2), range(4)):
        height, width = SHAPES[level].tolist()
        plane = value[b, STARTS[level] : STARTS[level] + height * width, h].T.reshape(3, height, width)
        x, y = locations[b, q, h, level, p].tolist()
        sample = bilinear(plane, y * height - 0.5, x * width - 0.5)
        expected[b, q, h] += weights[b, q, h, level, p] * sample
    torch.testing.assert_close(attend(value, locations, weights), expected.flatten(2))


def test_deformable_attention_gradients():
    torch.autograd.gradcheck(attend, [part.requires_grad_() for part in attention_inputs()], fast_mode=True)


@pytest.mark.parametrize("dtype", HALVES)
def test_deformable_attention_in_half_precision(dtype):
    short = [part.to(dtype).requires_grad_() for part in attention_inputs()]
    exact = [part.detach().float().requires_grad_() for part in short]
    found, expected = attend(*short), attend(*exact)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0, rtol=EXTRA_DIGITS[dtype])
    found.sum().backward()
    expected.sum().backward()
    for part, reference in zip(short, exact, strict=True):
        torch.testing.assert_close(part.grad.float(), reference.grad, atol=1e-2, rtol=EXTRA_DIGITS[dtype])


def test_deformable_attention_of_no_query():
    value, locations, weights = attention_inputs()
    assert attend(value, locations[:, :0], weights[:, :0]).shape == (2, 0, 6)


# Focal losses

LOGITS = torch.tensor([[2.0, -1, 0.3], [0.1, 4, -3], [-0.5, 0.2, 0.7], [1, 1, 1]], dtype=torch.float64)
TARGET = torch.tensor([0, 2, 3, 1])  # 3, the number of classes, is background
WEIGHT = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_focal_loss_is_its_formula(gamma, weight):
    probability = LOGITS.sigmoid()
    positive = functional.one_hot(TARGET, 4)[:, :3].bool()
    of_truth = torch.where(positive, probability, 1 - probability)
    expected = -torch.where(positive, 0.25, 0.75) * (1 - of_truth) ** gamma * of_truth.log()
    if weight is not None:
        expected = expected * torch.tensor([0.5, 1.5, 1, 2.0])[:, None]
    found = ops.sigmoid_focal_loss(LOGITS, TARGET, gamma, 0.25, weight, "none")
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_loss_gradient(gamma, weight, reduction):
    logits = LOGITS.clone().requires_grad_()
    torch.autograd.gradcheck(
        lambda values: ops.sigmoid_focal_loss(values, TARGET, gamma, 0.25, weight, reduction), logits
    )


@pytest.mark.parametrize("loss", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
def test_focal_losses_stay_finite_for_extreme_logits(loss):
    logits = torch.tensor([[200.0, -200, 200], [-200, 200, -200]]).requires_grad_()
    found = loss(logits, torch.tensor([1, 1]), 0.5, 0.25, None, "sum")
    found.backward()
    assert found.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_loss_is_its_formula(gamma, weight):
    target = torch.tensor([0, 2, 1, -1])  # a negative target is ignored
    probability = LOGITS.softmax(1)[torch.arange(3), target[:3]]
    expected = -0.25 * (1 - probability) ** gamma * probability.log()
    if weight is not None:
        expected = expected * weight[target[:3]]
    found = ops.softmax_focal_loss(LOGITS, target, gamma, 0.25, weight, "none")
    torch.testing.assert_close(found, torch.cat((expected, torch.zeros(1))))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_loss_gradient(gamma, weight, reduction):
    logits, target = LOGITS.clone().requires_grad_(), torch.tensor([0, 2, 1, -1])
    torch.autograd.gradcheck(
        lambda values: ops.softmax_focal_loss(values, target, gamma, 0.25, weight, reduction), logits
    )


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("loss", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
def test_focal_losses_in_half_precision(loss, dtype):
    target = torch.tensor([0, 2, 1, 1])
    exact, short = LOGITS.float().requires_grad_(), LOGITS.to(dtype).requires_grad_()
    expected, found = (loss(values, target, 2.0, 0.25, None, "mean") for values in (exact, short))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=5e-3, rtol=2e-2)
    expected.backward()
    found.backward()
    torch.testing.assert_close(short.grad.float(), exact.grad, atol=5e-3, rtol=2e-2)


@pytest.mark.parametrize("loss", [ops.sigmoid_focal_loss, ops.softmax_focal_loss])
def test_focal_losses_of_no_row(loss):
    assert loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum") == 0


# CARAFE


def test_carafe_is_its_definition():
    features, masks = random(2, 4, 3, 4, seed=1), random(2, 2 * 9, 6, 8, seed=2)
    expected = torch.zeros(2, 4, 6, 8, dtype=features.dtype)
    padded = functional.pad(features, (1, 1, 1, 1))
    for n, c, row, column in itertools.product(range(2), range(4), range(6), range(8)):
        window = padded[n, c, row // 2 : row // 2 + 3, column // 2 : column // 2 + 3].flatten()
        group = c // 2
        expected[n, c, row, column] = (window * masks[n, group * 9 : group * 9 + 9, row, column]).sum()
    torch.testing.assert_close(ops.carafe(features, masks, 3, 2, 2), expected)
    torch.testing.assert_close(ops.carafe_naive(features, masks, 3, 2, 2), expected)


def test_carafe_gradients():
    inputs = [random(1, 4, 3, 4, seed=1).requires_grad_(), random(1, 18, 6, 8, seed=2).requires_grad_()]
    torch.autograd.gradcheck(lambda *parts: ops.carafe(*parts, 3, 2, 2), inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", HALVES)
def test_carafe_in_half_precision(dtype):
    short = [random(1, 4, 3, 4, seed=1).to(dtype), random(1, 18, 6, 8, seed=2).to(dtype)]
    found = ops.carafe(*short, 3, 2, 2)
    assert found.dtype == dtype
    expected = ops.carafe(*(part.float() for part in short), 3, 2, 2)
    torch.testing.assert_close(found.float(), expected, atol=0, rtol=EXTRA_DIGITS[dtype])


def test_carafe_of_no_image():
    assert ops.carafe(torch.zeros(0, 4, 3, 4), torch.zeros(0, 18, 6, 8), 3, 2, 2).shape == (0, 4, 6, 8)
