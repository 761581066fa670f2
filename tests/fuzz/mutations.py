"""Breaks valid JSON in the ways that files are broken, and some more; knows no format built on it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

NUMBERS = (
    0, -0.0, 1, -1, 2, 0.5, 255, 2**16, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63, -(2**63) - 1, 2**64,
    10**9, -(10**9), 1e9, 1e18, -1e18, 1e30, 10**30, 10**400, 1e308, -1e308, 5e-324, 1e-9,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "a", "0", "1", "-1", "1e400", "true", "null", "person", "../../etc/passwd", "/etc/passwd", "a\0b", "a\nb",
    "\ud800", "e\u0301", "\u00e9", "\u202e", "\U0001f9cd", "x" * 300, "x" * 5000, "%00", "%41", "C:\\a.jpg", "$HOME", "~", "{}",
)  # fmt: skip
EMPTY: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [0],
    [[0, 0]],
    {"size": [0, 0], "counts": ""},
)
_Location = tuple[Any, Any]


def mutate(value: Any, chance: random.Random, most: int = 3) -> bytes:
    """Return a JSON file that is ``value`` but for one to ``most`` changes, in its structure or in its bytes."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, chance.randint(1, most)))):
        locations = list(_locations(value))
        if locations:
            chance.choice(_CHANGES)(*chance.choice(locations), chance)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return chance.choice(_BREAKS)(text, chance) if chance.random() < 0.25 else text


def _locations(value: Any) -> Iterator[_Location]:
    """Yield everything that can be replaced, as a container and a key or index."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _locations(inner)


def _number(owner: Any, key: Any, chance: random.Random) -> None:
    owner[key] = chance.choice(NUMBERS)


def _text(owner: Any, key: Any, chance: random.Random) -> None:
    owner[key] = chance.choice(TEXTS)


def _emptied(owner: Any, key: Any, chance: random.Random) -> None:
    owner[key] = copy.deepcopy(chance.choice(EMPTY))


def _nudged(owner: Any, key: Any, chance: random.Random) -> None:
    """Change a number or a text a little: such files look right."""
    old = owner[key]
    if isinstance(old, int | float) and not isinstance(old, bool):
        owner[key] = chance.choice((-old, old + 1, old - 1, old * 1000, old / 3, float(old), str(old)))
    elif isinstance(old, str):
        place = chance.randint(0, len(old))
        owner[key] = chance.choice(
            (old[:place], old[:place] + chance.choice("0~o/\u00e9\0 ") + old[place:], old.upper(), old * 2)
        )
    else:
        _wrapped(owner, key, chance)


def _wrapped(owner: Any, key: Any, chance: random.Random) -> None:
    owner[key] = chance.choice(([owner[key]], {"0": owner[key]}, json.dumps(owner[key])))


def _deep(owner: Any, key: Any, chance: random.Random) -> None:
    for _ in range(chance.choice((2, 50, 300))):
        owner[key] = chance.choice(([owner[key]], {"a": owner[key]}))


def _dropped(owner: Any, key: Any, chance: random.Random) -> None:
    del owner[key]


def _doubled(owner: Any, key: Any, chance: random.Random) -> None:
    if isinstance(owner, list):
        owner[key:key] = [copy.deepcopy(owner[key])] * chance.choice((1, 2, 200))
    else:
        owner[f"{key} "] = copy.deepcopy(owner[key])


def _renamed(owner: Any, key: Any, chance: random.Random) -> None:
    if isinstance(owner, dict):
        owner[chance.choice(TEXTS)] = owner.pop(key)
    else:
        chance.shuffle(owner)


def _swapped(owner: Any, key: Any, chance: random.Random) -> None:
    """Exchange two values of one container."""
    other = chance.choice(list(owner) if isinstance(owner, dict) else range(len(owner)))
    owner[key], owner[other] = owner[other], owner[key]


_CHANGES: tuple[Callable[[Any, Any, random.Random], None], ...] = (
    _number, _number, _number, _text, _emptied, _nudged, _nudged, _wrapped, _deep, _dropped, _doubled, _renamed, _swapped,
)  # fmt: skip


def _cut(text: bytes, chance: random.Random) -> bytes:
    return text[: chance.randint(0, len(text))]


def _flipped(text: bytes, chance: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _encoded(text: bytes, chance: random.Random) -> bytes:
    return text.decode("utf-8", "replace").encode(chance.choice(("utf-8-sig", "utf-16", "utf-32")))


def _digits(text: bytes, chance: random.Random) -> bytes:
    """Put a number into the file that no double and no quick parser takes."""
    digits = chance.choice((b"1" * 5000, b"1e400", b"-1e400", b"1" + b"0" * 400, b"00", b"0x10", b"NaN", b"1e99999999"))
    places = [place for place, byte in enumerate(text) if chr(byte).isdigit()] or [0]
    place = chance.choice(places)
    return text[:place] + digits + text[place + 1 :]


def _nested(text: bytes, chance: random.Random) -> bytes:
    depth = chance.choice((1000, 100_000))
    return chance.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + text + b"]" * depth))


_BREAKS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut,
    _flipped,
    _flipped,
    _encoded,
    _digits,
    _digits,
    _nested,
)
