"""Very many photos, wherever they lie: in folders, in WebDataset tars, in Parquet files; on disks or in object stores.

Photos are listed as small descriptions that travel to whoever reads them. Knows no network, and nothing of labels.
"""

from __future__ import annotations

import glob
import io
import os
import posixpath
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from bmp.errors import UserError
from bmp.io.images import EXTENSIONS, HEIF_EXTENSIONS, LeftOut, expand
from bmp.io.json_fields import short

if TYPE_CHECKING:
    import pyarrow

TAR, PARQUET = ".tar", ".parquet"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_ARCHIVES = (TAR, PARQUET, *_COMPRESSED)
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
    """photos: each once, in order. left_out: how many files were none, by reason. failed: archives that are broken."""

    photos: list[Photo]
    left_out: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


def list_photos(inputs: Sequence[str], output: Path | None = None) -> Listed:
    """Return the photos that inputs name.

    Args:
        inputs: files, folders, patterns, tars and Parquet files; addresses such as ``s3://bucket/folder`` are read
            through fsspec. A folder gives all that is below it.
        output: a folder in which nothing is a photo, or None.

    Raises:
        UserError: an input does not exist or cannot be read, or there is no photo.
    """
    photos: dict[str, Photo] = {}
    listed = Listed([])
    inside = None if output is None else os.path.realpath(output)
    for entry in inputs:
        for photo in _remote(entry, listed) if "://" in entry else _local(entry, inside, listed):
            photos.setdefault(photo.id, photo)
    if not photos:
        if listed.failed:
            raise UserError(listed.failed[0])
        left = "".join(f"; left out {count}, {reason}" for reason, count in listed.left_out.items())
        raise UserError(
            f"no photos found in {', '.join(inputs)}; name photos, folders, patterns, tars or Parquet files{left}"
        )
    listed.photos.extend(photos.values())
    return listed


def _local(entry: str, output: str | None, listed: Listed) -> Iterator[Photo]:
    """Yield photos by the rules of ``bmp.io.images.find``, and those within tars and Parquet files."""
    for met in sorted(expand(entry), key=lambda met: str(met.path if isinstance(met, LeftOut) else met)):
        path = met.path if isinstance(met, LeftOut) else met
        if output is not None and Path(os.path.realpath(path)).is_relative_to(output):
            continue
        name = Path(os.path.abspath(path)).as_posix()  # noqa: PTH100 - resolve() would also follow links
        hidden = isinstance(met, LeftOut) and path.name.startswith(".")
        if name.lower().endswith(_ARCHIVES) and not hidden and os.path.isfile(name):  # noqa: PTH113 - see expand
            yield from _in_archive(name, listed)
        elif isinstance(met, LeftOut):
            listed.left_out[met.reason] += 1
        else:
            yield Photo(_text(name), name)


def _text(name: str) -> str:
    """Return a name in letters that every file can hold: file systems also have names that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _remote(entry: str, listed: Listed) -> Iterator[Photo]:
    files = _filesystem(entry)
    path = files._strip_protocol(entry)
    try:
        named = files.isfile(path)
        if named:
            names = [path]
        elif glob.has_magic(entry) and not files.isdir(path):
            names = sorted(files.glob(path))
        else:
            names = sorted(files.find(path))
    except Exception as error:  # each service has its own
        raise UserError(f"{entry}: cannot be read, {_said(error)}") from None
    if not names:
        raise UserError(f"{entry}: there is nothing")
    for name in names:
        address = files.unstrip_protocol(name)
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - an address
        if name.lower().endswith(_ARCHIVES):
            yield from _in_archive(address, listed)
        elif named or (suffix in _PICTURES and not PurePosixPath(name).name.startswith(".")):
            yield Photo(_text(address), address)
        elif suffix in _PICTURES:
            listed.left_out["hidden pictures; name them to have them read"] += 1
        else:
            listed.left_out["not a picture"] += 1


def _in_archive(address: str, listed: Listed) -> Iterator[Photo]:
    """Yield the photos of a tar or a Parquet file; one that is broken is put down, with those before the break."""
    if address.lower().endswith(_COMPRESSED):  # photos are read from the middle of tars, in any order
        listed.failed.append(f"{address}: a compressed tar; decompress it, photos hardly get smaller by it")
        return
    try:
        yield from _in_tar(address, listed) if address.lower().endswith(TAR) else _in_parquet(address)
    except UserError as error:
        listed.failed.append(str(error))
    except Exception as error:  # of file systems, tarfile and pyarrow, which meet broken files in many ways
        listed.failed.append(f"{address}: cannot be read, {_said(error)}")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _in_tar(address: str, listed: Listed) -> Iterator[Photo]:
    found: dict[str, Photo] = {}
    links: dict[str, str] = {}
    broken = None
    try:
        with _opened(address) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isdir() or path.suffix.lower() not in _PICTURES:
                    continue
                name = posixpath.normpath(member.name)
                if path.name.startswith("."):  # such as ._a.jpg, which macOS adds
                    listed.left_out["hidden pictures in tars"] += 1
                    continue
                if name in found or name in links:
                    listed.left_out["pictures in tars that a later one of the same name replaces"] += 1
                    found.pop(name, None)
                    links.pop(name, None)
                if member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
                elif member.issparse() or not member.isfile():
                    listed.left_out["pictures in tars that are not stored as they are (sparse files, devices)"] += 1
                else:
                    found[name] = _member(address, member.name, member.offset_data, member.size)
    except Exception as error:  # a tar that is cut off has photos before the cut
        broken = error
    yield from found.values()
    for name, target in links.items():
        passed = {name}
        while target in links and target not in passed:
            passed.add(target)
            target = links[target]
        if target in found:
            yield _member(address, name, found[target].offset, found[target].size)
        else:
            listed.left_out["links in tars to what is no picture of theirs"] += 1
    if broken is not None:
        raise broken


def _member(address: str, name: str, offset: int, size: int) -> Photo:
    return Photo(_text(f"{address}/{name}"), address, offset, size)


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
        if types.is_dictionary(kind):
            return holds(kind.value_type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))

    able = [field.name for field in schema if holds(field.type)]
    named = [name for name in _BYTES_COLUMNS if name in able]
    if not able or (len(able) > 1 and not named) or able.count((named or able)[0]) > 1:
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
        path = value.get("path") if isinstance(value, dict) else None
        value = value.get("bytes") if isinstance(value, dict) else value
        if not value:
            raise UserError(f"{photo.id}: has no bytes" + (f", only the path {short(path)}" if path else ""))
        return bytes(value)
    with _opened(photo.file) as stream:
        stream.seek(photo.offset)
        content = stream.read(photo.size)
    if len(content) < photo.size:
        raise UserError(f"{photo.id}: the tar ends within it")
    return content


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
        # To pyarrow a name with dots is a path into a struct.
        table = _parquet().ParquetFile(stream).read_row_group(group, columns=None if "." in column else [column])
        return table.column(table.schema.get_field_index(column))


def _opened(address: str) -> IO[bytes]:
    if "://" in address:
        return cast("IO[bytes]", _filesystem(address).open(address, "rb"))
    if not stat.S_ISREG(os.stat(address).st_mode):  # noqa: PTH116 - a pipe would wait for somebody who writes into it
        raise UserError(f"{_text(address)}: no regular file; name a picture file")
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
