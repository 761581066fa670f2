"""A dense head that finds people in the features of SAM's image encoder: boxes, scores, and masks drawn from kernels.

It knows no loop, no file and no training. The encoder has seen the whole image, stretched to a square, so everything
here is in that square: coordinates are shares of its side, and images of any shape are alike.

Each cell of a map at stride 8 answers for one person: a score, the distances to the edges of a box, and the weights of
a tiny network that draws the mask on the map at stride 4 (after CondInst and RTMDet-Ins). People who are known already
are taken out of the features: where their masks are, every level is replaced by a fill that is learned, so that the
head looks for further people without another run of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.config import ConfigSection, load_config
from bmp.errors import UserError
from bmp.hints import signature_of
from bmp.models.sam2_encoder import EncoderBound

_LEVELS = 3
_LAYERS = (8, 8, 1)  # channels that the networks of the masks make
_REACH = 0.2  # of the side: offsets of cells reach about 1 within a person of middling size
_FIRST_BOX = 0.15  # half a side of the boxes before training, as a share
_RARE = 0.01  # the score before training
_LONGEST = 3.0  # e^3 * _FIRST_BOX is far more than the whole image


@dataclass(frozen=True, eq=False)
class PeopleOutput:
    """The answer for B images, float32; L cells, row by row.

    scores: logits (B, L). boxes: (B, L, 4), xyxy as shares of the sides of the image; they may reach out of it.
    kernels: (B, L, K), the weights of each cell's network for ``PeopleHead.draw``. maps: (B, C, h, w), what these
    networks see.
    """

    scores: Tensor
    boxes: Tensor
    kernels: Tensor
    maps: Tensor


class PeopleHead(EncoderBound):
    """Finds people in the levels of images.

    Args:
        level_channels: of the encoder's three levels at strides 4, 8 and 16, the finest first.
        channels: of the map at stride 8; half as many are kept at stride 4. A multiple of 16.
        depth: blocks of two convolutions on that map, before scores and boxes part.
        mask_channels: of the maps that masks are drawn from.
    """

    def __init__(
        self, level_channels: Sequence[int], channels: int = 64, depth: int = 1, mask_channels: int = 8
    ) -> None:
        super().__init__()
        if len(level_channels) != _LEVELS:
            raise UserError(f"level_channels: expected {_LEVELS} numbers, the finest first, got {len(level_channels)}")
        if channels < 16 or channels % 16:
            raise UserError(f"channels: expected a multiple of 16, got {channels}")
        if depth < 0 or mask_channels < 1:
            raise UserError(f"depth, mask_channels: expected at least 0 and 1, got {depth} and {mask_channels}")
        self.level_channels = tuple(level_channels)
        widths = (channels // 2, channels, channels)
        self.projections = nn.ModuleList(
            nn.Conv2d(given, made, 1) for given, made in zip(level_channels, widths, strict=True)
        )
        self.fills = nn.ParameterList(nn.Parameter(torch.zeros(width, 1, 1)) for width in widths)
        self.down = nn.Conv2d(widths[0], channels, 3, stride=2, padding=1)
        self.mixed = _normalized(channels)
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(depth))
        self.score_layer = _convolution(channels, channels)
        self.box_layer = _convolution(channels, channels)
        self.score_out = nn.Conv2d(channels, 1, 1)
        self.box_out = nn.Conv2d(channels, 4, 1)
        sizes = (mask_channels + 2, *_LAYERS)
        self._kernel_sizes = [*(i * o for i, o in zip(sizes, _LAYERS, strict=False)), *_LAYERS]
        self.kernel_out = nn.Conv2d(channels, sum(self._kernel_sizes), 1)
        self.to_maps = nn.Conv2d(channels, widths[0], 1)
        self.map_layers = nn.Sequential(
            _normalized(widths[0]), _convolution(widths[0], widths[0]), nn.Conv2d(widths[0], mask_channels, 1)
        )
        nn.init.constant_(cast(Tensor, self.score_out.bias), -torch.tensor(1 / _RARE - 1).log().item())
        for layer in (self.score_out, self.box_out, self.kernel_out):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, levels: Sequence[Tensor], known: Tensor | None = None) -> PeopleOutput:
        """Answer for B images.

        Args:
            levels: float (B, C_i, h_i, w_i), the finest first, each half as large as the one before.
            known: float (B, 1, H, W) in [0, 1], of the whole image: where people are who are not to be found again.
                None for nobody.

        Raises:
            UserError: for levels of other channels.
        """
        got = tuple(level.shape[1] for level in levels)
        if got != self.level_channels:
            raise UserError(
                f"encoder: its levels have {got} channels, and these weights are for {self.level_channels}; give the "
                "encoder that they were trained with"
            )
        fine, middle, coarse = (project(level) for project, level in zip(self.projections, levels, strict=True))
        if known is not None:
            fine, middle, coarse = (
                torch.lerp(level, fill.to(level.dtype), F.adaptive_avg_pool2d(known, level.shape[-2:]).to(level.dtype))
                for level, fill in zip((fine, middle, coarse), self.fills, strict=True)
            )
        size = middle.shape[-2:]
        mixed = middle + self.down(fine) + F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        features = self.mixed(mixed)
        for block in self.blocks:
            features = block(features)
        around = self.box_layer(features)
        distances = self.box_out(around).flatten(2).transpose(1, 2).float().clamp(max=_LONGEST).exp() * _FIRST_BOX
        points = self.points(*size).to(distances.device)
        boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
        maps = fine + F.interpolate(self.to_maps(features), fine.shape[-2:], mode="bilinear", align_corners=False)
        return PeopleOutput(
            scores=self.score_out(self.score_layer(features)).flatten(1).float(),
            boxes=boxes,
            kernels=self.kernel_out(around).flatten(2).transpose(1, 2).float(),
            maps=self.map_layers(maps).float(),
        )

    @staticmethod
    def points(height: int, width: int) -> Tensor:
        """Return the middles of a map's cells, row by row: float32 (height * width, 2), x and y as shares."""
        y, x = ((torch.arange(count) + 0.5) / count for count in (height, width))
        return torch.stack((x[None].expand(height, -1), y[:, None].expand(-1, width)), dim=-1).reshape(-1, 2)

    def draw(self, maps: Tensor, kernels: Tensor, points: Tensor) -> Tensor:
        """Draw the masks of N people of one image.

        Args:
            maps: (C, h, w), of the image.
            kernels: (N, K), of the people's cells.
            points: (N, 2), the middles of these cells, see ``points``.

        Returns:
            Logits float32 (N, h, w) of the whole image, above 0 inside.
        """
        height, width = maps.shape[-2:]
        parts: Sequence[Tensor] = torch.split_with_sizes(kernels, self._kernel_sizes, dim=1)
        weights, biases = parts[: len(_LAYERS)], parts[len(_LAYERS) :]
        first, *others = (
            weight.reshape(len(weight), made, weight.shape[1] // made)
            for weight, made in zip(weights, _LAYERS, strict=True)
        )
        offsets = (self.points(height, width).to(points) - points[:, None]) / _REACH
        # What the maps show is the same for everybody and need not be copied beside each one's offsets.
        drawn = first[..., 2:] @ maps.flatten(1) + first[..., :2] @ offsets.transpose(1, 2) + biases[0][..., None]
        for weight, bias in zip(others, biases[1:], strict=True):
            drawn = torch.baddbmm(bias[..., None], weight, drawn.relu())
        return drawn.reshape(-1, height, width)


class _Block(nn.Module):
    """Adds to a map what two convolutions make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.layers(features)
        return features + made


def _normalized(channels: int) -> nn.Sequential:
    # By groups and not by batches: images with and without known people are told apart by what is in them alone.
    return nn.Sequential(nn.GroupNorm(channels // 8, channels), nn.SiLU())


def _convolution(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, padding=1, bias=False), *_normalized(made))


def people_head(model: str | Path | ConfigSection) -> PeopleHead:
    """Build the network of a config: its ``model`` has the arguments of ``PeopleHead``.

    Weights are made up from a fixed seed. Raises ``UserError`` for a config without it and for wrong arguments.
    """
    section = model if isinstance(model, Mapping) else load_config(model).get("model")
    if not isinstance(section, Mapping):
        raise UserError(f"model {str(model)!r}: expected a config with model = dict(level_channels=...), found none")
    known = signature_of(PeopleHead).arguments
    if wrong := [key for key in section if key not in known]:
        raise UserError(f"model: PeopleHead has no argument {wrong[0]!r}; it has {', '.join(known)}")
    if "level_channels" not in section:
        raise UserError("model: expected level_channels, the channels of the encoder's levels, the finest first")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PeopleHead(**section)
