"""Common to all OpenMMLab packages: silence for warnings that no user can act on, imports that work, and a type.

To build their models inside our own scope, use mmengine's:
``mmengine.registry.DefaultScope.overwrite_default_scope("mmdet")``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeAlias

Sample: TypeAlias = dict[str, Any]
"""A sample in a data pipeline of MMDetection or MMPose: arrays and metadata by name."""

_AT_IMPORT: tuple[tuple[str, type[Warning], str], ...] = (
    ("pkg_resources is deprecated as an API", UserWarning, r"mmengine\.utils\.package_utils"),
    ("``MultiScaleDeformableAttention`` has been moved", ImportWarning, r"mmcv\.cnn\.bricks\.transformer"),
    # Said when a file is compiled, of Python 3.12 on; what stands for the module is then the file's path.
    (r"(\"\\.\" is an )?invalid escape sequence", SyntaxWarning, r".*[/\\](mmdet|mmpretrain)[/\\]"),
)
_AT_USE: tuple[tuple[str, type[Warning], str], ...] = (
    (r"`torch\.cuda\.amp\.autocast\(args\.\.\.\)` is deprecated", FutureWarning, r"mmdet\."),
    (r"torch\.meshgrid: in an upcoming release", UserWarning, r"torch\.functional"),
    ("'pkgutil.find_loader' is deprecated", DeprecationWarning, r"mmengine\.utils\.dl_utils\.misc"),
    ("The arguments `dropout` in MultiheadAttention", DeprecationWarning, r"mmcv\.cnn\.bricks\.transformer"),
    (r'"(dropout|add_residual)" is deprecated in `FFN\.__init__`', DeprecationWarning, r"mmengine\.utils\.misc"),
    ('The metainfo config file "[^"]*" does not exist', UserWarning, r"mmpose\.datasets\.datasets\.utils"),
)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Leave out the known warnings of importing mmengine, mmcv, mmdet, mmpose and mmpretrain; all others are shown.

    For imports of these packages and nothing else: transformers, which they take parts of for networks that read text,
    seems not to be installed, since it takes seconds to import.
    """
    _leave_out_multimodal()
    with _without(_AT_IMPORT), _transformers_hidden():
        yield


@contextmanager
def quiet_models() -> Iterator[None]:
    """Leave out the known warnings of building and running models of mmdet and mmpose; all others are shown.

    Building a model may import more of these packages: the warnings of imports are left out, too. mmdet's
    ``init_detector`` puts a filter of its own before these, which lasts to the end of the block: run the model in
    another block.
    """
    _leave_out_multimodal()
    with _without(_AT_IMPORT + _AT_USE):
        yield


def _leave_out_multimodal() -> None:
    """Keep mmpretrain from importing its networks for images with text, which nothing here uses.

    They come with all its others where transformers is installed, and cannot be imported beside version 5 of it.
    """
    if "mmpretrain.models" in sys.modules or not find_spec("mmpretrain") or not _is_there("transformers"):
        return
    with _without(_AT_IMPORT), _transformers_hidden():
        from mmpretrain.utils import dependency

        dependency.WITH_MULTIMODAL = False


def _is_there(package: str) -> bool:
    return bool(sys.modules[package] if package in sys.modules else find_spec(package))


@contextmanager
def _transformers_hidden() -> Iterator[None]:
    """Let ``import transformers`` fail as where it is not installed, unless somebody has imported it already."""
    name = "transformers"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _without(known: tuple[tuple[str, type[Warning], str], ...]) -> Iterator[None]:
    with warnings.catch_warnings():
        for message, category, module in known:
            warnings.filterwarnings("ignore", message, category, module)
        yield
