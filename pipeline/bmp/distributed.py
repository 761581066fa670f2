"""Several processes that share one evaluation, as ``torchrun`` starts them; knows nothing of what they evaluate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from bmp.errors import UserError

Gathered = TypeVar("Gathered")
_LONGEST = timedelta(days=7)  # one that ends is noticed at once; this is for one whose whole machine is gone


@dataclass(frozen=True)
class Processes:
    """This process among those that work together.

    rank: which one it is, from 0; the first one speaks to the user and merges. count: how many there are.
    local_rank: which one it is on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator[Processes]:
        """Meet the other processes that the environment speaks of, if there are any, for as long as the context lasts.

        Raises:
            UserError: the environment is not as ``torchrun`` sets it, or the others cannot be met.
        """
        count = _number("WORLD_SIZE", 1)
        if count == 1:
            yield cls()
            return
        processes = cls(_number("RANK"), count, _number("LOCAL_RANK"))
        from torch import distributed

        with _noticed():
            distributed.init_process_group("gloo", rank=processes.rank, world_size=count, timeout=_LONGEST)
        try:
            yield processes
        finally:
            distributed.destroy_process_group()

    def device(self, name: str) -> str:
        """Turn "auto" into a GPU of this process's own where there are several processes and GPUs."""
        if name == "auto" and self.count > 1 and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name

    def together(self, work: Callable[[], Gathered]) -> Gathered:
        """Do ``work`` in all processes and wait for them; a ``UserError`` in one of them ends all.

        The first process raises the ``UserError`` of the first that failed, or one that says that a process is gone;
        the others end with code 2, silently.
        """
        result, complaint = None, None
        try:
            result = work()
        except UserError as error:
            if self.count == 1:
                raise
            complaint = str(error)
        complaints = self._gathered(complaint)
        for rank, text in enumerate(complaints):
            if text is not None:
                if self.rank == 0:
                    raise UserError(text if rank == 0 else f"process {rank}: {text}")
                raise SystemExit(2)
        return result  # type: ignore[return-value]  # without a complaint there is a result

    def first(self, work: Callable[[], Gathered]) -> Gathered | None:
        """Do ``work`` in the first process while the others wait and get None; errors as for ``together``."""
        return self.together(work if self.rank == 0 else lambda: None)

    def _gathered(self, value: str | None) -> list[str | None]:
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[str | None] = [None] * self.count
        with _noticed():
            distributed.all_gather_object(values, value)
        return values


@contextmanager
def _noticed() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # what torch.distributed raises where others cannot be reached
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"another process of this run has ended or cannot be reached ({reason}); what is done is written, "
            "go on with --resume"
        ) from None


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]  # None is a TypeError
    except (TypeError, ValueError):
        raise UserError(
            f"expected the environment variable {name} to be a whole number, got {text!r}; start with torchrun"
        ) from None
