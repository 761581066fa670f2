"""Samples the appearance of a drawn person: skin, hair, clothes, colours; knows no pose and draws nothing."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import numpy as np

Color = tuple[int, int, int]
"""RGB, 0 to 255."""
_Choice = TypeVar("_Choice")


class Hair(str, Enum):
    """A hairstyle."""

    BALD = "bald"
    SHORT = "short"
    BOB = "bob"
    LONG = "long"
    PONYTAIL = "ponytail"
    BUN = "bun"


class Upper(str, Enum):
    """A garment on the trunk; a dress also replaces that on the legs."""

    SHIRT = "shirt"
    COAT = "coat"
    DRESS = "dress"


class Lower(str, Enum):
    """A garment on the legs."""

    TROUSERS = "trousers"
    SHORTS = "shorts"
    SKIRT = "skirt"


class Pattern(str, Enum):
    """A pattern, printed on a cloth in its second colour."""

    PLAIN = "plain"
    STRIPES = "stripes"
    CHECKS = "checks"
    DOTS = "dots"
    NOISE = "noise"


class Hat(str, Enum):
    """Headgear."""

    NONE = "none"
    CAP = "cap"
    BEANIE = "beanie"
    BRIMMED = "brimmed"


class Glasses(str, Enum):
    """Glasses or none."""

    NONE = "none"
    CLEAR = "clear"
    SUN = "sun"


@dataclass(frozen=True)
class Cloth:
    """A colour, and the pattern printed on it.

    Attributes:
        color: of the cloth.
        second: of the pattern.
        pattern: printed in the second colour.
        pitch: size of the pattern's repeat, in body heights.
        lengthwise: whether stripes run along the limb instead of around it.
    """

    color: Color
    second: Color
    pattern: Pattern = Pattern.PLAIN
    pitch: float = 0.04
    lengthwise: bool = False


@dataclass(frozen=True, eq=False)
class Look:
    """The appearance of a person.

    Attributes:
        skin: colour of the skin.
        hair: the hairstyle.
        hair_color: colour of hair, brows and beard.
        beard: whether there is a beard.
        iris: colour of the eyes.
        lips: colour of the mouth.
        upper: the garment on the trunk.
        upper_cloth: its cloth.
        sleeve: reach of the sleeves: 0 none, 1 the elbow, 2 the wrist.
        neckline: depth of the collar, in body heights.
        hem: reach of coats and dresses: 0 hips, 1 knees, 2 ankles.
        inner: colour of the clothes under an open coat.
        is_open: whether the coat is open.
        lower: the garment on the legs, unless the upper one is a dress.
        lower_cloth: its cloth.
        lower_length: its reach: 1 knees, 2 ankles.
        shoes: colour of the shoes.
        sole: colour of their soles.
        socks: colour of the socks, if any.
        sock_height: their reach: 0 ankle, 1 knee.
        gloves: colour of the gloves, if any.
        scarf: colour of the scarf, if any.
        belt: colour of the belt, if any.
        hat: the headgear.
        hat_color: its colour.
        glasses: the glasses.
        width: thickness of trunk and limbs, 1 for the average.
        muscle: bulge of the limbs, 0 to 1.
    """

    skin: Color
    hair: Hair
    hair_color: Color
    beard: bool
    iris: Color
    lips: Color
    upper: Upper
    upper_cloth: Cloth
    sleeve: float
    neckline: float
    hem: float
    inner: Color
    is_open: bool
    lower: Lower
    lower_cloth: Cloth
    lower_length: float
    shoes: Color
    sole: Color
    socks: Color | None
    sock_height: float
    gloves: Color | None
    scarf: Color | None
    belt: Color | None
    hat: Hat
    hat_color: Color
    glasses: Glasses
    width: float
    muscle: float


_SKINS: tuple[Color, ...] = (
    (247, 215, 194), (240, 200, 172), (229, 184, 148), (216, 165, 128),
    (196, 142, 104), (168, 116, 80), (138, 92, 62), (104, 68, 46), (78, 52, 38),
)  # fmt: skip
_HAIRS: tuple[Color, ...] = (
    (28, 22, 20), (40, 30, 26), (62, 42, 30), (92, 62, 40), (122, 84, 52),
    (176, 134, 82), (214, 180, 122), (140, 62, 34), (150, 148, 146), (214, 212, 208),
)  # fmt: skip
_IRISES: tuple[Color, ...] = ((58, 38, 26), (84, 58, 36), (70, 92, 120), (76, 100, 80))
_LEATHERS: tuple[Color, ...] = ((34, 30, 30), (60, 44, 36), (106, 72, 44), (236, 234, 230), (148, 40, 44), (50, 60, 92))


def sample_look(rng: np.random.Generator) -> Look:
    """Sample one look; ``rng`` is the source of all randomness."""
    skin = _jitter(_pick(rng, _SKINS), rng, 9)
    upper = _weighted(rng, {Upper.SHIRT: 0.62, Upper.COAT: 0.22, Upper.DRESS: 0.16})
    lower = _weighted(rng, {Lower.TROUSERS: 0.66, Lower.SHORTS: 0.2, Lower.SKIRT: 0.14})
    skirted = upper is Upper.DRESS or lower is Lower.SKIRT
    styles = [Hair.SHORT] * (2 if skirted else 8) + [Hair.BOB, Hair.LONG, Hair.PONYTAIL, Hair.BUN] * 2
    if not skirted:
        styles += [Hair.BALD] * 2
    hair = _pick(rng, tuple(styles))
    sleeve = 2.0 if upper is Upper.COAT else float(rng.choice([0.0, 0.55, 0.7, 0.9, 1.6, 2.0, 2.0]))
    shorts_length = float(rng.uniform(0.45, 1.05))
    skirt_length = float(rng.uniform(0.5, 1.7))
    return Look(
        skin=skin,
        hair=hair,
        hair_color=_jitter(_pick(rng, _HAIRS), rng, 10),
        beard=not skirted and hair in (Hair.SHORT, Hair.BALD) and rng.random() < 0.3,
        iris=_pick(rng, _IRISES),
        lips=_blend(skin, (176, 60, 66) if rng.random() < 0.3 else (150, 70, 64), 0.55),
        upper=upper,
        upper_cloth=_sample_cloth(rng, 0.5),
        sleeve=sleeve,
        neckline=float(rng.uniform(0.012, 0.05)),
        hem=float(rng.uniform(0.15, 1.1)) if upper is Upper.COAT else float(rng.uniform(0.6, 1.6)),
        inner=_sample_color(rng),
        is_open=rng.random() < 0.6,
        lower=lower,
        lower_cloth=_sample_cloth(rng, 0.2, dull=True),
        lower_length={Lower.TROUSERS: 2.0, Lower.SHORTS: shorts_length, Lower.SKIRT: skirt_length}[lower],
        shoes=_jitter(_pick(rng, _LEATHERS), rng, 10),
        sole=_pick(rng, ((238, 238, 236), (60, 56, 54), (190, 160, 120))),
        socks=_pick(rng, ((240, 240, 240), (40, 40, 46), _sample_color(rng))) if rng.random() < 0.6 else None,
        sock_height=float(rng.choice([0.2, 0.3, 0.85])),
        gloves=_sample_color(rng) if rng.random() < (0.22 if upper is Upper.COAT else 0.04) else None,
        scarf=_sample_color(rng) if rng.random() < (0.35 if upper is Upper.COAT else 0.06) else None,
        belt=_pick(rng, _LEATHERS) if rng.random() < 0.35 else None,
        hat=_weighted(rng, {Hat.NONE: 0.78, Hat.CAP: 0.09, Hat.BEANIE: 0.07, Hat.BRIMMED: 0.06}),
        hat_color=_sample_color(rng),
        glasses=_weighted(rng, {Glasses.NONE: 0.78, Glasses.CLEAR: 0.12, Glasses.SUN: 0.1}),
        width=float(np.clip(rng.normal(1.0, 0.13), 0.8, 1.45)),
        muscle=float(rng.random()),
    )


def similar_look(look: Look, rng: np.random.Generator) -> Look:
    """Sample somebody else in nearly the same clothes as ``look``, as teams and uniforms have them."""
    other = sample_look(rng)
    return replace(
        look,
        skin=other.skin,
        hair=other.hair,
        hair_color=other.hair_color,
        beard=other.beard,
        iris=other.iris,
        lips=other.lips,
        glasses=other.glasses,
        width=other.width,
        muscle=other.muscle,
        upper_cloth=_similar_cloth(look.upper_cloth, rng),
        lower_cloth=_similar_cloth(look.lower_cloth, rng),
        shoes=look.shoes if rng.random() < 0.6 else other.shoes,
        hat=look.hat if rng.random() < 0.8 else other.hat,
    )


def _similar_cloth(cloth: Cloth, rng: np.random.Generator) -> Cloth:
    return replace(cloth, color=_jitter(cloth.color, rng, 5), second=_jitter(cloth.second, rng, 5))


def _sample_cloth(rng: np.random.Generator, patterned: float, dull: bool = False) -> Cloth:
    pattern = _pick(rng, tuple(Pattern)[1:]) if rng.random() < patterned else Pattern.PLAIN
    color = _sample_color(rng, dull)
    # A print keeps to the cloth's family at times, as denim and tweed do.
    second = _blend(color, _sample_color(rng), 0.35) if rng.random() < 0.4 else _sample_color(rng)
    return Cloth(color, second, pattern, float(rng.uniform(0.022, 0.06)), bool(rng.random() < 0.35))


def _sample_color(rng: np.random.Generator, dull: bool = False) -> Color:
    if rng.random() < (0.55 if dull else 0.3):
        level = float(rng.uniform(28, 240))
        tint = rng.uniform(-12, 12, 3)
        return _color(level + tint[0], level + tint[1], level + tint[2])
    if dull and rng.random() < 0.5:
        return _jitter((64, 84, 124), rng, 22)
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.3, 0.97))
    return _color(red * 255, green * 255, blue * 255)


def _jitter(color: Color, rng: np.random.Generator, spread: float) -> Color:
    moved = rng.normal(0, spread / 2, 3) + rng.normal(0, spread)
    return _color(color[0] + moved[0], color[1] + moved[1], color[2] + moved[2])


def _blend(first: Color, second: Color, share: float) -> Color:
    mixed = [a + (b - a) * share for a, b in zip(first, second, strict=True)]
    return _color(*mixed)


def _color(red: float, green: float, blue: float) -> Color:
    clipped = [round(min(255.0, max(0.0, float(value)))) for value in (red, green, blue)]
    return clipped[0], clipped[1], clipped[2]


def _pick(rng: np.random.Generator, choices: tuple[_Choice, ...]) -> _Choice:
    return choices[int(rng.integers(len(choices)))]


def _weighted(rng: np.random.Generator, shares: dict[_Choice, float]) -> _Choice:
    """Pick a key by its share; the shares add up to 1."""
    draw = rng.random()
    for choice, share in shares.items():
        draw -= share
        if draw < 0:
            return choice
    return next(iter(shares))
