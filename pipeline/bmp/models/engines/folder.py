"""Writes networks as a folder for programs without torch: ONNX files, a manifest, and a runner that shows their use.

It knows no stage: each says what its networks are and which constants belong around them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bmp import __version__
from bmp.io.checksums import sha256_of
from bmp.io.json_fields import JsonObject
from bmp.models.engines import runner_file
from bmp.models.engines.graph import OPSET, Graph, Shapes, export
from bmp.models.engines.network import compare
from bmp.models.engines.sessions import open_onnxruntime

MANIFEST, RUNNER = "manifest.json", "runner.py"
_FORMAT = 1  # of the manifest, which the runner checks


@dataclass(frozen=True, eq=False)
class ExportedStage:
    """A stage as the runner knows it.

    kind: the way of preparing and decoding. graphs: its networks by what they do, with the shapes of their inputs.
    settings: the constants of preparing and decoding, as JSON has them.
    """

    kind: str
    graphs: Mapping[str, tuple[Graph, Shapes]]
    settings: JsonObject


def write_folder(folder: Path, stages: Mapping[str, ExportedStage], config: str, left_out: Sequence[str]) -> list[Path]:
    """Write the networks of stages, each compared with torch, then the runner, and the manifest last.

    Args:
        folder: which exists.
        stages: by role.
        config: where they come from, for whoever reads the manifest.
        left_out: what of the config the runner does not do, a line each.

    Returns:
        the files of the networks.

    Raises:
        UserError: for a network that cannot be exported.
        OSError: for a folder that cannot be written.
    """
    files = []
    told: dict[str, Any] = {}
    for role, stage in stages.items():
        graphs = {}
        for name, (graph, shapes) in stage.graphs.items():
            file = folder / (f"{role}.onnx" if len(stage.graphs) == 1 else f"{role}-{name}.onnx")
            export(graph, shapes, file)
            session = open_onnxruntime(file, torch.device("cpu"), torch.float32)
            compare(graph, session, graph.example(shapes, rows=3), "onnxruntime", torch.float32)
            graphs[name] = _described(file)
            files.append(file)
        told[role] = {"kind": stage.kind, "settings": stage.settings, "graphs": graphs}
    manifest = {
        "format": _FORMAT,
        "made_by": f"bmp {__version__}, torch {torch.__version__}",
        "config": config,
        "left_out": list(left_out),
        "stages": told,
    }
    shutil.copyfile(runner_file(), folder / RUNNER)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return files


def _described(file: Path) -> JsonObject:
    """Return what a file is, read from the file itself."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    return {
        "file": file.name,
        "sha256": sha256_of(file),
        "bytes": file.stat().st_size,
        "opset": OPSET,
        "inputs": [_value(each) for each in graph.input],
        "outputs": [_value(each) for each in graph.output],
    }


def _value(value: Any) -> JsonObject:
    import onnx

    kind = value.type.tensor_type
    shape = [each.dim_param or each.dim_value for each in kind.shape.dim]
    return {"name": value.name, "dtype": onnx.TensorProto.DataType.Name(kind.elem_type).lower(), "shape": shape}
