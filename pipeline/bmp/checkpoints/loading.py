"""Safe and strict loading of checkpoints: only tensors are ever unpickled. It does not know where files come from."""

from __future__ import annotations

import logging
import pickle
import re
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bmp.errors import UserError

_LOGGER = logging.getLogger("bmp")
_CONTAINERS = ("state_dict", "model")
_POINTER = b"version https://git-lfs.github.com/spec/"
_NUMERIC = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_NAMED = 5


@contextmanager
def trusted_mmengine_globals() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` read what mmengine writes beside tensors, inside this block only.

    Those are ``HistoryBuffer`` and arrays and scalars of plain numbers. ``getattr`` and ``numpy.dtype`` are served
    by stand-ins: the one gives HistoryBuffer's own public methods, the other numeric types; everything else is
    refused, as are object arrays and structured types, through which a file could forge pointers.
    """
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    def history_method(owner: Any, name: str) -> Any:
        method = vars(HistoryBuffer).get(name)
        if owner is HistoryBuffer and not name.startswith("_") and isinstance(method, types.FunctionType):
            return method
        raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {name!r} is not allowed")

    def numeric_dtype(code: Any, *_: Any) -> np.dtype[Any]:
        # NumPy's own object for each type ignores attempts to change its state; a copy would not.
        if isinstance(code, str) and (found := numeric.get(code)) is not None:
            return found
        raise pickle.UnpicklingError(f"GLOBAL numpy.dtype of {code!r} is not allowed")

    numeric = {code: np.dtype(code) for code in _NUMERIC}
    rebuild: Any = np.zeros(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [HistoryBuffer, np.ndarray]
    allowed += [type(dtype) for dtype in numeric.values()]
    allowed += [(history_method, "builtins.getattr"), (numeric_dtype, "numpy.dtype")]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):
        allowed += [(rebuild, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    # Leaving the block takes back what it allowed; what an outer block or the user allowed has to stay.
    already = torch.serialization.get_safe_globals()
    allowed = [entry for entry in allowed if entry not in already]

    methods = dict(HistoryBuffer._statistics_methods)
    try:
        with torch.serialization.safe_globals(allowed):
            yield
    finally:
        # Unpickling a HistoryBuffer writes the file's methods into the class.
        HistoryBuffer._statistics_methods.clear()
        HistoryBuffer._statistics_methods.update(methods)


def load_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a .pth, .pt or .safetensors file onto the CPU, in the dtypes of the file.

    The state dict is the whole file, or its entry "state_dict" (mmengine, which puts averaged weights there too)
    or "model" (SAM 2).
    Tensors may be views of the file on disk; copy them into a module soon. The first bytes of the file say which
    format it has, whatever it is called.
    Raises ``UserError`` for a missing or unreadable file, one with anything but plain data in it, one without
    a state dict, and for tensors that are no weights: not finite, not dense, quantised, or without values.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a checkpoint file, found none; check the path")
    content = _read(path)
    container = next((key for key in _CONTAINERS if isinstance(content.get(key), dict)), None)
    state = content if container is None else content[container]
    wrong = [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if not state or wrong:
        where = "" if container is None else f" in its {container!r}"
        found = _listed([f"{name!r} ({type(state[name]).__name__})" for name in wrong]) if wrong else "an empty one"
        raise UserError(
            f"{path}: expected a dict of tensors, alone or under {' or '.join(map(repr, _CONTAINERS))}, "
            f"got {found}{where}; save it as {{'state_dict': module.state_dict()}}"
        )
    for name, tensor in state.items():
        if flaw := _flaw(tensor):
            raise UserError(f"{path}: {name} {flaw}; expected ordinary tensors of finite numbers, save them anew")
    return state


def _flaw(tensor: Tensor) -> str:
    """Say what keeps ``tensor`` from being a weight, "" where nothing does."""
    if tensor.is_meta:
        return "has a shape but no values (it was saved on the meta device)"
    if tensor.is_quantized:
        return f"is quantised ({tensor.dtype})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is not dense ({'nested' if tensor.is_nested else tensor.layout})"
    if tensor.numel() and (tensor.is_floating_point() or tensor.is_complex()):
        values = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        # NaN comes through both, and nothing as large as the tensor is made; one-byte numbers have no such function.
        extremes = torch.stack(torch.aminmax(values if values.dtype.itemsize > 1 else values.float()))
        if not bool(extremes.isfinite().all()):
            return "holds NaN or infinity"
    return ""


def load_strictly(
    module: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    ignore: Sequence[str] = (),
    file: Path | str = "the checkpoint",
) -> None:
    """Copy ``state_dict`` into ``module``; nothing may be missing, surplus or of another shape.

    A prefix that all names share, and without which they are the module's own, is taken off, and the log says so:
    wrappers such as DistributedDataParallel ("module."), Lightning ("model.") or torch.compile leave one.

    ignore: shell patterns ("head.error_layers.*") of names that may be missing, surplus or misshapen; what fits is
    loaded all the same. file: named in the error. Raises ``UserError`` that names the first of what does not fit, and
    leaves the module as it was.
    """
    own = module.state_dict()
    if prefix := _foreign_prefix(own, state_dict):
        _LOGGER.info("%s: all names begin with %r, which %s has not; taken off", file, prefix, type(module).__name__)
        versions = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict((name.removeprefix(prefix), tensor) for name, tensor in state_dict.items())
        if versions is not None:
            cut = {name.removeprefix(prefix): version for name, version in versions.items() if name != prefix[:-1]}
            state_dict._metadata = cut | {"": versions.get(prefix[:-1], {})}  # type: ignore[attr-defined]
    misfits = {
        "missing": [name for name in own if name not in state_dict],
        "surplus": [name for name in state_dict if name not in own],
        "misshapen": [name for name in own if name in state_dict and own[name].shape != state_dict[name].shape],
    }

    def shown(name: str) -> str:
        if name not in own or name not in state_dict:
            return name
        return f"{name} (expected {tuple(own[name].shape)}, got {tuple(state_dict[name].shape)})"

    problems = []
    for what, names in misfits.items():
        blamed = [shown(name) for name in names if not any(fnmatchcase(name, pattern) for pattern in ignore)]
        if blamed:
            problems.append(f"{len(blamed)} {what}: {_listed(blamed)}")
    if problems:
        raise UserError(
            f"{file}: does not fit {type(module).__name__} ({len(own)} tensors): {'; '.join(problems)}; "
            "give the weights that belong to this model"
        )
    left_out = {*misfits["surplus"], *misfits["misshapen"]}
    fitting = OrderedDict((name, tensor) for name, tensor in state_dict.items() if name not in left_out)
    # Modules that read older formats look here for the version that wrote the file.
    if (versions := getattr(state_dict, "_metadata", None)) is not None:
        fitting._metadata = versions  # type: ignore[attr-defined]
    module.load_state_dict(fitting, strict=not any(misfits.values()))
    _LOGGER.info("%s: weights of %s, %d tensors", file, type(module).__name__, len(fitting))


def _foreign_prefix(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return what all ``given`` names begin with, in whole steps of the dotted path, if ``own`` ones lack it."""
    best, fitting = "", sum(name in own for name in given)
    steps = next(iter(given), "").split(".")[:-1]
    for count in range(1, len(steps) + 1):
        prefix = ".".join(steps[:count]) + "."
        if not all(name.startswith(prefix) for name in given):
            break
        if (fits := sum(name.removeprefix(prefix) in own for name in given)) > fitting:
            best, fitting = prefix, fits
    return best


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def _read(path: Path) -> dict[Any, Any]:
    """Return the file's outermost dict."""
    try:
        with path.open("rb") as file:
            first = file.read(len(_POINTER))
        if first == _POINTER:
            raise UserError(f"{path}: a pointer of git-lfs, not the weights themselves; run `git lfs pull` there")
        # Its header: eight bytes of length, then JSON.
        if first[8:9] == b"{":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = _unpickle(path)
    except (ImportError, UserError):
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {named[1]}" if named else "is no plain pickle of tensors"
        raise UserError(
            f"{path}: refused, since it {what}; expected tensors and nothing that runs: fetch it anew, or save it anew "
            "as {'state_dict': module.state_dict()}"
        ) from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: not a readable checkpoint ({reason}); fetch it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dict of tensors, got {type(content).__name__}; save module.state_dict()")
    return content


def _unpickle(path: Path) -> Any:
    def load() -> Any:
        if path.suffix == ".safetensors":  # torch would believe the name
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        # Mapped into memory, the file is never there twice; only the older format cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))

    try:
        return load()
    except pickle.UnpicklingError:
        # Only files that need it pay for importing mmengine.
        with trusted_mmengine_globals():
            return load()
