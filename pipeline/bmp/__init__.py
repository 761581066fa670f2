"""BMP: boxes, masks and poses of every person in a crowd.

    import bmp

    model = bmp.load("lite.py")
    people = model("photo.jpg")

Names are imported when they are first used, so that ``import bmp`` is quick and loads no network library.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmp.api import BMP as BMP
    from bmp.api import People as People
    from bmp.api import Person as Person
    from bmp.api import PicturesError as PicturesError
    from bmp.build import load as load
    from bmp.config import presets as presets
    from bmp.errors import UserError as UserError

# What a library user may want to see goes to this logger and those below it; nothing is shown until they ask for it.
logging.getLogger("bmp").addHandler(logging.NullHandler())

__version__ = "0.1.0"
__all__ = ["BMP", "People", "Person", "PicturesError", "UserError", "load", "presets"]
_HOMES = {
    "BMP": "bmp.api",
    "People": "bmp.api",
    "Person": "bmp.api",
    "PicturesError": "bmp.api",
    "UserError": "bmp.errors",
    "load": "bmp.build",
    "presets": "bmp.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bmp' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
