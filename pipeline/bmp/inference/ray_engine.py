"""Labels shards on Ray Data: a pool of actors, each with a model. Ray schedules and retries; nothing here does.

Knows no network. An actor writes its shards itself, in one step each, so that work that Ray does twice leaves one file.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bmp.errors import UserError
from bmp.inference.label import Finished, Job, Labeller, Shard

if TYPE_CHECKING:
    from types import ModuleType

_STORE_BYTES = 200_000_000  # what lies in Ray's store here are names of photos
_MOST_BLOCKS = 10_000
_SECONDS_TO_CONNECT = 10


class RayEngine:
    """Labels shards on a Ray cluster, or on one that it starts on this machine and ends again.

    Args:
        address: of the cluster, None to start one.
        workers: actors, None for as many as there is room for.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._address, self._workers = address, workers
        self._ray = _import_ray()

    def __call__(self, shards: Sequence[Shard], job: Job) -> Iterator[Finished]:
        """Yield each shard as it is finished, in any order.

        Raises:
            UserError: the cluster cannot be reached, or no worker could start.
        """
        if not shards:
            return
        ray = self._ray
        cpus = job.settings.num_cpus
        most = self._workers or max(1, int((os.cpu_count() or 1) / max(cpus, 0.01)))
        if self._address:
            check_reachable(self._address)
        else:  # else Ray writes one into the home folder, which containers may not let it
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            # Actors hold their CPUs for as long as they live: two more than theirs keep Ray's own tasks from starving.
            local: dict[str, Any] = {
                "num_cpus": math.ceil(most * cpus) + 2,
                "object_store_memory": _STORE_BYTES,
                "include_dashboard": False,
            }
            ray.init(
                address=self._address or "local",
                log_to_driver=job.debug,
                logging_level=logging.ERROR,  # it warns of its token in every run
                **({} if self._address else local),
            )
        except Exception as error:  # a plain one where the machine is so busy that its start takes half a minute
            raise UserError(f"Ray: {' '.join(str(error).split())}") from None
        try:
            yield from self._finished(shards, job, most)
        finally:
            ray.shutdown()

    def _finished(self, shards: Sequence[Shard], job: Job, most: int) -> Iterator[Finished]:
        ray, settings = self._ray, job.settings
        there = ray.cluster_resources()
        gpus = settings.num_gpus
        if gpus is None:
            gpus = 1.0 if there.get("GPU") else 0.0
        workers = self._workers or most
        if self._address and not self._workers:
            room = there["GPU"] / gpus if gpus else (there["CPU"] - 2) / max(settings.num_cpus, 0.01)
            workers = max(1, int(room))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"shard": shard.to_json()} for shard in shards]
        work = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map(
            Worker,
            fn_constructor_kwargs={"job": replace(job, device=job.device if gpus == 0 else "auto")},
            num_cpus=settings.num_cpus,
            num_gpus=gpus,
            concurrency=min(workers, len(rows)),
        )
        try:
            for row in work.iter_rows():
                yield Finished(row["photos"], row["people"], list(row["failed"]))
        except ray.exceptions.RayError as error:
            raise UserError(f"a worker could not go on: {_cause(error)}") from error


class Worker:
    """An actor of Ray's pool; see ``Labeller``."""

    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(job.settings.threads or max(1, int(job.settings.num_cpus)))
        self._labeller = Labeller(job)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Label the photos of a shard, given as text, and return what became of them."""
        done = self._labeller.label(Shard.from_json(row["shard"]))
        return {"photos": done.photos, "people": done.people, "failed": done.failed or [""][:0]}


def check_reachable(address: str) -> None:
    """Raise ``UserError`` where nobody listens at HOST:PORT, which Ray tries for minutes; other names are its own."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: nobody answers there, {error}; name a Ray cluster that runs") from None


def _cause(error: BaseException) -> str:
    """Return the last line of what a worker said, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'bmp-pose[ray]'") from None
    module: ModuleType = ray
    return module
