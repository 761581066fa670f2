"""Keeps records in a file, exactly: every number comes back bit for bit. Knows tensors, not what they mean."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.io.atomic import replacing_path
from bmp.io.json_fields import JsonObject
from bmp.structures import Record

_Arrays = dict[str, "npt.NDArray[Any]"]
_NUMBERS, _BITS = "numbers", ":bits"  # what is packed has its shape beside it


def save_records(path: Path, records: Mapping[str, Record], numbers: JsonObject) -> None:
    """Write records by name, and plain values beside them, in one step; bool tensors take an eighth of their bytes."""
    arrays: _Arrays = {_NUMBERS: np.frombuffer(json.dumps(numbers).encode(), np.uint8)}
    for name, record in records.items():
        arrays |= _flat(record, name)
    with replacing_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_records(path: Path, kinds: Mapping[str, type[Record]]) -> tuple[dict[str, Record], JsonObject]:
    """Return what ``save_records`` wrote, on the CPU: records of these kinds by name, and the plain values.

    Raises:
        UserError: the file is not as it was written.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        records = {name: _record(kind, arrays, name) for name, kind in kinds.items()}
        numbers: JsonObject = json.loads(arrays[_NUMBERS].tobytes())
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not as it was written ({error}); remove it, or start anew with --overwrite") from None
    return records, numbers


def _flat(record: Record, prefix: str) -> _Arrays:
    arrays: _Arrays = {}
    for field in dataclasses.fields(record):
        value, name = getattr(record, field.name), f"{prefix}.{field.name}"
        if isinstance(value, Record):
            arrays |= _flat(value, name)
        elif isinstance(value, Tensor) and value.dtype == torch.bool:
            arrays[name] = np.array(value.shape, np.int64)
            arrays[name + _BITS] = np.packbits(value.cpu().numpy())
        elif isinstance(value, Tensor):
            arrays[name] = value.cpu().numpy()
    return arrays


def _record(kind: type[Record], arrays: _Arrays, prefix: str) -> Record:
    """Put a record together; what was None is not among the arrays."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        name, hint = f"{prefix}.{field.name}", hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Record):
            values[field.name] = _record(hint, arrays, name)
        elif name + _BITS in arrays:
            shape = arrays[name].tolist()
            bits = np.unpackbits(arrays[name + _BITS], count=int(np.prod(shape))).astype(bool)
            values[field.name] = torch.from_numpy(bits.reshape(shape))
        elif name in arrays:
            values[field.name] = torch.from_numpy(arrays[name])
    return kind(**values)
