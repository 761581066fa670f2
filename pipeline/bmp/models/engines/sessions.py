"""ONNX files opened in ONNX Runtime and OpenVINO, behind one function of tensors; knows no network and no cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmp.errors import UserError

Session = Callable[[Sequence[Tensor]], "tuple[Tensor, ...]"]
"""Runs a network on inputs in the order of its file, and returns its outputs on the inputs' device."""

_PROVIDERS = {"cpu": (), "cuda": ("TensorrtExecutionProvider", "CUDAExecutionProvider")}
"""Of ONNX Runtime, by device, the best first; its own for CPUs always comes last."""


def open_onnxruntime(file: Path, device: torch.device, dtype: torch.dtype) -> Session:
    """Open a file in ONNX Runtime, with the providers for the device that it was built with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(file), options, providers=providers(device, file.parent))
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def run(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # Memory of torch is bound as it is, so that on a GPU nothing goes by way of the host.
        binding = session.io_binding()
        kept = [value.contiguous() for value in values]
        for each, value in zip(inputs, kept, strict=True):
            binding.bind_input(each.name, *_memory(value))
        made = []
        for each in outputs:
            shape = [len(values[0]), *each.shape[1:]]
            made.append(torch.empty(shape, dtype=_DTYPES[each.type], device=device))
            binding.bind_output(each.name, *_memory(made[-1]))
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # ONNX Runtime has a stream of its own
        session.run_with_iobinding(binding)
        return tuple(made)

    return run


_DTYPES = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64, "tensor(bool)": torch.bool}
_NUMBERS = {torch.float32: np.float32, torch.int64: np.int64, torch.int32: np.int32, torch.bool: np.bool_}


def _memory(tensor: Tensor) -> tuple[str, int, Any, tuple[int, ...], int]:
    return tensor.device.type, tensor.device.index or 0, _NUMBERS[tensor.dtype], tuple(tensor.shape), tensor.data_ptr()


def providers(device: torch.device, folder: Path | None = None) -> list[Any]:
    """Return the providers of ONNX Runtime for a device, as its sessions take them.

    folder: where TensorRT keeps what it builds, which takes it minutes.

    Raises:
        UserError: for a device that the installed build has no provider for.
    """
    import onnxruntime

    there = onnxruntime.get_available_providers()
    wanted = _PROVIDERS.get(device.type)
    usable = [name for name in wanted or () if name in there]
    if wanted is None or (wanted and not usable):
        raise UserError(
            f"engine 'onnxruntime': it has no provider for {device.type} here, only {', '.join(there)}; install "
            "onnxruntime-gpu in its place, or take engine='torch'"
        )
    settings: dict[str, dict[str, Any]] = {
        "TensorrtExecutionProvider": {
            "device_id": device.index or 0,
            "trt_engine_cache_enable": folder is not None,
            "trt_engine_cache_path": str(folder),
        },
        "CUDAExecutionProvider": {"device_id": device.index or 0, "use_tf32": 0},
    }
    return [*((name, settings[name]) for name in usable), "CPUExecutionProvider"]


_ALONE = Lock()


@cache
def _openvino_core() -> Any:
    """Return the one core of this process, which lives as long as it does.

    The plugin for CPUs of each core gives signals a stack, and puts back, when it goes, the one that it found. If that
    was the stack of a core that has gone already, the next signal with a handler ends the process.
    """
    import openvino

    return openvino.Core()


def open_openvino(file: Path, device: torch.device, dtype: torch.dtype) -> Session:
    """Open a file in OpenVINO, on the CPU, computing in ``dtype``."""
    settings = {
        # Without this hint processors with bfloat16 use it.
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    with _ALONE:  # two threads that open their first networks would make a core each
        core = _openvino_core()
    model = core.compile_model(str(file), "CPU", settings)

    def run(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        arrays = [value.contiguous().numpy() for value in values]
        found = model(arrays, share_inputs=True)
        return tuple(torch.from_numpy(np.array(found[output])) for output in model.outputs)

    return run
