"""SAMP's shared mode in training: a frozen encoder, its levels from a cache, losses on three levels, validation.

It does not know where images and people come from. All beyond the abstract of the paper is a reconstruction; see
``bmp.models.samp``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from torch import Tensor
from torch.nn import functional

from bmp.config import ConfigSection
from bmp.datasets.posed import PosedImage
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.io.annotations import Annotation, to_annotations
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.pmpose.losses import ExpectedOKSLoss, SparsemaxLoss
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.models.samp import SAMPOutput, heatmap_sigma, normalized, probabilities, samp_network
from bmp.ops.heatmaps import find_maxima, gaussian_targets, oks_targets, oks_variances
from bmp.poses.samp import SharedSAMPose
from bmp.structures import Image, Instances, Masks
from bmp.training.frozen_levels import FrozenLevels
from bmp.training.pose.windows import PeopleWindows

_LEVEL_WEIGHTS = (1.0, 0.5, 0.25)
_PEAK_WEIGHT = 20.0  # of a heatmap's peak, where an empty cell has 1
_SCORE_WEIGHT = 0.5  # of the sparsemax loss beside the expected OKS, as PMPose nano's


@MODELS.register_module()
class SAMPTraining(BaseModel):  # type: ignore[misc,unused-ignore]
    """The network of ``SAMPose`` in training.

    With ``exported = "network."`` in the config of a training, ``python -m bmp.training --export`` writes the weights
    that ``SAMPose`` takes, with the fingerprint of the encoder.

    Args:
        network: see ``SAMPose.model``.
        encoder: arguments of ``SAM2Encoder``; its weights stay as they are.
        cache: folder of an ``EmbeddingCache`` for the levels of images; None encodes an image whenever it comes.

    Raises:
        UserError: as of ``SAM2Encoder`` and ``SAMPose``.
    """

    def __init__(
        self,
        network: str | ConfigSection,
        encoder: ConfigSection,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        # A stage and no module: its weights are not this training's, and are not in its checkpoints.
        self._encoder = SAM2Encoder(**encoder)
        self.network = samp_network(network)
        self.network.fingerprint = self._encoder.fingerprint
        self._levels = FrozenLevels(self._encoder, cache)
        self._oks_loss, self._score_loss = ExpectedOKSLoss(), SparsemaxLoss(_SCORE_WEIGHT)

    def forward(
        self,
        inputs: Sequence[Image] | Sequence[PosedImage],
        data_samples: Sequence[PeopleWindows] | None = None,
        mode: str = "loss",
    ) -> dict[str, Tensor] | list[list[Annotation]]:
        """Return losses of images with their windows, or with "predict" a list of annotations an image."""
        device = self.network.encoder_digest.device
        self._levels.move(device)
        if mode == "loss":
            assert data_samples is not None
            images = [each for each in inputs if isinstance(each, Image)]
            return self._losses(images, [people.to(device) for people in data_samples])
        return _annotations([each for each in inputs if isinstance(each, PosedImage)], self.estimator())

    def estimator(self) -> SharedSAMPose:
        """Return the pose estimator that these weights make; it shares them."""
        return SharedSAMPose(self.network, self._encoder)

    def _losses(self, images: Sequence[Image], people: Sequence[PeopleWindows]) -> dict[str, Tensor]:
        # The encoder's levels have one size, whatever the image's is.
        levels = [torch.cat(level) for level in zip(*self._levels(images), strict=True)]
        projected = self.network.project(levels)
        sampled = [
            self.network.sampled(
                [level[row, None] for level in projected],
                each.centers,
                each.sizes,
                (image.height, image.width),
                each.turns,
            )
            for row, (image, each) in enumerate(zip(images, people, strict=True))
        ]
        features = [torch.cat(level) for level in zip(*sampled, strict=True)]
        crops = torch.cat([each.crops for each in people])
        found = self.network(features, normalized(crops[:, :3], crops[:, 3].float() / 255))
        locations = torch.cat([each.locations for each in people])
        flags = torch.cat([each.flags for each in people])
        return self._compared(found, locations, flags)

    def _compared(self, found: SAMPOutput, locations: Tensor, flags: Tensor) -> dict[str, Tensor]:
        """Return the losses of an answer; locations (P, K, 2) in shares of the windows, flags as COCO's."""
        rows, columns = found.scores[0].shape[-2:]
        cells = locations * locations.new_tensor((columns - 1, rows - 1))
        # A keypoint in the outer half of the outermost cell is inside, as for PMPose.
        inside = ((cells > -0.5) & (cells < cells.new_tensor((columns - 0.5, rows - 0.5)))).all(-1)
        labelled = (flags > 0).float()
        weights = labelled * inside
        losses: dict[str, Tensor] = {}
        for level, (scores, share) in enumerate(zip(found.scores, _LEVEL_WEIGHTS, strict=False)):
            # Each level is compared in cells of its own: to enlarge its maps first costs more, and tells no more.
            height, width = scores.shape[-2:]
            places = locations * locations.new_tensor((width - 1, height - 1))
            loss = self._of_maps if found.scalars is not None else _of_heatmaps
            losses[f"loss_maps{level}"] = share * loss(scores, places, weights)
        variances = cells.new_tensor(oks_variances(COCO_KEYPOINTS.sigmas, rows, columns))
        distance = (find_maxima(found.scores[0].detach())[0] - cells).square().sum(-1)
        achieved = torch.exp(-distance / (2 * variances))
        losses["expected_oks"] = (achieved * weights).sum() / weights.sum().clamp_min(1)  # to be looked at
        if found.scalars is not None:
            presence, visibility, expected_oks = found.scalars
            seen = (flags == 2).float()
            losses["loss_presence"] = _mean(_cross_entropy(presence, inside.float()), labelled)
            losses["loss_visibility"] = _mean(_cross_entropy(visibility, seen), _balanced(seen, weights))
            losses["loss_oks"] = _mean((expected_oks.sigmoid() - achieved) ** 2, weights)
        return losses

    def _of_maps(self, scores: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        maps, targets = probabilities(scores), oks_targets(places, *scores.shape[-2:])
        loss: Tensor = self._oks_loss(maps, targets, weights) + self._score_loss(scores, targets, weights, maps)
        return loss


def _of_heatmaps(heatmaps: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    height, width = heatmaps.shape[-2:]
    targets = gaussian_targets(places, height, width, heatmap_sigma(height))
    # Nearly all cells are empty: without a weight, an empty map is a good answer for a long time.
    return _mean(((heatmaps - targets) ** 2 * (1 + _PEAK_WEIGHT * targets)).mean((-2, -1)), weights)


@METRICS.register_module()
class PoseAP(BaseMetric):  # type: ignore[misc,unused-ignore]
    """COCO's AP of poses in labelled boxes, in percent: "pose/AP" and its relatives."""

    default_prefix = "pose"

    def process(self, data_batch: Any, data_samples: Sequence[list[Annotation]]) -> None:
        """Keep the annotations of each image of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[list[Annotation]]) -> dict[str, float]:
        """Compare those of all images with the ground truth."""
        rows = [row for image in results for row in image]
        found = evaluate_coco(self.dataset_meta["ground_truth"], to_results(rows, "keypoints"), "keypoints")
        named = {"AP": found.ap, "AP50": found.ap50, "AP75": found.ap75, "AR": found.ar}
        return {name: 100 * value for name, value in named.items() if value is not None}


def _annotations(images: Sequence[PosedImage], estimator: SharedSAMPose) -> list[list[Annotation]]:
    poses = estimator.estimate([each.image for each in images], [each.people for each in images])
    rows = []
    for posed, found in zip(images, poses, strict=True):
        people, count = posed.people, len(posed.people)
        bits = torch.zeros(count, posed.image.height, posed.image.width, dtype=torch.bool)
        masks = Masks(bits if people.masks is None else people.masks, torch.ones(count))
        whole = Instances(people, found.to("cpu"), masks, torch.ones(count, dtype=torch.int64))
        rows.append(to_annotations(whole, posed.annotations[0]["image_id"], estimator.keypoints, exact=True))
    return rows


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1)


def _balanced(seen: Tensor, weights: Tensor) -> Tensor:
    """Scale weights (P, K) so that visible and hidden keypoints have the same sum."""
    visible, hidden = (seen * weights).sum(), ((1 - seen) * weights).sum()
    most = torch.maximum(visible, hidden)
    return weights * torch.where(seen > 0, most / visible.clamp_min(1), most / hidden.clamp_min(1))
