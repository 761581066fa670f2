"""Training that can be interrupted anywhere and goes on exactly; registered into MMEngine, knows no model and no task.

An iteration depends on the seed and on its number alone, not on earlier work of the process: the
order of the samples, their augmentation, and the randomness of the network. So a run that is resumed does what an
undisturbed one does, without loading again what was trained on, and the number of loading workers changes nothing.

    train_cfg = dict(type="ResumableTrainLoop", max_iters=1000)
    train_dataloader = dict(
        dataset=dict(type="PositionedDataset", dataset=dict(...)), sampler=dict(type="PositionSampler"), ...
    )
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain, count, repeat
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import DATA_SAMPLERS, DATASETS, LOOPS
from mmengine.runner import IterBasedTrainLoop
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

_STEP = 1 << 32  # sets the iterations' seeds apart from those of the samples


@DATASETS.register_module()
class PositionedDataset(Dataset):  # type: ignore[type-arg]
    """An endless sequence of augmented samples of a dataset, shuffled anew each time it has been gone through.

    Args:
        dataset: config of the dataset whose samples are given.
        seed: of the order and of all randomness of the samples.
    """

    def __init__(self, dataset: dict[str, Any], seed: int = 0) -> None:
        self._dataset: Any = DATASETS.build(dataset)
        self._seed = seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    @property
    def metainfo(self) -> Any:
        """The metadata of the dataset."""
        return self._dataset.metainfo

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> Any:
        """Return sample number ``position`` of the sequence, any whole number from 0."""
        epoch, place = divmod(position, len(self._dataset))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, _order(self._seed, epoch, len(self._dataset))
        _seed_all(self._seed, position)
        return self._dataset[int(self._order[place])]


@DATA_SAMPLERS.register_module()
class PositionSampler(Sampler[int]):
    """The positions that this process trains on: each ``world_size``-th from ``start`` on, without an end.

    Args:
        dataset: the data set that the positions index.
        seed: not needed, as the dataset has the order; MMEngine hands it to every sampler.
    """

    def __init__(self, dataset: PositionedDataset, seed: int | None = None) -> None:
        self.start = 0
        self._length = len(dataset)

    def __len__(self) -> int:
        """Return how many samples are in an epoch, which MMEngine wants to know for its messages."""
        return self._length

    def __iter__(self) -> Iterator[int]:
        return count(self.start + get_rank(), get_world_size())


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):  # type: ignore[misc,unused-ignore]
    """MMEngine's loop over iterations for a ``PositionedDataset``, which need not be gone through to be resumed."""

    def run(self) -> Any:
        """Train from the iteration that the checkpoint was written after, or from the first."""
        self.dataloader.sampler.start = self._iter * self.dataloader.batch_size * get_world_size()
        # MMEngine fetches the batches that are behind, and drops them: it gets nothing for them.
        self.dataloader_iterator = chain(repeat(None, self._iter), self.dataloader)
        return super().run()

    def run_iter(self, data_batch: Sequence[Any]) -> None:
        """Do one iteration, whose randomness depends on its number alone."""
        _seed_all(self.runner.seed or 0, _STEP + self._iter * get_world_size() + get_rank())
        super().run_iter(data_batch)


def _order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


def _seed_all(seed: int, number: int) -> None:
    """Seed every generator that transforms and networks draw from."""
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
