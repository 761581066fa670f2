"""Networks by other engines: what torch computes, whoever calls and however many rows, and one line for what cannot be."""

import copy
import ctypes
import gc
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("onnx", reason="the extra engines is not installed")
pytest.importorskip("onnxruntime", reason="the extra engines is not installed")
pytest.importorskip("openvino", reason="the extra engines is not installed")

from bmp import UserError
from bmp.errors import MissingExtraError
from bmp.models.engines import ENGINES, Graph, check_engine, run_by
from bmp.models.engines import network as network_file

OTHERS = [engine for engine in ENGINES if engine != "torch"]


class Small(nn.Module):
    """Convolution, normalisation and points; no row has an influence on another."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.SiLU())
            self.tokens = nn.Linear(2, 4)

    def forward(self, pixels, points, labels):
        kept = self.tokens(points) * (labels > 0)[..., None]
        features = self.layers(pixels)
        return features + kept.sum(1)[..., None, None], features.mean((-2, -1))


INPUTS = {"pixels": {}, "points": {1: "points"}, "labels": {1: "points"}}


def small(seed=0):
    return Graph("small", Small(seed), INPUTS, ("maps", "means"))


def inputs(rows, points=3, side=9):
    generator = torch.Generator().manual_seed(rows + points)
    pixels = torch.randn(rows, 3, side, side, generator=generator)
    return pixels, torch.randn(rows, points, 2, generator=generator), torch.arange(rows * points).view(rows, points) % 3


def run(graph, engine, dtype=torch.float32):
    return run_by(engine, graph, "cpu", dtype)


def close(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def entries(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
def test_any_number_of_rows_and_points_gives_what_torch_gives(engine, cache):
    graph = small()
    other = run(graph, engine)
    earlier = []
    for rows, points in ((1, 3), (7, 1), (2, 3), (16, 0), (1, 9), (5, 2)):
        given = inputs(rows, points)
        expected = graph.module(*given)
        earlier.append((other(*given), expected))
    for found, expected in earlier:  # later answers have not overwritten earlier ones
        close(found, [each.detach() for each in expected])
    assert len(entries(cache)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", OTHERS)
def test_each_size_of_input_is_a_file_of_its_own(engine, cache):
    graph = small()
    other = run(graph, engine)
    for side in (9, 12, 9):
        given = inputs(2, side=side)
        close(other(*given), [each.detach() for each in graph.module(*given)])
    assert len(entries(cache)) == 2


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="asks Linux what memory there is")
def test_signals_are_heard_after_networks_went_in_the_order_in_which_they_came():
    """Each core of OpenVINO gives signals a stack: where that memory is gone, a signal ends the process."""
    kept = [run(small(seed), "openvino") for seed in range(2)]
    for network in kept:
        network(*inputs(1))
    del network
    while kept:
        del kept[0]
        gc.collect()
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    memory = [line.split(" ")[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    assert stack.start is None or any(int(start, 16) <= stack.start < int(end, 16) for start, end in memory)


@pytest.mark.slow
def test_views_as_inputs():
    graph = small()
    pixels, points, labels = inputs(1)
    many = pixels.expand(4, -1, -1, -1), points.flip(1).expand(4, -1, -1), labels.expand(4, -1)
    for engine in OTHERS:
        close(run(graph, engine)(*many), [each.detach() for each in graph.module(*many)])


def test_the_caller_may_be_in_inference_mode_and_under_autocast():
    graph = small()
    given = inputs(2)
    expected = [each.detach() for each in graph.module(*given)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        close(run(graph, "onnxruntime")(*given), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_inputs_of_another_format_are_taken(dtype):
    graph = small()
    pixels, points, labels = inputs(2)
    pixels = pixels.to(dtype)
    expected = graph.module(pixels.float(), points, labels)
    close(
        run(graph, "onnxruntime")(pixels, points.to(dtype).float(), labels), [each.detach() for each in expected], 1e-2
    )


@pytest.mark.slow
def test_bfloat16_is_near_and_not_equal():
    graph = small()
    given = inputs(4)
    expected = graph.module(*given)[0].detach()
    found = run(graph, "openvino", torch.bfloat16)(*given)[0]
    assert found.dtype == torch.float32
    assert 0 <= (found - expected).abs().max() < 0.1


def test_layers_stay_in_evaluation_mode():
    graph = small()
    run(graph, "onnxruntime")(*inputs(2))
    assert not any(module.training for module in graph.module.modules())


@pytest.mark.slow
def test_a_file_is_exported_once_for_all_engines(monkeypatch):
    graph = small()
    run(graph, "onnxruntime")(*inputs(2))
    monkeypatch.setattr(network_file, "export", None)
    for engine in OTHERS:
        run(graph, engine)(*inputs(1))


@pytest.mark.slow
@pytest.mark.parametrize("made", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_give_the_same(made):
    other = run(small(), "onnxruntime")
    close(made(other)(*inputs(2)), other(*inputs(2)), 0)
    close(made(other)(*inputs(2)), other(*inputs(2)), 0)


class Sum(nn.Module):
    def forward(self, values):
        return (values * 2 if values.sum() > 4 else values,)


class Listed(nn.Module):
    def forward(self, values):
        return [values]


class Inverted(nn.Module):
    def forward(self, values):
        return (torch.linalg.pinv(values.view(-1, 2, 2)),)


@pytest.mark.parametrize(
    ("module", "said"),
    [(Sum(), "differs from torch"), (Listed(), "expected a tuple"), (Inverted(), "cannot be exported to ONNX")],
)
def test_what_cannot_be_exported_is_said_and_not_kept(module, said, cache):
    graph = Graph("odd", module, {"values": {}})
    with pytest.raises(UserError, match=said):
        run(graph, "onnxruntime")(torch.rand(2, 4))
    assert entries(cache) == []


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.grid = nn.Parameter(torch.randn(1, 3, 4, 4))

    def _get_pos_embed(self, size):
        return nn.functional.interpolate(self.grid, size, mode="bicubic")

    def forward(self, pixels):
        return (pixels + self._get_pos_embed(pixels.shape[-2:]),)


def test_positions_resized_to_the_input_are_constants(cache):
    import onnx

    module = Positions()
    given = torch.rand(2, 3, 7, 7)
    close(run(Graph("positions", module, {"pixels": {}}), "onnxruntime")(given), [module(given)[0].detach()])
    (entry,) = entries(cache)
    assert "Resize" not in {node.op_type for node in onnx.load(entry / "model.onnx").graph.node}
    assert "_get_pos_embed" not in vars(module)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(engine="onnxruntim"), "there is no 'onnxruntim'; did you mean 'onnxruntime'"),
        (dict(engine="openvino", compile=True), "compile: is for engine='torch'"),
        (dict(engine="openvino", device="cuda"), "'openvino' runs on CPUs"),
        (dict(engine="onnxruntime", dtype="bfloat16"), "computes in float32"),
        (dict(engine="onnxruntime", device="cuda:0"), "no provider for cuda"),
        (dict(engine="onnxruntime", device="mps"), "no provider for mps"),
    ],
)
def test_options_that_do_not_go_together(options, said):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and "cuda" in said:
        pytest.skip("ONNX Runtime has a provider for CUDA here")
    with pytest.raises(UserError, match=said):
        check_engine("Stage", **{"device": "cpu", "dtype": "float32", "compile": False, **options})


@pytest.mark.parametrize("library", ["onnx", "openvino"])
def test_a_missing_extra_says_how_to_install_it(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"engine='openvino' needs .*\.\[engines\]"):
        check_engine("Stage", "openvino", device="cpu", dtype="float32", compile=False)


def test_the_best_provider_that_there_is_comes_first(monkeypatch, tmp_path):
    import onnxruntime

    from bmp.models.engines.sessions import providers

    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    found = providers(torch.device("cuda", 1), tmp_path)
    assert [each if isinstance(each, str) else each[0] for each in found] == there
    assert [each[1]["device_id"] for each in found[:2]] == [1, 1]
    assert found[0][1]["trt_engine_cache_path"] == str(tmp_path)
    assert providers(torch.device("cpu")) == ["CPUExecutionProvider"]
