"""What segmenters that are prompted with points share: batches, chunks, padding, clean-up and up-sampling.

It knows no network, nor how the points are chosen.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from typing_extensions import TypedDict

from bmp.errors import UserError
from bmp.models.compute import padded_rows
from bmp.ops.masks import enlarged, fill_holes, remove_specks, shrunk
from bmp.stages import ImageView, PromptableSegmenter, Prompter, Segmenter
from bmp.structures import Detections, Image, Masks, Poses, Prompts, sent
from bmp.structures.mask_windows import MaskWindows

_LOGIT_BYTES = 128 << 20  # of mask logits of the network's input size that exist at one time
CERTAIN = 6.0  # logit of a pixel of a mask that is not the network's own, and the negative of one beside it
_NOWHERE = -10.0  # logit of a mask with nothing in it; also what clean-up writes, and its negative


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """What such a segmenter remembers of an image of ``height`` x ``width`` pixels.

    features: what the network's encoder made of it, each (1, C, h, w), in the order the decoder wants.
    """

    height: int
    width: int
    features: tuple[Tensor, ...]


class PromptingOptions(TypedDict, total=False):
    """What all of these segmenters take beside their networks; see ``PromptedSegmenter``."""

    image_batch: int
    prompt_chunk: int | None
    hole_area: int
    speck_area: int
    without_prompts: Literal["empty", "unprompted"]


class PromptedSegmenter(abc.ABC):
    """A segmenter whose network encodes an image once and then answers point and box prompts.

    Args:
        prompter: chooses the prompts of each person.
        device: torch device string of the network, the views and the masks.
        image_batch: images encoded at one time.
        prompt_chunk: people decoded at one time, whether of one image or of several; None is 4 on a CPU, where
            more fall out of its cache, and 32 elsewhere. A person takes 30 to 50 MB at SAM's size.
        hole_area: fill holes of up to so many pixels, counted in the decoder's mask (256 x 256 for SAM); 0 is off.
        speck_area: likewise remove specks.
        without_prompts: a person for whom the prompter has neither a point nor a box gets an "empty" mask with score 0.
            "unprompted" runs the network without a prompt, as BBoxMaskPose 2.0.0 does; the mask then shows no person in
            particular, so this is for comparison only.

    Masks are kept in the windows that hold them; beside these up-sampling takes 256 MB at most.
    """

    logit_size: tuple[int, int]  # height and width of the decoder's masks; set by the subclass, as is the next
    _size: int  # side of the network's square input
    _leaves_out_padding = False  # whether ``_decode`` takes prompts with padding, and answers as if there were none

    def __init__(
        self,
        prompter: Prompter,
        *,
        device: str,
        image_batch: int = 4,
        prompt_chunk: int | None = None,
        hole_area: int = 0,
        speck_area: int = 0,
        without_prompts: Literal["empty", "unprompted"] = "empty",
    ) -> None:
        if without_prompts not in ("empty", "unprompted"):
            raise UserError(f"without_prompts: expected 'empty' or 'unprompted', got {without_prompts!r}")
        if prompt_chunk is None:
            prompt_chunk = 4 if torch.device(device).type == "cpu" else 32
        for name, value, least in (
            ("image_batch", image_batch, 1),
            ("prompt_chunk", prompt_chunk, 1),
            ("hole_area", hole_area, 0),
            ("speck_area", speck_area, 0),
        ):
            if value < least:
                raise UserError(f"{name}: expected at least {least}, got {value}")
        self.prompter = prompter
        self.device = device
        self.image_batch = image_batch
        self.prompt_chunk = prompt_chunk
        self.hole_area = hole_area
        self.speck_area = speck_area
        self.without_prompts = without_prompts
        self._pads = torch.device(device).type == "cuda"

    @abc.abstractmethod
    def _encode(self, images: Sequence[Image]) -> tuple[Tensor, ...]:
        """Return features of the images, each (B, C, h, w); the tuple is what ``_decode`` gets."""

    @abc.abstractmethod
    def _to_network(self, points: Tensor, height: int, width: int) -> Tensor:
        """Turn ``points`` (..., 2) of an image of that size into pixels of the network's input."""

    @abc.abstractmethod
    def _decode(
        self, features: tuple[Tensor, ...], prompts: Prompts, previous: Tensor | None = None, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (N, h, w) and predicted IoU (N,).

        features: a row each for the N prompts, which may be an expanded view. prompts: in pixels of the network's
        input, without padding, but for ``_leaves_out_padding``; with boxes there may be no points (P = 0). previous,
        multimask: see ``logits``.
        """

    def _framed(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Cut ``logits`` (N, h, w) to what shows an image of that size, where the network sees more than the image."""
        return logits

    def _enlarge(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Scale ``logits`` (N, h, w) up to an image of that size: (N, H, W)."""
        return F.interpolate(self._framed(logits, height, width)[:, None], (height, width), mode="bilinear")[:, 0]

    @torch.no_grad()
    def open(self, images: Sequence[Image]) -> list[EncodedImage]:
        """Encode each image, ``image_batch`` at a time."""
        views = []
        for start in range(0, len(images), self.image_batch):
            batch = images[start : start + self.image_batch]
            features = self._encode(batch)
            for row, image in enumerate(batch):
                # Copies, so that a view does not keep the features of the whole batch alive.
                own = tuple(feature[row : row + 1].clone() for feature in features)
                views.append(EncodedImage(image.height, image.width, own))
        return views

    @torch.no_grad()
    def segment(
        self,
        views: Sequence[EncodedImage],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Choose prompts image by image, decode those of all images in chunks, return masks row by row."""
        return self.answer(views, [self.prompter.prompts(*image) for image in zip(people, poses, others, strict=True)])

    @torch.no_grad()
    def answer(self, views: Sequence[EncodedImage], prompts: Sequence[Prompts]) -> list[Masks]:
        """Return a mask for each person's prompts, as ``segment`` does once the prompts are chosen."""
        return [
            Masks(self.windows(view, logits), scores, asked.to(self.device))
            for view, asked, (logits, scores) in zip(views, prompts, self.logits(views, prompts), strict=True)
        ]

    @torch.no_grad()
    def logits(
        self,
        views: Sequence[EncodedImage],
        prompts: Sequence[Prompts],
        previous: Sequence[Tensor] | None = None,
        *,
        multimask: bool = False,
    ) -> list[tuple[Tensor, Tensor]]:
        """Decode the prompts of each image: float32 mask logits (N, h, w) of the decoder's size, and scores (N,).

        A logit above 0 is the person. The score is the predicted IoU, clamped to [0, 1].

        Args:
            views: the images, as ``open`` returned them.
            prompts: of the people of each image.
            previous: logits that an earlier call returned for the same people, which the prompts are to correct;
                None for a first question.
            multimask: let the network draw three masks and take the one of highest predicted IoU, which is what SAM
                is trained to do when a single point may mean a person, a coat or a button; False for its one mask.
        """
        sizes = [len(asked) for asked in prompts]
        height, width = self.logit_size
        logits = torch.full((sum(sizes), height, width), _NOWHERE, device=self.device)
        scores = torch.zeros(sum(sizes), device=self.device)
        if sum(sizes):
            # Sorting prompts out needs their values, so it happens on the CPU, without waiting for a GPU.
            scaled = [self._scaled(view, asked.to("cpu")) for view, asked in zip(views, prompts, strict=True)]
            earlier = None if previous is None else torch.cat(list(previous)).to(self.device)
            owners = [index for index, size in enumerate(sizes) for _ in range(size)]
            chunks = _chunks(
                Prompts.concat(scaled), self.prompt_chunk, self.without_prompts, padded=self._leaves_out_padding
            )
            for rows, chunk in chunks:
                count, asked = len(rows), rows
                if self._pads:  # kernels are chosen once for few numbers of people
                    repeated = padded_rows(count, self.prompt_chunk)
                    chunk, asked = chunk[repeated], [rows[index] for index in repeated]
                features = _gather([views[owners[row]] for row in asked])
                where = sent(torch.tensor(asked), self.device)
                chunk_logits, chunk_scores = self._decode(
                    features, chunk.to(self.device), None if earlier is None else earlier[where], multimask
                )
                logits[where[:count]] = chunk_logits[:count].float()
                scores[where[:count]] = chunk_scores[:count].float().clamp(0, 1)
        return list(zip(torch.split(logits, sizes), torch.split(scores, sizes), strict=True))

    def _scaled(self, view: EncodedImage, prompts: Prompts) -> Prompts:
        points = self._to_network(prompts.points, view.height, view.width)
        boxes = prompts.boxes
        if boxes is not None:
            boxes = self._to_network(boxes.reshape(-1, 2, 2), view.height, view.width).reshape(-1, 4)
        return replace(prompts, points=points, boxes=boxes)

    def mask_prompts(self, view: EncodedImage, masks: Tensor | MaskWindows) -> Tensor:
        """Turn another segmenter's masks of the image, bool (N, H, W), into ``previous`` of ``logits``: (N, h, w)."""
        # Some networks see the image stretched to a square, others see it in a corner of one.
        corner = self._to_network(torch.tensor([[float(view.width), float(view.height)]]), view.height, view.width)[0]
        rows, columns = self.logit_size
        width, height = (corner / self._size * torch.tensor([columns, rows])).round().int().clamp(min=1).tolist()
        return F.pad(mask_prompt(masks, (height, width)), (0, columns - width, 0, rows - height), value=-CERTAIN)

    @torch.no_grad()
    def bits(self, view: EncodedImage, logits: Tensor) -> Tensor:
        """Clean up mask logits (N, h, w) and scale them to the view's image: bool (N, H, W)."""
        return self.windows(view, logits).whole()

    @torch.no_grad()
    def windows(self, view: EncodedImage, logits: Tensor) -> MaskWindows:
        """As ``bits``, in windows; beside them it takes the memory that the class describes."""
        size = view.height, view.width
        rows = max(1, _LOGIT_BYTES // (4 * self._size**2))
        parts = [enlarged(self._framed(self._clean(few), *size), *size) for few in torch.split(logits, rows)]
        return MaskWindows.concat(parts)

    @torch.no_grad()
    def enlarge(self, view: EncodedImage, logits: Tensor) -> Tensor:
        """Clean up mask logits (N, h, w) and scale them to the view's image: float32 (N, H, W), all of them at once."""
        return self._enlarge(self._clean(logits), view.height, view.width)

    def _clean(self, logits: Tensor) -> Tensor:
        """Fill small holes, then remove small specks: in logits, so that the edges stay smooth when scaled up."""
        bits = logits > 0
        filled = fill_holes(bits, self.hole_area)
        clean = remove_specks(filled, self.speck_area)
        # A person far away is a speck all in all, and must not vanish.
        clean = torch.where(clean.flatten(1).any(1)[:, None, None], clean, filled)
        return torch.where(clean == bits, logits, torch.where(clean, -_NOWHERE, _NOWHERE))


def mask_prompt(masks: Tensor | MaskWindows, size: tuple[int, int]) -> Tensor:
    """Turn another segmenter's masks, bool (N, H, W), into logits (N, h, w) that a network can correct as its own.

    size: height and width of the image in the decoder's masks.
    """
    if isinstance(masks, MaskWindows):
        shares = shrunk(masks, *size)
    else:
        mode = "bilinear"
        shares = F.interpolate(masks.float()[:, None], size, mode=mode, align_corners=False, antialias=True)[:, 0]
    return (2 * shares - 1) * CERTAIN


def promptable(
    segmenter: Segmenter | PromptableSegmenter, views: Sequence[ImageView] = ()
) -> tuple[PromptableSegmenter, list[ImageView]]:
    """Return the part of a segmenter that can be asked by points, itself or within it, and what is the part's of views.

    views: as ``segmenter.open`` returned them. Raises ``UserError`` where it has no such part.
    """
    part, own = segmenter, list(views)
    while not isinstance(part, PromptableSegmenter):
        if not isinstance(part, Wrapper):
            raise UserError(
                f"segmenter: {type(segmenter).__name__} cannot be asked by points; take one that can, such as "
                "SAM2Segmenter (configs with it: bmp_v2.py, sam21.py, nano.py)"
            )
        part, own = part.inside(own)
    return part, own


@runtime_checkable
class Wrapper(Protocol):
    """A segmenter that asks another one, about the image as it is."""

    def inside(self, views: Sequence[ImageView]) -> tuple[Segmenter, list[ImageView]]:
        """Return the other segmenter, and its part of views that ``open`` returned."""
        ...


def best_mask(masks: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
    """Take of M masks (N, M, h, w) a prompt the one of highest predicted IoU (N, M): (N, h, w) and (N,)."""
    rows, best = torch.arange(len(ious), device=ious.device), ious.argmax(dim=1)
    return masks[rows, best], ious[rows, best]


def _chunks(prompts: Prompts, size: int, without_prompts: str, *, padded: bool) -> Iterator[tuple[list[int], Prompts]]:
    """Yield (rows, their prompts) of at most ``size`` rows, with as little padding as there can be, behind the points.

    A padding point is one more token to SAM and changes its answer, so without ``padded`` those who need it are not
    decoded with those who do not. Rows without any prompt are left out unless ``without_prompts`` is "unprompted".
    """
    real = prompts.labels != -1
    counts = real.sum(1).tolist()
    front = real.int().argsort(dim=1, descending=True, stable=True)
    points = prompts.points.gather(1, front.unsqueeze(-1).expand(-1, -1, 2))
    prompts = replace(
        prompts, points=points, labels=prompts.labels.gather(1, front), keypoints=prompts.keypoints.gather(1, front)
    )
    silent = prompts.boxes is None and without_prompts == "empty"
    asking = [row for row in sorted(range(len(counts)), key=counts.__getitem__) if counts[row] or not silent]
    groups = [asking] if padded else [list(rows) for _, rows in groupby(asking, key=counts.__getitem__)]
    for group in groups:
        for start in range(0, len(group), size):
            rows = group[start : start + size]
            few, most = prompts[rows], counts[rows[-1]]
            yield (
                rows,
                replace(
                    few, points=few.points[:, :most], labels=few.labels[:, :most], keypoints=few.keypoints[:, :most]
                ),
            )


def _gather(views: Sequence[EncodedImage]) -> tuple[Tensor, ...]:
    """Stack the features of ``views``; those of a single image are not copied."""
    if all(view is views[0] for view in views):
        return tuple(feature.expand(len(views), -1, -1, -1) for feature in views[0].features)
    return tuple(torch.cat(level) for level in zip(*(view.features for view in views), strict=True))
