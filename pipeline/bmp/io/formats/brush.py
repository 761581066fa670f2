"""Label Studio's brush masks: the RGBA bytes of a picture in packed run lengths (thi.ng/rle-pack); knows no file.

Bits, the highest first: 32 for the number of values, 5 for the bits of a value less 1, four times 4 for the sizes of
run lengths less 1. Then for each run one bit, whether a value is repeated, two bits for the size of the length, the
length less 1, and the value, or that many values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_VALUE_BITS, _LENGTH_BITS = 8, 16
_LONGEST = 1 << _LENGTH_BITS
_CHANNELS = 4
_HEAD_BITS = 32 + 5 + 4 * 4


def to_brush(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return a mask, bool (H, W), as the bytes of ``value.rle``."""
    pixels = mask.ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=not pixels[0]))
    lengths = np.diff(starts, append=pixels.size) * _CHANNELS
    parts = -(-lengths // _LONGEST)  # a run that is too long is several
    values = np.repeat(np.where(pixels[starts], 255, 0), parts)
    last = np.cumsum(parts) - 1
    pieces = np.full(len(values), _LONGEST)
    pieces[last] = lengths - (parts - 1) * _LONGEST
    head = [
        (pixels.size * _CHANNELS, 32),
        (_VALUE_BITS - 1, 5),
        (2, 4),
        (3, 4),
        (7, 4),
        (_LENGTH_BITS - 1, 4),
    ]
    bits = [_bits(np.array([number]), width) for number, width in head]
    runs = np.concatenate(
        (_bits(np.full(len(values), 0b111), 3), _bits(pieces - 1, _LENGTH_BITS), _bits(values, _VALUE_BITS)), axis=1
    )
    return np.packbits(np.concatenate([*(part.ravel() for part in bits), runs.ravel()])).tolist()


def _bits(numbers: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint8]:
    """Return each number as ``width`` bits, (N, width)."""
    return ((numbers[:, None] >> np.arange(width)[::-1]) & 1).astype(np.uint8)


def from_brush(packed: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask, bool (H, W), of the bytes of ``value.rle``: pixels that are not wholly transparent.

    Raises:
        ValueError: they are cut off, or of a picture of another size.
    """
    bits = np.unpackbits(np.array(packed, dtype=np.uint8))
    at = 0

    def number(size: int) -> int:
        nonlocal at
        if at + size > bits.size:
            raise ValueError("its run lengths are cut off")
        at += size
        return int.from_bytes(np.packbits(np.pad(bits[at - size : at], (-size % 8, 0))).tobytes(), "big")

    count, value_bits = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    if count != height * width * _CHANNELS or value_bits != _VALUE_BITS:
        raise ValueError(f"its run lengths are of {count} bytes, not of the {height * width} pixels of the photo")
    values: list[npt.NDArray[np.uint8]] = []
    filled = 0
    while filled < count:
        repeated, length = number(1), number(sizes[number(2)]) + 1
        if repeated:
            values.append(np.full(length, number(_VALUE_BITS), dtype=np.uint8))
        else:
            values.append(np.array([number(_VALUE_BITS) for _ in range(length)], dtype=np.uint8))
        filled += length
    return np.concatenate(values)[:count].reshape(height, width, _CHANNELS)[..., 3] > 0
