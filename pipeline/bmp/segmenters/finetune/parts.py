"""SAM 2's image encoder as a network to train on part maps, before it is asked for masks. Knows no prompts.

Every pixel of an image teaches something here, a mask's prompt only about one piece: an encoder made from nothing
learns what people look like several times as fast as from prompts, and each step takes half the time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from bmp import images as pictures
from bmp.datasets.parts import CIHP_PARTS
from bmp.errors import UserError
from bmp.segmenters.finetune.data import Augmentation, recolour, to_input
from bmp.segmenters.finetune.model import PosePreprocessor
from bmp.segmenters.sam2 import build_sam2

_STRIDE = 4  # of the encoder's finest level
_LEFT = [number for number, name in enumerate(CIHP_PARTS) if name.startswith("left ")]
_MIRRORED = np.arange(len(CIHP_PARTS), dtype=np.uint8)
for _number in _LEFT:
    _other = CIHP_PARTS.index(CIHP_PARTS[_number].replace("left ", "right "))
    _MIRRORED[[_number, _other]] = _other, _number


@MODELS.register_module()
class PartEncoder(BaseModel):  # type: ignore[misc,unused-ignore]
    """SAM 2.1's image encoder with a linear layer on each of its levels, which name the part that a place shows.

    The tensors of the whole SAM are below "sam.": with ``exported = "sam."`` in the config of a training,
    ``python -m bmp.train --export`` writes a checkpoint for ``PoseSAM`` to start from.

    Args:
        model: as for ``SAM2Segmenter``.
        checkpoint: the weights to start from, see ``bmp.weights.resolve``; "random" makes them up.
    """

    def __init__(self, model: str, checkpoint: str = "random") -> None:
        network = build_sam2(model, checkpoint)
        super().__init__(data_preprocessor=PosePreprocessor(network.image_size))
        self.sam = network
        self.sam.image_encoder.requires_grad_(True)
        channels = network.image_encoder.neck.d_model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.heads = nn.ModuleList(nn.Conv2d(channels, len(CIHP_PARTS), 1) for _ in range(3))

    def forward(self, inputs: Tensor, data_samples: Sequence[Tensor], mode: str = "loss") -> dict[str, Tensor]:
        """Return the cross-entropy "loss_parts".

        Args:
            inputs: float32 (B, 3, S, S), normalised.
            data_samples: of each image its part labels, int64 (S / 4, S / 4).
            mode: "loss"; there is nothing else.
        """
        if mode != "loss":
            raise ValueError(f"mode: expected 'loss', got {mode!r}; this network is for training only")
        size = data_samples[0].shape
        levels = self.sam.image_encoder(inputs)["backbone_fpn"]
        logits = [
            F.interpolate(head(level), size, mode="bilinear", align_corners=False)
            for head, level in zip(self.heads, levels, strict=True)
        ]
        return {"loss_parts": F.cross_entropy(torch.stack(logits).sum(dim=0), torch.stack(list(data_samples)))}


@DATASETS.register_module()
class PartMaps(Dataset):  # type: ignore[type-arg]
    """SynthCrowd's images and part maps, as ``python -m bmp.datasets.synthcrowd --extras`` writes them.

    Args:
        images: folder of JPEG files.
        parts: folder of PNG files with the same names, uint8 with CIHP's labels.
        size: side of the network's square input, a multiple of 4.
        augment: arguments of ``Augmentation``, without rotation and shear.

    Raises:
        UserError: for folders without images, and images without a part map.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        parts: str | os.PathLike[str],
        size: int,
        augment: dict[str, float],
    ) -> None:
        self._augmentation = Augmentation(**{"rotation": 0.0, "shear": 0.0, **augment})
        if self._augmentation.rotation or self._augmentation.shear:
            raise UserError("augment: part maps can be mirrored only; leave rotation and shear out")
        self._images = sorted(Path(images).glob("*.jpg"))
        self._parts = [Path(parts) / f"{image.stem}.png" for image in self._images]
        missing = [file for file in self._parts if not file.is_file()]
        if missing or not self._images:
            raise UserError(
                f"{missing[0] if missing else images}: expected SynthCrowd's images and part maps; make them with "
                "python -m bmp.datasets.synthcrowd --splits train --extras"
            )
        self._size = size

    @property
    def metainfo(self) -> dict[str, Any]:
        """What MMEngine wants to know of a dataset."""
        return {"classes": CIHP_PARTS}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a sample: ``inputs``, uint8 (3, S, S) RGB, and ``data_samples``, int64 (S / 4, S / 4) labels."""
        pixels = to_input(pictures.load(self._images[index]).pixels, self._size)
        side = self._size // _STRIDE
        labels = cv2.resize(
            cv2.imread(str(self._parts[index]), cv2.IMREAD_UNCHANGED), (side, side), interpolation=cv2.INTER_NEAREST
        )
        if float(torch.rand(())) < self._augmentation.flip:
            pixels, labels = pixels.flip(2), _MIRRORED[labels[:, ::-1]]
        return {
            "inputs": recolour(pixels, self._augmentation),
            "data_samples": torch.from_numpy(labels.astype(np.int64)),
        }
