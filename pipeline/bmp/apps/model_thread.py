"""The one thread in which a model works for many requests: a bounded queue, urgent work first; a cache of views.

It knows nothing of HTTP, nor of the work it is given.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import is_dataclass
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

_LOGGER = logging.getLogger("bmp")
_T = TypeVar("_T")
_Work = Callable[[], object]


class Urgency(IntEnum):
    """What goes first: a correction at the screen, a photo that somebody opened, a request of a program."""

    CORRECTION = 0
    OPENED = 1
    REQUEST = 2


class BusyError(Exception):
    """The queue is full; ``retry_after`` is in whole seconds, from 1, when there should be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class StoppedError(Exception):
    """The thread takes no more work."""


class ModelThread:
    """One thread that works through a queue.

    Args:
        capacity: how much work of each urgency may wait at one time.
        idle: called while nothing waits; returns work, which nobody waits for, or None for none. It is called again
            after each piece of work, and when ``wake`` is.
    """

    def __init__(self, capacity: Mapping[Urgency, int], idle: Callable[[], _Work | None] = lambda: None) -> None:
        self._capacity, self._idle = dict(capacity), idle
        self._waiting: list[tuple[Urgency, int, _Work, Future[Any]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._seconds = 1.0  # that a request takes, an average that follows the latest
        self._thread = threading.Thread(target=self._run, name="bmp-model", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], _T], urgency: Urgency) -> Future[_T]:
        """Put work into the queue.

        Raises:
            BusyError: as much work of this urgency waits as may.
            StoppedError: after ``stop``.
        """
        future: Future[_T] = Future()
        with self._changed:
            if self._stopping:
                raise StoppedError("the server is shutting down")
            alike = sum(entry[0] == urgency for entry in self._waiting)
            if alike >= self._capacity[urgency]:
                raise BusyError(max(1, math.ceil(len(self._waiting) * self._seconds)))
            heapq.heappush(self._waiting, (urgency, next(self._numbers), work, future))
            self._changed.notify()
        return future

    def wake(self) -> None:
        """Let the thread ask for idle work again."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """Finish the work in hand, refuse all that waits, and wait for the end of the thread."""
        with self._changed:
            self._stopping = True
            refused = [entry[3] for entry in self._waiting]
            self._waiting.clear()
            self._changed.notify()
        for future in refused:
            future.set_exception(StoppedError("the server is shutting down"))
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                entry = heapq.heappop(self._waiting) if self._waiting else None
                if entry is None and (chore := self._idle()) is None:
                    self._changed.wait()
                    continue
            if entry is None:
                self._do_chore(chore)
                continue
            _, _, work, future = entry
            started = time.monotonic()
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
            self._seconds += 0.2 * (time.monotonic() - started - self._seconds)

    def _do_chore(self, chore: _Work | None) -> None:
        try:
            if chore is not None:
                chore()
        except Exception:
            _LOGGER.exception("work in the background failed")


class ByteCache:
    """Remembers values by key, up to a number of bytes; the one that was not used for longest goes first.

    The newest value stays, whatever its size. For one thread.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """Return the value of ``key``, made where it is not there."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value = make()
        size = bytes_of(value)
        self._values[key] = value, size
        self.bytes += size
        while self.bytes > self._most and len(self._values) > 1:
            _, (_, freed) = self._values.popitem(last=False)
            self.bytes -= freed
        return value


def bytes_of(value: object) -> int:
    """Return the bytes of the tensors and arrays in a value: in its fields, items and theirs, each counted once."""
    total, todo = 0, [value]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor):
            total += part.element_size() * part.nelement()
        elif isinstance(part, np.ndarray):
            total += part.nbytes
        elif isinstance(part, Mapping):
            todo += part.values()
        elif isinstance(part, list | tuple | set):
            todo += part
        elif is_dataclass(part) or hasattr(part, "__dict__"):
            todo += vars(part).values()
    return total
