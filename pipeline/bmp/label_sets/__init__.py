"""What keypoints and parts of a person mean: names, falloffs, pairs, limbs, and how one set is read as another.

The tables themselves are in ``tables.py``. Knows no file and no picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bmp.errors import UserError, choices
from bmp.label_sets.tables import MIRRORED_FACE, NEAR, TABLES, Table


@dataclass(frozen=True)
class KeypointSet:
    """The meaning of the K keypoints of a pose.

    names: K names. sigmas: K OKS falloffs (COCO's, unit: fraction of sqrt(area)). flip_pairs: index pairs that
    swap in a mirrored image. skeleton: index pairs drawn as limbs. face: indices that crowd together on a face;
    spread-out prompts take one of them at most. name: by which ``keypoint_set`` finds it, "" for a set of one's own.
    title: for sentences. source: who published it. meanings: K places on the body that the names stand for, by which
    sets are compared; the names themselves if empty.
    """

    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    face: tuple[int, ...] = ()
    name: str = ""
    title: str = ""
    source: str = ""
    meanings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sigmas):
            raise ValueError(
                f"KeypointSet.sigmas: expected one for each of the {len(self.names)} names, got {len(self.sigmas)}; "
                "list them in the order of the names"
            )
        if not self.meanings:
            object.__setattr__(self, "meanings", self.names)
        elif len(self.meanings) != len(self.names):
            raise ValueError(
                f"KeypointSet.meanings: expected one for each of the {len(self.names)} names, got "
                f"{len(self.meanings)}; leave them out where the names say it all"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return f"{self.title}'s {len(self)} keypoints" if self.title else f"{len(self)} keypoints"

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """For each keypoint the one it becomes in a mirrored image."""
        order = list(range(len(self)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def part(self, rows: Sequence[int]) -> KeypointSet:
        """Return the set of the keypoints ``rows``, in that order; pairs and limbs that lose an end go.

        Examples:
            >>> COCO_KEYPOINTS.part([5, 6, 0]).names
            ('left_shoulder', 'right_shoulder', 'nose')
            >>> COCO_KEYPOINTS.part([5, 6, 0]).flip_pairs
            ((0, 1),)
        """
        new = {old: number for number, old in enumerate(rows)}

        def kept(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
            return tuple((new[one], new[other]) for one, other in pairs if one in new and other in new)

        return KeypointSet(
            tuple(self.names[row] for row in rows),
            tuple(self.sigmas[row] for row in rows),
            kept(self.flip_pairs),
            kept(self.skeleton),
            tuple(new[row] for row in self.face if row in new),
            self.name,
            self.title,
            self.source,
            tuple(self.meanings[row] for row in rows),
        )


def _built(name: str, table: Table) -> KeypointSet:
    number = {own: index for index, own in enumerate(table.names)}
    sides = [(own, own.replace("left_", "right_", 1)) for own in table.names if own.startswith("left_")]
    sides += [(f"face-{one}", f"face-{other}") for one, other in MIRRORED_FACE if "face-0" in number]
    return KeypointSet(
        table.names,
        table.sigmas,
        tuple(sorted((min(pair), max(pair)) for one, other in sides for pair in [(number[one], number[other])])),
        table.links,
        tuple(index for own, index in number.items() if own == "nose" or own.endswith("_eye") or "face-" in own),
        name,
        table.title,
        table.source,
        tuple(table.meanings.get(own, own) for own in table.names),
    )


KEYPOINT_SETS = {name: _built(name, table) for name, table in TABLES.items()}
"""The published sets by name."""

COCO_KEYPOINTS = KEYPOINT_SETS["coco"]


def keypoint_set(name: str | KeypointSet) -> KeypointSet:
    """Return a published set by its name; a set itself is returned as it is.

    Raises ``UserError`` for a name that there is not.

    Examples:
        >>> print(keypoint_set("crowdpose"))
        CrowdPose's 14 keypoints
    """
    if isinstance(name, KeypointSet):
        return name
    if name not in KEYPOINT_SETS:
        raise UserError(f"keypoints: there is no set {name!r}; {choices(str(name), KEYPOINT_SETS)}")
    return KEYPOINT_SETS[name]


def sets_named(names: Sequence[str]) -> list[KeypointSet]:
    """Return the published sets that consist of these keypoints in this order, however the names are spelled.

    Several sets may: MHP's keypoints are MPII's.

    Examples:
        >>> [found.name for found in sets_named(["Right-ankle", *keypoint_set("mpii").names[1:]])]
        ['mpii', 'mhp']
    """
    spelled = [_spelling(name) for name in names]
    return [
        KEYPOINT_SETS[name]
        for name, table in TABLES.items()
        if len(spelled) == len(table.names)
        and all(one in (own, *table.spellings.get(own, ())) for one, own in zip(spelled, table.names, strict=True))
    ]


def _spelling(name: str) -> str:
    words = re.sub(r"[\W_]+", "_", name.strip().casefold()).strip("_")
    words = re.sub(r"^face_(\d+)$", r"face-\1", words)
    return re.sub(r"^([lr])_", lambda side: {"l": "left_", "r": "right_"}[side[1]], words)


@dataclass(frozen=True)
class Conversion:
    """How poses of one set are read as poses of another.

    origins: for each keypoint of the target those of the source whose mean it is: one, several, or none where the
    source has nothing of that meaning. approximate: which of the target's are not the same place on the body.
    """

    source: KeypointSet
    target: KeypointSet
    origins: tuple[tuple[int, ...], ...]
    approximate: tuple[bool, ...]

    @property
    def known(self) -> tuple[int, ...]:
        """The target's keypoints that the source has."""
        return tuple(number for number, origin in enumerate(self.origins) if origin)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the target's keypoints that the source lacks."""
        return tuple(name for name, origin in zip(self.target.names, self.origins, strict=True) if not origin)

    def of_values(self, values: Sequence[float]) -> list[float]:
        """Return one number for each known keypoint of the target, in its order: the mean of its origins'."""
        return [_mean([values[row] for row in self.origins[number]]) for number in self.known]

    def of_labels(self, keypoints: Sequence[float]) -> list[float]:
        """Return x, y, v of each known keypoint of the target; v is the least of its origins'."""
        found: list[float] = []
        for number in self.known:
            rows = [3 * row for row in self.origins[number]]
            found += [_mean([keypoints[row + axis] for row in rows]) for axis in (0, 1)]
            found.append(min(keypoints[row + 2] for row in rows))
        return found


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else sum(values) / len(values)


def conversion(source: KeypointSet, target: KeypointSet, *, approximate: bool = False) -> Conversion:
    """Find out which keypoints of ``source`` are which of ``target``, by what they mean.

    Keypoints of the same meaning are the same: joints of arms and legs are in all sets. With ``approximate`` a place
    nearby stands in where there is no such keypoint, as the mean of the shoulders for a neck; ``Conversion`` tells
    which.

    Examples:
        >>> crowdpose = keypoint_set("crowdpose")
        >>> conversion(COCO_KEYPOINTS, crowdpose).missing
        ('top_head', 'neck')
        >>> conversion(COCO_KEYPOINTS, crowdpose, approximate=True).missing
        ('top_head',)
        >>> conversion(keypoint_set("pmpose"), keypoint_set("mpii")).missing
        ()
    """
    numbers = {meaning: number for number, meaning in enumerate(source.meanings)}
    origins: list[tuple[int, ...]] = []
    nearby: list[bool] = []
    for meaning in target.meanings:
        options = [(meaning,), *(NEAR.get(meaning, ()) if approximate else ())]
        found = next((option for option in options if all(place in numbers for place in option)), ())
        origins.append(tuple(numbers[place] for place in found))
        nearby.append(bool(found) and found != (meaning,))
    return Conversion(source, target, tuple(origins), tuple(nearby))


CIHP_PARTS = (
    "background",
    "hat",
    "hair",
    "glove",
    "sunglasses",
    "upper clothes",
    "dress",
    "coat",
    "socks",
    "pants",
    "torso skin",
    "scarf",
    "skirt",
    "face",
    "left arm",
    "right arm",
    "left leg",
    "right leg",
    "left shoe",
    "right shoe",
)
"""What the numbers of CIHP's category maps mean: each name stands at its number."""
