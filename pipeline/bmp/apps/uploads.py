"""Photos and videos that are dropped on the page: checked, and kept in a folder under names of this program's own.

It knows no HTTP. A name that somebody sends is only ever a label.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import PIL.Image

from bmp.errors import UserError
from bmp.io import images
from bmp.io.atomic import replacing_path, writing

MOST_FRAMES = 60
"""Frames that are taken of a video, evenly and at most one a second."""
_LONGEST = 60  # letters of a name


class UploadError(UserError):
    """What was sent is neither a photo nor a video that can be read."""


def keep(folder: Path, name: str, content: bytes) -> list[Path]:
    """Put what was sent into ``folder``, which is made, and return its photos: one, or the frames of a video.

    The same content under the same name is the same file.

    Raises:
        UploadError: it cannot be read.
        UserError: it cannot be kept.
    """
    label = PurePosixPath(PureWindowsPath(name).name).name
    stem = re.sub(r"[^\w-]+", "_", PurePosixPath(label).stem).strip("_")[:_LONGEST] or "photo"
    stem = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}"
    suffix = PurePosixPath(label).suffix.lower()
    if suffix in images.VIDEO_EXTENSIONS:
        return _frames(folder, stem, label, content)
    try:
        images.load(content, notice=lambda _: None)
    except images.ImageError as error:
        raise UploadError(f"{label:.100}: {str(error).removeprefix('the bytes: ')}") from None
    if suffix not in (*images.EXTENSIONS, *images.HEIF_EXTENSIONS):
        with PIL.Image.open(io.BytesIO(content)) as picture:
            suffix = f".{(picture.format or 'png').lower()}"
    path = folder / f"{stem}{suffix}"
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing_path(path, shared=True) as temporary:
            temporary.write_bytes(content)
    return [path]


def _frames(folder: Path, stem: str, label: str, content: bytes) -> list[Path]:
    from bmp.io.video import VideoError, VideoReader

    target = folder / stem
    paths: list[Path] = []
    with writing(target), tempfile.NamedTemporaryFile(suffix=PurePosixPath(label).suffix) as file:
        file.write(content)
        file.flush()
        try:
            with VideoReader(file.name, notice=lambda _: None) as film:
                apart, last = max(1.0, (film.frames or 0) / (film.rate or 25) / MOST_FRAMES), -1e9
                for frame in film:
                    if frame.time - last < apart - 1e-3:
                        continue
                    last = frame.time
                    target.mkdir(parents=True, exist_ok=True)
                    path = target / f"{frame.index:06}.jpg"
                    with replacing_path(path, shared=True) as temporary:
                        PIL.Image.fromarray(frame.image.pixels.numpy()).save(temporary, quality=92)
                    paths.append(path)
                    if len(paths) == MOST_FRAMES:
                        break
        except VideoError as error:
            raise UploadError(f"{label:.100}: {str(error).removeprefix(f'{file.name}: ')}") from None
    return paths
