"""Part parsers and their small semantic encoder as networks to train with MMEngine. Knows no file of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from bmp.checkpoints.sources import resolve
from bmp.label_sets.part_sets import CIHP
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD, build_sam2
from bmp.models.schnet.losses import IGNORED, cross_entropy, edge_loss, lovasz_softmax
from bmp.models.schnet.modules import similarity
from bmp.models.schnet.network import SCHNet, load_weights, settings_of
from bmp.models.schnet.semantics import NanoSemantics
from bmp.models.schnet.windows import person_levels, sample_windows, windows_of
from bmp.ops.masks import to_boxes
from bmp.training.segmenter.cache import EmbeddingCache, image_key
from bmp.training.segmenter.parts import PartGroundTruth


class _Pixels(BaseDataPreprocessor):  # type: ignore[misc,unused-ignore]
    """Stacks uint8 images and brings samples to the network's device."""

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``inputs`` uint8 (B, 3, S, S) and ``data_samples``."""
        return {
            "inputs": torch.stack(data["inputs"]).to(self.device),
            "data_samples": [each.to(self.device) for each in data["data_samples"]],
        }


@MODELS.register_module()
class SemanticTraining(BaseModel):  # type: ignore[misc,unused-ignore]
    """Teaches ``NanoSemantics`` which names a patch deserves: CLIP's loss of images and texts in small.

    The tensors of the encoder are below "semantics.".
    """

    def __init__(self) -> None:
        super().__init__(data_preprocessor=_Pixels())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.semantics = NanoSemantics(CIHP.names)
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, inputs: Tensor, data_samples: Sequence[PartGroundTruth], mode: str = "loss") -> dict[str, Tensor]:
        """Compute "loss_names", the cross-entropy of each name against its label's share of each patch.

        inputs: uint8 (B, 3, S, S). mode: "loss"; no other exists.
        """
        if mode != "loss":
            raise ValueError(f"mode: expected 'loss', got {mode!r}; this network is for training only")
        labels = torch.stack([each.labels for each in data_samples])
        _, patches = self.semantics(self.semantics.to_input(inputs))
        shares = F.one_hot(labels, len(CIHP)).movedim(3, 1).float()
        shares = F.adaptive_avg_pool2d(shares, patches.shape[2:])
        logits = 10 * similarity(patches, self.semantics.text) + self.bias
        losses = F.binary_cross_entropy_with_logits(logits, shares, reduction="none")
        return {"loss_names": losses.sum(dim=1).mean()}


@MODELS.register_module()
class ParserTraining(BaseModel):  # type: ignore[misc,unused-ignore]
    """A parsing network on the levels of a frozen SAM 2 encoder.

    The tensors of the parser are below "parser."; the encoder's are not kept, since they do not change.

    Args:
        model: of the parser, see ``bmp.models.schnet.network.settings_of``.
        sam: model of the encoder, see ``SAM2Segmenter``.
        encoder: its checkpoint, or "random".
        semantics: checkpoint of the semantic encoder, None for random weights.
        person: weight of the loss in the window of one person an image, with the person's mask; 0 leaves it out.
        grid: rows and columns of cells of that window.
        lovasz, edge: weights of these losses.
        cache: folder for the encoder's levels, None for none; for images without augmentation but flips.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any],
        sam: str,
        encoder: str,
        semantics: str | None = None,
        person: float = 1.0,
        grid: tuple[int, int] = (64, 48),
        lovasz: float = 1.0,
        edge: float = 0.4,
        cache: str | None = None,
    ) -> None:
        super().__init__(data_preprocessor=_Pixels())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.parser = SCHNet(settings_of(model))
        if semantics is not None and self.parser.semantics is not None:
            state = load_weights(resolve(semantics))
            self.parser.semantics.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        network = build_sam2(sam, encoder)
        self._encoder = [network.image_encoder.eval()]  # in a list: no part of what is trained and kept
        self._cache = None if cache is None else EmbeddingCache(cache, self._encoder[0])
        self._weights = {"lovasz": lovasz, "edge": edge, "person": person}
        self._grid = (grid[0], grid[1])

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the levels of images, uint8 (B, 3, S, S)."""
        rows: list[tuple[Tensor, ...]] = []
        for image in pixels:
            key = image_key(image.cpu()) if self._cache is not None else ""
            known = self._cache.read(key) if self._cache is not None else None
            if known is None:
                with torch.no_grad():
                    encoder = self._encoder[0].to(pixels.device)
                    normal = normalize(image[None].float() / 255, PIXEL_MEAN, PIXEL_STD)
                    known = tuple(encoder(normal)["backbone_fpn"])
                if self._cache is not None:
                    self._cache.write(key, known)
            rows.append(tuple(level.to(pixels.device).float() for level in known))
        return [torch.cat(level) for level in zip(*rows, strict=True)]

    def forward(self, inputs: Tensor, data_samples: Sequence[PartGroundTruth], mode: str = "loss") -> dict[str, Tensor]:
        """Compute the losses of whole images, and of one person of each with a mask.

        Args:
            inputs: uint8 (B, 3, S, S).
            data_samples: labels and owners of each pixel at S / 4.
            mode: "loss"; no other exists.
        """
        if mode != "loss":
            raise ValueError(f"mode: expected 'loss', got {mode!r}; this network is for training only")
        labels = torch.stack([each.labels for each in data_samples])
        owners = torch.stack([each.owners for each in data_samples])
        parser = self.parser
        semantic_inputs = None if parser.semantics is None else parser.semantics.to_input(inputs)
        refined = parser.refine(self.levels(inputs), semantic_inputs)
        logits, edges = parser.classify(refined)
        losses = self._losses(logits, edges, labels, "")
        if self._weights["person"] and parser.head is not None and bool((owners > 0).any()):
            losses |= self._of_people(refined, labels, owners)
        return losses

    def _losses(self, logits: Tensor, edges: Tensor | None, labels: Tensor, suffix: str) -> dict[str, Tensor]:
        weight = self._weights["person"] if suffix else 1.0
        losses = {f"loss_labels{suffix}": weight * cross_entropy(logits, labels)}
        if self._weights["lovasz"]:
            losses[f"loss_lovasz{suffix}"] = weight * self._weights["lovasz"] * lovasz_softmax(logits, labels)
        if self._weights["edge"] and edges is not None:
            losses[f"loss_edges{suffix}"] = weight * self._weights["edge"] * edge_loss(edges, labels)
        return losses

    def _of_people(self, refined: Sequence[Tensor], labels: Tensor, owners: Tensor) -> dict[str, Tensor]:
        """Compute the losses of a random person of each image that has somebody."""
        rows, masks = [], []
        for row, owner in enumerate(owners):
            numbers = owner.unique()
            numbers = numbers[numbers > 0]
            if len(numbers):
                rows.append(row)
                masks.append(owner == numbers[torch.randint(len(numbers), ())])
        chosen, bits = torch.tensor(rows, device=labels.device), torch.stack(masks)
        size = (float(labels.shape[1]), float(labels.shape[2]))
        windows = windows_of(to_boxes(bits), self._grid)
        levels = person_levels(refined, windows, size, self._grid, chosen)
        known = torch.where(bits, labels[chosen], 0)
        # Beyond the image nothing counts: a border of ones tells where that is.
        stacked = torch.stack([known.float(), bits.float(), torch.ones_like(known).float()], dim=1)
        nearest = _nearest(stacked, windows, size, self._grid)
        target = torch.where(nearest[:, 2] > 0, nearest[:, 0].round().long(), IGNORED)
        mask = sample_windows(bits[:, None].float(), windows, size, self._grid)
        logits, edges = self.parser.classify(levels, mask)
        return self._losses(logits, edges, target, "_of_people")


def _nearest(values: Tensor, windows: Tensor, size: tuple[float, float], grid: tuple[int, int]) -> Tensor:
    """Read maps (N, C, h, w) at the pixels in which the middles of a window's cells lie, 0 outside: (N, C, *grid)."""
    count = len(windows)
    shares = [(torch.arange(cells, device=values.device) + 0.5) / cells for cells in grid]
    y = (windows[:, 1:2] + shares[0] * (windows[:, 3:] - windows[:, 1:2])).floor().long()
    x = (windows[:, :1] + shares[1] * (windows[:, 2:3] - windows[:, :1])).floor().long()
    height, width = int(size[0]), int(size[1])
    there = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    rows = torch.arange(count, device=values.device)[:, None, None]
    picked = values.movedim(1, -1)[rows, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]]
    return (picked * there[..., None]).movedim(-1, 1)
