"""Which entry of a file means which picture, by the names that both have. Knows no format and no picture."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote

from bmp.errors import UserError
from bmp.io.json_fields import short

Name = str | int
_MOST_DIGITS = 15
_LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}-(?=.)")  # put before every name that is uploaded
_ROBOFLOW = re.compile(r"_(jpe?g|png|bmp|webp)\.rf\.\w{16,}(?=\.\w+$|$)", re.IGNORECASE)


@dataclass
class NameMatches:
    """Which name of a file belongs to which input.

    names: by input. silent: inputs without any, in order. loose: those that were found by a name that is spelled
    otherwise. unused: names that belong to no input.
    """

    names: dict[str, Name] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    unused: list[Name] = field(default_factory=list)


def match_names(source: str, names: Iterable[Name], inputs: Sequence[str], *, whole_paths: bool = False) -> NameMatches:
    """Find for each input the name in a file that means it; a name belongs to one input at most.

    The first of these that fits counts: the same path, the same name without folders, also without extension, the same
    number, as COCO has 785 for ``000000000785.jpg``. All are compared in Unicode's form NFC: "é" may be one letter or
    two. Whoever is left over is compared once more without regard to upper and lower case, percent escapes, and what
    Label Studio puts before names and Roboflow behind them. With ``whole_paths`` nothing but the path counts.

    Raises ``UserError``, with ``source`` before it, where two names fit an input equally well, or one fits two.
    """
    result = NameMatches()
    left: dict[Name, None] = dict.fromkeys(names)
    waiting = list(inputs)
    for loosely in (False, True):
        aliases: dict[Name, list[Name]] = defaultdict(list)
        for name in left:
            for alias in dict.fromkeys(_aliases(name, loosely)):
                aliases[alias].append(name)
        for level in range(1 if whole_paths else 4):
            found: dict[str, list[Name]] = {}
            for entry in waiting:
                own = _aliases(entry, loosely)
                fits = [name for name in aliases.get(own[level], ()) if name in left] if level < len(own) else []
                if fits:
                    found[entry] = fits
            for entry, name in _one_to_one(source, found, quiet=loosely).items():
                result.names[entry] = name
                left.pop(name)
                if loosely:
                    result.loose.append(entry)
            waiting = [entry for entry in waiting if entry not in result.names]
    result.silent, result.unused = waiting, list(left)
    return result


def _one_to_one(source: str, found: dict[str, list[Name]], quiet: bool) -> dict[str, Name]:
    """Return the pairs that are sure; others are left out, or an error unless ``quiet``."""
    owners: dict[Name, list[str]] = defaultdict(list)
    for entry, fits in found.items():
        if len(fits) > 1 and not quiet:
            raise UserError(
                f"{source}: {short(fits[0])} and {short(fits[1])} both fit the input {entry}; use full paths in it"
            )
        for name in fits:
            owners[name].append(entry)
    for name, entries in owners.items():
        if len(entries) > 1 and not quiet:
            raise UserError(
                f"{source}: {short(name)} fits the inputs {entries[0]} and {entries[1]}; use full paths in it"
            )
    return {entry: fits[0] for entry, fits in found.items() if len(fits) == 1 and len(owners[fits[0]]) == 1}


def _aliases(name: Name, loosely: bool) -> list[Name]:
    """List what a picture may be called, the most telling first."""
    if isinstance(name, int):
        return [name]
    text = unicodedata.normalize("NFC", name)
    if loosely:
        text = unicodedata.normalize("NFC", unquote(text)).casefold()
    base = PurePosixPath(text.replace("\\", "/"))
    own = base.name
    if loosely:
        own = _ROBOFLOW.sub("", _LABEL_STUDIO.sub("", own))
        base = PurePosixPath(own)
    names: list[Name] = [text, own, base.stem]
    if base.stem.isdecimal() and len(base.stem) <= _MOST_DIGITS:
        names.append(int(base.stem))
    return names
