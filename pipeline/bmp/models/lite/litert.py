"""Runs one LiteRT (TFLite) network; knows nothing of what its inputs and outputs mean."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmp.errors import MissingExtraError, UserError


class LiteModel:
    """One network with one float input.

    Rows run one after another: these networks fill the cores with a single row, and batches were no faster. A lock
    lets several threads share the network. A copy, in this process or another, is the network that `load` gives
    there; a process that was forked makes its own interpreter, since the threads of the old one are not in it.

    Raises ``UserError`` where the file is no LiteRT model or ``num_threads`` below 1, ``ImportError`` where the
    interpreter is not installed.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        if num_threads < 1:
            raise UserError(f"num_threads: expected at least 1, got {num_threads}; 2 is a good number")
        self.path = path
        self.num_threads = num_threads
        self._open()

    def _open(self) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("the lite preset", "LiteRT", "lite", error) from error
        try:
            with _silence():
                self._interpreter = Interpreter(str(self.path), num_threads=self.num_threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.path}: expected a LiteRT model (.tflite), could not read it; fetch it again"
            ) from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Callable[[Path, int], LiteModel], tuple[Path, int]]:
        return load, (self.path, self.num_threads)

    def __call__(self, row: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the outputs for one input ``row``, in the model's order, all without the batch axis."""
        if self._process != os.getpid():
            _OF_THE_PARENT.append(self._interpreter)
            self._open()
        with self._lock:
            self._interpreter.set_tensor(self._input, row[None])
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(output)[0] for output in self._outputs]


# Interpreters of the process that this one was forked from: to drop one is to wait for its threads, which are not here.
_OF_THE_PARENT: list[Any] = []


@functools.cache
def load(path: Path, num_threads: int) -> LiteModel:
    """Return the network of that file, made once a process for each number of threads."""
    return LiteModel(path, num_threads)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep off the terminal what LiteRT's C++ side, which has no other switch, says of itself there."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
