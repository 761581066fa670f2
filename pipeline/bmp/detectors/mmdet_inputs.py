"""From a picture to the input of an mmdet network, as a test pipeline describes it; knows no network and no result.

Pipelines that resize and pad, which nearly all do, run on the device; any other runs mmdet's own transforms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from torch import Tensor

from bmp.config import ConfigSection
from bmp.ops.resize import resized
from bmp.structures import Image


@dataclass(frozen=True)
class NetworkInput:
    """An image as a network sees it: ``pixels`` uint8 or float (3, h, w), BGR, and the metadata for mmdet's heads."""

    pixels: Tensor
    metainfo: dict[str, Any]


class Inputs(Protocol):
    """Makes inputs for a network."""

    def key(self, image: Image) -> tuple[int, int]:
        """Return a key: images with equal keys have inputs of one shape, and can be batched."""
        ...

    def prepare(self, image: Image) -> NetworkInput:
        """Return the input that shows ``image``, on the image's device where possible."""
        ...


@dataclass(frozen=True)
class Letterbox:
    """Resizes and pads on the image's device: at most 1 of 255 from OpenCV's fixed-point arithmetic on a CPU.

    scale: the two lengths that bound the result, or its width and height where the ratio is not kept. size: width
    and height to pad to, at the right and the bottom. divisor: pad to multiples of it. padding: values of B, G, R.
    """

    scale: tuple[int, int]
    keep_ratio: bool
    size: tuple[int, int] | None = None
    divisor: int = 1
    padding: tuple[float, ...] = (0.0, 0.0, 0.0)

    def key(self, image: Image) -> tuple[int, int]:
        """Return height and width of the padded input."""
        return self._padded(*self._resized(image))

    def prepare(self, image: Image) -> NetworkInput:
        """Return the resized and padded image, uint8."""
        height, width = self._resized(image)
        padded_height, padded_width = self._padded(height, width)
        pixels = image.pixels
        if pixels.shape[:2] != (height, width):
            pixels = resized(pixels, height, width).round_().byte()
        canvas = pixels.new_tensor(self.padding)[:, None, None].repeat(1, padded_height, padded_width)
        canvas[:, :height, :width] = pixels.flip(-1).permute(2, 0, 1)
        return NetworkInput(
            canvas,
            {
                "ori_shape": (image.height, image.width),
                "img_shape": (padded_height, padded_width),
                "scale_factor": (width / image.width, height / image.height),
            },
        )

    def _resized(self, image: Image) -> tuple[int, int]:
        if not self.keep_ratio:
            return self.scale[1], self.scale[0]
        longer, shorter = max(image.height, image.width), min(image.height, image.width)
        factor = min(max(self.scale) / longer, min(self.scale) / shorter)
        # A line of pixels must not shrink to nothing.
        return max(1, int(image.height * factor + 0.5)), max(1, int(image.width * factor + 0.5))

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        if self.size is not None:
            return max(height, self.size[1]), max(width, self.size[0])
        return ceil(height / self.divisor) * self.divisor, ceil(width / self.divisor) * self.divisor


class Transforms:
    """Runs a test pipeline of mmdet, image by image on the CPU; build it in mmengine's scope "mmdet"."""

    def __init__(self, steps: Sequence[ConfigSection]) -> None:
        from mmcv.transforms import Compose

        self._compose = Compose([dict(step) for step in steps])

    def key(self, image: Image) -> tuple[int, int]:
        """Return height and width of the image."""
        return image.height, image.width

    def prepare(self, image: Image) -> NetworkInput:
        """Return the output of the pipeline."""
        size = (image.height, image.width)
        pixels = image.pixels.flip(-1).cpu().numpy()
        packed = self._compose({"img": pixels, "img_id": 0, "img_path": None, "img_shape": size, "ori_shape": size})
        metainfo = {"scale_factor": (1.0, 1.0), "ori_shape": size, **packed["data_samples"].metainfo}
        return NetworkInput(packed["inputs"], metainfo)


def from_pipeline(pipeline: Sequence[ConfigSection]) -> Inputs:
    """Return the inputs that do what ``pipeline`` does, a list of transforms of an mmdet config, less the loading."""
    steps = [step for step in pipeline if not _name(step).startswith("Load")]
    return _letterbox(steps) or Transforms(steps)


def _letterbox(steps: Sequence[ConfigSection]) -> Letterbox | None:
    """Return the Letterbox that does what ``steps`` say, None for steps that it does not have."""
    if [_name(step) for step in steps] not in (["Resize", "PackDetInputs"], ["Resize", "Pad", "PackDetInputs"]):
        return None
    resize, pad = steps[0], steps[1] if len(steps) == 3 else {}
    scale, size, padding = resize.get("scale"), pad.get("size"), pad.get("pad_val", 0)
    options = {"type", "scale", "keep_ratio", "size", "size_divisor", "pad_val"}
    if not isinstance(scale, Sequence) or not options >= {*resize, *pad}:
        return None
    if isinstance(padding, Mapping):
        padding = padding.get("img", 0)
    return Letterbox(
        scale=(scale[0], scale[1]),
        keep_ratio=resize.get("keep_ratio", False),
        size=None if size is None else (size[0], size[1]),
        divisor=pad.get("size_divisor") or 1,
        padding=tuple(padding) if isinstance(padding, Sequence) else (padding,) * 3,
    )


def _name(step: ConfigSection) -> str:
    """Return the name of a transform without its scope; configs in the newer style give classes."""
    kind = step["type"]
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2]
