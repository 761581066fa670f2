"""Very many photos, wherever they lie: in folders, in WebDataset tars, in Parquet files; on disks or in object stores.

Photos are listed as small descriptions that travel to whoever reads them. Knows no network, and nothing of labels.
"""

from __future__ import annotations

import glob
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from bmp.errors import UserError
from bmp.io.images import EXTENSIONS, HEIF_EXTENSIONS, find

if TYPE_CHECKING:
    import pyarrow

TAR, PARQUET = ".tar", ".parquet"
_BYTES_COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "content", "photo")
_PICTURES = (*EXTENSIONS, *HEIF_EXTENSIONS)


@dataclass(frozen=True)
class Photo:
    """Where a photo is.

    id: its address, the same in every run: path or URL of its file, for one in a tar followed by its name there, for
    one in a Parquet file by "#" and the number of its row. offset, size: its bytes in a tar. group, row: the row group
    of a Parquet file and the row within it. column: which holds the bytes.
    """

    id: str
    file: str
    offset: int = 0
    size: int = -1
    group: int = -1
    row: int = -1
    column: str = ""


@dataclass(frozen=True)
class Listed:
    """photos: each once, in order. left_out: how many files were none, by reason."""

    photos: list[Photo]
    left_out: dict[str, int]


def list_photos(inputs: Sequence[str]) -> Listed:
    """Return the photos that inputs name.

    Args:
        inputs: files, folders, patterns, tars and Parquet files; addresses such as ``s3://bucket/folder`` are read
            through fsspec. A folder gives all that is below it.

    Raises:
        UserError: an input does not exist or cannot be read, or there is no photo.
    """
    photos: dict[str, Photo] = {}
    left_out: dict[str, int] = {}
    for entry in inputs:
        for photo in _remote(entry, left_out) if "://" in entry else _local(entry, left_out):
            photos.setdefault(photo.id, photo)
    if not photos:
        raise UserError(
            f"no photos found in {', '.join(inputs)}; name photos, folders, patterns, tars or Parquet files"
        )
    return Listed(list(photos.values()), left_out)


def _local(entry: str, left_out: dict[str, int]) -> Iterator[Photo]:
    """Yield photos by the rules of ``bmp.io.images.find``, and those within tars and Parquet files."""
    archives = _archives(entry)
    for path in archives:
        yield from _in_archive(os.path.abspath(path))  # noqa: PTH100 - resolve() would also follow links
    if archives and not Path(entry).is_dir() and not glob.has_magic(entry):
        return
    try:
        found = find(entry)
    except UserError:
        if archives:  # a folder of nothing but tars
            return
        raise
    known = set(map(str, archives))
    for left in found.left_out:
        if str(left.path) not in known:
            left_out[left.reason] = left_out.get(left.reason, 0) + 1
    for source in found.paths:
        name = Path(os.path.abspath(source)).as_posix()  # noqa: PTH100
        yield Photo(name, name)


def _archives(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return sorted(found for kind in (TAR, PARQUET) for found in path.rglob(f"*{kind}"))
    named = [path]
    if glob.has_magic(entry) and not path.exists():
        named = sorted(map(Path, glob.glob(entry, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [found for found in named if found.suffix.lower() in (TAR, PARQUET) and found.is_file()]


def _remote(entry: str, left_out: dict[str, int]) -> Iterator[Photo]:
    files = _filesystem(entry)
    path = files._strip_protocol(entry)
    try:
        if glob.has_magic(entry):
            names = sorted(files.glob(path))
        else:
            names = [path] if files.isfile(path) else sorted(files.find(path))
    except (OSError, ImportError) as error:
        raise UserError(f"{entry}: cannot be read, {error}") from None
    if not names:
        raise UserError(f"{entry}: there is nothing")
    for name in names:
        address = files.unstrip_protocol(name)
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - an address
        if suffix in (TAR, PARQUET):
            yield from _in_archive(address)
        elif suffix in _PICTURES or len(names) == 1:
            yield Photo(address, address)
        else:
            left_out["not a picture"] = left_out.get("not a picture", 0) + 1


def _in_archive(address: str) -> Iterator[Photo]:
    try:
        yield from _in_tar(address) if address.lower().endswith(TAR) else _in_parquet(address)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{address}: cannot be read, {error}") from None


def _in_tar(address: str) -> Iterator[Photo]:
    with _opened(address) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            if member.isfile() and os.path.splitext(member.name)[1].lower() in _PICTURES:  # noqa: PTH122
                yield Photo(f"{address}/{member.name}", address, member.offset_data, member.size)


def _in_parquet(address: str) -> Iterator[Photo]:
    parquet = _parquet()
    with _opened(address) as stream:
        file = parquet.ParquetFile(stream)
        column = _bytes_column(address, file.schema_arrow)
        number = 0
        for group in range(file.num_row_groups):
            for row in range(file.metadata.row_group(group).num_rows):
                yield Photo(f"{address}#{number}", address, group=group, row=row, column=column)
                number += 1


def _bytes_column(address: str, schema: pyarrow.Schema) -> str:
    """Return the column of photos: bytes, or Hugging Face's struct of bytes and path."""
    import pyarrow.types as types

    def holds(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(field.name == "bytes" and holds(field.type) for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    able = [field.name for field in schema if holds(field.type)]
    named = [name for name in _BYTES_COLUMNS if name in able]
    if not able or (len(able) > 1 and not named):
        raise UserError(
            f"{address}: expected a column of photos as bytes, called {', '.join(_BYTES_COLUMNS)} or the only one of "
            f"its kind; got {', '.join(schema.names)}"
        )
    return (named or able)[0]


def read_bytes(photo: Photo) -> bytes:
    """Return the file of a photo.

    Raises:
        OSError: it cannot be read.
        UserError: it is not where it was listed.
    """
    if photo.group >= 0:
        value = _row_group(photo.file, photo.group, photo.column)[photo.row].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if not value:
            raise UserError(f"{photo.id}: has no bytes")
        return bytes(value)
    with _opened(photo.file) as stream:
        stream.seek(photo.offset)
        return stream.read(photo.size)


def named_stream(photo: Photo) -> io.BytesIO:
    """Return the file of a photo in memory, with the photo's id as its name; raises as ``read_bytes`` does."""
    stream = _Named(read_bytes(photo))
    stream.name = photo.id
    return stream


class _Named(io.BytesIO):
    name: str


@lru_cache(maxsize=2)
def _row_group(address: str, group: int, column: str) -> Any:
    """Return a column of a row group; photos of one are read one after the other."""
    with _opened(address) as stream:
        return _parquet().ParquetFile(stream).read_row_group(group, columns=[column]).column(0)


def _opened(address: str) -> IO[bytes]:
    if "://" in address:
        return cast("IO[bytes]", _filesystem(address).open(address, "rb"))
    return open(address, "rb")  # noqa: PTH123 - closed by whoever asks


@lru_cache(maxsize=16)
def _of_protocol(protocol: str) -> Any:
    try:
        import fsspec

        return fsspec.filesystem(protocol)
    except (ImportError, ValueError) as error:
        raise UserError(f"{protocol}://: {error}; install what reads it, such as s3fs, gcsfs or adlfs") from None


def _filesystem(address: str) -> Any:
    """Return fsspec's file system for an address with a protocol."""
    return _of_protocol(address.partition("://")[0])


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install 'bmp-pose[parquet]'") from None
    return pyarrow.parquet
