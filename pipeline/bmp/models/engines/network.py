"""A network that another engine runs: exported when it is first called, opened, checked against torch, and called.

Knows no stage and no network.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bmp.errors import MissingExtraError, UserError, choices
from bmp.models.compute import dtype_of
from bmp.models.engines.cache import exported
from bmp.models.engines.graph import Graph, Shapes, export, reference
from bmp.models.engines.sessions import Session, open_onnxruntime, open_openvino, providers

ENGINES = ("torch", "openvino", "onnxruntime")
_OPEN: dict[str, Callable[..., Session]] = {"openvino": open_openvino, "onnxruntime": open_onnxruntime}
_KEPT = 4  # sessions of a network: one for each size of its input
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2}  # of the relative distance from torch in float32

Function = Callable[..., "tuple[Tensor, ...]"]
"""What a graph is: tensors to a tuple of tensors."""


def check_engine(stage: str, engine: str, *, device: str, dtype: str, compile: bool) -> None:
    """Raise ``UserError`` for an engine that there is not, or that does not go with the other options of a stage."""
    if engine not in ENGINES:
        raise UserError(f"engine: there is no {engine!r}; {choices(engine, ENGINES)}")
    if engine == "torch":
        return
    try:
        importlib.import_module("onnx")
        importlib.import_module(engine)
    except ImportError as error:
        raise MissingExtraError(f"{stage} with engine={engine!r}", engine, "engines", error) from error
    if compile:
        raise UserError(f"compile: is for engine='torch', and {stage} has engine={engine!r}; leave one of them out")
    if engine == "openvino" and torch.device(device).type != "cpu":
        raise UserError(f"engine 'openvino' runs on CPUs, and {stage} is on {device}; take 'onnxruntime' or 'torch'")
    if engine == "onnxruntime":
        if dtype_of(dtype) != torch.float32:
            raise UserError(f"engine 'onnxruntime' computes in float32, got dtype={dtype!r}; 'openvino' has bfloat16")
        providers(torch.device(device))


def run_by(engine: str, graph: Graph, device: torch.device | str, dtype: torch.dtype) -> Function:
    """Return what runs ``graph``: its module itself for "torch", which computes in ``dtype`` by autocast elsewhere."""
    return graph.module if engine == "torch" else EngineNetwork(graph, engine, device, dtype)


class EngineNetwork:
    """Runs a graph by an engine; exported at the first call, for each size of the inputs, or taken from the cache.

    A new file is run beside torch once, on made-up inputs with another number of rows. Copies and pickles begin
    without anything opened.

    Args:
        graph: the network.
        engine: of ``ENGINES``, not "torch".
        device: of inputs and outputs.
        dtype: number format in which the engine computes; inputs and outputs are float32.
    """

    def __init__(self, graph: Graph, engine: str, device: torch.device | str, dtype: torch.dtype) -> None:
        self._graph = graph
        self._engine = engine
        self._device = torch.device(device)
        self._dtype = dtype
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the network; numbers of any format are taken, and float32 is returned."""
        inputs = tuple(value.float() if value.is_floating_point() else value for value in inputs)
        shapes = self._graph.shapes_of(inputs)
        key = repr(shapes)
        if key not in self._sessions:
            while len(self._sessions) >= _KEPT:
                self._sessions.popitem(last=False)
            self._sessions[key] = self._opened(shapes)
        self._sessions.move_to_end(key)
        return self._sessions[key](inputs)

    def _opened(self, shapes: Shapes) -> Session:
        graph = self._graph

        def make(file: Path) -> None:
            export(graph, shapes, file)
            compare(graph, self._open(file), graph.example(shapes, rows=3), self._engine, self._dtype)

        return self._open(exported(graph.name, graph.fingerprint(shapes), make))

    def _open(self, file: Path) -> Session:
        return _OPEN[self._engine](file, self._device, self._dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open."""
        return {**vars(self), "_sessions": OrderedDict()}


def compare(graph: Graph, session: Session, inputs: Sequence[Tensor], engine: str, dtype: torch.dtype) -> None:
    """Raise ``UserError`` where an engine does not compute what torch does: a trace may have left something out."""
    for found, expected in zip(session(inputs), reference(graph, inputs), strict=True):
        distance = float((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-6))
        if not distance <= _TOLERANCE[dtype]:
            raise UserError(
                f"{graph.name}: {engine} differs from torch by {distance:.2g}, relative; take engine='torch'"
            )
