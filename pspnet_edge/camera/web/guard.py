"""Who may see the web view.

On loopback without a token, the two ways in which a web page from elsewhere reaches a local server are shut: a name
that was rebound to 127.0.0.1 shows in ``Host``, a script of another site in ``Origin``. With a token, every path
answers 401 without it, whether the path exists or not.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import string
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from ...errors import OptionError

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SHORTEST_TOKEN = 16
_TOKEN_LETTERS = frozenset(string.ascii_letters + string.digits + "-_~.")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def token_for(host: str, token: str | None) -> str | None:
    """The token that a server on ``host`` asks for: the one given, a new one away from loopback, None on it.

    Raises:
        OptionError: the token given is too short, or would not survive in a URL and a cookie.
    """
    if token is None:
        return None if _is_loopback(host) else secrets.token_urlsafe(24)
    if len(token) < _SHORTEST_TOKEN or not set(token) <= _TOKEN_LETTERS:
        raise OptionError(
            f"a token has at least {_SHORTEST_TOKEN} letters, digits and -_~. so that it cannot be guessed: "
            "leave it out to get one made, or take `openssl rand -hex 16`"
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Checks every request, and signs every answer with the headers that keep a browser strict.

    Args:
        token: what a request must show; None asks for nothing and answers only to loopback's own names.
        port: of the server, because cookies do not tell one port of a host from another.
    """

    def __init__(self, token: str | None, port: int) -> None:
        self._token = token
        self._cookie = f"pspnet_edge_{port}"

    def install(self, app: web.Application) -> None:
        """Check each request before any handler of ``app`` runs, the one for unknown paths too."""
        app.middlewares.append(self._checked)
        app.on_response_prepare.append(self._sign)

    @web.middleware
    async def _checked(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if self._token is None and _name_of(request.host) not in _LOCAL_NAMES:
            return web.Response(status=403, text="forbidden")
        if self._token is not None:
            # A link with the token is followed once: it becomes a cookie that scripts cannot read.
            if request.method == "GET" and request.path == "/" and self._is_token(request.query.get("token", "")):
                return self._welcome(request, self._token)
            if not self._knows(request):
                return web.Response(status=401, text="unauthorized", headers={"WWW-Authenticate": "Bearer"})
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return web.Response(status=403, text="forbidden")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.reason.lower())

    def _knows(self, request: web.Request) -> bool:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        shown = bearer.strip() if scheme.lower() == "bearer" else request.cookies.get(self._cookie, "")
        return self._is_token(shown)

    def _is_token(self, shown: str) -> bool:
        # As bytes: compare_digest refuses strings that are not ASCII, and a header may hold what UTF-8 cannot write.
        shown_bytes = shown.encode(errors="backslashreplace")
        return self._token is not None and hmac.compare_digest(shown_bytes, self._token.encode())

    def _welcome(self, request: web.Request, token: str) -> web.Response:
        """Set the cookie and go to the page without the token in its address.

        A refresh, not a 303: after a click on a link in a mail or a chat the whole chain of redirects counts as coming
        from that site, and a SameSite=Strict cookie would not be sent along.
        """
        response = web.Response(headers={"Refresh": "0; url=."})
        https = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        response.set_cookie(self._cookie, token, path="/", httponly=True, samesite="Strict", secure=https or None)
        return response

    @staticmethod
    async def _sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        response.headers.pop("Server", None)


def _name_of(host: str) -> str:
    """``localhost`` of ``localhost:8080``, ``::1`` of ``[::1]:8080``; empty when it is neither."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
