"""XML that anybody may have written: read, its attributes checked; and names that it can hold. Knows no format."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from xml.etree.ElementTree import Element, ParseError

import defusedxml
from defusedxml.ElementTree import parse

from bmp.errors import UserError
from bmp.io.json_fields import short

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Value = TypeVar("Value")


def parse_xml(path: Path) -> Element:
    """Return the root of an XML file; ``UserError`` where it cannot be read, is none or has entities of its own."""
    try:
        root: Element = parse(path).getroot()
    except OSError as error:
        raise UserError(f"{path}: cannot be read, {error.strerror or error}") from None
    except (ParseError, defusedxml.DefusedXmlException, UnicodeError, ValueError) as error:
        raise UserError(f"{path}: not XML that is read here, {' '.join(str(error).split())}") from None
    return root


def written(text: str) -> str:
    """Return a text that XML can hold; ``UserError`` for one with control characters, which it has no way to write."""
    if _NOT_IN_XML.search(text):
        raise UserError(f"{short(text)} has characters that XML cannot hold; rename the photo")
    return text


def attribute(element: Element, name: str, location: str, convert: Callable[[str], Value]) -> Value:
    """Return an attribute as a value; ``UserError`` where it is missing or no such value."""
    return _converted(element.get(name), f"{location}: <{element.tag}> {name}", convert)


def content(element: Element, path: str, location: str, convert: Callable[[str], Value]) -> Value:
    """Return the text of an element below this one as a value; ``UserError`` where it is missing or no such value."""
    return _converted(element.findtext(path), f"{location}: <{element.tag}> {path}", convert)


def pixels(text: str) -> int:
    """Return a whole number of pixels, also where it is written as 3.0; ``ValueError`` for others."""
    number = float(text)
    if not number.is_integer():  # neither NaN nor infinity is
        raise ValueError(text)
    return int(number)


def _converted(text: str | None, location: str, convert: Callable[[str], Value]) -> Value:
    try:
        return convert(text or "")
    except ValueError:
        kind = convert.__name__.strip("_").replace("_", " ")
        raise UserError(f"{location}: expected {kind}, got {text!r:.60}") from None
