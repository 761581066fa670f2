"""What a class or function takes, read from its signature and annotations, and whether a value fits.

Knows no config and no stage. An annotation that says nothing, or cannot be resolved, lets everything pass.
"""

from __future__ import annotations

import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Union

import typing_extensions

Hint: typing.TypeAlias = object
"""An annotation: a class, a union, a ``Literal``, ...; they have no type in common."""

_CALLABLE: Hint = collections.abc.Callable  # to mypy no object, but what the origin of a hint is

_NAMES: dict[Hint, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "None",
    Path: "a path",
    PathLike: "a path",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a class or function: ``hint`` is its annotation, ``Any`` for none."""

    hint: Hint
    required: bool


@dataclass(frozen=True)
class Signature:
    """What can be given by name: ``arguments``, and any further name with values of ``others`` unless that is None."""

    arguments: dict[str, Argument]
    others: Hint | None


class MisfitError(Exception):
    """A value that does not fit; ``place`` is the part that does not, such as "[1]", and empty for the whole value."""

    def __init__(self, value: object, hint: Hint, place: str = "") -> None:
        shown = " ".join(repr(value).split())
        super().__init__(f"expected {described(hint)}, got {shown if len(shown) < 80 else f'{shown[:76]} ...'}")
        self.place = place


def signature_of(factory: Callable[..., Any]) -> Signature:
    """Read the signature of a class or function; what Python cannot inspect takes anything."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return Signature({}, Any)
    arguments: dict[str, Argument] = {}
    others: Hint = None
    for parameter in parameters:
        hint = Any if parameter.annotation is parameter.empty else _resolved(parameter.annotation, factory)
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            arguments[parameter.name] = Argument(hint, parameter.default is parameter.empty)
        elif parameter.kind is parameter.VAR_KEYWORD:
            if typing_extensions.get_origin(hint) is typing_extensions.Unpack:
                arguments |= _options(typing_extensions.get_args(hint)[0])
            else:
                others = hint
    return Signature(arguments, others)


def alternatives(hint: Hint) -> tuple[Hint, ...]:
    """Return the members of a union, or the hint itself as the only one."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(each for member in typing.get_args(hint) for each in alternatives(member))
    return (hint,)


def converted(value: object, hint: Hint, place: str = "") -> Any:
    """Return ``value`` as ``hint`` wants it.

    Text becomes a ``Path`` and a list a tuple where only that is wanted, since configs and the command line have no
    other way to write them; everything else stays what it is.

    Raises:
        MisfitError: where it does not fit. True is no number, 1.0 no whole number, and text no sequence.
    """
    options = alternatives(hint)
    if len(options) == 1:
        return _as_one(value, options[0], place)
    inner: MisfitError | None = None
    for option in options:
        try:
            return _as_one(value, option, place)
        except MisfitError as error:  # noqa: PERF203
            inner = error if error.place != place else inner
    raise inner or MisfitError(value, hint, place)


def described(hint: Hint) -> str:
    """Return a hint in words."""
    words = list(dict.fromkeys(_described(option) for option in alternatives(hint)))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def article(noun: str) -> str:
    """Return "a" or "an", whichever goes before the noun."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


def implements(kind: type, hint: Hint) -> bool:
    """Say whether instances of ``kind`` fit the class or protocol ``hint``.

    Of a protocol only methods are checked: attributes may be set by a constructor.
    """
    if not isinstance(hint, type):
        return False
    if typing_extensions.is_protocol(hint):
        return all(hasattr(kind, name) for name in typing_extensions.get_protocol_members(hint) if hasattr(hint, name))
    return issubclass(kind, hint)


def _options(table: Any) -> dict[str, Argument]:
    """Return the arguments that ``**options: Unpack[table]`` stands for."""
    hints = typing_extensions.get_type_hints(table)
    return {name: Argument(hint, name in table.__required_keys__) for name, hint in hints.items()}


def _resolved(annotation: Hint, factory: object) -> Hint:
    """Evaluate an annotation where the factory was written, or where one of its base classes was."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    owners = factory.__mro__ if isinstance(factory, type) else (factory,)
    for owner in owners:
        module = sys.modules.get(getattr(owner, "__module__", None) or "")
        try:
            return typing_extensions.get_type_hints(holder, vars(module) if module else {})["it"]
        except Exception:
            continue
    return Any


def _as_one(value: object, hint: Hint, place: str) -> Any:
    """Convert to a hint that is no union."""
    if supertype := getattr(hint, "__supertype__", None):  # of a typing.NewType
        return _as_one(value, supertype, place)
    members = typing_extensions.get_args(hint)
    kind: Hint = typing_extensions.get_origin(hint) or hint
    if not _fits(value, hint, kind):
        raise MisfitError(value, hint, place)
    if kind in (Path, PathLike) and isinstance(value, str):
        return Path(value)
    if isinstance(kind, type) and issubclass(kind, Mapping) and isinstance(value, Mapping):
        return _as_mapping(value, members, place)
    if isinstance(kind, type) and _is_collection(kind):
        return _as_collection(value, hint, kind, members, place)
    return value


def _fits(value: object, hint: Hint, kind: Hint) -> bool:
    """Say whether a value fits a hint that is no union, whatever the values within are. ``kind``: the hint's origin."""
    if kind is Literal:
        return any(value == member and type(value) is type(member) for member in typing_extensions.get_args(hint))
    if kind is None or kind is type(None):
        return value is None
    if kind is Any or kind is object or not isinstance(kind, type):
        return True
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in (Path, PathLike):
        return isinstance(value, str | PathLike)
    if kind is _CALLABLE:
        return callable(value)
    if typing_extensions.is_protocol(kind):
        return not isinstance(value, type) and _has_all(value, kind)
    if typing_extensions.is_typeddict(hint) or issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if _is_collection(kind):
        return not isinstance(value, str | bytes) and isinstance(value, (kind, list, tuple))
    return isinstance(value, kind)


def _as_mapping(value: Mapping[object, object], members: tuple[Hint, ...], place: str) -> Any:
    if len(members) == 2:
        for key, each in value.items():
            converted(key, members[0], f"{place}[{key!r}]")
            converted(each, members[1], f"{place}[{key!r}]")
    return value


def _is_collection(kind: type) -> bool:
    """Say whether a list in a config can be one: sequences, sets and what only has to be iterated."""
    return kind in (list, tuple, set, frozenset) or (
        kind.__module__ == "collections.abc" and issubclass(kind, collections.abc.Iterable)
    )


def _as_collection(value: object, hint: Hint, kind: type, members: tuple[Hint, ...], place: str) -> Any:
    if not isinstance(value, collections.abc.Collection):
        return value  # an iterator can be read once, by the part that gets it
    if kind is tuple and members and members[-1] is not Ellipsis:
        if len(value) != len(members):
            raise MisfitError(value, hint, place)
        wanted = members
    else:
        wanted = (members[0] if members else Any,) * len(value)
    rows = [converted(each, row, f"{place}[{i}]") for i, (each, row) in enumerate(zip(value, wanted, strict=True))]
    if kind in (list, tuple, set, frozenset):
        return kind(rows)
    if not isinstance(value, list | tuple):
        return value
    return tuple(rows) if isinstance(value, tuple) else rows


def _has_all(value: object, protocol: type) -> bool:
    return all(hasattr(value, name) for name in typing_extensions.get_protocol_members(protocol))


def _described(hint: Hint) -> str:
    origin, members = typing_extensions.get_origin(hint), typing_extensions.get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, members))
    kind = origin or hint
    if isinstance(kind, type) and kind in _NAMES:
        return _NAMES[kind]
    if kind is None:
        return "None"
    if kind is _CALLABLE:
        return "a function"
    if typing_extensions.is_typeddict(hint) or (isinstance(kind, type) and issubclass(kind, Mapping)):
        return "a dict"
    if isinstance(kind, type) and _is_collection(kind):
        if kind is tuple and members and members[-1] is not Ellipsis:
            return f"({', '.join(map(described, members))})"
        return f"a list, each {described(members[0])}" if members else "a list"
    name = str(getattr(kind, "__name__", kind))
    return f"{article(name)} {name}"
