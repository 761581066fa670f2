"""The records that stages exchange; they know tensors, and no network, file or config.

Coordinates are pixels of the original image, float32. Boxes are xyxy edges: a mask over columns 3..5 has
x1 = 3 and x2 = 6. Rows are people; all fields of a record are aligned, and zero rows is an ordinary value.
"""

# ruff: noqa: RUF009 -- columns are declared by calls, and mask fields are descriptors

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from bmp.label_sets.part_sets import PartSet
from bmp.structures.mask_windows import MaskField, MaskWindows, OptionalMaskField

_FLOAT = torch.float32


@dataclass(frozen=True)
class Column:
    """Describes a tensor field: ``shape`` mixes sizes with letters that must agree within a record."""

    shape: tuple[int | str, ...]
    dtype: torch.dtype
    low: float | None
    high: float | None


def column(*shape: int | str, dtype: torch.dtype = _FLOAT, low: float | None = None, high: float | None = None) -> Any:
    """Declare a tensor field of a record: sizes and letters of its shape, dtype, and the range of its values."""
    return dataclasses.field(metadata={"column": Column(shape, dtype, low, high)})


def optional_column(
    *shape: int | str, dtype: torch.dtype = _FLOAT, low: float | None = None, high: float | None = None
) -> Any:
    """Declare a tensor field that may be absent, that is None; arguments as for ``column``."""
    return dataclasses.field(default=None, metadata={"column": Column(shape, dtype, low, high)})


def _check(owner: str, name: str, value: Any, column: Column, sizes: dict[str, int]) -> None:
    """Raise unless ``value`` fits ``column``; ``sizes`` collects the meaning of its letters on the way."""
    if not isinstance(value, Tensor | MaskWindows):
        raise TypeError(f"{owner}.{name}: expected a torch.Tensor, got {type(value).__name__}; use torch.as_tensor")
    known = dict(sizes)
    agrees = len(value.shape) == len(column.shape) and all(
        size == (sizes.setdefault(s, size) if isinstance(s, str) else s)
        for s, size in zip(column.shape, value.shape, strict=True)
    )
    if not agrees:
        wanted = "(" + ", ".join(f"{s}={known[s]}" if s in known else str(s) for s in column.shape) + ")"
        raise ValueError(
            f"{owner}.{name}: expected shape {wanted}, got {tuple(value.shape)}; "
            "rows of all fields are people in the same order"
        )
    if isinstance(value, MaskWindows):
        return
    if value.dtype != column.dtype:
        raise TypeError(f"{owner}.{name}: expected {column.dtype}, got {value.dtype}; convert with .to({column.dtype})")
    if value.numel() and value.is_floating_point() and is_at_hand(value.device):
        least, most = torch.aminmax(value)
        _check_range(owner, name, column, least.item(), most.item())


def _check_range(owner: str, name: str, column: Column, low: float, high: float) -> None:
    """Raise for values between ``low`` and ``high``, the least and the greatest, that ``column`` does not allow."""
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise ValueError(f"{owner}.{name}: expected finite numbers, got NaN or infinity; drop those rows first")
    if (column.low is not None and low < column.low) or (column.high is not None and high > column.high):
        raise ValueError(
            f"{owner}.{name}: expected values in [{column.low}, {column.high}], got [{low:g}, {high:g}]; "
            "clamp or rescale them where they are made"
        )


def is_at_hand(device: torch.device) -> bool:
    """Tell whether values there can be looked at without waiting for work that is still going on."""
    return device.type == "cpu"


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy to ``device``, on the way to a GPU without waiting for it; shared if it is there already."""
    goal = torch.device(device)
    if goal.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(goal, non_blocking=True)
    return tensor.to(goal)


_MASKS = {kind: Column(("N", "H", "W"), torch.bool, None, None) for kind in ("MaskField", "OptionalMaskField")}


_known_fields: dict[type, tuple[tuple[str, Column | None, str, bool], ...]] = {}


def _fields(kind: type) -> tuple[tuple[str, Column | None, str, bool], ...]:
    """Return the name, column, type and whether it may be None of each field of a record; each record is asked once."""
    if kind not in _known_fields:
        _known_fields[kind] = tuple(
            (
                field.name,
                field.metadata.get("column", _MASKS.get(str(field.type))),
                str(field.type),
                field.default is None,
            )
            for field in dataclasses.fields(kind)
        )
    return _known_fields[kind]


def _windows(kept: Tensor | MaskWindows) -> MaskWindows:
    return kept if isinstance(kept, MaskWindows) else MaskWindows.of(kept)


@dataclass(frozen=True, eq=False)
class Record:
    """Base of all row-aligned records: ``len``, ``[rows]``, ``concat`` and ``to`` for whatever fields there are.

    A field is a tensor, another record, or ``None`` where it is optional and absent. Construction raises
    ``TypeError`` or ``ValueError`` that says which field, what was expected, what came, and the remedy. Of records on a
    GPU it checks types and shapes, which are known without waiting for it; ``check_values`` and a copy to the CPU check
    the rest.
    """

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, column, kind, may_be_absent in _fields(type(self)):
            value = vars(self)[name]
            if value is None and may_be_absent:
                continue
            if column is not None:
                _check(type(self).__name__, name, value, column, sizes)
            elif not isinstance(value, Record):
                raise TypeError(
                    f"{type(self).__name__}.{name}: expected {kind}, got {type(value).__name__}; "
                    "wrap the tensors in that record"
                )
            elif len(value) != sizes.setdefault("N", len(value)):
                raise ValueError(
                    f"{type(self).__name__}.{name}: expected {sizes['N']} rows, got {len(value)}; "
                    "index every part with the same rows"
                )

    def check_values(self) -> None:
        """Raise ``ValueError`` for values out of range, here or in a record within; waits for a GPU once."""
        asked = [each for each in self._ranges() if each[2].numel()]
        if asked:
            lowest_and_highest = torch.stack([torch.stack(torch.aminmax(values)) for _, _, values, _ in asked]).tolist()
            for (owner, name, _, column), (low, high) in zip(asked, lowest_and_highest, strict=True):
                _check_range(owner, name, column, low, high)

    def _ranges(self) -> Iterator[tuple[str, str, Tensor, Column]]:
        """Yield owner, name, values and column of each field of float32."""
        for name, column, *_ in _fields(type(self)):
            value = vars(self)[name]
            if isinstance(value, Record):
                yield from value._ranges()
            elif column is not None and isinstance(value, Tensor) and value.dtype == _FLOAT:
                yield type(self).__name__, name, value, column

    def _values(self) -> dict[str, Any]:
        """Return the fields as they are kept: masks whole or in windows."""
        kept = vars(self)
        return {name: kept[name] for name, *_ in _fields(type(self))}

    def replaced(self, **values: Any) -> Self:
        """Return a record with other ``values``; unlike ``dataclasses.replace`` it leaves masks in their windows."""
        return type(self)(**{**self._values(), **values})

    def __len__(self) -> int:
        first = next(iter(self._values().values()))
        return len(first)

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> Self:
        """Select rows by a slice, a list or an index or bool tensor; the result is a record again, never a bare row."""
        if isinstance(rows, int):
            raise TypeError(
                f"{type(self).__name__}[{rows}]: rows are selected by a slice or a list; use [{rows}:{rows + 1}]"
            )
        if not isinstance(rows, slice | Tensor):
            rows = torch.as_tensor(rows, dtype=torch.int64)
        # Windows are counted on the CPU and columns lie where they are: rows on the CPU make neither wait.
        there = sent(rows, self.device) if isinstance(rows, Tensor) else rows
        return type(self)(
            **{
                name: None if value is None else value[there if isinstance(value, Tensor) else rows]
                for name, value in self._values().items()
            }
        )

    def to(self, device: torch.device | str) -> Self:
        """Copy to ``device``; fields already there are shared, not copied."""
        return type(self)(
            **{
                name: value if value is None else sent(value, device) if isinstance(value, Tensor) else value.to(device)
                for name, value in self._values().items()
            }
        )

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        first: Tensor | Record | MaskWindows = next(iter(self._values().values()))
        return first.device

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Stack the rows of ``parts`` in order.

        An optional field stays only if every part that has rows has it; otherwise it would lack values for some rows.
        Raises ``ValueError`` for no parts at all, since the sizes besides the row count would be unknown.
        """
        if not parts:
            raise ValueError(f"{cls.__name__}.concat: expected at least one part, got none; pass an empty record")
        filled = [part for part in parts if len(part)] or [parts[0]]
        if len(filled) == 1:
            return filled[0]
        joined: dict[str, Any] = {}
        for name in filled[0]._values():
            values = [vars(part)[name] for part in filled]
            if any(value is None for value in values):
                joined[name] = None
            elif any(isinstance(value, MaskWindows) for value in values):
                joined[name] = MaskWindows.concat([_windows(value) for value in values])
            elif isinstance(values[0], Record):
                joined[name] = type(values[0]).concat(values)
            else:
                joined[name] = torch.cat(values)
        return cls(**joined)


@dataclass(frozen=True, eq=False)
class Image:
    """One picture: ``pixels`` uint8 (H, W, 3), RGB, H and W at least 1."""

    pixels: Tensor

    def __post_init__(self) -> None:
        _check("Image", "pixels", self.pixels, Column(("H", "W", 3), torch.uint8, None, None), {})
        if self.pixels.numel() == 0:
            raise ValueError(
                f"Image.pixels: expected at least 1x1 pixels, got {tuple(self.pixels.shape)}; skip empty images"
            )

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.pixels.shape[1]

    def to(self, device: torch.device | str) -> Image:
        """Copy to ``device``; shared if it is there already."""
        return Image(sent(self.pixels, device))


@dataclass(frozen=True, eq=False)
class Detections(Record):
    """The people that a detector found.

    boxes: float32 (N, 4), xyxy edges in pixels, x1 <= x2 and y1 <= y2. scores: float32 (N,) in [0, 1].
    masks: bool (N, H, W), or None from detectors that give boxes only; also ``MaskWindows``, which become whole when
    somebody reads them.

    Examples:
        >>> people = Detections(torch.tensor([[0.0, 0.0, 4.0, 8.0], [2.0, 2.0, 3.0, 3.0]]), torch.tensor([0.9, 0.4]))
        >>> len(people), people[people.scores > 0.5].boxes.tolist()
        (2, [[0.0, 0.0, 4.0, 8.0]])
        >>> len(Detections.concat([people, Detections.empty(), people]))
        4
    """

    boxes: Tensor = column("N", 4)
    scores: Tensor = column("N", low=0.0, high=1.0)
    masks: OptionalMaskField = OptionalMaskField()

    @property
    def windows(self) -> MaskWindows | None:
        """The masks in windows, None where there are none; those given whole are searched for their extent."""
        kept = vars(self)["masks"]
        return None if kept is None else _windows(kept)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self) and is_at_hand(self.boxes.device):
            self._check_sides()

    def check_values(self) -> None:
        """See ``Record``."""
        super().check_values()
        self._check_sides()

    def _check_sides(self) -> None:
        if bool((self.boxes[:, 2:] < self.boxes[:, :2]).any()):
            raise ValueError(
                "Detections.boxes: expected xyxy with x1 <= x2 and y1 <= y2, got an inverted box; "
                "convert xywh boxes with ops.boxes.xywh_to_xyxy"
            )

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> Detections:
        """Nobody."""
        return cls(torch.zeros(0, 4, device=device), torch.zeros(0, device=device))


@dataclass(frozen=True, eq=False)
class Poses(Record):
    """Skeletons.

    keypoints: float32 (N, K, 2), x and y in pixels, may lie outside the image. scores, visibility, presence:
    float32 (N, K) in [0, 1]: confidence in the location, probability that the point can be seen, and that it lies
    within the estimator's window (ProbPose). expected_oks: float32 (N, K) in [0, 1] or None.
    """

    keypoints: Tensor = column("N", "K", 2)
    scores: Tensor = column("N", "K", low=0.0, high=1.0)
    visibility: Tensor = column("N", "K", low=0.0, high=1.0)
    presence: Tensor = column("N", "K", low=0.0, high=1.0)
    expected_oks: Tensor | None = optional_column("N", "K", low=0.0, high=1.0)

    def flags(self) -> Tensor:
        """Return the flag of each keypoint as COCO's v: int64 (N, K).

        0 for one that is absent (presence below 0.5), else 2 for a visible one (visibility from 0.5), else 1.

        Examples:
            >>> visibility, presence = torch.tensor([[0.5, 0.4, 0.9]]), torch.tensor([[0.5, 0.9, 0.4]])
            >>> Poses(torch.zeros(1, 3, 2), torch.ones(1, 3), visibility, presence).flags().tolist()
            [[2, 1, 0]]
        """
        return torch.where(self.presence >= 0.5, torch.where(self.visibility >= 0.5, 2, 1), 0)

    @classmethod
    def empty(cls, count: int, device: torch.device | str = "cpu") -> Poses:
        """No people, with ``count`` keypoints each."""
        none = torch.zeros(0, count, device=device)
        return cls(torch.zeros(0, count, 2, device=device), none, none, none)


@dataclass(frozen=True, eq=False)
class Prompts(Record):
    """The prompts of a point-prompted segmenter.

    points: float32 (N, P, 2) in pixels. labels: int8 (N, P), 1 positive, 0 negative, -1 padding.
    boxes: float32 (N, 4) xyxy or None. keypoints: int64 (N, P), which keypoint a point is, -1 for none of the
    person's own (padding, or another person's).
    """

    points: Tensor = column("N", "P", 2)
    labels: Tensor = column("N", "P", dtype=torch.int8)
    keypoints: Tensor = column("N", "P", dtype=torch.int64)
    boxes: Tensor | None = optional_column("N", 4)


@dataclass(frozen=True, eq=False)
class Masks(Record):
    """The masks of a segmenter: bits bool (N, H, W); scores float32 (N,) in [0, 1], the predicted IoU.

    bits: also ``MaskWindows``, which become whole when somebody reads them. prompts: those of each person, None from
    segmenters without point prompts.
    """

    bits: MaskField = MaskField()
    scores: Tensor = column("N", low=0.0, high=1.0)
    prompts: Prompts | None = None

    @property
    def windows(self) -> MaskWindows:
        """The masks in windows; those given whole are searched for their extent."""
        return _windows(vars(self)["bits"])

    @classmethod
    def empty(cls, height: int, width: int, device: torch.device | str = "cpu") -> Masks:
        """Nobody in an image of that size."""
        return cls(MaskWindows.empty(height, width, device), torch.zeros(0, device=device))


@dataclass(frozen=True, eq=False)
class Instances(Record):
    """People as the loop returns them: row i of every part is the same person.

    round: int64 (N,), the round (from 1) in which the person was found. agreement: float32 (N,) in [0, 1], how sure
    the label is, see ``bmp.ops.agreement``; None until everybody in the image is known.
    """

    detections: Detections
    poses: Poses
    masks: Masks
    round: Tensor = column("N", dtype=torch.int64)
    agreement: Tensor | None = optional_column("N", low=0.0, high=1.0)

    @classmethod
    def empty(cls, image: Image, count: int, device: torch.device | str = "cpu") -> Instances:
        """Nobody in ``image``, with ``count`` keypoints each."""
        return cls(
            Detections.empty(device),
            Poses.empty(count, device),
            Masks.empty(image.height, image.width, device),
            torch.zeros(0, dtype=torch.int64, device=device),
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """The body parts of the people of an image; row i is the person of row i of its ``Instances``.

    labels: uint8 (H, W), numbers of ``label_set``; 0 outside all people. owners: int32 (H, W), whose a pixel is: the
    row of the person plus 1, 0 for nobody's. scores: float32 (N, C) in [0, 1], the mean probability of a label over
    those pixels of a person that have it, 0 where there are none. label_set: what the C labels mean.

    Examples:
        >>> from bmp.label_sets.part_sets import BODY
        >>> owners = torch.tensor([[0, 1, 1], [2, 2, 0]], dtype=torch.int32)
        >>> labels = torch.tensor([[0, 1, 2], [1, 1, 0]], dtype=torch.uint8)
        >>> parts = Parts(labels, owners, torch.zeros(2, 7), BODY)
        >>> parts.of(0).tolist(), parts.areas()[:, :3].tolist()
        ([[0, 1, 2], [0, 0, 0]], [[0, 1, 1], [0, 2, 0]])
        >>> parts[[1]].labels.tolist()
        [[0, 0, 0], [1, 1, 0]]
    """

    labels: Tensor
    owners: Tensor
    scores: Tensor
    label_set: PartSet

    def __post_init__(self) -> None:
        sizes = {"C": len(self.label_set)}
        _check("Parts", "labels", self.labels, Column(("H", "W"), torch.uint8, None, None), sizes)
        _check("Parts", "owners", self.owners, Column(("H", "W"), torch.int32, None, None), sizes)
        _check("Parts", "scores", self.scores, Column(("N", "C"), torch.float32, 0.0, 1.0), sizes)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Tensor | slice | Sequence[int]) -> Parts:
        """Select people as from a ``Record``; pixels of the others have no label any more."""
        if not isinstance(rows, slice | Tensor):
            rows = torch.as_tensor(rows, dtype=torch.int64)
        chosen = torch.arange(len(self), device=self.scores.device)[rows]
        numbers = torch.zeros(len(self) + 1, dtype=torch.int32, device=self.owners.device)
        numbers[chosen + 1] = torch.arange(1, len(chosen) + 1, dtype=torch.int32, device=numbers.device)
        owners = numbers[self.owners.long()]
        return Parts(self.labels * (owners > 0), owners, self.scores[chosen], self.label_set)

    def of(self, row: int) -> Tensor:
        """Return the labels of one person, uint8 (H, W), 0 elsewhere; ``IndexError`` for a row that there is not."""
        if not 0 <= row < len(self):
            raise IndexError(f"expected a row of {len(self)} people, got {row}")
        return self.labels * (self.owners == row + 1)

    def areas(self) -> Tensor:
        """Return the number of pixels that each person has of each label, int64 (N, C)."""
        codes = self.owners.long() * len(self.label_set) + self.labels
        counts = codes.flatten().bincount(minlength=(len(self) + 1) * len(self.label_set))
        return counts.reshape(len(self) + 1, -1)[1:]

    def to(self, device: torch.device | str) -> Parts:
        """Copy to ``device``; tensors already there are shared."""
        return Parts(self.labels.to(device), self.owners.to(device), self.scores.to(device), self.label_set)

    @classmethod
    def nowhere(cls, people: Instances, label_set: PartSet) -> Parts:
        """Return what is known of people before any part is: whose each pixel is. Of two people the first has it."""
        bits = people.masks.windows
        owners = torch.zeros(bits.shape[1:], dtype=torch.int32, device=bits.device)
        for row, window in reversed(list(enumerate(bits.windows()))):
            owners[window].masked_fill_(bits.patches[row], row + 1)
        scores = torch.zeros(len(bits), len(label_set), device=bits.device)
        return cls(torch.zeros_like(owners, dtype=torch.uint8), owners, scores, label_set)


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    index: its number, from 0 for the first frame of the video, whatever part of it is read; frames that cannot be
    decoded have numbers too. time: when it is shown, in seconds from the beginning of the video, from its own time
    stamp. image: upright.
    """

    index: int
    time: float
    image: Image


NEW, CONFIRMED, LOST = 0, 1, 2
"""States of people who are followed: seen in a few frames only, in more, and not in this one."""


@dataclass(frozen=True, eq=False)
class TrackedPeople(Record):
    """The people of a video as they are in one frame, and what is needed to follow them into the next.

    instances: box, pose and mask in this frame; somebody who is lost has an empty mask, and a supposed pose. ids: int64
    (N,), from 1, a person's own for as long as the video lasts. points: float32 (N, P, 2), x and y in pixels, those
    that are followed. kinds: int64 (N, P), the number of a joint, or ``SURFACE`` or ``NEGATIVE`` of
    ``bmp.ops.query_points``. seen: bool (N, P). state: int64 (N,), ``NEW``, ``CONFIRMED`` or ``LOST``. age: int64
    (N,), frames since the person was first seen, this one included. missed: int64 (N,), frames since the person was
    last seen. unmatched: int64 (N,), detections in a row that did not find the person. velocity: float32 (N, 2), in
    pixels a frame. areas: float32 (N,), pixels of the mask when the person was last found. looks: float32 (N, B), the
    colours then, see ``bmp.tracking.appearance``. drawn: bool (N, H, W), the mask as the segmenter last drew it, which
    may lie over others. motion: float32 (N, 2, 3), how the person has moved since then: shift, turn and scale.
    """

    instances: Instances
    ids: Tensor = column("N", dtype=torch.int64)
    points: Tensor = column("N", "P", 2)
    kinds: Tensor = column("N", "P", dtype=torch.int64)
    seen: Tensor = column("N", "P", dtype=torch.bool)
    state: Tensor = column("N", dtype=torch.int64)
    age: Tensor = column("N", dtype=torch.int64)
    missed: Tensor = column("N", dtype=torch.int64)
    unmatched: Tensor = column("N", dtype=torch.int64)
    velocity: Tensor = column("N", 2)
    areas: Tensor = column("N", low=0.0)
    looks: Tensor = column("N", "B", low=0.0)
    drawn: Tensor = column("N", "H", "W", dtype=torch.bool)
    motion: Tensor = column("N", 2, 3)

    @property
    def present(self) -> Tensor:
        """Bool (N,), who is in this frame."""
        return self.state != LOST


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """What the loop over a video makes of a frame.

    people: everybody in it, by their ids; nobody who is lost. cut: the frame is the first of another scene. detected:
    people were looked for, and not only followed.
    """

    frame: Frame
    people: TrackedPeople
    cut: bool
    detected: bool
