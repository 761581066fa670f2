"""Who may ask the server what: hosts, origins, a token, and the length of a request. Knows nothing of people."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE = ("GET", "HEAD", "OPTIONS")
_PROBED = "/health"  # says that the server is there, and nothing of what it has
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def is_local(host: str) -> bool:
    """Tell whether a name or address, as a server listens at or a request is addressed to, is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Gate:
    """Lets requests through to ``app`` that are allowed, and answers others: 400, 401, 403 or 413.

    - Without a token, only requests to this machine by one of its local names: a page whose name was made to point here
      (DNS rebinding) comes with that name.
    - From other pages (``Origin``, ``Sec-Fetch-Site``) nothing, so that no page can use a browser's access, and pages
      of other ports cannot either. Programs send neither header.
    - With a token, it has to be there, but for ``/health``, which probes ask: as ``Authorization: Bearer TOKEN``, or as
      the cookie that opening ``/?token=TOKEN`` sets.
    - At most ``most_bytes`` of a body, whether its length is announced or not.

    Args:
        app: what is asked.
        token: None for none.
        most_bytes: of a body.
    """

    def __init__(self, app: ASGIApp, token: str | None, most_bytes: int) -> None:
        self._app, self._token, self._most_bytes = app, token, most_bytes
        # Cookies do not tell ports of a host apart.
        self._cookie = "bmp-" + hashlib.sha256((token or "").encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or let it through."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (refusal := self._refusal(scope, headers)) is not None:
            await _answer(send, *refusal)
            return
        if self._token is not None and scope["path"] != _PROBED and not self._has_token(headers):
            await self._ask_for_token(scope, send)
            return
        await self._app(scope, self._limited(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not name:
            return 400, "expected the header Host"
        if self._token is None and not is_local(name):
            return 403, f"this server answers to localhost only, not to {name:.100}; start it with --token"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests from other pages are refused"
        navigation = scope["path"] == "/" and scope["method"] in _SAFE
        if site not in ("same-origin", "none") and not navigation:
            return 403, "requests from other pages are refused"
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "expected Content-Length to be a number"
        if len(length) > 18 or int(length) > self._most_bytes:
            return 413, self._too_long()
        return None

    def _too_long(self) -> str:
        return f"the request is longer than {self._most_bytes / 2**20:g} MB; send fewer or smaller files"

    def _has_token(self, headers: Headers) -> bool:
        assert self._token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Headers are read as Latin-1, and many programs send UTF-8.
        spelled = [given.strip().encode(encoding) for encoding in ("latin-1", "utf-8")]
        if kind.lower() == "bearer" and any(hmac.compare_digest(each, self._token.encode()) for each in spelled):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), _digest(self._token).encode())

    async def _ask_for_token(self, scope: Scope, send: Send) -> None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        assert self._token is not None
        if scope["path"] == "/" and hmac.compare_digest(given.encode(), self._token.encode()):
            cookie = f"{self._cookie}={_digest(self._token)}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", {"location": "/", "set-cookie": cookie})
            return
        words = "a token is needed: open /?token=TOKEN as the server printed it, or send Authorization: Bearer TOKEN"
        await _answer(send, 401, words, {"www-authenticate": "Bearer"})

    def _limited(self, receive: Receive) -> Receive:
        length = 0

        async def limited() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            if length > self._most_bytes:
                raise HTTPException(413, self._too_long())
            return message

        return limited


def _digest(token: str) -> str:
    """Return what a cookie holds in place of the token, which may have any characters."""
    return hashlib.sha256(b"bmp" + token.encode()).hexdigest()


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


async def _answer(send: Send, status: int, error: str, headers: dict[str, str] | None = None) -> None:
    body = json.dumps({"error": error}).encode() if error else b""
    fields = {"content-type": "application/json", "content-length": str(len(body)), **_HEADERS, **(headers or {})}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
