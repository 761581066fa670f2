"""The model as a library user meets it: call it with pictures, get people. Knows no config and no network."""

from __future__ import annotations

import functools
import glob
import inspect
import io
import itertools
import json
import logging
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import Self

from bmp.errors import UserError, choices
from bmp.io import images
from bmp.io.atomic import replacing, writing
from bmp.io.decoding import log_notice
from bmp.io.urls import is_url
from bmp.label_sets import KeypointSet
from bmp.loop import Loop, RoundTrace, checked_rounds
from bmp.ops.masks import areas
from bmp.structures import CONFIRMED, Detections, Frame, Image, Instances, Parts

if TYPE_CHECKING:
    import pandas
    import PIL.Image
    import supervision

    from bmp.io.annotations import Annotation
    from bmp.io.video_inputs import VideoSource
    from bmp.video_loop import VideoLoop

Picture: TypeAlias = "bytes | IO[bytes] | PIL.Image.Image | Image"
"""Types that are always one picture; paths, arrays and tensors may also be several."""
Boxes: TypeAlias = "Detections | ArrayLike | Tensor | None"
"""Boxes of one picture, see ``BMP.__call__``."""
Rows: TypeAlias = "slice | Sequence[int] | Sequence[bool] | NDArray[Any] | Tensor"

_NOTEBOOK_SIDE = 1000
_LOGGER = logging.getLogger("bmp")


@dataclass(frozen=True, eq=False)
class People:
    """Everybody found in one image: a collection of ``Person``, and their columns as tensors; row i is one person.

    image: the picture they are in. instances: the records of all stages. keypoint_set: what the K keypoints mean.
    trace: the stages' results round by round, empty unless requested. source: the name of the picture. parts: of their
    bodies, within the masks; None unless the model has a part parser.

    ``people[0]`` and iteration give a ``Person``; a slice, a list, or a tensor or array of indices or of bool gives
    ``People`` again. Two are equal if all their rows are.

    Examples:
        >>> from bmp.structures import Image, Instances
        >>> from bmp.label_sets import COCO_KEYPOINTS
        >>> image = Image(torch.zeros(48, 64, 3, dtype=torch.uint8))
        >>> nobody = People(image, Instances.empty(image, 17), COCO_KEYPOINTS)
        >>> nobody
        People(0 in 64x48 pixels)
        >>> [person.score for person in nobody]
        []
        >>> nobody[nobody.scores > 0.5].keypoint("left_wrist").shape
        torch.Size([0, 2])
    """

    image: Image
    instances: Instances
    keypoint_set: KeypointSet
    trace: list[RoundTrace] = field(default_factory=list, repr=False)
    source: str = ""
    parts: Parts | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        return f"People({len(self)} in {self.image.width}x{self.image.height} pixels)"

    @overload
    def __getitem__(self, rows: int) -> Person: ...

    @overload
    def __getitem__(self, rows: Rows) -> People: ...

    def __getitem__(self, rows: int | Rows) -> Person | People:
        if isinstance(rows, slice):
            return self._chosen(rows)
        if isinstance(rows, Sequence | np.ndarray | Tensor):
            return self._chosen(self._rows(rows))
        row = operator.index(rows)
        if not -len(self) <= row < len(self):
            raise IndexError(f"expected a row of {len(self)} people, got {row}")
        return Person(self, row % len(self))

    def _chosen(self, rows: slice | Tensor) -> Self:
        return replace(self, instances=self.instances[rows], parts=None if self.parts is None else self.parts[rows])

    def _rows(self, rows: Sequence[int] | Sequence[bool] | NDArray[Any] | Tensor) -> Tensor:
        chosen = torch.as_tensor(rows if isinstance(rows, Tensor) else np.asarray(rows))
        if chosen.ndim != 1 or (chosen.dtype == torch.bool and len(chosen) != len(self)):
            raise IndexError(
                f"expected indices of {len(self)} people or as many of True and False, got {chosen.dtype} "
                f"{tuple(chosen.shape)}"
            )
        return (chosen if chosen.dtype == torch.bool else chosen.long()).to(self.instances.device)

    def __iter__(self) -> Iterator[Person]:
        return (Person(self, i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, People):
            return NotImplemented
        return len(self) == len(other) and _equal(self.numpy(), other.numpy())

    __hash__ = None  # type: ignore[assignment]

    @property
    def boxes(self) -> Tensor:
        """Float32 (N, 4), xyxy in pixels."""
        return self.instances.detections.boxes

    @property
    def scores(self) -> Tensor:
        """Float32 (N,) in [0, 1], the detector's."""
        return self.instances.detections.scores

    @property
    def masks(self) -> Tensor:
        """Bool (N, H, W); no pixel belongs to two people."""
        return self.instances.masks.bits

    @property
    def mask_scores(self) -> Tensor:
        """Float32 (N,) in [0, 1], predicted IoU."""
        return self.instances.masks.scores

    @property
    def keypoints(self) -> Tensor:
        """Float32 (N, K, 2), x and y in pixels."""
        return self.instances.poses.keypoints

    @property
    def keypoint_scores(self) -> Tensor:
        """Float32 (N, K) in [0, 1]."""
        return self.instances.poses.scores

    @property
    def visibility(self) -> Tensor:
        """Float32 (N, K) in [0, 1], the probability that a keypoint can be seen."""
        return self.instances.poses.visibility

    @property
    def presence(self) -> Tensor:
        """Float32 (N, K) in [0, 1], the probability that a keypoint is in the estimator's window."""
        return self.instances.poses.presence

    @property
    def round(self) -> Tensor:
        """Int64 (N,), the round in which each person was found, from 1."""
        return self.instances.round

    @property
    def agreement(self) -> Tensor:
        """Float32 (N,) in [0, 1], how sure each label is: what box, mask and pose say of each other.

        It estimates the mean of the mask's IoU and the pose's OKS with the truth, see ``bmp.ops.agreement``.
        """
        from bmp.ops.agreement import with_agreement

        known = self.instances.agreement
        if known is None:
            known = with_agreement(self.instances).agreement
            assert known is not None  # it has just been added
        return known

    def keypoint(self, name: str) -> Tensor:
        """Return where everybody's keypoint of that name is, float32 (N, 2), x and y in pixels.

        Raises ``UserError``, a ``ValueError``, for a name that is not in ``keypoint_set.names``.
        """
        return self.keypoints[:, self._column(name)]

    def _column(self, name: str) -> int:
        if name not in self.keypoint_set.names:
            raise UserError(f"there is no keypoint {name!r}; {choices(name, self.keypoint_set.names)}")
        return self.keypoint_set.names.index(name)

    def crop(self, row: int, masked: bool = False) -> PIL.Image.Image:
        """Cut one person out of the picture, by the box; with ``masked`` all other pixels are transparent.

        Returns an RGB picture, or RGBA with ``masked``. A box that reaches over the picture's edge is cut there; one
        that lies outside gives the nearest pixel.
        """
        import PIL.Image

        x1, y1, x2, y2 = self[row].box.tolist()
        width, height = self.image.width, self.image.height
        left, top = (min(max(0, int(np.floor(v))), most - 1) for v, most in ((x1, width), (y1, height)))
        right = min(max(left + 1, int(np.ceil(x2))), width)
        bottom = min(max(top + 1, int(np.ceil(y2))), height)
        window = self.image.pixels[top:bottom, left:right].cpu()
        if masked:
            opaque = self[row].mask[top:bottom, left:right].cpu()[..., None].to(torch.uint8) * 255
            window = torch.cat([window, opaque], dim=2)
        return PIL.Image.fromarray(np.ascontiguousarray(window.numpy()))

    def plot(
        self,
        *,
        boxes: bool = True,
        masks: bool = True,
        skeletons: bool | None = None,
        labels: bool = True,
        parts: bool = False,
        min_score: float = 0.0,
        line_width: float | None = None,
    ) -> PIL.Image.Image:
        """Draw the people over the picture.

        Args:
            boxes: draw each person's box.
            masks: tint and outline each person's mask.
            skeletons: draw limbs and keypoints; by default they are unless parts are.
            labels: write each person's number and score, and the round in which it was found from the second on.
            parts: tint the parts of bodies in place of whole masks, and draw no skeletons unless they are asked for;
                raises ``UserError`` where the model has no part parser.
            min_score: leave out people below this score; the others keep number and colour.
            line_width: of all lines, in pixels; by default each person's lines follow the person's size.
        """
        from bmp.visualize import overlay

        if parts and self.parts is None:
            raise UserError(
                "there are no parts to draw; give the model a parser, such as pipeline.parts of nano_parts.py"
            )
        shown = (self.scores >= _share("min_score", min_score)).nonzero()[:, 0]
        return overlay(
            self.image,
            self.instances[shown],
            self.keypoint_set,
            numbers=self._numbers()[shown].tolist(),
            boxes=boxes,
            masks=masks,
            skeletons=not parts if skeletons is None else skeletons,
            labels=labels,
            parts=self.parts[shown] if parts and self.parts is not None else None,
            line_width=line_width,
        )

    def _numbers(self) -> Tensor:
        """Return the number of each person in pictures, int64 (N,)."""
        return torch.arange(len(self), device=self.instances.device)

    def plot_trace(self) -> PIL.Image.Image:
        """Draw a contact sheet of the stages' results round by round; needs people found with ``trace=True``."""
        from bmp.visualize import trace_sheet

        return trace_sheet(self.trace, self.image, self.keypoint_set)

    def show(self) -> None:
        """Show the people in the notebook cell, or else in the system's picture viewer."""
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            get_ipython = None
        if get_ipython is not None and get_ipython() is not None:
            display(self)
        else:
            self.plot().show()

    def _repr_png_(self) -> bytes:
        """Return the picture that a notebook shows, of 1000 pixels at most: notebooks keep what they show."""
        from bmp.visualize import shrunk

        image, instances = shrunk(self.image, self.instances, _NOTEBOOK_SIDE)
        small = replace(self, image=image, instances=instances)
        stream = io.BytesIO()
        small.plot().save(stream, format="png")
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        """Write a picture of the people, or, where the name ends in ``.json``, what ``to_json`` returns.

        Raises ``UserError`` for an ending that is neither and where the file cannot be written.
        """
        import PIL.Image

        path = Path(path)
        known = PIL.Image.registered_extensions()
        if path.suffix.lower() != ".json" and path.suffix.lower() not in known:
            raise UserError(f"{path}: expected a name that ends in .json, .jpg or .png; add one")
        with writing(path, "choose another place"):
            if path.suffix.lower() == ".json":
                with replacing(path) as file:
                    file.write(self.to_json())
            else:
                self.plot().save(path)

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[Annotation]:
        """Return COCO annotations: bbox xywh, RLE segmentation, keypoints, score; ready for ``json.dump``."""
        from bmp.io.annotations import to_annotations

        return to_annotations(self.instances, image_id, self.keypoint_set, first_id, parts=self.parts)

    def to_json(self) -> str:
        """Return a COCO file of this one picture: ``images``, ``annotations`` as of ``to_coco``, ``categories``."""
        from bmp.io.annotations import category

        name = Path(self.source).name or "image"
        image = {"id": 1, "file_name": name, "height": self.image.height, "width": self.image.width}
        content = {"images": [image], "annotations": self.to_coco(), "categories": [category(self.keypoint_set)]}
        return json.dumps(content)

    def numpy(self) -> dict[str, NDArray[Any]]:
        """Return the columns as NumPy arrays on the CPU, by the names of the properties."""
        names = ("boxes", "scores", "masks", "mask_scores", "keypoints", "keypoint_scores", "visibility", "presence")
        return {name: getattr(self, name).cpu().numpy() for name in (*names, "round", "agreement")}

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a table with a row a person: x1, y1, x2, y2, score, mask_score, area, round, agreement, and for each
        keypoint NAME_x, NAME_y, NAME_score and NAME_visibility.

        Raises ``ImportError`` where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from None
        values = self.numpy()
        columns = {name: values["boxes"][:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
        columns |= {"score": values["scores"], "mask_score": values["mask_scores"]}
        columns |= {"area": values["masks"].sum(axis=(1, 2)), "round": values["round"]}
        columns["agreement"] = values["agreement"]
        for k, name in enumerate(self.keypoint_set.names):
            columns |= {f"{name}_{axis}": values["keypoints"][:, k, i] for i, axis in enumerate("xy")}
            columns[f"{name}_score"] = values["keypoint_scores"][:, k]
            columns[f"{name}_visibility"] = values["visibility"][:, k]
        return pandas.DataFrame(columns)

    def to_supervision(self) -> tuple[supervision.Detections, supervision.KeyPoints]:
        """Return the people for the package supervision: boxes, masks and scores, and keypoints, row by row."""
        import supervision

        values = self.numpy()
        nobody_is_anything_else = np.zeros(len(self), int)
        detections = supervision.Detections(
            xyxy=values["boxes"],
            mask=values["masks"],
            confidence=values["scores"],
            class_id=nobody_is_anything_else,
            data={"class_name": np.array(["person"] * len(self)), "round": values["round"]},
        )
        # Its name changed between releases.
        new = "keypoint_confidence" in inspect.signature(supervision.KeyPoints).parameters
        confidence: dict[str, Any] = {"keypoint_confidence" if new else "confidence": values["keypoint_scores"]}
        points = supervision.KeyPoints(xy=values["keypoints"], class_id=nobody_is_anything_else, **confidence)
        return detections, points


@dataclass(frozen=True, eq=False)
class VideoPeople(People):
    """Everybody in one frame of a video; ``People`` with identities. Rows are in the order of the ids.

    ids: int64 (N,), from 1, a person's own for as long as the video lasts. confirmed: bool (N,), false in the first
    frames in which a person is seen. index: the number of the frame, from 0. time: when it is shown, in seconds. cut:
    another scene begins with it.
    """

    ids: Tensor = field(kw_only=True)
    confirmed: Tensor = field(kw_only=True)
    index: int = field(kw_only=True)
    time: float = field(kw_only=True)
    cut: bool = field(kw_only=True)

    def __repr__(self) -> str:
        numbers = ", ".join(map(str, self.ids.tolist())) or "nobody"
        return f"VideoPeople(frame {self.index}, {self.time:.2f} s: {numbers})"

    def _chosen(self, rows: slice | Tensor) -> Self:
        return replace(super()._chosen(rows), ids=self.ids[rows], confirmed=self.confirmed[rows])

    def _numbers(self) -> Tensor:
        return self.ids

    def numpy(self) -> dict[str, NDArray[Any]]:
        """Return the columns as NumPy arrays on the CPU, by the names of the properties; ``ids`` is one."""
        return {"ids": self.ids.cpu().numpy(), **super().numpy()}

    def to_coco(self, image_id: int | None = None, first_id: int = 1) -> list[Annotation]:
        """Return COCO annotations with ``track_id``; the id of the image is the number of the frame unless given."""
        rows = super().to_coco(self.index if image_id is None else image_id, first_id)
        return [
            cast("Annotation", {**row, "track_id": number}) for row, number in zip(rows, self.ids.tolist(), strict=True)
        ]

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a table with a row a person, as of ``People``, with the id, and the frame's number and time first."""
        table = super().to_dataframe()
        for place, (name, values) in enumerate(
            (("frame", self.index), ("time", self.time), ("id", self.ids.cpu().numpy()))
        ):
            table.insert(place, name, values)
        return table

    def to_supervision(self) -> tuple[supervision.Detections, supervision.KeyPoints]:
        """Return the people for the package supervision, as of ``People``, with ids as ``tracker_id``."""
        detections, points = super().to_supervision()
        detections.tracker_id = self.ids.cpu().numpy().astype(int)
        return detections, points


@dataclass(frozen=True, eq=False)
class Person:
    """One of ``people``, the row ``index`` of every column; a view, nothing is copied.

    Two are equal if all that was found of them is: box, mask, keypoints, scores and round.
    """

    people: People
    index: int

    def __repr__(self) -> str:
        box = ", ".join(f"{value:.0f}" for value in self.box.tolist())
        return f"Person({self.index}, score {self.score:.2f}, box {box})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Person):
            return NotImplemented
        return self.people[[self.index]] == other.people[[other.index]]

    __hash__ = None  # type: ignore[assignment]

    @property
    def box(self) -> Tensor:
        """Float32 (4,), xyxy in pixels."""
        return self.people.boxes[self.index]

    @property
    def score(self) -> float:
        """In [0, 1], the detector's."""
        return float(self.people.scores[self.index])

    @property
    def mask(self) -> Tensor:
        """Bool (H, W), of the whole picture's size."""
        return self.people.instances.masks[[self.index]].bits[0]

    @property
    def mask_score(self) -> float:
        """In [0, 1], predicted IoU."""
        return float(self.people.mask_scores[self.index])

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(areas(self.people.instances.masks[[self.index]].windows))

    @property
    def parts(self) -> Tensor | None:
        """Uint8 (H, W), the labels of ``people.parts`` that are this person's; None where no parser told them."""
        return None if self.people.parts is None else self.people.parts.of(self.index)

    @property
    def keypoints(self) -> Tensor:
        """Float32 (K, 2), x and y in pixels."""
        return self.people.keypoints[self.index]

    @property
    def keypoint_scores(self) -> Tensor:
        """Float32 (K,) in [0, 1]."""
        return self.people.keypoint_scores[self.index]

    @property
    def visibility(self) -> Tensor:
        """Float32 (K,) in [0, 1]."""
        return self.people.visibility[self.index]

    @property
    def presence(self) -> Tensor:
        """Float32 (K,) in [0, 1]."""
        return self.people.presence[self.index]

    @property
    def round(self) -> int:
        """The round in which the person was found, from 1."""
        return int(self.people.round[self.index])

    @property
    def agreement(self) -> float:
        """In [0, 1], how sure the label is, see ``People.agreement``."""
        return float(self.people.agreement[self.index])

    def keypoint(self, name: str) -> Tensor:
        """Return where the keypoint of that name is, float32 (2,); ``UserError`` for a name that there is not."""
        return self.people.keypoint(name)[self.index]

    def crop(self, masked: bool = False) -> PIL.Image.Image:
        """Cut the person out of the picture, see ``People.crop``."""
        return self.people.crop(self.index, masked)

    def plot(self, **options: Any) -> PIL.Image.Image:
        """Draw this person alone over the picture; options as for ``People.plot``."""
        return self.people[[self.index]].plot(**options)

    def _repr_png_(self) -> bytes:
        return self.people[[self.index]]._repr_png_()


@dataclass(frozen=True)
class StageInfo:
    """A stage of a model: its role and class, where it runs, parameters of its networks, files of weights.

    device is None and parameters 0 for a stage without a PyTorch network.
    """

    role: str
    type: str
    device: str | None
    parameters: int
    weights: tuple[str, ...]


@dataclass(frozen=True)
class ModelInfo:
    """The stages of a model; printed, a table."""

    stages: tuple[StageInfo, ...]
    rounds: int
    device: str

    def __str__(self) -> str:
        rows = [("stage", "type", "device", "parameters", "weights")] + [
            (s.role, s.type, s.device or "-", f"{s.parameters:,}" if s.parameters else "-", ", ".join(s.weights) or "-")
            for s in self.stages
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, f"{self.rounds} round{'s' * (self.rounds != 1)}, images and people on {self.device}"])


class PicturesError(UserError):
    """Some of several pictures could not be done; the message has the first of them.

    people: of all pictures in order, None for those that failed; empty where they were given one by one (``stream``).
    failed: why, by the number of the picture, from 0.
    """

    def __init__(self, people: list[People | None], failed: Mapping[int, Exception], count: int) -> None:
        self.people, self.failed, self._count = people, dict(failed), count
        number, first = next(iter(self.failed.items()))
        message = f"{len(self.failed)} of {count} pictures failed, the first is number {number}: {_in_words(first)}"
        super().__init__(message)

    def __reduce__(self) -> tuple[type[PicturesError], tuple[list[People | None], dict[int, Exception], int]]:
        return type(self), (self.people, self.failed, self._count)


_Outcome: TypeAlias = "People | Exception"


class BMP(Loop):
    """The loop, called with any kind of picture. Built by ``bmp.load``, or from stages as ``Loop`` is."""

    weights: Mapping[str, tuple[str, ...]] = {}
    """Files of weights by role, as the config that the model was built from names them; for ``info``."""

    make_video_loop: Callable[[], VideoLoop] | None = None
    """Makes the loop over videos when it is first needed; None for one with the usual parts."""

    @functools.cached_property
    def video_loop(self) -> VideoLoop:
        """The loop over the frames of a video, in which this model finds people."""
        from bmp.segmenters.tracked import TrackedKeypoints
        from bmp.trackers.lucas_kanade import LucasKanade
        from bmp.video_loop import VideoLoop

        return VideoLoop(LucasKanade(), TrackedKeypoints()) if self.make_video_loop is None else self.make_video_loop()

    @overload
    def __call__(
        self,
        image: Picture,
        *,
        boxes: Boxes = None,
        only_given: bool = False,
        rounds: int | None = None,
        min_score: float = 0.0,
        bgr: bool = False,
        trace: bool = False,
    ) -> People: ...

    @overload
    def __call__(
        self,
        image: str | os.PathLike[str] | NDArray[Any] | Tensor | Picture | Iterable[Any],
        *,
        boxes: Boxes | Iterable[Boxes] = None,
        only_given: bool = False,
        rounds: int | None = None,
        min_score: float = 0.0,
        bgr: bool = False,
        batch_size: int = 4,
        stream: Literal[True],
        progress: bool = False,
        trace: bool = False,
    ) -> Iterator[People]: ...

    @overload
    def __call__(
        self,
        image: str | os.PathLike[str] | NDArray[Any] | Tensor,
        *,
        boxes: Boxes | Iterable[Boxes] = None,
        only_given: bool = False,
        rounds: int | None = None,
        min_score: float = 0.0,
        bgr: bool = False,
        batch_size: int = 4,
        stream: Literal[False] = False,
        progress: bool = False,
        trace: bool = False,
    ) -> People | Any: ...

    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...] | Iterator[Any],
        *,
        boxes: Iterable[Boxes] | None = None,
        only_given: bool = False,
        rounds: int | None = None,
        min_score: float = 0.0,
        bgr: bool = False,
        batch_size: int = 4,
        stream: Literal[False] = False,
        progress: bool = False,
        trace: bool = False,
    ) -> list[People]: ...

    def __call__(
        self,
        image: Any,
        *,
        boxes: Any = None,
        only_given: bool = False,
        rounds: int | None = None,
        min_score: float = 0.0,
        bgr: bool = False,
        batch_size: int = 4,
        stream: bool = False,
        progress: bool = False,
        trace: bool = False,
    ) -> Any:
        """Find the people of one picture, or of several.

        Args:
            image: one picture: a path, a URL, the bytes of a file, a file object, a PIL image, or an array or tensor,
                uint8 in 0..255 or floating in 0..1 (the type decides; other values are a ``ValueError``), (H, W),
                (H, W, 3) or, for tensors, (3, H, W), RGB. Or several: a folder, a glob pattern, an array or tensor of
                four dimensions, or anything that can be iterated over, generators too.
            boxes: where people are, in place of the detector of round 1: (N, 4), xyxy in pixels, or (N, 5) with
                scores, which are 1 if left out. For several pictures one entry each, or None where people are to be
                detected. Later rounds look for further people.
            only_given: look for no people but those in ``boxes``.
            rounds: the greatest number of rounds, in place of the model's own.
            min_score: leave out people with a lower detection score; a trace keeps them.
            bgr: arrays and tensors have their channels as OpenCV does: blue, green, red.
            batch_size: how many of several pictures go through the networks together.
            stream: return an iterator that yields each picture's people as soon as they are found and keeps nothing,
                for any number of pictures.
            progress: show a bar.
            trace: keep the input and output of every stage of every round.

        Returns:
            ``People`` for one picture; for several a list of them, in order, or an iterator with ``stream``.

        Raises:
            ImageError: the one picture cannot be read.
            PicturesError: some of several pictures could not be done. All others were done first; it has their
                people, unless ``stream`` has given them. Each failure is a warning of the logger ``bmp``, too.
            ValueError: an argument is wrong; the two errors above are such errors, too.

        Examples:
            A model of stages that need no weights: any bright area is a person.

            >>> from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
            >>> model = BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
            >>> people = model(scene((20, 10, 30, 20), (40, 10, 60, 40)))
            >>> len(people), people[0].box.tolist()
            (2, [20.0, 10.0, 30.0, 20.0])
            >>> people[people.boxes[:, 0] > 30].keypoint("nose").tolist()
            [[40.0, 10.0]]
            >>> [len(found) for found in model([scene(), scene((1, 1, 9, 9))], stream=True)]
            [0, 1]
            >>> model(scene(), boxes=[[5, 5, 20, 20, 0.7]], only_given=True)[0]
            Person(0, score 0.70, box 5, 5, 20, 20)
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: expected a whole number from 1, got {batch_size!r}")
        _share("min_score", min_score)
        if rounds is not None:
            checked_rounds(rounds)
        several = _several(image)
        if several is None:
            pictures: Iterable[Any] = [image]
            given: Iterable[Any] | None = None if boxes is None else [boxes]
        else:
            if boxes is not None and not isinstance(boxes, Iterable):
                raise ValueError(f"boxes: expected one entry a picture, got {type(boxes).__name__}; give a list")
            expected, got = _count(several), _count(boxes)
            if expected is not None and got is not None and expected != got:
                raise ValueError(
                    f"boxes: expected one entry for each of {expected} pictures, got {got}; give None for a picture "
                    "to be detected in"
                )
            pictures, given = several, boxes
        outcomes = self._outcomes(
            pictures, given, bgr, batch_size, progress, min_score, trace=trace, only_given=only_given, rounds=rounds
        )
        if several is None:
            return _streamed(outcomes, alone=True) if stream else next(_streamed(outcomes, alone=True))
        return _streamed(outcomes) if stream else _together(outcomes)

    def video(
        self,
        source: str | os.PathLike[str],
        *,
        start: int | float = 0,
        end: int | float | None = None,
        every: int = 1,
        min_score: float = 0.0,
    ) -> Iterator[VideoPeople]:
        """Follow the people of a video, and yield each frame as soon as it is done.

        The iterator may be left at any time; it closes the video then, and holds two frames at most.

        Args:
            source: a film, whatever it is called; a stream's address; a camera, such as ``/dev/video0``; or a folder
                or pattern of pictures, which are the frames in the order of their names, 25 a second.
            start: the first frame, in seconds (float) or as the number of a frame (int).
            end: likewise, the first frame that is not given any more; None for the end of the video.
            every: give each so many-th frame.
            min_score: leave out people with a lower detection score; they are followed all the same.

        Raises:
            VideoError: the video cannot be read; a ``UserError`` and a ``ValueError``. What cannot be decoded in it is
                skipped, with a warning of the logger ``bmp``.
            UserError: the part does not exist, an argument is wrong, or PyAV is not installed.
        """
        from bmp.io.video_inputs import open_video

        _share("min_score", min_score)
        return self._frames_of(open_video(source, start=start, end=end, every=every), min_score)

    def _frames_of(self, frames: VideoSource, min_score: float) -> Iterator[VideoPeople]:
        with frames:
            yield from self._followed(frames, min_score, frames.name)
            for line in frames.losses.lines():
                log_notice(f"{frames.name}: {line}")

    def track(
        self, frames: Iterable[Any], *, rate: float = 25.0, bgr: bool = False, min_score: float = 0.0
    ) -> Iterator[VideoPeople]:
        """Follow people through frames of your own, and yield each as soon as it is done.

        Args:
            frames: pictures of any kind that the model is called with, or ``bmp.structures.Frame``, which have numbers
                and times of their own; an iterator or a generator is read a frame at a time.
            rate: frames a second, for times of frames that have none.
            bgr: arrays and tensors have their channels as OpenCV does.
            min_score: as for ``video``.

        Raises:
            ImageError: a frame cannot be read.

        Examples:
            >>> from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
            >>> model = BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
            >>> for people in model.track([scene((20, 10, 30, 20)), scene((20, 10, 30, 20))]):
            ...     print(people, people.boxes.tolist())
            VideoPeople(frame 0, 0.00 s: 1) [[20.0, 10.0, 30.0, 20.0]]
            VideoPeople(frame 1, 0.04 s: 1) [[20.0, 10.0, 30.0, 20.0]]
        """
        _share("min_score", min_score)
        if not 0 < rate <= 1000:
            raise ValueError(f"rate: expected up to 1000 frames a second, got {rate!r}")
        read = (
            frame if isinstance(frame, Frame) else Frame(number, number / rate, images.load(frame, bgr=bgr))
            for number, frame in enumerate(frames)
        )
        return self._followed(read, min_score, "")

    def _followed(self, frames: Iterable[Frame], min_score: float, name: str) -> Iterator[VideoPeople]:
        for found in self.video_loop.run(self, frames):
            parts = self.parse(found.frame.image, found.people.instances)
            shown = found.people.instances.detections.scores >= min_score
            people = found.people[shown]
            yield VideoPeople(
                found.frame.image,
                people.instances,
                self.pose.keypoints,
                source=name,
                parts=None if parts is None else parts[shown],
                ids=people.ids,
                confirmed=people.state == CONFIRMED,
                index=found.frame.index,
                time=found.frame.time,
                cut=found.cut,
            )

    def _outcomes(
        self,
        pictures: Iterable[Any],
        boxes: Iterable[Any] | None,
        bgr: bool,
        batch_size: int,
        progress: bool,
        min_score: float,
        **options: Any,
    ) -> Iterator[_Outcome]:
        """Yield what becomes of each picture, in order: its people, or what it is called and why there are none."""
        pairs = zip(pictures, itertools.repeat(None)) if boxes is None else _pairs(pictures, boxes)
        if progress:
            from rich.progress import track

            pairs = iter(track(pairs, "BMP", total=_count(pictures)))
        while batch := list(itertools.islice(pairs, batch_size)):
            prepared = [_prepared(picture, rows, bgr) for picture, rows in batch]
            ready = [entry for entry in prepared if isinstance(entry, _Ready)]
            found = self._found(ready, min_score, options)
            for entry in prepared:
                yield next(found) if isinstance(entry, _Ready) else entry

    def _found(self, ready: Sequence[_Ready], min_score: float, options: Mapping[str, Any]) -> Iterator[_Outcome]:
        """Yield the outcome of pictures with their boxes, in order; a picture that breaks the batch breaks it alone."""
        try:
            results = sorted(
                self.run([entry.image for entry in ready], [entry.boxes for entry in ready], **options),
                key=lambda result: result.index,
            )
        except Exception as error:
            if len(ready) == 1:
                yield error
            else:
                for entry in ready:
                    yield from self._found([entry], min_score, options)
            return
        for entry, result in zip(ready, results, strict=True):
            people = People(entry.image, result.people, self.pose.keypoints, result.trace, entry.name, result.parts)
            yield people[people.scores >= min_score]

    def info(self) -> ModelInfo:
        """Return the stages of the model, with devices, numbers of parameters and weights."""
        from bmp.checkpoints.sources import named_weights

        roles = ["detector", "pose", "segmenter", "suppressor"]
        if self.redetector is not self.detector:
            roles.insert(1, "redetector")
        if self.parts is not None:
            roles.append("parts")
        stages = []
        for role in roles:
            stage = getattr(self, role)
            tensors = {id(p): p for module in _networks(stage) for p in module.parameters()}
            devices = sorted({str(p.device) for p in tensors.values()})
            count = sum(p.numel() for p in tensors.values())
            weights = self.weights.get(role) or named_weights(type(stage))
            stages.append(StageInfo(role, type(stage).__name__, ", ".join(devices) or None, count, weights))
        return ModelInfo(tuple(stages), self.rounds, str(self.device))


def _several(image: Any) -> Iterable[Any] | None:
    """Return the pictures that ``image`` stands for, or None where it is one itself."""
    if isinstance(image, np.ndarray | Tensor):
        return image if image.ndim == 4 else None
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if is_url(path) or os.path.isfile(path) or not (os.path.isdir(path) or glob.has_magic(path)):  # noqa: PTH112, PTH113
            return None
        found = images.find(path)
        for line in found.summary():
            _LOGGER.warning(line)
        return found.sources
    if isinstance(image, bytes | bytearray | memoryview | Image) or hasattr(image, "read"):
        return None
    return image if isinstance(image, Iterable) else None


@dataclass(frozen=True)
class _Ready:
    """A picture that is read, the boxes to start from, and what it is called."""

    image: Image
    boxes: Detections | None
    name: str


def _prepared(picture: Any, rows: Any, bgr: bool) -> _Ready | Exception:
    """Read a picture and its boxes, or return why that cannot be."""
    try:
        image = images.load(picture, bgr=bgr)
        return _Ready(image, _given(rows, image), _name(picture))
    except (ValueError, TypeError) as error:
        return error


def _streamed(outcomes: Iterator[_Outcome], alone: bool = False) -> Iterator[People]:
    """Yield the people of the pictures that can be done, then raise for the others; at once for one that is alone."""
    failed: dict[int, Exception] = {}
    count = 0
    for count, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, People):
            yield outcome
        elif alone:
            raise outcome
        else:
            _LOGGER.warning("picture %d failed: %s", count - 1, _in_words(outcome))
            failed[count - 1] = outcome
    if failed:
        raise PicturesError([], failed, count) from next(iter(failed.values()))


def _together(outcomes: Iterator[_Outcome]) -> list[People]:
    """Return the people of all pictures; ``PicturesError``, which has them, if some could not be done."""
    people: list[People | None] = []

    def kept() -> Iterator[_Outcome]:
        for outcome in outcomes:
            people.append(outcome if isinstance(outcome, People) else None)
            yield outcome

    try:
        return list(_streamed(kept()))
    except PicturesError as error:
        error.people = people
        raise


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _count(values: Any) -> int | None:
    """Return the number of pictures, or None where only iterating would tell."""
    return len(values) if isinstance(values, Sized) else None


def _pairs(pictures: Iterable[Any], boxes: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each picture with its boxes; ``ValueError`` where one of the two ends before the other."""
    end = object()
    for count, (picture, rows) in enumerate(itertools.zip_longest(pictures, boxes, fillvalue=end)):
        if picture is end or rows is end:
            more, fewer = ("boxes", "pictures") if picture is end else ("pictures", "boxes")
            raise ValueError(f"boxes: expected one entry a picture, got {count} {fewer} and more {more}")
        yield picture, rows


def _given(boxes: Any, image: Image) -> Detections | None:
    """Boxes from the user; those without scores count as certain."""
    if boxes is None or isinstance(boxes, Detections):
        return boxes
    try:
        rows = torch.as_tensor(boxes if isinstance(boxes, Tensor) else np.asarray(boxes, np.float32)).float()
    except (TypeError, ValueError) as error:
        raise ValueError(f"boxes: expected numbers (N, 4) or (N, 5), got {type(boxes).__name__}: {error}") from None
    if rows.numel() == 0:
        rows = rows.reshape(0, 4)
    if rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise ValueError(
            f"boxes: expected (N, 4), xyxy in pixels, or (N, 5) with scores, got {tuple(rows.shape)}; for one box "
            "write [[x1, y1, x2, y2]]"
        )
    x1, y1, x2, y2 = rows[:, :4].unbind(1)
    inside = (x1 < image.width) & (y1 < image.height) & (x2 > 0) & (y2 > 0) & (x2 != x1) & (y2 != y1)
    # What is not finite or inverted is left to the record, which says so.
    inside |= ~torch.isfinite(rows).all(dim=1) | (x2 < x1) | (y2 < y1)
    if not bool(inside.all()):
        _LOGGER.warning(
            "boxes: left out %d without size or outside the %dx%d pixels of the picture: rows %s",
            int((~inside).sum()),
            image.width,
            image.height,
            ", ".join(map(str, (~inside).nonzero()[:, 0].tolist())),
        )
        rows = rows[inside]
    return Detections(rows[:, :4], rows[:, 4] if rows.shape[1] == 5 else torch.ones(len(rows)))


def _share(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value!r}")
    return float(value)


def _name(picture: Any) -> str:
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else str(getattr(picture, "filename", ""))


def _equal(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return all(np.array_equal(values, other[name]) for name, values in one.items())


def _networks(stage: Any) -> list[torch.nn.Module]:
    """Return the networks that a stage holds, in itself or in its parts."""
    found: list[torch.nn.Module] = []
    seen: set[int] = set()
    todo = [stage]
    while todo:
        part = todo.pop()
        if id(part) in seen or isinstance(part, type | ModuleType | FunctionType):
            continue
        seen.add(id(part))
        if isinstance(part, torch.nn.Module):
            found.append(part)
        elif isinstance(part, list | tuple):
            todo += part
        elif hasattr(part, "__dict__"):
            todo += vars(part).values()
    return found
