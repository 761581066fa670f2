"""What all commands share: how they speak, show progress and say what failed. Knows no network."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.console


def report_failed(failed: list[str]) -> int:
    """Say what failed, a line each, and return the exit code."""
    for line in failed:
        print(f"bmp: failed: {line}", file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def progress(quiet: bool, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Show a bar with rate and time left; give one function that prints a line above it and one that advances it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = open_console(quiet)
    rate = TextColumn("{task.fields[rate]}")
    started = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            bar.update(task, rate=f"{bar.tasks[0].completed / (time.monotonic() - started):.2f} images/s")

        yield console.print, advance


def open_console(quiet: bool) -> rich.console.Console:
    """Return a console that prints lines as they are: no markup, no wrapping."""
    from rich.console import Console

    return Console(quiet=quiet, soft_wrap=True, highlight=False, markup=False, emoji=False)
