"""From a network in torch to an ONNX file, and what identifies the result; knows no engine and no cache."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bmp.errors import UserError
from bmp.models.compute import tensor_bytes, weights_digest

OPSET = 17
"""Of the files: the oldest with all operators that these networks need, so that many engines read them."""

_FORMAT = 1  # of what this module exports: another number makes new files
_ROWS, _OTHERS = 2, 3  # sizes of free dimensions in the trace; 1 would be taken for a dimension to broadcast

Shapes = Mapping[str, tuple[tuple[int | None, ...], torch.dtype]]
"""Of each input the shape, None for dimensions that are free, and the number format."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as a function of tensors to a tuple of tensors.

    The first dimension of inputs and outputs is the number of rows and free; no row has an influence on another.

    name: what it is, for file names. module: the function, without any state of a call. inputs: the names, each with
    the names of further dimensions that are free, by number: {"points": {1: "points"}}. outputs: the names; None for
    numbered ones.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self.module.eval()  # else the exporter would leave all of its layers in training mode

    def shapes_of(self, values: Sequence[Tensor]) -> Shapes:
        """Return what identifies the shapes of inputs."""
        found = {}
        for (name, free), value in zip(self.inputs.items(), values, strict=True):
            shape = tuple(None if axis == 0 or axis in free else size for axis, size in enumerate(value.shape))
            found[name] = (shape, value.dtype)
        return found

    def fingerprint(self, shapes: Shapes) -> str:
        """Return a digest of weights, settings, shapes and versions: of equal files, and of no others."""
        digest = hashlib.sha256()
        versions = {"torch": torch.__version__, "opset": OPSET, "format": _FORMAT}
        for part in (self.name, self.inputs, self.outputs, shapes, versions, weights_digest(self.module)):
            digest.update(repr(part).encode())
        for name, module in self.module.named_modules():
            digest.update(f"{name} {type(module).__module__}.{type(module).__qualname__}".encode())
            for key, value in sorted(vars(module).items()):
                if not key.startswith("_") or isinstance(value, int | float | str):
                    digest.update(f"{key}={_said(value)}".encode())
        return digest.hexdigest()

    def example(self, shapes: Shapes, rows: int = _ROWS) -> list[Tensor]:
        """Make inputs up: numbers in [0, 1], whole ones all 1; always the same."""
        device = next((each.device for each in self.module.parameters()), torch.device("cpu"))
        generator = torch.Generator().manual_seed(rows)
        made = []
        for shape, dtype in shapes.values():
            sizes = [rows, *(_OTHERS if size is None else size for size in shape[1:])]
            values = torch.rand(sizes, generator=generator) if dtype.is_floating_point else torch.ones(sizes)
            made.append(values.to(device, dtype))
        return made


def _said(value: object) -> str:
    """Word a setting of a layer, so that equal ones are worded alike in any process."""
    if isinstance(value, Tensor):
        return hashlib.sha256(tensor_bytes(value)).hexdigest()
    if isinstance(value, Mapping):
        return str({key: _said(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return str([_said(each) for each in value])
    if isinstance(value, set | frozenset):
        return str(sorted(map(_said, value)))
    if isinstance(value, functools.partial):
        return f"{_said(value.func)} {_said(value.args)} {_said(value.keywords)}"
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    words = repr(value)
    return type(value).__qualname__ if " at 0x" in words else words


def export(graph: Graph, shapes: Shapes, file: Path) -> None:
    """Write the ONNX file of a graph; weights beyond what ONNX keeps in a file are written beside it.

    Raises:
        UserError: for a network that has no such form.
    """
    examples = graph.example(shapes)
    with _for_export(graph.module) as run:
        outputs = run(*examples)  # once before the trace: what depends on shapes alone becomes a constant
        names = list(graph.outputs or (f"output_{number}" for number in range(len(outputs))))
        axes = {name: {0: "rows", **free} for name, free in graph.inputs.items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is checked later
                torch.onnx.export(
                    graph.module,
                    tuple(examples),
                    str(file),
                    dynamo=False,  # the other exporter stops at the loops of the pose networks
                    opset_version=OPSET,
                    input_names=list(graph.inputs),
                    output_names=names,
                    dynamic_axes={**axes, **{name: {0: "rows"} for name in names}},
                )
        except (RuntimeError, TypeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{graph.name}: cannot be exported to ONNX ({reason}); take engine='torch'") from error
    _name_dimensions(file, outputs)


def _name_dimensions(file: Path, outputs: Sequence[Tensor]) -> None:
    """Write the shapes of the outputs into a file, where the exporter lost track of them."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    for described, value in zip(model.graph.output, outputs, strict=True):
        shape = described.type.tensor_type.shape
        shape.ClearField("dim")
        for axis, size in enumerate(value.shape):
            shape.dim.add(**({"dim_value": size} if axis else {"dim_param": "rows"}))
    onnx.save(model, file)
    onnx.checker.check_model(str(file))


def reference(graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return what torch makes of inputs, in float32."""
    with _for_export(graph.module) as run:
        return run(*inputs)


@contextmanager
def _for_export(module: nn.Module) -> Iterator[Callable[..., tuple[Tensor, ...]]]:
    """Let a module be traced whoever calls, and yield it as a function that returns a flat tuple of tensors.

    Positional embeddings which networks resize to their input are kept from the first run: to engines the resize of a
    constant is work at each call, and OpenVINO takes minutes to see that it is one.
    """
    resizing: list[Any] = [part for part in module.modules() if callable(getattr(part, "_get_pos_embed", None))]
    for part in resizing:
        vars(part)["_get_pos_embed"] = _Once(part._get_pos_embed)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: Any = module(*inputs)
        if not isinstance(outputs, tuple) or not all(isinstance(each, Tensor) for each in outputs):
            raise UserError(
                f"{type(module).__name__}: expected a tuple of tensors, got {type(outputs).__name__}; such networks "
                "cannot be exported, take engine='torch'"
            )
        return outputs

    device = next((each.device.type for each in module.parameters()), "cpu")
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
            yield run
    finally:
        for part in resizing:
            del vars(part)["_get_pos_embed"]


class _Once:
    """Calls a function once, and then returns what it returned."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._known: Tensor | None = None

    def __call__(self, *arguments: Any) -> Tensor:
        if self._known is None:
            self._known = self._function(*arguments)
        return self._known
