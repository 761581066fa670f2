"""Object keypoint similarity: values by hand, invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bmp.ops.oks import oks

SIGMAS = torch.tensor([0.05, 0.1, 0.025], dtype=torch.float64)


def _poses(*rows: list[tuple[float, float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3, 2)


HERE = _poses([(0, 0), (10, 0), (0, 10)])
AREA = torch.tensor([100.0], dtype=torch.float64)

some_poses = st.lists(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=3), max_size=4
).map(lambda rows: _poses(*rows))


def _some_areas(count: int) -> Tensor:
    return torch.linspace(50, 500, count, dtype=torch.float64)


@pytest.mark.parametrize(
    ("reference", "candidates", "area", "shape"),
    [(HERE[:0], HERE[:0], AREA[:0], (0, 0)), (HERE[:0], HERE, AREA[:0], (0, 1)), (HERE, HERE[:0], AREA, (1, 0))],
)
@pytest.mark.parametrize("with_visible", [False, True])
def test_nobody(
    reference: Tensor, candidates: Tensor, area: Tensor, shape: tuple[int, int], with_visible: bool
) -> None:
    visible = torch.ones(len(reference), 3, dtype=torch.bool) if with_visible else None
    assert oks(reference, candidates, area, SIGMAS, visible).shape == shape


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, (2 + math.exp(-9 / (2 * 100 * 0.2**2))) / 3),
        ([True, True, True], (2 + math.exp(-9 / (2 * 100 * 0.2**2))) / 3),
        ([False, True, False], math.exp(-9 / (2 * 100 * 0.2**2))),
        ([True, False, True], 1.0),
        ([False, False, False], 0.0),
    ],
)
def test_by_hand(visible: list[bool] | None, expected: float) -> None:
    candidate = _poses([(0, 0), (10, 3), (0, 10)])
    mask = None if visible is None else torch.tensor([visible])
    assert oks(HERE, candidate, AREA, SIGMAS, mask).item() == pytest.approx(expected, rel=1e-12)


def test_the_area_is_that_of_the_reference() -> None:
    near, far = HERE, HERE + 2
    both = oks(torch.cat((near, near)), far, torch.tensor([100.0, 400.0], dtype=torch.float64), SIGMAS)
    assert both[0, 0] < both[1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_area_only_a_copy_is_alike(dtype: torch.dtype) -> None:
    poses = torch.cat((HERE, HERE + 1)).to(dtype)
    alike = oks(poses, poses, torch.zeros(2, dtype=dtype), SIGMAS)
    assert alike.tolist() == [[1, 0], [0, 1]]
    assert alike.dtype == dtype


@pytest.mark.slow
@settings(deadline=None)
@given(some_poses, some_poses)
def test_rows_are_references_and_columns_candidates(reference: Tensor, candidates: Tensor) -> None:
    area = _some_areas(len(reference))
    visible = torch.arange(len(reference) * 3).reshape(-1, 3) % 2 == 0
    table = oks(reference, candidates, area, SIGMAS, visible)
    assert ((table >= 0) & (table <= 1)).all()
    for i in range(len(reference)):
        for j in range(len(candidates)):
            one = oks(
                reference[i : i + 1], candidates[j : j + 1], area[i : i + 1], SIGMAS, visible[i : i + 1]
            ).squeeze()
            torch.testing.assert_close(table[i, j], one)


@settings(deadline=None)
@given(some_poses, st.integers(-10_000, 10_000), st.integers(-10_000, 10_000))
def test_translation_changes_nothing(poses: Tensor, right: int, down: int) -> None:
    area = _some_areas(len(poses))
    shift = torch.tensor([right, down], dtype=torch.float64)
    torch.testing.assert_close(oks(poses + shift, poses + shift, area, SIGMAS), oks(poses, poses, area, SIGMAS))


@settings(deadline=None)
@given(some_poses, st.floats(0.1, 10))
def test_scale_changes_nothing(poses: Tensor, factor: float) -> None:
    area = _some_areas(len(poses))
    scaled = oks(poses * factor, poses * factor, area * factor**2, SIGMAS)
    torch.testing.assert_close(scaled, oks(poses, poses, area, SIGMAS))


@pytest.mark.slow
@settings(deadline=None)
@given(some_poses, st.permutations([0, 1, 2]))
def test_keypoint_order_changes_nothing(poses: Tensor, order: list[int]) -> None:
    area = _some_areas(len(poses))
    moved = poses[:, order]
    torch.testing.assert_close(oks(moved, moved, area, SIGMAS[order]), oks(poses, poses, area, SIGMAS))
