"""Part parsers and their small semantic encoder as networks to train with MMEngine. Knows no file of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from bmp.checkpoints.sources import RANDOM, resolve
from bmp.errors import UserError
from bmp.label_sets.part_sets import CIHP
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD, build_sam2
from bmp.models.schnet.inside import STRIDE, InsideSCHNet, Tuned, crops_of
from bmp.models.schnet.losses import IGNORED, cross_entropy, edge_loss, lovasz_softmax
from bmp.models.schnet.modules import similarity
from bmp.models.schnet.network import SCHNet, load_weights, made_up, settings_of
from bmp.models.schnet.semantics import NanoSemantics, Text
from bmp.models.schnet.windows import MARGIN, person_levels, sample_windows, windows_of
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

    Args:
        text: what the names are, see ``bmp.models.schnet.semantics.word_embeddings``.
    """

    def __init__(self, text: Text = "words") -> None:
        super().__init__(data_preprocessor=_Pixels())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.semantics = NanoSemantics(CIHP.names, text=text)
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
        self.parser = made_up(settings_of(model))
        if self.parser.settings.inside:
            raise UserError("model: it works inside SAM's blocks, on crops; use CropParserTraining")
        _load_semantics(self.parser, semantics)
        network = build_sam2(sam, encoder)
        self._encoder = [network.image_encoder.eval()]  # in a list: no part of what is trained and kept
        self._cache = None if cache is None else EmbeddingCache(cache, self._encoder[0])
        self._lovasz, self._edge, self._person = lovasz, edge, person
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
        parser = self.parser
        semantic_inputs = None if parser.semantics is None else parser.semantics.to_input(inputs)
        refined = parser.refine(self.levels(inputs), semantic_inputs)
        logits, edges = parser.classify(refined)
        losses = _losses(logits, edges, labels, self._lovasz, self._edge)
        people = _one_of_each(data_samples, self._grid) if self._person and parser.head is not None else None
        if people is not None:
            size = (float(labels.shape[1]), float(labels.shape[2]))
            levels = person_levels(refined, people.windows, size, self._grid, people.rows)
            logits, edges = parser.classify(levels, people.masks)
            of_people = _losses(logits, edges, people.labels, self._lovasz, self._edge)
            losses |= {f"{name}_of_people": self._person * value for name, value in of_people.items()}
        return losses


@MODELS.register_module()
class CropParserTraining(BaseModel):  # type: ignore[misc,unused-ignore]
    """A parsing network inside the blocks of SAM 1, on the crop of one person an image.

    The tensors of the parser, SAM's encoder and CLIP included, are below "parser.".

    Args:
        model: of the parser, see ``bmp.models.schnet.network.settings_of``.
        sam: weights of SAM, "random" to make them up.
        semantics: checkpoint of the semantic encoder, None for random weights.
        tuned: which of SAM's blocks are trained beside the modules: "none", "all", or how many of the last.
        lovasz, edge: weights of these losses.
        scales: smallest and greatest size of windows, times the usual one.
    """

    def __init__(
        self,
        model: str | Mapping[str, Any] = "inside_b",
        sam: str = RANDOM,
        semantics: str | None = None,
        tuned: Tuned = 2,
        lovasz: float = 1.0,
        edge: float = 0.4,
        scales: tuple[float, float] = (0.75, 1.25),
    ) -> None:
        super().__init__(data_preprocessor=_Pixels())
        parser = made_up(settings_of(model), sam)
        if not isinstance(parser, InsideSCHNet):
            raise UserError("model: it works on levels of SAM 2, not on crops; use ParserTraining")
        parser.tune(tuned)
        _load_semantics(parser, semantics)
        self.parser = parser
        self._lovasz, self._edge, self._scales = lovasz, edge, (scales[0], scales[1])

    def forward(self, inputs: Tensor, data_samples: Sequence[PartGroundTruth], mode: str = "loss") -> dict[str, Tensor]:
        """Compute the losses of one person of each image that has somebody; arguments as for ``ParserTraining``."""
        if mode != "loss":
            raise ValueError(f"mode: expected 'loss', got {mode!r}; this network is for training only")
        crop = self.parser.settings.crop
        people = _one_of_each(data_samples, (crop[0] // STRIDE, crop[1] // STRIDE), self._scales)
        if people is None:  # nothing to learn from, and the optimizer wants a gradient
            return {"loss_labels": 0.0 * next(self.parser.norms.parameters()).sum()}
        reduced = inputs.shape[2] / data_samples[0].labels.shape[0]
        crops = crops_of(inputs, people.windows * reduced, crop, people.rows)
        logits, edges = self.parser.classify(self.parser.refine_crops(crops), people.masks)
        return _losses(logits, edges, people.labels, self._lovasz, self._edge)


def _load_semantics(parser: SCHNet, checkpoint: str | None) -> None:
    if checkpoint is not None and parser.semantics is not None:
        state = load_weights(resolve(checkpoint))
        parser.semantics.load_state_dict({name: tensor.float() for name, tensor in state.items()})


def _losses(logits: Tensor, edges: Tensor | None, labels: Tensor, lovasz: float, edge: float) -> dict[str, Tensor]:
    losses = {"loss_labels": cross_entropy(logits, labels)}
    if lovasz:
        losses["loss_lovasz"] = lovasz * lovasz_softmax(logits, labels)
    if edge and edges is not None:
        losses["loss_edges"] = edge * edge_loss(edges, labels)
    return losses


@dataclass(frozen=True)
class _People:
    """People with their windows.

    rows: int64 (P,), the image of each. windows: float (P, 4), xyxy in cells of the labels. labels: int64 (P, *grid),
    the background outside the person, ``IGNORED`` outside the image. masks: float (P, 1, *grid), shares.
    """

    rows: Tensor
    windows: Tensor
    labels: Tensor
    masks: Tensor


def _one_of_each(
    samples: Sequence[PartGroundTruth], grid: tuple[int, int], scales: tuple[float, float] = (1.0, 1.0)
) -> _People | None:
    """Choose a random person of each image that has somebody; None where nobody has.

    Windows have the shape of ``grid`` in the image as it was before it was made square, and random sizes.
    """
    rows, masks = [], []
    for row, sample in enumerate(samples):
        numbers: Tensor = torch.unique(sample.owners)
        numbers = numbers[numbers > 0]
        if len(numbers):
            rows.append(row)
            masks.append(sample.owners == numbers[torch.randint(len(numbers), ())])
    if not rows:
        return None
    bits = torch.stack(masks)
    chosen, labels = torch.tensor(rows, device=bits.device), torch.stack([samples[row].labels for row in rows])
    size = (float(labels.shape[1]), float(labels.shape[2]))
    stretch = torch.tensor([[samples[row].aspect, 1.0] * 2 for row in rows], device=bits.device)
    factors = scales[0] + (scales[1] - scales[0]) * torch.rand(len(rows), 1, device=bits.device)
    windows = windows_of(to_boxes(bits) * stretch, grid, MARGIN * factors) / stretch
    known = torch.where(bits, labels, 0)
    # Beyond the image nothing counts: a border of ones tells where that is.
    nearest = _nearest(torch.stack([known.float(), torch.ones_like(known).float()], dim=1), windows, size, grid)
    target = torch.where(nearest[:, 1] > 0, nearest[:, 0].round().long(), IGNORED)
    return _People(chosen, windows, target, sample_windows(bits[:, None].float(), windows, size, grid))


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
