"""What the numbers of part maps mean: the label sets of the published data sets, and the coarser one of skeletons.

Left and right are the person's own. Knows no file and no picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from bmp.errors import UserError, choices
from bmp.label_sets import CIHP_PARTS


@dataclass(frozen=True)
class PartSet:
    """The meaning of the labels of a part map.

    names: C names, each at its number; number 0 is the background. groups: for each label the one of ``COARSE_PARTS``
    that holds it, by which sets are compared. name: by which ``part_set`` finds it. title: for sentences. coarse: the
    parts are guessed from a skeleton, and say nothing of clothes.
    """

    names: tuple[str, ...]
    groups: tuple[int, ...]
    name: str
    title: str
    coarse: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return f"{self.title}'s {len(self)} labels"

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of labels that swap in a mirrored image.

        Examples:
            >>> CIHP.flip_pairs
            ((14, 15), (16, 17), (18, 19))
        """
        number = {name: index for index, name in enumerate(self.names)}
        sides = [(name, f"right {name.removeprefix('left ')}") for name in self.names if name.startswith("left ")]
        return tuple((number[one], number[other]) for one, other in sides)

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """For each label the one it becomes in a mirrored image."""
        order = list(range(len(self)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def palette(self) -> list[tuple[int, int, int]]:
        """Return a colour for each label, RGB, those of PASCAL VOC: label 0 is black."""
        return [_voc_colour(number) for number in range(len(self))]


def _voc_colour(number: int) -> tuple[int, int, int]:
    """Spread the bits of a number over three channels, highest bits first, as the tools of PASCAL VOC do."""
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue


COARSE_PARTS = ("background", "head", "torso", "arms", "legs")
"""What all sets can be brought to; see ``PartSet.groups``."""

# Gloves go with arms, socks and trousers with legs; what hangs from the trunk, a skirt too, is the torso's.
_CIHP_GROUPS = (0, 1, 1, 3, 1, 2, 2, 2, 4, 4, 2, 2, 2, 1, 3, 3, 4, 4, 4, 4)
CIHP = PartSet(CIHP_PARTS, _CIHP_GROUPS, "cihp", "CIHP")
LIP = PartSet((*CIHP_PARTS[:10], "jumpsuit", *CIHP_PARTS[11:]), _CIHP_GROUPS, "lip", "LIP")
PPP = PartSet(
    ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs"),
    (0, 1, 2, 3, 3, 4, 4),
    "ppp",
    "PASCAL-Person-Part",
)
BODY = PartSet(
    ("background", "head", "torso", "left arm", "right arm", "left leg", "right leg"),
    (0, 1, 2, 3, 3, 4, 4),
    "body",
    "a skeleton",
    coarse=True,
)
PART_SETS = {each.name: each for each in (CIHP, LIP, PPP, BODY)}
"""The sets by name."""


def part_set(name: str) -> PartSet:
    """Return a set by its name; ``UserError`` for a name that there is not.

    Examples:
        >>> print(part_set("ppp"))
        PASCAL-Person-Part's 7 labels
    """
    if name not in PART_SETS:
        raise UserError(f"parts: there is no label set {name!r}; {choices(name, PART_SETS)}")
    return PART_SETS[name]
