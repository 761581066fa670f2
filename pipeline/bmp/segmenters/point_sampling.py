"""The points that a segmenter is prompted with in training: SAM 2's recipe and the paper's. It knows no network.

Everything works on batches of people, on any device. Two people of one image are two rows. All chance comes from the
generator that is passed in, a fixed number of draws a call whatever the masks look like, and on the generator's own
device: one on the CPU gives the same points on a GPU. Points are the centres of pixels or, where they are keypoints,
the keypoints themselves, in pixels of the ground truth: x = 3.5 is the middle of column 3. SAM's prompt encoder adds
half a pixel of the network's input to the points, so subtract that after scaling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.registry import POINT_SAMPLERS
from bmp.segmenters.prompting import select_max_spread, select_max_visibility
from bmp.structures import Poses, Record, column

Points = tuple[Tensor, Tensor]
"""Points float32 (B, P, 2) and labels int8 (B, P): 1 positive, 0 negative, -1 padding, which lies at (0, 0)."""


@dataclass(frozen=True, eq=False)
class Keypoints(Record):
    """The keypoints of B people.

    points: float32 (B, K, 2), x and y in pixels of the ground truth masks; they may lie outside. visibility: float32
    (B, K) in [0, 1]. available: bool (B, K), labelled or detected. Samplers leave out those outside the masks
    themselves.
    """

    points: Tensor = column("B", "K", 2)
    visibility: Tensor = column("B", "K", low=0.0, high=1.0)
    available: Tensor = column("B", "K", dtype=torch.bool)

    @classmethod
    def none(cls, people: int, count: int = 0, device: torch.device | str = "cpu") -> Keypoints:
        """Know nothing of ``people`` with ``count`` keypoints each."""
        nothing = torch.zeros(people, count, device=device)
        return cls(torch.zeros(people, count, 2, device=device), nothing, nothing.bool())

    @classmethod
    def of(cls, poses: Poses) -> Keypoints:
        """Return the keypoints of poses in pixels of the ground truth; available are those of a presence from 0.5.

        A pose counts pixels from the middle of the first, points do from its edge: they are half a pixel further.
        """
        return cls(poses.keypoints + 0.5, poses.visibility, poses.flags() > 0)


class PointSampler(Protocol):
    """Chooses the points of training; the ground truth and the prediction are bool (B, H, W)."""

    @property
    def corrections(self) -> int:
        """How many corrections follow the first prediction."""
        ...

    def first(self, ground_truth: Tensor, keypoints: Keypoints, generator: torch.Generator) -> Points:
        """Return the points of the first prediction."""
        ...

    def correct(
        self, ground_truth: Tensor, prediction: Tensor, keypoints: Keypoints, generator: torch.Generator
    ) -> Points:
        """Return one point a person, (B, 1, 2) and (B, 1), that corrects ``prediction``."""
        ...


@POINT_SAMPLERS.register_module()
@dataclass(frozen=True)
class MaskRefine:
    """The recipe of SAM 2, which knows masks only (paper §3.2, "Method MaskRefine").

    The first point is any pixel of the ground truth. A correction is any pixel where ground truth and prediction
    differ, positive where the ground truth was missed, negative where the prediction spills. All pixels are equally
    likely. After a perfect prediction, and for an empty ground truth, the point is a negative one from the background;
    where there is no background either, it is padding.

    Args:
        corrections: how many points follow the first.
        ground_truth_probability: the chance, in [0, 1], that a person's correction is any pixel of the ground truth,
            predicted or not; drawn for each person.
        first_points: the first prediction has so many points at most; how many is drawn each time, the same number
            for everybody. SAM 2 and the paper have 1 and still understand several at once; a small network that was
            never given several does not.

    Raises:
        UserError: for a number out of its range.
    """

    corrections: int = 7
    ground_truth_probability: float = 0.1
    first_points: int = 1

    def __post_init__(self) -> None:
        if self.first_points < 1:
            raise UserError(f"first_points: expected at least 1, got {self.first_points}; SAM 2 uses 1")
        if self.corrections < 0:
            raise UserError(f"corrections: expected at least 0, got {self.corrections}; SAM 2 uses 7")
        if not 0 <= self.ground_truth_probability <= 1:
            raise UserError(
                f"ground_truth_probability: expected a number in [0, 1], got {self.ground_truth_probability}; "
                "SAM 2 uses 0.1"
            )

    def first(self, ground_truth: Tensor, keypoints: Keypoints, generator: torch.Generator) -> Points:
        """Return (B, P, 2) and (B, P), P up to ``first_points``; keypoints do not matter here."""
        nothing = torch.zeros_like(ground_truth)
        drawn = [_any_error(ground_truth, nothing, generator) for _ in range(self._draw_count(generator))]
        return torch.cat([points for points, _ in drawn], dim=1), torch.cat([labels for _, labels in drawn], dim=1)

    def _draw_count(self, generator: torch.Generator) -> int:
        if self.first_points == 1:
            return 1
        return int(torch.randint(1, self.first_points + 1, (), generator=generator, device=generator.device))

    def correct(
        self, ground_truth: Tensor, prediction: Tensor, keypoints: Keypoints, generator: torch.Generator
    ) -> Points:
        """Return (B, 1, 2) and (B, 1); keypoints do not matter here."""
        return self._correct(ground_truth, prediction, self._from_ground_truth(ground_truth, generator), generator)

    def _from_ground_truth(self, ground_truth: Tensor, generator: torch.Generator) -> Tensor:
        """Toss for each person whether the correction is from the ground truth: bool (B,)."""
        chance = torch.rand(len(ground_truth), generator=generator, device=generator.device)
        return (chance < self.ground_truth_probability).to(ground_truth.device)

    def _correct(
        self, ground_truth: Tensor, prediction: Tensor, from_truth: Tensor, generator: torch.Generator
    ) -> Points:
        # Where nothing is predicted, the whole ground truth is the error.
        return _any_error(ground_truth, prediction & ~from_truth[:, None, None], generator)


@POINT_SAMPLERS.register_module()
@dataclass(frozen=True)
class Pose1MaskRefine(MaskRefine):
    """``MaskRefine`` that starts at a keypoint (paper §3.2, Table 1): the most visible one that is available.

    It is positive whether or not it lies in the ground truth, as it is at test time. Without one the first point is
    that of ``MaskRefine``. With more ``first_points`` than one they are the most visible ones.

    Args:
        corrections, ground_truth_probability, first_points: as for ``MaskRefine``.
    """

    def first(self, ground_truth: Tensor, keypoints: Keypoints, generator: torch.Generator) -> Points:
        """Return (B, P, 2) and (B, P), P up to ``first_points``, padding last."""
        substitute = _any_error(ground_truth, torch.zeros_like(ground_truth), generator)
        chosen = _most_visible(keypoints, _usable(keypoints, ground_truth), self._draw_count(generator))
        return _positive(keypoints, chosen, substitute)


@POINT_SAMPLERS.register_module()
@dataclass(frozen=True)
class PoseMaskRefine(Pose1MaskRefine):
    """The recipe of SAM-pose2seg (paper §3.2): keypoints where they help, ``MaskRefine`` where they do not.

    The first point is that of ``Pose1MaskRefine``. A correction is a keypoint in the error region, positive where the
    ground truth was missed, negative where the prediction spills: of several the most visible one, since it is
    "keypoints with high visibility" that the paper's abstract puts into the corrections; §3.2 does not say which.
    Without one, and by chance of ``ground_truth_probability``, the correction is that of ``MaskRefine``.

    Args:
        corrections, ground_truth_probability, first_points: as for ``MaskRefine``.
    """

    def correct(
        self, ground_truth: Tensor, prediction: Tensor, keypoints: Keypoints, generator: torch.Generator
    ) -> Points:
        """Return (B, 1, 2) and (B, 1)."""
        from_truth = self._from_ground_truth(ground_truth, generator)
        points, labels = self._correct(ground_truth, prediction, from_truth, generator)
        inside_truth = _at_keypoints(ground_truth, keypoints)
        wrong = inside_truth ^ _at_keypoints(prediction, keypoints)
        chosen = _most_visible(keypoints, _usable(keypoints, ground_truth) & wrong & ~from_truth[:, None], 1)
        found = chosen >= 0
        own_labels = _take(inside_truth.to(torch.int8)[..., None], chosen)[..., 0]
        return _take(keypoints.points, chosen).where(found[..., None], points), own_labels.where(found, labels)


@POINT_SAMPLERS.register_module()
@dataclass(frozen=True)
class MaxVisibilityPoints:
    """The most visible keypoints at once, all positive, no corrections (paper §4.3.2 and Table 1, rows 3 to 5).

    Somebody without any gets the first point of ``MaskRefine``.

    Args:
        count: how many points.

    Raises:
        UserError: for a count below 1.
    """

    count: int = 6

    def __post_init__(self) -> None:
        _check_count(self.count)

    @property
    def corrections(self) -> int:
        """None."""
        return 0

    def first(self, ground_truth: Tensor, keypoints: Keypoints, generator: torch.Generator) -> Points:
        """Return (B, count, 2) and (B, count), the most visible first, padding last."""
        chosen = _most_visible(keypoints, _usable(keypoints, ground_truth), self.count)
        return _positive(keypoints, chosen, MaskRefine().first(ground_truth, keypoints, generator))

    def correct(
        self, ground_truth: Tensor, prediction: Tensor, keypoints: Keypoints, generator: torch.Generator
    ) -> Points:
        """Refuse: raises ``RuntimeError``."""
        raise _no_corrections(self)


@POINT_SAMPLERS.register_module()
@dataclass(frozen=True)
class MaxSpreadPoints:
    """Visible keypoints far from each other at once, all positive, no corrections (paper §4.3.2, Table 1).

    Somebody without any gets the first point of ``MaskRefine``.

    Args:
        count: how many points at most.
        threshold: keypoints of a visibility below it are left out.

    Raises:
        UserError: for a count below 1 or a threshold outside [0, 1].
    """

    count: int = 6
    threshold: float = 0.3

    def __post_init__(self) -> None:
        _check_count(self.count)
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold: expected a number in [0, 1], got {self.threshold}; 0 leaves nothing out")

    @property
    def corrections(self) -> int:
        """None."""
        return 0

    def first(self, ground_truth: Tensor, keypoints: Keypoints, generator: torch.Generator) -> Points:
        """Return (B, count, 2) and (B, count) in the order of choice, padding last.

        Raises ``ValueError`` for other keypoints than COCO's: of their faces nothing is known.
        """
        if keypoints.points.shape[1] != len(COCO_KEYPOINTS):
            raise ValueError(
                f"MaxSpreadPoints: expected {len(COCO_KEYPOINTS)} keypoints a person, got {keypoints.points.shape[1]}; "
                "mark those that are missing as not available"
            )
        visibility = keypoints.visibility.where(_usable(keypoints, ground_truth), -1.0)
        chosen = select_max_spread(keypoints.points, visibility, self.count, self.threshold, face=COCO_KEYPOINTS.face)
        return _positive(keypoints, chosen, MaskRefine().first(ground_truth, keypoints, generator))

    def correct(
        self, ground_truth: Tensor, prediction: Tensor, keypoints: Keypoints, generator: torch.Generator
    ) -> Points:
        """Refuse: raises ``RuntimeError``."""
        raise _no_corrections(self)


def _any_error(ground_truth: Tensor, prediction: Tensor, generator: torch.Generator) -> Points:
    """Draw a pixel of each person's error region, or of the background if nothing is wrong."""
    region = ground_truth ^ prediction
    right = ~region.flatten(1).any(dim=1)
    region[right] = ~ground_truth[right]
    x, y, found = _any_pixel(region, generator)
    points = torch.where(found[:, None], torch.stack((x, y), dim=1) + 0.5, 0.0)
    labels = (
        ground_truth[torch.arange(len(ground_truth), device=ground_truth.device), y, x].to(torch.int8).where(found, -1)
    )
    return points[:, None], labels[:, None]


def _any_pixel(region: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a pixel of each region of bool (B, H, W): column and row, int64 (B,), and whether there is any.

    A pixel's number among those of the region is drawn and looked up, first its row, then its column, so that pixels
    need be counted only, and no chance drawn for each.
    """
    batch, height, width = region.shape
    people = torch.arange(batch, device=region.device)
    # On a CPU a sum first makes a whole number of each pixel, hence a few people at a time.
    row_ends = torch.cat([few.sum(dim=2, dtype=torch.int32) for few in torch.split(region, 16)]).cumsum(dim=1)
    total = row_ends[:, -1]
    # of so many numbers that none is likelier than another by more than one part in 2**38
    number = torch.randint(1 << 62, (batch,), generator=generator, device=generator.device).to(region.device)
    number = number % total.clamp(min=1)
    y = torch.searchsorted(row_ends, number[:, None], right=True)[:, 0].clamp(max=height - 1)
    columns = region[people, y].cumsum(dim=1)
    number = number - (row_ends[people, y] - columns[:, -1])
    x = torch.searchsorted(columns, number[:, None], right=True)[:, 0].clamp(max=width - 1)
    return x, y, total > 0


def _usable(keypoints: Keypoints, ground_truth: Tensor) -> Tensor:
    """Which keypoints are available and inside the image: bool (B, K)."""
    edge = keypoints.points.new_tensor(ground_truth.shape[:0:-1])
    return keypoints.available & ((keypoints.points >= 0) & (keypoints.points < edge)).all(dim=2)


def _at_keypoints(masks: Tensor, keypoints: Keypoints) -> Tensor:
    """Look up masks bool (B, H, W) in the pixels of the keypoints, or in those nearest to them: bool (B, K)."""
    height, width = masks.shape[1:]
    x, y = keypoints.points.unbind(dim=2)
    pixels = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
    return masks.flatten(1).gather(1, pixels)


def _most_visible(keypoints: Keypoints, usable: Tensor, count: int) -> Tensor:
    """Choose of the usable keypoints: int64 (B, count), -1 for none."""
    return select_max_visibility(keypoints.visibility.where(usable, -1.0), count)


def _take(values: Tensor, chosen: Tensor) -> Tensor:
    """Take of values (B, K, C) those ``chosen`` (B, P), zeros for -1: (B, P, C). There may be none at all, K = 0."""
    padded = pad(values, (0, 0, 0, 1))
    return padded.take_along_dim((chosen % padded.shape[1])[:, :, None], dim=1)


def _positive(keypoints: Keypoints, chosen: Tensor, substitute: Points) -> Points:
    """Turn the keypoints ``chosen`` (B, P), -1 for none, into positive points, the substitute's where there is none."""
    points, labels = _take(keypoints.points, chosen), torch.where(chosen >= 0, 1, -1).to(torch.int8)
    without = chosen[:, :1] < 0
    points[:, :1] = substitute[0].where(without[..., None], points[:, :1])
    labels[:, :1] = substitute[1].where(without, labels[:, :1])
    return points, labels


def _check_count(count: int) -> None:
    if count < 1:
        raise UserError(f"count: expected at least 1 point, got {count}; the paper uses 6")


def _no_corrections(sampler: MaxVisibilityPoints | MaxSpreadPoints) -> RuntimeError:
    return RuntimeError(f"{type(sampler).__name__} gives all points at once; ask for no more than its 0 corrections")
