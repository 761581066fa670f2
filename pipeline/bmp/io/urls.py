"""Reads from the web: a picture into memory, within limits, or a file to the disk, resumed where it was cut.

It knows nothing of their contents.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bmp.io.decoding import ImageError

TIMEOUT = 30.0
"""Seconds for one picture, and for each response of a server."""

MAX_BYTES = 128 * 2**20
"""Larger pictures are refused."""

_AGENT = "bmp"
_CHUNK = 1 << 20


def is_url(source: str) -> bool:
    """Tell whether ``source`` is an address that ``fetch`` reads; a scheme may be in any case."""
    return source.lower().startswith(("http://", "https://"))


def fetch(url: str, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes at ``url``; ``ImageError``, one line, where that fails, is too long or takes too long."""
    deadline = time.monotonic() + timeout
    try:
        request = urllib.request.Request(_quoted(url), headers={"User-Agent": _AGENT, "Accept": "image/*,*/*;q=0.5"})
        with _opener().open(request, timeout=timeout) as response:
            length = response.headers.get("Content-Length", "")
            expected = int(length) if length.isdecimal() else None
            data = bytearray()
            # One call of the system at a time: read() would wait for as long as bytes trickle in.
            while chunk := response.read1(2**16):
                data += chunk
                if len(data) > max_bytes or (expected or 0) > max_bytes:
                    raise ImageError(f"{url}: longer than {max_bytes / 2**20:g} MB; fetch it yourself, make it smaller")
                if time.monotonic() > deadline:
                    raise ImageError(f"{url}: not all there after {timeout:g} s; fetch it yourself and name the file")
            if expected is not None and len(data) < expected:
                raise ImageError(f"{url}: {len(data)} of {expected} bytes came; try again")
            return bytes(data)
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(f"{url}: the server answers {error.code} {error.reason}; check the address") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, ImageError):
            raise
        cause = getattr(error, "reason", None) or error
        words = "no answer in time" if isinstance(cause, TimeoutError) else " ".join(str(cause).split())
        raise ImageError(f"{url}: cannot be fetched, {words or type(cause).__name__}; check the address") from None


def download(url: str, partial: Path, title: str) -> None:
    """Download ``url`` to ``partial``, going on after the bytes that are there if the file behind it is unchanged.

    The server's ETag or date is kept beside the partial file and sent back as If-Range: a server whose file has
    changed since, or that cannot resume, answers with the whole file. A bar under ``title`` shows the progress.

    Raises ``OSError`` or ``http.client.HTTPException``; the next call goes on from there.
    """
    tag_file = partial.with_name(partial.name + ".tag")
    request = urllib.request.Request(_quoted(url), headers={"User-Agent": _AGENT})
    done = 0
    # One byte is requested again: an empty range, where all is there already, would be an error.
    if partial.exists() and tag_file.exists() and (done := max(partial.stat().st_size - 1, 0)):
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", tag_file.read_text())
    with _opener().open(request, timeout=TIMEOUT) as response:
        try:
            done, total = _extent(response, done)
        except OSError:
            tag_file.unlink(missing_ok=True)  # the next run starts anew
            raise
        # The old tag goes before the old bytes do, lest they meet again in the next run.
        tag_file.unlink(missing_ok=True)
        partial.touch()
        os.truncate(partial, done)
        if tag := response.headers.get("ETag") or response.headers.get("Last-Modified"):
            tag_file.write_text(tag)
        with partial.open("ab") as file, Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=total, completed=done)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress.advance(task, len(chunk))
    if total is not None and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes; the next run goes on from there")
    tag_file.unlink(missing_ok=True)
    if not done:
        raise OSError("the server's file is empty")


def _extent(response: http.client.HTTPResponse, asked: int) -> tuple[int, int | None]:
    """Return at which byte of the file the response begins, and the length of the file, None if unknown.

    asked: the first byte of the range that was requested, 0 for none. Raises ``OSError`` for a response that
    contradicts itself or the request.
    """
    told = response.headers.get("Content-Length")
    if told is not None and not re.fullmatch(r"\d{1,18}", told.strip()):
        raise OSError(f"the server gives the length {told!r}")
    length = None if told is None else int(told)
    if encoding := response.headers.get("Content-Encoding", "").replace("identity", ""):
        raise OSError(f"the server sends it encoded ({encoding}), which was not requested")
    if response.status == HTTPStatus.OK:
        return 0, length
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        raise OSError(f"the server answers {response.status} {response.reason}")
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if not asked or not span or int(span[1]) != asked:
        raise OSError("the server sends a part of the file that was not requested")
    end = int(span[2]) + 1
    if (length is not None and length != end - asked) or (span[3] != "*" and int(span[3]) != end):
        raise OSError(f"the server sends {length} bytes as {response.headers['Content-Range']}")
    return asked, end


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for the web alone: no redirection leads to a file of this machine or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _quoted(url: str) -> str:
    """Return ``url`` with what an address line of a browser takes, such as spaces and umlauts, in percent escapes."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    path, query = (urllib.parse.quote(part, safe="/%:=&?~#+!$,;'@()*[]") for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))
