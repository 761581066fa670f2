"""What a sample and an iteration are depends on their number and on nothing that came before."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader, Dataset

from bmp.training.loops import PositionedDataset, PositionSampler


@DATASETS.register_module()
class Draws(Dataset):
    """Samples that say which they are, and what the generators draw for them."""

    def __init__(self, length):
        self.metainfo = {"classes": ("person",)}
        self._length = length

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        return index, random.random(), np.random.random(), torch.rand(()).item()


def draws(seed=0, length=5):
    with DefaultScope.overwrite_default_scope("mmengine"):
        return PositionedDataset(dict(type="Draws", length=length), seed=seed)


@pytest.mark.slow
def test_each_epoch_has_every_sample_once_in_an_order_of_its_own():
    indices = [draws()[position][0] for position in range(50)]
    epochs = [tuple(indices[start : start + 5]) for start in range(0, 50, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(epochs)) > 5


def test_a_position_decides_everything():
    forwards = [draws()[position] for position in range(20)]
    dataset = draws()
    random.seed(99)
    assert [dataset[position] for position in reversed(range(20))] == forwards[::-1]
    assert len({sample[1:] for sample in forwards}) == 20
    assert [draws(seed=1)[position] for position in range(20)] != forwards
    assert len(dataset) == 5
    assert dataset.metainfo == {"classes": ("person",)}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_neither_workers_nor_where_it_begins_change_the_samples(workers):
    dataset = draws()
    expected = [dataset[position] for position in range(6, 18)]
    sampler = PositionSampler(dataset)
    sampler.start = 6
    loader = DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=workers, collate_fn=list)
    assert [sample for batch in islice(loader, 4) for sample in batch] == expected


def test_processes_take_turns(monkeypatch):
    dataset = draws()
    taken = []
    for rank in range(2):
        monkeypatch.setattr("bmp.training.loops.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("bmp.training.loops.get_world_size", lambda: 2)
        taken.append(list(islice(PositionSampler(dataset), 4)))
    assert taken == [[0, 2, 4, 6], [1, 3, 5, 7]]
