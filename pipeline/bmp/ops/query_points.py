"""Points inside and beside a mask that are worth following through a video; knows no tracker and no segmenter.

A mask is bool (H, W), a picture uint8 (H, W, 3) RGB. Points are float32 (n, 2), x and y of whole pixels, on the CPU.
Random picks come from the generator that is handed in, so that the same generator gives the same points.

The four methods are those of SAM-PT (arXiv 2307.01197); ``person_points`` begins with the joints of a person.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Pixels: TypeAlias = "npt.NDArray[np.int64]"  # (n, 2), x and y
_Rows: TypeAlias = "npt.NDArray[np.int64]"  # (n,)
_Distances: TypeAlias = "npt.NDArray[np.float64]"  # (n, n)

SURFACE, NEGATIVE = -1, -2
"""Kinds of points beside the joints, which are numbered from 0: on the surface of an object, and beside it."""

Method: TypeAlias = Literal["random", "k-medoids", "shi-tomasi", "mixed"]
"""How points of a mask are chosen."""

_SHARES = (0.06, 0.02, 0.01)  # of the diameter that are eroded before corners are looked for
_FEWEST = 10  # pixels that erosion has to leave
_ROUNDS = 300  # of k-medoids at the most


def object_points(
    pixels: Tensor,
    mask: Tensor,
    generator: np.random.Generator,
    *,
    positives: int = 16,
    negatives: int = 1,
    positive_method: Method = "k-medoids",
    negative_method: Method = "mixed",
) -> tuple[Tensor, Tensor]:
    """Choose query points as SAM-PT does: positives in the mask, negatives anywhere outside of it.

    Returns points float32 (positives + negatives, 2), the positives first, and labels int8, 1 positive and 0 negative.
    """
    inside = choose_points(positive_method, pixels, mask, positives, generator)
    outside = choose_points(negative_method, pixels, ~mask, negatives, generator)
    labels = torch.tensor([1] * positives + [0] * negatives, dtype=torch.int8)
    return torch.cat([inside, outside]), labels


def choose_points(method: Method, pixels: Tensor, mask: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Choose ``count`` points of a mask; an empty one gives points at (0, 0).

    A mask with fewer pixels than that gives each of them, again and again from its first row on, by the methods
    "random" and "k-medoids".
    """
    return _METHODS[method](pixels, mask, count, generator)


def random_points(pixels: Tensor, mask: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Choose different pixels at random; arguments as for ``choose_points``, which hands them on."""
    all_pixels = _pixels(mask)
    if len(all_pixels) > count:
        all_pixels = all_pixels[generator.choice(len(all_pixels), count, replace=False)]
    return _repeated(all_pixels, count)


def medoid_points(
    pixels: Tensor, mask: Tensor, count: int, generator: np.random.Generator, *, most: int = 1800
) -> Tensor:
    """Choose the medoids of the pixels, or of ``most`` random ones where there are more."""
    sample = _sampled(_pixels(mask), most, generator)
    if len(sample) > count > 0:
        distances = distances_between(sample)
        sample = sample[k_medoids(distances, central(distances, count))]
    return _repeated(sample, count)


def corner_points(pixels: Tensor, mask: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Choose the best corners of the picture well inside the mask, then medoids for those that are missing."""
    inside = eroded(mask)
    found = torch.zeros(0, 2)
    if count and bool(inside.any()):
        corners = cv2.goodFeaturesToTrack(
            cv2.cvtColor(pixels.cpu().numpy(), cv2.COLOR_RGB2GRAY),
            maxCorners=count,
            qualityLevel=0.001,
            minDistance=diameter(inside) / count,
            mask=inside.cpu().numpy().view(np.uint8),
            blockSize=3,
            gradientSize=3,
        )
        if corners is not None:
            found = torch.from_numpy(corners).reshape(-1, 2)
    missing = count - len(found)
    return torch.cat([found, medoid_points(pixels, mask, missing, generator, most=2000)]) if missing else found


def mixed_points(pixels: Tensor, mask: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """Choose a quarter medoids, a third corners, and the rest at random."""
    medoids, corners = count // 4, count // 3
    return torch.cat(
        [
            medoid_points(pixels, mask, medoids, generator),
            corner_points(pixels, mask, corners, generator),
            random_points(pixels, mask, count - medoids - corners, generator),
        ]
    )


_METHODS: dict[Method, Callable[[Tensor, Tensor, int, np.random.Generator], Tensor]] = {
    "random": random_points,
    "k-medoids": medoid_points,
    "shi-tomasi": corner_points,
    "mixed": mixed_points,
}


def person_points(
    mask: Tensor,
    others: Tensor,
    joints: Tensor,
    visible: Tensor,
    generator: np.random.Generator,
    *,
    count: int = 16,
    most: int = 600,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the points by which a person is followed: joints, points of the surface, and one beside the person.

    Args:
        mask: bool (H, W), the person's.
        others: bool (H, W), the pixels of all other people; the negative point lies on none of them.
        joints: float32 (K, 2).
        visible: bool (K,), whether a joint can be seen.
        generator: picks the pixels among which medoids are looked for.
        count: joints and points of the surface together, at the least; more joints than that are all kept.
        most: pixels among which medoids are looked for.

    Returns:
        Points float32 (P, 2), kinds int64 (P,) and whether there is such a point, bool (P,), with
        P = max(count, K) + 1, so that people have equally many. A kind is the number of a joint, ``SURFACE`` or
        ``NEGATIVE``. Joints are those that are visible and lie in the mask or within two pixels of it; the points of
        the surface are medoids of the mask without its rim. The last row is the negative, the pixel in the box around
        the mask, a fifth larger, that is farthest from the mask. Rows that are not needed are not there, at (0, 0).
    """
    size = max(count, len(joints)) + 1
    points = torch.zeros(size, 2)
    kinds = torch.full((size,), SURFACE)
    kinds[-1] = NEGATIVE
    there = torch.zeros(size, dtype=torch.bool)
    mask, others, joints, visible = (part.cpu() for part in (mask, others, joints, visible))
    if not bool(mask.any()):
        return points, kinds, there
    bits = mask.numpy().view(np.uint8)
    # How far each pixel outside is from the mask; a joint at x = 3.7 lies in column 3.
    far = torch.from_numpy(cv2.distanceTransform(1 - bits, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    height, width = mask.shape
    columns, rows = joints.floor().long().unbind(1)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height) & visible
    inside &= far[rows.clamp(0, height - 1), columns.clamp(0, width - 1)] <= 2
    found = inside.nonzero()[:, 0]
    surface = max(0, count - len(found))
    end = len(found) + surface
    points[: len(found)], kinds[: len(found)] = joints[found], found
    if surface:
        side = int(0.03 * diameter(mask))
        rim = torch.from_numpy(cv2.erode(bits, np.ones((side, side), np.uint8)) > 0) if side > 1 else mask
        inner = rim if int(rim.sum()) >= surface else mask
        sample = _sampled(_pixels(inner), most, generator)
        if len(sample) > surface:
            distances = distances_between(sample)
            sample = sample[k_medoids(distances, spread(distances, surface))]
        points[len(found) : end] = _repeated(sample, surface)
    there[:end] = True
    free = _around(mask) & ~mask & ~others
    if bool(free.any()):
        row, column = divmod(int(torch.where(free, far, -1.0).argmax()), width)
        points[-1], there[-1] = torch.tensor([column, row]).float(), True
    return points, kinds, there


def k_medoids(distances: _Distances, start: _Rows) -> _Rows:
    """Return the numbers of the points that lie in the middle of as many groups: int64 (n,).

    Each point belongs to its nearest medoid, and each medoid is the member of its group with the smallest sum of
    distances to the others; both in turn, until nothing moves.

    Args:
        distances: (P, P), see ``distances_between``.
        start: int64 (n,), the numbers of the points that are medoids at first; ``central`` gives SAM-PT's, and
            ``spread`` mostly leads to smaller distances.
    """
    medoids = start
    for _ in range(_ROUNDS):
        groups = distances[medoids].argmin(axis=0)
        moved = medoids.copy()
        for number in range(len(medoids)):
            members = np.flatnonzero(groups == number)
            if not len(members):
                continue
            costs = distances[np.ix_(members, members)].sum(axis=1)
            best = int(costs.argmin())
            # A medoid stays where another member is only as good.
            own = np.flatnonzero(members == medoids[number])
            if not len(own) or costs[best] < costs[own[0]]:
                moved[number] = members[best]
        if (moved == medoids).all():
            break
        medoids = moved
    return medoids.astype(np.int64)


def central(distances: _Distances, count: int) -> _Rows:
    """Return the numbers of the points with the smallest sums of distances to all others: int64 (count,)."""
    return np.argsort(distances.sum(axis=1), kind="stable")[:count].astype(np.int64)


def spread(distances: _Distances, count: int) -> _Rows:
    """Return the number of the most central point, then of points each as far from all before as can be: (count,)."""
    chosen = [int(distances.sum(axis=1).argmin())]
    near = distances[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(near.argmax()))
        near = np.minimum(near, distances[chosen[-1]])
    return np.array(chosen, np.int64)


def distances_between(points: _Pixels) -> _Distances:
    """Return how far each of the points (P, 2) is from each other: float64 (P, P)."""
    columns, rows = points.T.astype(np.float64)
    squares: _Distances = (columns[:, None] - columns) ** 2
    squares += (rows[:, None] - rows) ** 2
    return np.sqrt(squares, out=squares)


def diameter(mask: Tensor) -> float:
    """Return the diagonal of the box of a mask, from the middle of its first pixel to that of its last; 0 if empty."""
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return 0.0
    return float(np.hypot(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])))


def eroded(mask: Tensor) -> Tensor:
    """Return the mask bool (H, W) without its rim, or with less of it off, so that at least ten pixels are left."""
    for share in _SHARES:
        smaller = eroded_by(mask, share)
        if int(smaller.sum()) >= _FEWEST:
            return smaller
    return mask


def eroded_by(mask: Tensor, share: float) -> Tensor:
    """Return the mask bool (H, W) eroded by a square whose side is that share of its diameter, rounded down.

    A side of 0 is OpenCV's usual square of 3, as in the public code.
    """
    side = int(share * diameter(mask))
    kernel = np.ones((side, side), np.uint8) if side else None
    return torch.from_numpy(cv2.erode(mask.cpu().numpy().view(np.uint8), kernel) > 0).to(mask.device)


def _pixels(mask: Tensor) -> _Pixels:
    """Return x and y of each pixel of a mask, row by row: (n, 2)."""
    rows, columns = np.nonzero(mask.cpu().numpy())
    return np.stack([columns, rows], axis=1).astype(np.int64)


def _sampled(pixels: _Pixels, most: int, generator: np.random.Generator) -> _Pixels:
    return pixels[generator.choice(len(pixels), most, replace=False)] if len(pixels) > most else pixels


def _repeated(pixels: _Pixels, count: int) -> Tensor:
    """Return ``count`` points: the pixels, from the first on again where there are fewer; (0, 0) for none at all."""
    rows = np.resize(pixels, (count, 2)) if len(pixels) else np.zeros((count, 2), np.int64)
    return torch.from_numpy(rows.astype(np.float32))


def _around(mask: Tensor) -> Tensor:
    """Return the pixels of the box around a mask that is not empty, a tenth longer on each side: bool (H, W)."""
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    around = torch.zeros_like(mask)
    (top, bottom), (left, right) = ((int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
    # At least two pixels: a box as large as its mask has nothing beside it.
    down, across = max(2, round(0.1 * (bottom - top))), max(2, round(0.1 * (right - left)))
    around[max(0, top - down) : bottom + down, max(0, left - across) : right + across] = True
    return around
