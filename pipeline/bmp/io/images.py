"""Reads pictures into ``Image`` records and finds their files; it knows nothing of what happens to them next."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.structures import Image

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What counts as a picture in folders and glob patterns, in any case; a file named outright may be called anything."""

_EXPECTED = "expected uint8 (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA with H and W at least 1"


class ImageError(UserError):
    """A picture cannot be read: one line that names it and says what is wrong."""


def load(source: str | os.PathLike[str] | PIL.Image.Image | npt.NDArray[np.uint8] | Tensor | Image) -> Image:
    """Return ``source`` as 8-bit RGB, upright.

    source: a file (JPEG, PNG, WebP, BMP, TIFF and what else Pillow reads; the first frame of several), a PIL image,
    a uint8 array or tensor (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, or an ``Image``, which comes back as it is.
    A uint8 (H, W, 3) tensor is shared, not copied, and tensors stay on their device; everything else lands on the CPU.

    - EXIF orientation is applied.
    - Transparent pixels are laid on white, as a page would show them; black would look like a painted-out person.
    - 16-bit grey is scaled from 0..65535. Float grey is taken as 0..1 if all of it lies there, else as 0..255 if all
      of it lies there; wider ranges, of floats or 32-bit integers, are stretched from their minimum to their maximum.
      NaN becomes black, infinity white.

    Raises ``ImageError`` for what is missing, broken, cut short, empty, not a picture, or larger than twice
    ``PIL.Image.MAX_IMAGE_PIXELS`` (179 megapixels), and ``TypeError`` for any other kind of object.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, Tensor):
        if source.dtype == torch.uint8 and source.ndim == 3 and source.shape[2] == 3 and source.numel():
            return Image(source)
        return Image(torch.from_numpy(_array_to_rgb(source.detach().cpu().numpy())).to(source.device))
    if isinstance(source, np.ndarray):
        return Image(torch.from_numpy(_array_to_rgb(source)))
    if isinstance(source, PIL.Image.Image):
        with _one_line("the PIL image"):
            return Image(torch.from_numpy(_to_rgb(source)))
    if isinstance(source, str | os.PathLike):
        return _read(Path(source))
    raise TypeError(
        f"expected a path, PIL image, uint8 array or tensor, got {type(source).__name__}; open it with PIL.Image.open"
    )


def find(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the picture files that ``inputs`` name, sorted, each once.

    A file is taken whatever it is called. A folder gives every picture below it, at any depth; hidden files and
    folders are left out. A glob pattern (``*``, ``?``, ``[...]``, ``**`` for any depth) that the shell left alone is
    expanded, and its matches are searched like a folder's contents.

    Raises ``UserError`` for a path that does not exist and when no picture is found at all.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    # Keyed by absolute path, so that a.jpg and ./a.jpg are one picture, spelled as it was named first.
    found: dict[str, Path] = {}
    for entry in inputs:
        for path in _expand(str(entry)):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - resolve() would also follow links
    if not found:
        looked = ", ".join(map(str, inputs)) or "no inputs"
        raise UserError(f"no pictures found in {looked}; looked for files ending in {' '.join(EXTENSIONS)}")
    return [found[key] for key in sorted(found)]


def output_names(paths: Sequence[str | Path]) -> list[str]:
    """Return one name a path: the path below the folder that all have in common, with forward slashes.

    Distinct files get distinct names, independent of their order and of the working folder, so that a resumed run
    on the same inputs meets the same names. The names keep their extension: what is written for ``a.jpg`` is called
    ``a.jpg`` plus an extension of its own, which keeps it apart from what is written for ``a.png``.
    """
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - resolve() would also follow links
    if not absolute:
        return []
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])  # noqa: PTH120
    return [PurePath(os.path.relpath(path, root)).as_posix() for path in absolute]


def _expand(entry: str) -> Iterator[Path]:
    path = Path(entry)
    if not entry:
        raise UserError(
            "expected a file, folder or glob pattern, got an empty name; check the variables in the command"
        )
    if path.is_dir():
        yield from _walk(path)
    elif path.exists():
        yield path
    elif glob.has_magic(entry):
        for match in sorted(map(Path, glob.glob(entry, recursive=True))):  # noqa: PTH207 - takes absolute patterns too
            if match.is_dir():
                yield from _walk(match)
            elif match.suffix.lower() in EXTENSIONS:
                yield match
    else:
        raise UserError(f"{entry}: no such file or folder; check the spelling, seen from {Path.cwd()}")


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the pictures below ``folder``; links to folders are followed, and loops of links are entered once."""
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(parent))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.realpath(Path(parent, name)) not in entered
        )
        yield from (
            Path(parent, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        )


def _read(path: Path) -> Image:
    with _one_line(str(path)):
        if path.stat().st_size == 0 and path.is_file():
            raise ImageError(f"{path}: the file is empty; fetch it again")
        with PIL.Image.open(path) as picture:
            return Image(torch.from_numpy(_to_rgb(picture)))


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an ``ImageError`` that names the picture, and keep Pillow's warnings in."""
    try:
        with warnings.catch_warnings():
            # No wider than needed: pictures are read on threads, and leaving this out of order can keep the filter.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except ImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{name}: not a picture, or of a kind that Pillow does not read; convert it to PNG") from None
    except PIL.Image.DecompressionBombError:
        limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageError(f"{name}: more than {limit:.0f} megapixels; make it smaller or cut it up") from None
    except OSError as error:
        # Of the system (missing, forbidden, a folder) where it has an error number, of a decoder where it has none.
        raise ImageError(f"{name}: {_reason(error)}") from None
    except Exception as error:  # decoders meet broken data with exceptions of any kind
        raise ImageError(f"{name}: broken picture, {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _to_rgb(picture: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """Return fresh uint8 (H, W, 3)."""
    if 0 in picture.size:
        raise ImageError(f"expected at least 1x1 pixels, got a PIL image of {picture.size}; leave it out")
    picture.load()
    picture = _upright(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        # Pillow would clip these to 255 instead of scaling them.
        return np.repeat(_to_eight_bits(np.asarray(picture))[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(picture)
    except Exception:  # EXIF data that cannot be parsed says nothing about good pixels
        return picture


def _to_eight_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Scale grey values (H, W) of 16-bit, 32-bit integer or float type to uint8, by the ranges that ``load`` names."""
    known = np.array(values, dtype=np.float64)
    finite = known[np.isfinite(known)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    for top in (1.0, 255.0) if values.dtype.kind == "f" else (65535.0,):
        if low >= 0 and high <= top:
            low, high = 0.0, top
            break
    known = (np.clip(np.nan_to_num(known, nan=low, posinf=high, neginf=low), low, high) - low) / max(high - low, 1e-300)
    return np.rint(known * 255).astype(np.uint8)


def _array_to_rgb(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Return fresh uint8 (H, W, 3): records must not change when the caller's array does."""
    fits = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if values.dtype != np.uint8 or not fits or 0 in values.shape:
        raise ImageError(f"{_EXPECTED}, got {values.dtype} {values.shape}; scale, convert or transpose it")
    return _to_rgb(PIL.Image.fromarray(np.ascontiguousarray(values)))
