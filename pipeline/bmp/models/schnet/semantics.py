"""Encoders that know what things are, coarsely: the small one that comes with the package, and CLIP of open_clip.

Both give taps at four depths, and the similarity of each patch to the name of each label. The embeddings of the names
are stored with the weights, so that no text encoder is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize, resize

from bmp.errors import MissingExtraError, UserError, choices
from bmp.models.schnet.modules import similarity
from bmp.structures import Image

CLIP_MEAN, CLIP_STD = [0.4815, 0.4578, 0.4082], [0.2686, 0.2613, 0.2758]
"""Of red, green and blue in [0, 1]: what CLIP's network expects to have been taken off, and divided by."""
TEMPLATES = (
    "a photo of a person's {}",
    "a close-up of a person's {}",
    "a {} of somebody in a crowd",
    "a photo of the {} of a person",
)
"""Sentences in which CLIP is given the names of labels."""


class SemanticEncoder(nn.Module):
    """What the encoders have in common.

    Attributes:
        size: (height, width) of the input, in pixels.
        channels: of a tap.
        text: (labels, D), normalised embeddings of the labels' names; a buffer.
    """

    size: tuple[int, int]
    channels: int
    text: Tensor

    def to_input(self, pixels: Tensor) -> Tensor:
        """Stretch uint8 (B, 3, H, W) to the input and normalise it."""
        small = resize(pixels.float() / 255, list(self.size), antialias=True)
        normal: Tensor = normalize(small, CLIP_MEAN, CLIP_STD)
        return normal

    def of_images(self, images: Sequence[Image], device: torch.device | str) -> Tensor:
        """Return the input for images, float32 (B, 3, *size)."""
        return torch.cat([self.to_input(image.pixels.to(device).permute(2, 0, 1)[None]) for image in images])

    def forward(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return four taps (B, channels, h, w), and patches (B, D, h, w) in the space of ``text``."""
        raise NotImplementedError

    def similarities(self, patches: Tensor) -> Tensor:
        """Return the cosine of each patch with each label's name, (B, labels, h, w)."""
        return similarity(patches, self.text)


Text = Literal["words", "shuffled", "one_hot"]


def word_embeddings(names: Sequence[str], size: int = 64, text: Text = "words") -> Tensor:
    """Return made-up text embeddings, (N, size).

    text: "words" gives each word a random direction and a name the sum of its words', so "left arm" is near "right arm"
    and "left leg", as it is for a real text encoder; "shuffled" gives each name what is another's; in "one_hot" no name
    is nearer to another than any. The last two are for comparison. Raises ``UserError`` for any other.
    """
    random = torch.Generator().manual_seed(0)
    if text == "one_hot":
        return torch.eye(len(names), size)
    if text == "shuffled":
        return word_embeddings(names, size)[torch.randperm(len(names), generator=random)]
    if text != "words":
        raise UserError(f"text: there is no {text!r}; {choices(str(text), get_args(Text))}")
    words = sorted({word for name in names for word in re.findall(r"\w+", name)})
    directions = {word: F.normalize(torch.randn(size, generator=random), dim=0) for word in words}
    return F.normalize(
        torch.stack([torch.stack([directions[word] for word in re.findall(r"\w+", name)]).sum(0) for name in names]),
        dim=1,
    )


class NanoSemantics(SemanticEncoder):
    """A transformer on 16 x 16 patches of 16 pixels, with made-up text: 0.6 million weights.

    Args:
        names: of the labels.
        width: channels of a token.
        joint: size of the space of the text.
        text: see ``word_embeddings``; weights bring their own.
    """

    def __init__(self, names: Sequence[str], width: int = 96, joint: int = 64, text: Text = "words") -> None:
        super().__init__()
        self.size = (256, 256)
        self.channels = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 3, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(width // 3, width * 2 // 3, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width * 2 // 3, width, 3, stride=2, padding=1),
        )
        self.positions = nn.Parameter(torch.randn(1, 256, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(4)
        )
        self.to_text = nn.Linear(width, joint)
        self.register_buffer("text", word_embeddings(names, joint, text))

    def forward(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return four taps (B, width, 16, 16), and patches (B, joint, 16, 16)."""
        maps = self.stem(inputs)
        tokens = maps.flatten(2).mT + self.positions
        taps = []
        for layer in self.layers:
            tokens = layer(tokens)
            taps.append(tokens.mT.unflatten(2, maps.shape[2:]))
        return taps, self.to_text(tokens).mT.unflatten(2, maps.shape[2:])


class CLIPSemantics(SemanticEncoder):
    """The visual side of CLIP, built by open_clip without weights: they come with the parser's checkpoint.

    Patches are projected from the values of the last block's attention: those are about their own place, the outputs
    of the block about the whole image.

    Args:
        labels: how many.
        model: one of open_clip's vision transformers.
        size: of the input, (height, width), multiples of the patch; the position embedding is interpolated.

    Raises:
        ImportError: where open_clip is not installed.
        UserError: for a model that is none of open_clip's vision transformers.
    """

    def __init__(self, labels: int, model: str = "ViT-B-16", size: tuple[int, int] = (448, 336)) -> None:
        super().__init__()
        open_clip = open_clip_package()
        config = open_clip.get_model_config(model)
        if config is None or not isinstance(config.get("vision_cfg", {}).get("layers"), int):
            raise UserError(f"clip: {model!r} is no vision transformer of open_clip; take ViT-B-16")
        vision = config["vision_cfg"]
        from open_clip.transformer import VisionTransformer

        layers, width = int(vision["layers"]), int(vision["width"])
        # Random weights take ten seconds to make up, and are replaced.
        with torch.device("meta"):
            self.visual: Any = VisionTransformer(
                image_size=vision["image_size"],
                patch_size=vision["patch_size"],
                width=width,
                layers=layers,
                heads=width // vision.get("head_width", 64),
                mlp_ratio=vision.get("mlp_ratio", 4.0),
                output_dim=config["embed_dim"],
                act_layer=open_clip.transformer.QuickGELU if config.get("quick_gelu") else nn.GELU,
            )
        self.visual.to_empty(device="cpu")
        for parameter in self.visual.parameters():
            nn.init.normal_(parameter, std=0.02)
        self.size = size
        self.channels = width
        self._depths = [round(layers * share) - 1 for share in (0.25, 0.5, 0.75, 1.0)]
        self._patch = int(vision["patch_size"])
        self.register_buffer("text", torch.zeros(labels, int(config["embed_dim"])))

    def forward(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return four taps (B, width, h, w), and patches (B, D, h, w)."""
        visual = self.visual
        maps = visual.conv1(inputs)
        height, width = maps.shape[2:]
        tokens = torch.cat([visual.class_embedding.expand(len(maps), 1, -1), maps.flatten(2).mT], dim=1)
        tokens = visual.ln_pre(tokens + self._positions(height, width))
        taps = []
        blocks = visual.transformer.resblocks
        for number, block in enumerate(blocks):
            if number == len(blocks) - 1:
                values = _values(block, tokens)
            tokens = block(tokens)
            if number in self._depths:
                taps.append(tokens[:, 1:].mT.unflatten(2, (height, width)))
        patches = visual.ln_post(values[:, 1:]) @ visual.proj
        return taps, patches.mT.unflatten(2, (height, width))

    def _positions(self, height: int, width: int) -> Tensor:
        """Return the position embedding for that many patches, (1 + h · w, C)."""
        known: Tensor = self.visual.positional_embedding
        side = round((len(known) - 1) ** 0.5)
        if (height, width) == (side, side):
            return known
        grid = known[1:].T.reshape(1, -1, side, side)
        fitted = F.interpolate(grid, (height, width), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([known[:1], fitted[0].flatten(1).T])


def _values(block: Any, tokens: Tensor) -> Tensor:
    """Return the values that a block's attention would mix, each through the attention's last layer by itself."""
    attention = block.attn
    weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
    values: Tensor = attention.out_proj(F.linear(block.ln_1(tokens), weight, bias))
    return values


def open_clip_package() -> Any:
    """Return the module open_clip; ``ImportError`` that says how to install it."""
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("CLIPSemantics", "open_clip", "parsing", error) from error
    return open_clip
