"""Fetches one picture from the web, within limits of size and time; it knows nothing of what is in it."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request

from bmp.io.decoding import ImageError

TIMEOUT = 30.0
"""Seconds for one picture, and for each answer of the server on the way."""

MAX_BYTES = 128 * 2**20
"""Longer answers are refused."""

_AGENT = "bmp"


def is_url(source: str) -> bool:
    """Tell whether ``source`` is an address that ``fetch`` reads; a scheme may be in any case."""
    return source.lower().startswith(("http://", "https://"))


def fetch(url: str, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES) -> bytes:
    """Return what lies at ``url``; ``ImageError``, one line, where that fails, is too long or takes too long."""
    deadline = time.monotonic() + timeout
    try:
        request = urllib.request.Request(_quoted(url), headers={"User-Agent": _AGENT, "Accept": "image/*,*/*;q=0.5"})
        with _opener().open(request, timeout=timeout) as answer:
            length = answer.headers.get("Content-Length", "")
            expected = int(length) if length.isdecimal() else None
            data = bytearray()
            # One call of the system at a time: read() would wait for as long as bytes trickle in.
            while chunk := answer.read1(2**16):
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
