"""The error that means wrong use, and how to word what could have been meant; knows nothing of where it is shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user asked for cannot be done as asked: one line that says what was wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def choices(name: str, options: Iterable[str]) -> str:
    """Word for an error what could have been meant instead of ``name``."""
    options = list(options)
    close = difflib.get_close_matches(name, options, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}there is: {', '.join(options) or 'nothing'}"
