"""What all commands share: the frame around them, how they read options, show progress and say what failed.

Knows no network and no file. Exit codes: 0 all done, 1 some of it failed, 2 wrong use or an output that cannot be
written, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from bmp.errors import UserError

if TYPE_CHECKING:
    import rich.console


class Parser(argparse.ArgumentParser):
    """Options without abbreviations; one that does not exist is answered with those that do.

    Args:
        prog: how the command is called.
        elsewhere: options of other programs, and what they are called here: {"--conf": "--min-score"}.
        options: see ``argparse.ArgumentParser``.
    """

    def __init__(self, prog: str, elsewhere: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(prog=prog, allow_abbrev=False, **options)
        # No option begins with a digit, so "-20,10,50,60" is a value, as "-20" is to argparse already.
        self._negative_number_matcher = re.compile(r"-\.?\d")
        self._elsewhere = elsewhere or {}

    @property
    def name(self) -> str:
        """How the command begins its lines."""
        return self.prog.removeprefix("python -m ")

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """Return the options, or end the program with code 2."""
        options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            name = unknown[0].split("=")[0]
            known = list(self._option_string_actions)
            meant = self._elsewhere.get(name, "").split() or difflib.get_close_matches(name, known, n=2)
            guess = f"did you mean {' or '.join(meant)}? " if meant else ""
            self.error(f"there is no option {plain(name)}; {guess}--help lists all")
        return options

    def error(self, message: str) -> NoReturn:
        """Print the mistake in one line and end the program with code 2."""
        self.exit(2, f"{self.name}: {plain(message)}\n")


def run_command(
    parser: Parser,
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None = None,
    *,
    interrupted: str,
) -> int:
    """Read the options, do the work of a command and return its exit code.

    What the user can mend becomes one line on stderr; so does, where the command has ``--debug``, what nobody thought
    of, unless that is given. With ``--quiet`` or ``--verbose``, less or more of the logger "bmp" is shown. A stdout
    that is closed or full does not end the work.

    Args:
        parser: of the options.
        work: returns the exit code.
        arguments: ``sys.argv`` by default.
        interrupted: printed after Ctrl-C: what is done, and how to go on.
    """
    with ExitStack() as frame:
        outlet = frame.enter_context(_steady_streams())
        try:
            options = parser.parse_args(arguments)
        except SystemExit as answered:  # --help, or a mistake in the options
            return int(answered.code or 0)
        shown = frame.enter_context(_own_lines(options))
        frame.enter_context(_logged(parser.name, options))
        try:
            code = work(options)
        except UserError as error:
            complain(parser.name, str(error))
            code = 2
        except KeyboardInterrupt:
            complain(parser.name, f"interrupted; {interrupted}")
            code = 130
        except Exception as error:
            if shown or not hasattr(options, "debug"):
                raise
            complain(parser.name, f"unexpected {type(error).__name__}: {error}; --debug shows where")
            code = 1
        outlet.flush()
        if outlet.error and outlet.error.errno != errno.EPIPE:
            complain(parser.name, f"stdout cannot be written, {outlet.error.strerror}; everything else was done")
            code = max(code, 1)
    return code


def complain(name: str, message: str) -> None:
    """Say one line on stderr, as the command ``name``."""
    print(f"{name}: {plain(message)}", file=sys.stderr)


def report_failed(name: str, failed: list[str]) -> int:
    """Say what failed, a line each, as the command ``name``, and return the exit code."""
    for line in failed:
        complain(name, f"failed: {line}")
    return 1 if failed else 0


def plain(text: str) -> str:
    """Return ``text`` as one line that a terminal shows as it is: names of files may have anything in them."""
    words = " ".join(text.split())
    # What stands for bytes that are no UTF-8 is left to the stream, which knows its encoding.
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode() for c in words
    )


def add_volume(parser: Parser) -> None:
    """Add the options that say how much a command prints; ``run_command`` obeys them."""
    parser.add_argument("--debug", action="store_true", help="stop at the first unexpected error, with its traceback")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    volume.add_argument("-v", "--verbose", action="store_true", help="print all that it and its libraries say")


def whole(least: int) -> Callable[[str], int]:
    """Return what reads an option as a whole number from ``least``."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 19) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
        return int(text)

    return number


def instant(text: str) -> int | float:
    """Read an option as the number of a frame, a whole number, or as a time in seconds: 1.5, 90s, 1:30 or 1:02:03.5."""
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    found = re.fullmatch(r"(?:(?:(\d{1,4}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d*)?|\.\d+)s?", text, flags=re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected a frame, as in 120, or a time, as in 4.8, 90s or 1:30, got {text!r}"
        )
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def share(text: str) -> float:
    """Read an option as a number from 0 to 1."""
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")


def expect_both(options: argparse.Namespace, first: str, second: str, what: str) -> bool:
    """Tell whether both of two options are given; ``UserError`` where one is, saying ``what`` they are.

    The options are named with what stands for their value: "--dataset FILE".
    """
    given = [getattr(options, option.split()[0].strip("-").replace("-", "_")) is not None for option in (first, second)]
    if given[0] != given[1]:
        there, missing = (first, second) if given[0] else (second, first)
        raise UserError(f"{there.split()[0]} needs {missing} beside it: {what}")
    return given[0]


@contextmanager
def progress(
    quiet: bool, total: int, *, unit: str = "images", title: str = "", stderr: bool = False
) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Show a bar with rate and time left; give one function that prints a line above it and one that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = open_console(quiet, stderr=stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            bar.update(task, rate=f"{bar.tasks[0].completed / (time.monotonic() - started):.2f} {unit}/s")

        yield lambda line: console.print(plain(line)), advance


def open_console(quiet: bool, *, stderr: bool = False) -> rich.console.Console:
    """Return a console that prints lines as they are: no markup, no wrapping."""
    from rich.console import Console

    return Console(quiet=quiet, stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


class _Outlet:
    """A text stream that nobody may be reading: what cannot be written is dropped, and the first reason is kept."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            action()
        except OSError as error:
            self.error = error
            # What is still in its buffer would fail once more when Python ends.
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:  # noqa: PTH123 - no path of anybody's
                os.dup2(nothing.fileno(), self._stream.fileno())
        except ValueError:  # closed: a library's logger may keep a stream for longer than the command lasts
            self.error = OSError(errno.EPIPE, "closed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _steady_streams() -> Iterator[_Outlet]:
    """Let neither the encoding of stdout and stderr nor their end stop the work; give the one for stdout."""
    before = sys.stdout, sys.stderr
    outlets = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start; its number must not go to the next file that is opened
            stream = open(os.devnull, "w")  # noqa: PTH123, SIM115 - kept open for as long as the command lasts
        with suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="backslashreplace")
        outlets.append(_Outlet(stream))
        setattr(sys, name, outlets[-1])
    try:
        yield outlets[0]
    finally:
        for outlet in outlets:
            outlet.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def _own_lines(options: argparse.Namespace) -> Iterator[bool]:
    """Keep what libraries say off the terminal, unless ``--verbose`` or ``--debug`` is given; tell whether it is shown.

    Libraries in C (TIFF, JPEG, TensorFlow Lite) write to file 2 and cannot be told not to. Commands without
    ``--verbose`` are left alone.
    """
    if getattr(options, "verbose", True) or getattr(options, "debug", False):
        yield True
        return
    stderr = cast(_Outlet, sys.stderr)
    with ExitStack() as undo, warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", append=True)
        with suppress(OSError, ValueError, AttributeError):
            kept = os.dup(2)
            undo.callback(os.close, kept)
            undo.callback(os.dup2, kept, 2)
            if stderr.fileno() == 2:
                own = os.fdopen(os.dup(2), "w", buffering=1, encoding=stderr.encoding, errors="backslashreplace")
                undo.callback(own.close)
                undo.callback(setattr, sys, "stderr", stderr)
                sys.stderr = cast(TextIO, _Outlet(own))
            stderr.flush()
            with open(os.devnull, "wb") as nothing:  # noqa: PTH123
                os.dup2(nothing.fileno(), 2)
        yield False


@contextmanager
def _logged(name: str, options: argparse.Namespace) -> Iterator[None]:
    """Show what the package logs: warnings, with ``--quiet`` only errors, with ``--verbose`` everything."""
    logger = logging.getLogger("bmp")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"{name}: %(message)s"))
    before = logger.level, logger.propagate
    quiet, verbose = getattr(options, "quiet", False), getattr(options, "verbose", False)
    logger.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))
