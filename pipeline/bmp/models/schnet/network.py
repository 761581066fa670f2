"""The parsing network: levels of SAM's encoder and semantics in, logits of labels out. Knows no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.errors import UserError, choices
from bmp.label_sets.part_sets import PART_SETS, PartSet
from bmp.models.schnet.modules import FineTuning, Mixing, ParsingHead, SemanticRefinement
from bmp.models.schnet.semantics import CLIPSemantics, NanoSemantics, SemanticEncoder

Source = Literal["visual", "similarity", "both", "noise"]
"""What the semantic encoder gives: features, similarities with the labels' names, both, or random numbers instead."""


@dataclass(frozen=True)
class SCHNetSettings:
    """The shape of a parsing network.

    labels: the name of a label set. level_channels: of SAM's levels. width: to which each level is reduced first, 0 for
    none. tokens, rank, shared: of the fine-tuning module, 0 tokens for none. semantics: "nano", a vision transformer of
    open_clip, or "" for none. input_size: of CLIP, (height, width). taps: "matching", the second to the fourth tap each
    to its level; "last", the last one to all; "mixed", a learnt mean of all four to all. mixing, source: of the
    semantic refinement. head: channels inside the head, 0 for a linear layer on each level, the baseline. pools: of the
    head. cosine: logits by cosine to the labels' names, too. inside: a vision transformer of SAM 1 in whose blocks the
    modules sit, on a crop of each person; "" for the neck of SAM 2, whose levels are computed once an image. blocks:
    where semantics come into it, from 0, one for each of ``level_channels``. crop: (height, width) of its input.
    """

    labels: str = "cihp"
    level_channels: tuple[int, ...] = (256, 256, 256)
    width: int = 0
    tokens: int = 100
    rank: int = 16
    shared: bool = True
    semantics: str = "ViT-B-16"
    input_size: tuple[int, int] = (448, 336)
    taps: Literal["matching", "last", "mixed"] = "matching"
    mixing: Mixing = "gate"
    source: Source = "visual"
    head: int = 128
    pools: tuple[int, ...] = (1, 2, 3, 6)
    cosine: bool = False
    inside: str = ""
    blocks: tuple[int, ...] = (2, 5, 8, 11)
    crop: tuple[int, int] = (512, 384)


_NANO = SCHNetSettings(level_channels=(128, 128, 128), width=64, tokens=32, rank=8, semantics="nano", head=64)
SETTINGS = {
    "b+": SCHNetSettings(),
    "inside_b": SCHNetSettings(level_channels=(768,) * 4, inside="vit_b"),
    "nano": _NANO,
    "nano_linear": replace(_NANO, width=0, tokens=0, semantics="", head=0),
}
"""Networks by name: for SAM 2.1's neck with CLIP, inside SAM 1's ViT-B with it, for SAM nano's neck with the small
semantic encoder, and its baseline."""


def settings_of(model: str | Mapping[str, Any]) -> SCHNetSettings:
    """Return settings by name, or by a dict of them whose ``base`` is such a name; ``UserError`` for mistakes.

    Examples:
        >>> settings_of({"base": "nano", "tokens": 0}).tokens
        0
    """
    if isinstance(model, str):
        model = {"base": model}
    base = model.get("base", "b+")
    if base not in SETTINGS:
        raise UserError(f"model: there is no {base!r}; {choices(str(base), SETTINGS)}")
    names = [field.name for field in fields(SCHNetSettings)]
    changes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in model.items() if key != "base"
    }
    for key, value in changes.items():
        if key not in names:
            raise UserError(f"model: there is no setting {key!r}; {choices(key, names)}")
        allowed = get_args(get_type_hints(SCHNetSettings)[key])
        if allowed and isinstance(allowed[0], str) and value not in allowed:
            raise UserError(f"model.{key}: there is no {value!r}; {choices(str(value), allowed)}")
    settings = replace(SETTINGS[base], **changes)
    if settings.labels not in PART_SETS:
        raise UserError(f"model.labels: there is no {settings.labels!r}; {choices(settings.labels, PART_SETS)}")
    if settings.cosine and not settings.semantics:
        raise UserError("model.cosine: there are no names to compare with; set semantics, too")
    if settings.inside and (settings.width or not settings.head):
        raise UserError("model.inside: features keep the channels of SAM's blocks; set width to 0, and head to 128")
    if settings.inside and len(settings.blocks) != len(settings.level_channels):
        raise UserError(
            f"model.blocks: expected one for each of {len(settings.level_channels)} level_channels, "
            f"got {len(settings.blocks)}"
        )
    return settings


class SCHNet(nn.Module):
    """Parses people from the levels of SAM's neck, refined by semantics.

    ``refine`` does what is needed once an image; ``classify`` answers for the whole image, or for one person's window
    with the person's mask.

    Args:
        settings: its shape.
        places: where the fine-tuning module works; None for the levels.
        scale: of the head.
    """

    def __init__(self, settings: SCHNetSettings, places: int | None = None, scale: int = 1) -> None:
        super().__init__()
        self.settings = settings
        self.label_set: PartSet = PART_SETS[settings.labels]
        labels, levels = len(self.label_set), len(settings.level_channels)
        width = settings.width or settings.level_channels[0]
        self.reduce = nn.ModuleList(
            nn.Conv2d(channels, width, 1) if settings.width else nn.Identity() for channels in settings.level_channels
        )
        self.tuning = (
            FineTuning(places or levels, width, settings.tokens, settings.rank, settings.shared)
            if settings.tokens
            else None
        )
        self.semantics: SemanticEncoder | None = None
        if settings.semantics == "nano":
            self.semantics = NanoSemantics(self.label_set.names)
        elif settings.semantics:
            self.semantics = CLIPSemantics(labels, settings.semantics, settings.input_size)
        self.refinement = nn.ModuleList()
        if self.semantics is not None:
            self.semantics.requires_grad_(False)
            channels = self.semantics.channels * (settings.source != "similarity")
            channels += labels * (settings.source in ("similarity", "both"))
            self.refinement.extend(SemanticRefinement(width, channels, settings.mixing) for _ in range(levels))
        self.tap_weights = nn.Parameter(torch.zeros(4)) if self.refinement and settings.taps == "mixed" else None
        self.head: ParsingHead | None = None
        self.linear = nn.ModuleList()
        if settings.head:
            joint = self.semantics.text.shape[1] if settings.cosine and self.semantics is not None else None
            self.head = ParsingHead([width] * levels, labels, settings.head, settings.pools, joint, scale)
        else:
            self.linear.extend(nn.Conv2d(width, labels, 1) for _ in range(levels))

    def train(self, mode: bool = True) -> SCHNet:
        """Switch to training or back; the semantic encoder stays as it is in use."""
        super().train(mode)
        if self.semantics is not None:
            self.semantics.eval()
        return self

    def refine(self, levels: Sequence[Tensor], inputs: Tensor | None) -> list[Tensor]:
        """Adapt levels (B, C, ., .), the finest first, and bring semantics into them.

        inputs: of the semantic encoder, see ``SemanticEncoder.of_images``; None for a network without one.
        """
        refined = [layer(level) for layer, level in zip(self.reduce, levels, strict=True)]
        if self.tuning is not None:
            refined = [self.tuning.maps(level, place) for place, level in enumerate(refined)]
        if self.semantics is not None and inputs is not None:
            chosen = self.semantics_of_levels(inputs)
            refined = [layer(*each) for layer, *each in zip(self.refinement, refined, chosen, strict=True)]
        return list(refined)

    def semantics_of_levels(self, inputs: Tensor) -> list[Tensor]:
        """Return what the refinement of each level gets, (B, S, ., .)."""
        with torch.no_grad():
            semantics = self._semantics(inputs)
        levels = len(self.refinement)
        if self.tap_weights is not None:
            shares = self.tap_weights.softmax(dim=0)
            mixed = torch.stack([share * tap for share, tap in zip(shares, semantics, strict=True)]).sum(dim=0)
            return [mixed] * levels
        return semantics[-1:] * levels if self.settings.taps == "last" else semantics[-levels:]

    def _semantics(self, inputs: Tensor) -> list[Tensor]:
        """Return what each of four taps gives to the refinement."""
        semantics, source = self.semantics, self.settings.source
        assert semantics is not None  # whoever calls has asked
        taps: list[Tensor]
        taps, patches = semantics(inputs)
        if source == "noise":
            random = torch.Generator(inputs.device).manual_seed(0)
            return [torch.randn(tap.shape, generator=random, device=tap.device, dtype=tap.dtype) for tap in taps]
        if source == "visual":
            return taps
        maps = semantics.similarities(patches)
        return [torch.cat([tap, maps], dim=1) if source == "both" else maps for tap in taps]

    def classify(self, refined: Sequence[Tensor], mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return logits (B, labels, h, w) at the size of the first level, and edge logits (B, 1, h, w) if it has them.

        mask: float (B, 1, h, w), the person in question; None for everybody.
        """
        if self.head is not None:
            text = self.semantics.text if self.settings.cosine and self.semantics is not None else None
            return self.head(refined, mask, text)  # type: ignore[no-any-return]
        size = refined[0].shape[2:]
        logits = [layer(level) for layer, level in zip(self.linear, refined, strict=True)]
        enlarged = [F.interpolate(each, size, mode="bilinear", align_corners=False) for each in logits]
        return torch.stack(enlarged).sum(dim=0), None


def made_up(settings: SCHNetSettings, sam: str = RANDOM) -> SCHNet:
    """Return a network with weights made up from a fixed seed; inside SAM's blocks with the weights ``sam``."""
    from bmp.models.schnet.inside import InsideSCHNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return InsideSCHNet(settings, sam) if settings.inside else SCHNet(settings)


def build_schnet(model: str | Mapping[str, Any], checkpoint: str) -> SCHNet:
    """Return a parsing network on the CPU, in evaluation mode.

    Args:
        model: see ``settings_of``.
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``; "random" makes weights up.

    Raises:
        UserError: for settings that there are not, and weights that do not fit or are no file of plain tensors, such as
            the TorchScript archives of OpenAI's CLIP.
    """
    network = made_up(settings_of(model))
    if checkpoint != RANDOM:
        path = resolve(checkpoint)
        load_strictly(network, load_weights(path), file=path)
    return network.eval().requires_grad_(False)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; ``UserError`` for any other, TorchScript archives among them."""
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path}: expected a .safetensors file; weights of a parser are read from no other kind, and TorchScript "
            "archives, as OpenAI publishes CLIP, would run code"
        )
    return load_state_dict(path)
