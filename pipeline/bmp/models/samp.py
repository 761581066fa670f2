"""SAMP: poses from the features of SAM's image encoder, by a detail-aware adapter; it knows no loop and no file.

After "SAMP: Adapting Segment Anything Model for Pose Estimation" (Zhu et al., ICME 2024), of which only the abstract
is public: an adapter complements the features of SAM's encoder by multi-scale feature fusion and multi-level
supervision. Everything below these words is a reconstruction.

Two things use the adapter. Here, in the shared mode, the encoder has seen the whole image, and its levels are sampled
on a grid in each person's window. In the crop mode (``bmp.models.samp_crops``) the encoder sees each person's crop.

A window is given by its centre and size in pixels of the image, where edges of pixels are whole numbers. A grid of
w x h points lies in it so that the outermost points are on its edges, as the cells of an unbiased (UDP) map are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.config import ConfigSection, load_config
from bmp.errors import UserError
from bmp.hints import signature_of
from bmp.models.sam2 import PIXEL_MEAN, PIXEL_STD
from bmp.models.sam2_encoder import EncoderBound
from bmp.ops.sparsemax import sparsemax

TEMPERATURE = 0.5
"""What scores are divided by before the sparsemax, as in the probabilistic head of ProbPose."""

_SCALARS = 3  # presence, visibility, expected OKS
_STRIDES = 4  # convolutions of the stem


@dataclass(frozen=True, eq=False)
class SAMPOutput:
    """The answer of the network for P people and K keypoints, float32.

    scores: (P, K, h, w), the input of the sparsemax over the cells of a map, or plain heatmaps; a level each, the
    finest first; only the first is used after training. scalars: logits (3, P, K) of presence, visibility and expected
    OKS; None of a network of heatmaps.
    """

    scores: tuple[Tensor, ...]
    scalars: Tensor | None


def grid_points(centers: Tensor, sizes: Tensor, height: int, width: int, turns: Tensor | None = None) -> Tensor:
    """Return where the points of P people's grids lie in the image.

    Args:
        centers: float (P, 2) of the windows, x and y in pixels.
        sizes: float (P, 2), width and height.
        height: rows of a grid, at least 2.
        width: columns of a grid, at least 2.
        turns: float (P,), radians by which windows are turned clockwise about their centres; None for upright ones.

    Returns:
        float (P, height, width, 2), x and y in pixels.
    """
    share_x, share_y = (
        torch.linspace(-0.5, 0.5, count, dtype=centers.dtype, device=centers.device) for count in (width, height)
    )
    across = share_x * sizes[:, :1]
    down = share_y * sizes[:, 1:]
    x, y = across[:, None, :].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)
    if turns is not None:
        cosine, sine = turns.cos()[:, None, None], turns.sin()[:, None, None]
        x, y = cosine * x - sine * y, sine * x + cosine * y
    return torch.stack((x, y), dim=-1) + centers[:, None, None]


def sample(level: Tensor, points: Tensor, height: int, width: int) -> Tensor:
    """Sample a map of a whole image, bilinear, zero outside.

    Args:
        level: float (1, C, h, w) of the image, stretched in any way: each axis by a factor of its own.
        points: float (P, rows, columns, 2) in pixels of the image, edges of pixels being whole numbers.
        height: of the image in pixels.
        width: of the image in pixels.

    Returns:
        float (P, C, rows, columns).
    """
    people, rows, columns = points.shape[:3]
    if not people:
        return level.new_zeros(0, level.shape[1], rows, columns)
    places = points * points.new_tensor((2 / width, 2 / height)) - 1
    sampled = F.grid_sample(level, places.reshape(1, people * rows, columns, 2).to(level.dtype), align_corners=False)
    return sampled[0].view(-1, people, rows, columns).transpose(0, 1)


class DetailStem(nn.Module):
    """Fine features of a crop itself: convolutions of stride 2, each followed by a normalisation.

    Args:
        inputs: channels of the crop.
        channels: of the levels, the finest first; the first level is of half the crop's size and is not an output.
    """

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, made, 3, stride=2, padding=1), nn.GroupNorm(1, made), nn.GELU())
            for given, made in zip((inputs, *channels[:-1]), channels, strict=True)
        )

    def forward(self, crops: Tensor) -> list[Tensor]:
        """Return the levels of crops (P, inputs, H, W), the finest first: (P, C, H / 4, W / 4) and coarser ones."""
        levels = []
        for layer in self.layers:
            crops = layer(crops)
            levels.append(crops)
        return levels[1:]


class Fusion(nn.Module):
    """Adds to one map what another one of the same window tells; at first nothing, as its last factor starts at 0.

    Args:
        channels: of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.GroupNorm(1, channels))
        self.spread = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.out = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, fine: Tensor, other: Tensor) -> Tensor:
        """Return maps like ``fine`` (P, C, h, w); ``other`` (P, C, ., .) is brought to its size."""
        mixed = self.mix(torch.cat((fine, resized(other, fine.shape[-2:])), dim=1))
        added: Tensor = self.out(F.gelu(self.spread(mixed))) * self.scale
        return fine + added


class Sum(nn.Module):
    """In place of ``Fusion``: adds the other map itself. For comparison.

    Args:
        channels: of both maps; not needed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, fine: Tensor, other: Tensor) -> Tensor:
        """Return maps like ``fine``, see ``Fusion``."""
        return fine + resized(other, fine.shape[-2:])


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bring maps (P, C, ., .) of windows to ``size``: the outermost cells of both lie on the windows' edges."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


class DetailAdapter(nn.Module):
    """Fuses SAM's features in each person's window with those of a detail stem, from coarse to fine.

    Args:
        channels: C of all levels.
        stem_channels: of the stem's convolutions, four; None for no stem.
        inputs: channels of the crops that the stem sees.
        fusion: "blocks", or "sum" to add levels up.
    """

    def __init__(
        self,
        channels: int,
        stem_channels: Sequence[int] | None,
        inputs: int,
        fusion: Literal["blocks", "sum"] = "blocks",
    ) -> None:
        super().__init__()
        if fusion not in ("blocks", "sum"):
            raise UserError(f"fusion: expected 'blocks' or 'sum', got {fusion!r}")
        if stem_channels is not None and len(stem_channels) != _STRIDES:
            raise UserError(f"stem_channels: expected {_STRIDES} numbers, the finest first, got {len(stem_channels)}")
        block = Fusion if fusion == "blocks" else Sum
        self.stem = None if stem_channels is None else DetailStem(inputs, stem_channels)
        outputs = () if stem_channels is None else stem_channels[1:]
        self.details = nn.ModuleList(nn.Conv2d(each, channels, 1) for each in outputs)
        self.with_details = nn.ModuleList(block(channels) for _ in outputs)
        self.with_coarser = nn.ModuleList(block(channels) for _ in range(2))

    def forward(self, features: Sequence[Tensor], crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fused levels, the finest first.

        Args:
            features: SAM's in the windows, three maps (P, C, h, w), the finest first.
            crops: (P, inputs, H, W), normalised; H = 4h and W = 4w of the finest map.
        """
        levels = list(features)
        if self.stem is not None:
            rows = zip(self.with_details, levels, self.details, self.stem(crops), strict=True)
            levels = [fuse(level, project(detail)) for fuse, level, project, detail in rows]
        fine, middle, coarse = levels
        middle = self.with_coarser[1](middle, coarse)
        return self.with_coarser[0](fine, middle), middle, coarse


class KeypointScalars(nn.Module):
    """Presence, visibility and expected OKS from the features where a keypoint is thought to be.

    A keypoint's features are the mean over its map, so it is told by what is seen there; with the mean over the whole
    window, and how sure the map is of itself. The expected OKS learns from the features and does not change them.

    Args:
        channels: C of the features.
        keypoints: K.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.here = nn.Linear(channels + 2, channels)
        self.around = nn.Linear(channels, channels)
        self.names = nn.Parameter(torch.zeros(keypoints, channels))
        self.out = nn.Linear(channels, _SCALARS)
        self.bias = nn.Parameter(torch.zeros(keypoints, _SCALARS))

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:
        """Return logits (3, P, K) from features (P, C, h, w) and probabilities of cells (P, K, h, w)."""
        cells, maps = features.flatten(2), maps.detach().flatten(2)
        # From -2 to 0, the logarithms of the highest probability and of the sum of squares, in which maps differ.
        sure = torch.stack((maps.amax(-1), maps.square().sum(-1)), dim=-1).clamp_min(1e-3).log10()
        here = torch.cat((torch.einsum("pkn,pcn->pkc", maps, cells), sure), dim=-1)
        around = cells.mean(-1)
        logits = self._answer(here, around)
        apart = self._answer(here.detach(), around.detach())
        return torch.stack((logits[..., 0], logits[..., 1], apart[..., 2]))

    def _answer(self, here: Tensor, around: Tensor) -> Tensor:
        hidden = F.gelu(self.here(here) + self.around(around)[:, None] + self.names)
        answer: Tensor = self.out(hidden) + self.bias
        return answer


class SharedSAMP(EncoderBound):
    """Poses from the levels of a whole image, sampled in each person's window.

    Args:
        level_channels: of the encoder's levels, the finest first.
        crop: height and width of the crops that the stem sees, multiples of 16. Maps have a quarter of it.
        keypoints: K.
        channels: C of the adapter.
        stem_channels, fusion: see ``DetailAdapter``.
        taps: which of the encoder's levels feed the maps of a quarter, an eighth and a sixteenth of the crop.
        head: "probabilistic" for the probability of each cell, presence, visibility and expected OKS, as ProbPose has
            them; "heatmaps" for plain unbiased ones, whose highest value is all that is known of a keypoint.
        auxiliary: also supervise the two coarser levels.
        mask_channel: the stem sees the person's mask beside the colours.
        alpha: in [0, 1]; features outside the person's mask are multiplied by 1 - alpha.
    """

    def __init__(
        self,
        level_channels: Sequence[int],
        crop: Sequence[int] = (256, 192),
        keypoints: int = 17,
        channels: int = 192,
        stem_channels: Sequence[int] | None = (32, 48, 96, 128),
        fusion: Literal["blocks", "sum"] = "blocks",
        taps: Sequence[int] = (0, 1, 2),
        head: Literal["probabilistic", "heatmaps"] = "probabilistic",
        auxiliary: bool = True,
        mask_channel: bool = True,
        alpha: float = 0.25,
    ) -> None:
        super().__init__()
        if len(crop) != 2 or any(side < 32 or side % 16 for side in crop):
            raise UserError(f"crop: expected height and width, multiples of 16 from 32 on, got {tuple(crop)}")
        if len(taps) != 3 or any(not 0 <= tap < len(level_channels) for tap in taps):
            raise UserError(f"taps: expected three of the {len(level_channels)} levels, from 0, got {tuple(taps)}")
        if head not in ("probabilistic", "heatmaps"):
            raise UserError(f"head: expected 'probabilistic' or 'heatmaps', got {head!r}")
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha: expected a number in [0, 1], got {alpha}")
        self.level_channels = tuple(level_channels)
        self.crop = (int(crop[0]), int(crop[1]))
        self.grids = tuple((self.crop[0] // stride, self.crop[1] // stride) for stride in (4, 8, 16))
        self.taps = tuple(taps)
        self.alpha = alpha
        self.mask_channel = mask_channel
        # In the image, not in the windows: a hundred people then cost no more projections than one.
        self.projections = nn.ModuleList(nn.Conv2d(level_channels[tap], channels, 1) for tap in taps)
        self.adapter = DetailAdapter(channels, stem_channels, 4 if mask_channel else 3, fusion)
        heads = [nn.Conv2d(channels, keypoints, 1) for _ in range(3 if auxiliary else 1)]
        self.heads = nn.ModuleList(heads)
        self.scalars = KeypointScalars(channels, keypoints) if head == "probabilistic" else None
        for each in heads:
            # Flat maps, from which the expected OKS has a gradient everywhere.
            nn.init.normal_(each.weight, std=1e-3)
            nn.init.constant_(cast(Tensor, each.bias), 0.0)

    def project(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn an image's levels (1, C_i, h_i, w_i) into what ``sampled`` takes: three maps (1, C, ., .)."""
        got = tuple(level.shape[1] for level in levels)
        if got != self.level_channels:
            raise UserError(
                f"encoder: its levels have {got} channels, and these weights are for {self.level_channels}; give the "
                "encoder that they were trained with"
            )
        return tuple(project(levels[tap].float()) for project, tap in zip(self.projections, self.taps, strict=True))

    def sampled(
        self,
        projected: Sequence[Tensor],
        centers: Tensor,
        sizes: Tensor,
        image_size: tuple[int, int],
        turns: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the features of P people's windows, three maps (P, C, h, w), the finest first.

        Args:
            projected: of the image, from ``project``.
            centers: see ``grid_points``, as are the next and the last.
            sizes: of the windows.
            image_size: height and width in pixels.
            turns: of the windows.
        """
        return tuple(
            sample(level, grid_points(centers, sizes, *grid, turns=turns), *image_size)
            for level, grid in zip(projected, self.grids, strict=True)
        )

    def forward(self, features: Sequence[Tensor], crops: Tensor) -> SAMPOutput:
        """Answer for P people.

        Args:
            features: from ``sampled``.
            crops: float (P, 4, H, W): normalised colours, and the person's mask in [0, 1], all 1 for none.
        """
        masks = crops[:, 3:]
        if self.alpha:
            features = [level * (1 - self.alpha * (1 - resized(masks, level.shape[-2:]))) for level in features]
        fused = self.adapter(features, crops if self.mask_channel else crops[:, :3])
        # After training, the coarser levels are not asked.
        heads = self.heads if self.training else self.heads[:1]
        scores = tuple(head(level).float() for head, level in zip(heads, fused, strict=False))
        if self.scalars is None:
            return SAMPOutput(scores, None)
        scores = tuple(each / TEMPERATURE for each in scores)
        return SAMPOutput(scores, self.scalars(fused[0].float(), probabilities(scores[0])))


def samp_network(model: str | Path | ConfigSection) -> SharedSAMP:
    """Build the network of a config: its ``model`` has the arguments of ``SharedSAMP``.

    Weights are made up from a fixed seed. Raises ``UserError`` for a config without it and for wrong arguments.
    """
    section = model if isinstance(model, Mapping) else load_config(model).get("model")
    if not isinstance(section, Mapping):
        raise UserError(f"model {str(model)!r}: expected a config with model = dict(level_channels=...), found none")
    known = signature_of(SharedSAMP).arguments
    if wrong := [key for key in section if key not in known]:
        raise UserError(f"model: SharedSAMP has no argument {wrong[0]!r}; it has {', '.join(known)}")
    if "level_channels" not in section:
        raise UserError("model: expected level_channels, the channels of the encoder's levels, the finest first")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SharedSAMP(**section)


def normalized(colours: Tensor, masks: Tensor) -> Tensor:
    """Join crops uint8 (P, 3, H, W), RGB, and masks float (P, H, W) in [0, 1] to what the network takes."""
    mean, deviation = (colours.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    return torch.cat(((colours.float() / 255 - mean) / deviation, masks[:, None]), dim=1)


def heatmap_sigma(height: int) -> float:
    """Return the standard deviation, in cells, of the heatmaps of so many rows: 2 of ViTPose's 64, and at least 1."""
    return max(1.0, height / 32)


def probabilities(scores: Tensor) -> Tensor:
    """Turn scores (P, K, h, w) into probabilities of the cells, by sparsemax."""
    return sparsemax(scores.flatten(2)).view_as(scores)
