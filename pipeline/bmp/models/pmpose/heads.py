"""The head of ProbPose and PMPose: keypoint maps that are probabilities, and four scalars for each keypoint."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import HeatmapHead
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from bmp.config import ConfigSection
from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.heatmaps import find_maxima, oks_variances
from bmp.ops.sparsemax import sparsemax

BRANCHES = ("heatmaps", "presence", "visibility", "oks", "error")
"""The parts of the head that can be frozen: the layers of the maps, and each branch."""
_POOLS = ((4, 3), (2, 2), (2, 2))  # 16 x 12 features to a single cell
_TEMPERATURE = 0.5


class KeypointMaps(NamedTuple):
    """The output of the head for B people and K keypoints, float32, all in [0, 1] except the error.

    heatmaps: (B, K, H, W). presence, visibility, expected_oks: (B, K), the probabilities that a keypoint lies in the
    crop and that it is visible, and the expected OKS. expected_error: (B, K), the expected distance in map
    cells, or None from a head without that branch.
    """

    heatmaps: Tensor
    presence: Tensor
    visibility: Tensor
    expected_oks: Tensor
    expected_error: Tensor | None

    def averaged_with_mirrored(self, mirrored: KeypointMaps, flip_indices: Sequence[int]) -> KeypointMaps:
        """Average with the output for the mirrored crops.

        Args:
            mirrored: of the same people, still mirrored.
            flip_indices: K, for each keypoint its counterpart in a mirrored image.
        """
        order = list(flip_indices)

        def average(straight: Tensor | None, other: Tensor | None) -> Tensor | None:
            if straight is None or other is None:
                return None
            return (straight + (other.flip(-1) if other.ndim == 4 else other)[:, order]) * 0.5

        return KeypointMaps(*map(average, self, mirrored))  # type: ignore[arg-type]


@MODELS.register_module()
class ProbabilisticHeatmapHead(HeatmapHead):  # type: ignore[misc,unused-ignore]
    """MMPose's heatmap head with sparsemax over the cells, and branches for four scalars (ProbPose).

    The branches turn features of 16 x 12 cells into one; larger ones are averaged at the end. As released, the
    branches of expected OKS and error learn from the features and never change them; those of presence and visibility
    do the same unless ``attached`` names them. So the backbone learns the locations of keypoints only.

    Args:
        in_channels: channels of the features.
        out_channels: K.
        deconv_out_channels: of the deconvolutions that lead to the maps.
        deconv_kernel_sizes: as many.
        normalize: factor of the maps after the sparsemax; None leaves out the sparsemax as well, and the maps are
            the scores, clamped to [0, 1].
        with_error: whether there is a branch for the expected localisation error.
        attached: those of "presence" and "visibility" whose losses reach the features.
        frozen: those of ``BRANCHES`` that do not learn: their parameters get no gradient and they have no loss.
        balance_visibility: give the visible and the hidden keypoints of a batch the same weight in the loss of the
            visibility; without it the visible ones, which are most of the labelled ones, dominate.
        scores_from: "expected_oks" or "map", the source of the keypoint scores that MMPose's runner gets.
        branch_channels: inside the branches; as many as in the features by default.
        loss: config of the loss of the maps.
        score_loss: config of a loss of the input of the sparsemax, beside that of the maps; none by default.
        branch_loss_weight: factor of the losses of the branches.
        **kwargs: the other arguments of HeatmapHead.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        deconv_out_channels: Sequence[int] = (256, 256),
        deconv_kernel_sizes: Sequence[int] = (4, 4),
        normalize: float | None = 1.0,
        with_error: bool = True,
        attached: Collection[str] = (),
        frozen: Collection[str] = (),
        balance_visibility: bool = True,
        scores_from: str = "expected_oks",
        branch_channels: int | None = None,
        loss: ConfigSection | None = None,
        score_loss: ConfigSection | None = None,
        branch_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        _check_names("attached", attached, ("presence", "visibility"))
        _check_names("frozen", frozen, BRANCHES)
        _check_names("scores_from", [scores_from], ("expected_oks", "map"))
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            deconv_out_channels=deconv_out_channels,
            deconv_kernel_sizes=deconv_kernel_sizes,
            loss=dict(loss or {"type": "ExpectedOKSLoss"}),
            **kwargs,
        )
        self.normalize = normalize
        self.branch_loss_weight = branch_loss_weight
        self.scores_from = scores_from
        self._balance_visibility = balance_visibility
        self._attached, self._frozen = frozenset(attached), frozenset(frozen)
        self.score_loss = None if score_loss is None else MODELS.build(dict(score_loss))
        inside = branch_channels or in_channels
        self.probability_layers = _branch(in_channels, inside, out_channels)
        self.visibility_layers = _branch(in_channels, inside, out_channels)
        self.oks_layers = _branch(in_channels, inside, out_channels)
        self.error_layers = _branch(in_channels, inside, out_channels) if with_error else None
        layers = {
            "heatmaps": (self.deconv_layers, self.conv_layers, self.final_layer),
            "presence": (self.probability_layers,),
            "visibility": (self.visibility_layers,),
            "oks": (self.oks_layers,),
            "error": (self.error_layers,),
        }
        for name in self._frozen:
            for layer in layers[name]:
                if layer is not None:
                    layer.requires_grad_(False)

    def forward(self, feats: tuple[Tensor, ...]) -> KeypointMaps:
        """Compute maps and scalars from the last of the features, (B, C, h, w)."""
        return self._read(self._scores(feats), feats[-1])

    def _scores(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the input of the sparsemax, float32 (B, K, H, W)."""
        return super().forward(feats).float() / _TEMPERATURE  # type: ignore[no-any-return]

    def without_maps(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what ``maps`` takes, presence, visibility and expected OKS: all that is no loop over the data."""
        presence, visibility, oks = (self.probability_layers, self.visibility_layers, self.oks_layers)
        scalars = (_scalars(layers, feats[-1]).sigmoid() for layers in (presence, visibility, oks))
        return (self._scores(feats), *scalars)  # type: ignore[return-value]

    def maps(self, scores: Tensor) -> Tensor:
        """Return the maps of scores, (B, K, H, W) in [0, 1]."""
        cells = scores if self.normalize is None else sparsemax(scores.flatten(2)).view_as(scores) * self.normalize
        return cells.clamp(0, 1)

    def _read(self, scores: Tensor, features: Tensor) -> KeypointMaps:
        apart = features.detach()
        presence, visibility = (features if name in self._attached else apart for name in ("presence", "visibility"))
        return KeypointMaps(
            heatmaps=self.maps(scores),
            presence=_scalars(self.probability_layers, presence).sigmoid(),
            visibility=_scalars(self.visibility_layers, visibility).sigmoid(),
            expected_oks=_scalars(self.oks_layers, apart).sigmoid(),
            expected_error=None if self.error_layers is None else _scalars(self.error_layers, apart).relu(),
        )

    def predict(self, feats: Any, batch_data_samples: Any, test_cfg: Any = None) -> Any:
        """Predict for MMPose's runner: see HeatmapHead.predict.

        Beside the usual fields there are, of shape (1, K): ``keypoints_visible`` (visibility), ``keypoints_probs``
        (presence), ``keypoints_oks`` and, with that branch, ``keypoints_error`` (fraction of the map's diagonal).
        ``keypoint_scores`` is the expected OKS, as published, or the maximum of the map, as ``scores_from`` says.
        """
        test_cfg = test_cfg or {}
        if test_cfg.get("flip_test", False):
            straight, mirrored = (self.forward(each) for each in feats)
            found = straight.averaged_with_mirrored(mirrored, batch_data_samples[0].metainfo["flip_indices"])
        else:
            found = self.forward(feats)
        fields = {
            "keypoints_visible": found.visibility,
            "keypoints_probs": found.presence,
            "keypoints_oks": found.expected_oks,
        }
        if found.expected_error is not None:
            fields["keypoints_error"] = found.expected_error / math.hypot(*found.heatmaps.shape[-2:])
        if self.scores_from == "expected_oks":
            fields["keypoint_scores"] = found.expected_oks
        predictions: list[InstanceData] = self.decode(found.heatmaps)
        for name, values in fields.items():
            for prediction, row in zip(predictions, values[:, None].cpu().numpy(), strict=True):
                prediction.set_field(row, name)
        if test_cfg.get("output_heatmaps", False):
            return predictions, [PixelData(heatmaps=maps) for maps in found.heatmaps.detach()]
        return predictions

    def loss(self, feats: Any, batch_data_samples: Any, train_cfg: Any = None) -> dict[str, Tensor]:
        """Compute the losses of a batch with targets from the codec ``OKSHeatmap``.

        The maps are trained by ``loss`` and ``score_loss``, presence and visibility by binary cross-entropy, the
        expected OKS and the expected error by the squared difference from those of the maps' maxima.
        """
        scores = self._scores(feats)
        found = self._read(scores, feats[-1])
        labels = {
            name: torch.cat([sample.gt_instance_labels[name] for sample in batch_data_samples])
            for name in batch_data_samples[0].gt_instance_labels.keys()  # noqa: SIM118 -- an InstanceData, not a dict
        }
        targets = torch.stack([sample.gt_fields.heatmaps for sample in batch_data_samples])
        weights = labels["keypoint_weights"]
        oks, error = self._achieved(found.heatmaps.detach(), labels["keypoint_locations"])
        losses = {}
        if "heatmaps" not in self._frozen:
            losses["loss_kpt"] = self.loss_module(found.heatmaps, targets, weights)
            if self.score_loss is not None:
                known = found.heatmaps if self.normalize == 1 else None  # the costly part of the loss
                losses["loss_scores"] = self.score_loss(scores, targets, weights, known)
        if "presence" not in self._frozen:
            values = _cross_entropy(found.presence, labels["presence"])
            losses["loss_presence"] = self._branch_loss(values, labels["presence_weights"])
        if "visibility" not in self._frozen:
            values = _cross_entropy(found.visibility, labels["visibility"])
            counted = labels["visibility_weights"]
            if self._balance_visibility:
                counted = _balanced(labels["visibility"], counted)
            losses["loss_visibility"] = self._branch_loss(values, counted)
        if "oks" not in self._frozen:
            losses["loss_oks"] = self._branch_loss((found.expected_oks - oks) ** 2, weights)
        if found.expected_error is not None and "error" not in self._frozen:
            diagonal = math.hypot(*found.heatmaps.shape[-2:])
            losses["loss_error"] = self._branch_loss(((found.expected_error - error) / diagonal) ** 2, weights)
        return losses

    def _achieved(self, maps: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the OKS and the distance in cells, (B, K) both, that the maxima of the maps score."""
        sigmas = getattr(self.decoder, "sigmas", COCO_KEYPOINTS.sigmas)
        variances = maps.new_tensor(oks_variances(sigmas, *maps.shape[-2:]))
        distance = (find_maxima(maps)[0] - places).norm(dim=-1)
        return torch.exp(-(distance**2) / (2 * variances)), distance

    def _branch_loss(self, values: Tensor, weights: Tensor) -> Tensor:
        return self.branch_loss_weight * (values * weights).sum() / weights.sum().clamp_min(1)


def _check_names(option: str, given: Collection[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"ProbabilisticHeatmapHead: {option}: there is no {name!r}; choose of {', '.join(known)}")


def _balanced(visible: Tensor, weights: Tensor) -> Tensor:
    """Scale the weights (B, K) so that visible and hidden keypoints have the same sum; the larger class keeps its own.

    Where a class is missing in the batch there is nothing to balance.
    """
    seen, hidden = (visible * weights).sum(), ((1 - visible) * weights).sum()
    if seen == 0 or hidden == 0:
        return weights
    most = torch.maximum(seen, hidden)
    return weights * torch.where(visible > 0, most / seen, most / hidden)


def _branch(channels: int, inside: int, keypoints: int) -> nn.Sequential:
    # The order of the layers gives the official weights their names.
    layers: list[nn.Module] = []
    for given, pool in zip((channels, inside, inside), _POOLS, strict=True):
        layers += [nn.Conv2d(given, inside, 3, padding=1), nn.BatchNorm2d(inside), nn.MaxPool2d(pool), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(inside, keypoints, 1))


def _scalars(layers: nn.Sequential, features: Tensor) -> Tensor:
    return layers(features).float().mean((-2, -1))  # type: ignore[no-any-return]


def _cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    # Autocast refuses binary_cross_entropy, whose inputs are float32 here already.
    with torch.autocast(probability.device.type, enabled=False):
        return functional.binary_cross_entropy(probability, target, reduction="none")
