"""The errors that mean wrong use, and how to word what could be done; knows nothing of where they are shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A request that cannot be done: one line that says what was wrong and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class MissingExtraError(UserError, ImportError):
    """A library is missing that comes with an extra of this package.

    Args:
        user: what needs it, such as "SAM2Segmenter".
        library: the missing one.
        extra: that installs it, as pyproject.toml names it.
        error: of the import.
    """

    def __init__(self, user: str, library: str, extra: str, error: ImportError | None = None) -> None:
        reason = f" ({error})" if error else ""
        super().__init__(f"{user} needs {library}{reason}; {how_to_install(extra)}")


def how_to_install(extra: str) -> str:
    """Word how to install an extra of pyproject.toml: from a checkout, as no package index has this program."""
    checkout = Path(__file__).resolve().parents[2]
    here = f"{checkout}" if (checkout / "pyproject.toml").is_file() else "a checkout of BMP"
    # What OpenMMLab needs besides, only the list of requirements brings along; see third_party/README.md.
    command = (
        f'pip install -e ".[{extra}]"'
        if extra in ("lite", "modern", "engines", "dev")
        else "pip install -r requirements.txt"
    )
    return f"run `{command}` in {here}"


def choices(name: str, options: Iterable[str]) -> str:
    """Word for an error what could have been meant instead of ``name``."""
    options = list(options)
    close = difflib.get_close_matches(name, options, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}there is: {', '.join(options) or 'nothing'}"
