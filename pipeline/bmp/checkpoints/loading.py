"""Safe and strict loading of checkpoints: only tensors are ever unpickled. It does not know where files come from."""

from __future__ import annotations

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

_CONTAINERS = ("state_dict", "model")
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


def load_state_dict(path: Path | str, *, strip_prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors of a .pth, .pt or .safetensors file onto the CPU, in the dtypes of the file.

    The state dict is the whole file, or its entry "state_dict" (mmengine, which puts averaged weights there too)
    or "model" (SAM 2). strip_prefix: cut this from the names that begin with it, "module." for one.
    Tensors may be views of the file on disk; copy them into a module soon.
    Raises ``UserError`` for a missing or unreadable file, one with anything but plain data in it, and one without
    a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a checkpoint file, found none; check the path")
    content = _read(path)
    state = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content)
    if not state or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise UserError(
            f"{path}: expected a dict of tensors, alone or under {' or '.join(map(repr, _CONTAINERS))}, "
            f"got {_listed(list(content)) or 'an empty one'}; save it as {{'state_dict': module.state_dict()}}"
        )
    if not strip_prefix:
        return state
    return {name.removeprefix(strip_prefix): tensor for name, tensor in state.items()}


def load_strictly(
    module: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    ignore: Sequence[str] = (),
    file: Path | str = "the checkpoint",
) -> None:
    """Copy ``state_dict`` into ``module``; nothing may be missing, surplus or of another shape.

    ignore: shell patterns ("head.error_layers.*") of names that may be missing, surplus or misshapen; what fits is
    loaded all the same. file: named in the error. Raises ``UserError`` that names the first of what does not fit, and
    leaves the module as it was.
    """
    own = module.state_dict()
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


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def _read(path: Path) -> dict[Any, Any]:
    """Return the file's outermost dict."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = _unpickle(path)
    except ImportError:
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
        # Mapped into memory, the file is never there twice; only the older format cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))

    try:
        return load()
    except pickle.UnpicklingError:
        # Only files that need it pay for importing mmengine.
        with trusted_mmengine_globals():
            return load()
