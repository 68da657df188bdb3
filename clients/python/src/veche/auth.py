"""Who we are: tokens that are fetched again when they are refused, API keys, and a way to check those of others."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .config import get_settings
from .errors import AuthenticationError, VecheError

#: Gives a token, at once or later. Asked when the old one was refused or is about to expire.
TokenCallback = Callable[[], str | Awaitable[str]]

#: A token that expires within so many seconds is refreshed before it is used.
REFRESH_BEFORE_SECONDS = 10

log = logging.getLogger("realtime.auth")


class Credentials:
    """A token or an API key, as request headers. With `refresh_token` a token that has expired is replaced."""

    def __init__(
        self,
        token: str | None = None,
        api_key: str | None = None,
        refresh_token: TokenCallback | None = None,
    ) -> None:
        self.token = token
        self.api_key = api_key
        self._refresh_token = refresh_token
        self._refreshing = asyncio.Lock()

    @property
    def can_refresh(self) -> bool:
        """Whether a refused token can be replaced."""
        return self._refresh_token is not None

    async def headers(self) -> dict[str, str]:
        """The headers of a request or a handshake; asks for a token where there is none or an old one."""
        if self.can_refresh and (self.token is None or _expires_soon(self.token)):
            await self.refresh(self.token)
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        if self.api_key:
            return {"X-API-Key": self.api_key}
        return {}

    async def refresh(self, refused: str | None) -> None:
        """Asks for another token in place of `refused`. When several do so at once, one question is asked.

        Raises `AuthenticationError` where there is nobody to ask.
        """
        if self._refresh_token is None:
            raise AuthenticationError("invalid_token", "the token was refused, and there is no refresh_token callback")
        async with self._refreshing:
            if self.token != refused:
                return
            answer = self._refresh_token()
            self.token = await answer if inspect.isawaitable(answer) else answer
            log.info("the token was refreshed")


def _expires_soon(token: str) -> bool:
    """Reads a JWT's `exp` without verifying anything; what is no JWT never expires."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) < time.time() + REFRESH_BEFORE_SECONDS
    except (IndexError, KeyError, TypeError, ValueError):
        return False


class WSAuthenticator:
    """Checks the credentials of others by showing them to the server, which has the keys.

    `url` is the server's address (`http://…`); `VECHE_URL` unless told.
    """

    def __init__(self, url: str | None = None, *, timeout: float = 15.0) -> None:
        self._url = url or get_settings().VECHE_URL
        self._timeout = timeout

    async def verify_jwt_token(self, token: str) -> dict[str, Any] | None:
        """Who a token belongs to: `user_id`, `name` and what else the server tells; `None` if it does not accept it.

        Raises `ConnectionLost` when the server cannot be asked. A server that has no keys cannot accept any token.
        """
        return await self._verify(Credentials(token=token))

    async def verify_api_key(self, api_key: str) -> dict[str, Any] | None:
        """The same for an API key."""
        return await self._verify(Credentials(api_key=api_key))

    async def _verify(self, credentials: Credentials) -> dict[str, Any] | None:
        from .clients.ws_client import WSClient  # it needs the credentials above

        client = WSClient(websocket_url(self._url), credentials=credentials, open_timeout=self._timeout)
        try:
            async with client:
                welcome = client.welcome
        except AuthenticationError:
            return None
        if not welcome.get("authenticated"):
            return None
        return {
            name: value for name, value in welcome.items() if name not in ("type", "message", "timestamp", "session")
        }


def websocket_url(url: str) -> str:
    """The address of the WebSocket of the server at `url` (`http://host:port`)."""
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes:
        raise VecheError("bad_url", f"a server's address begins with http:// or https://, not {url!r}")
    path = parts.path.rstrip("/")
    if not path.endswith("/realtime/ws"):
        path += "/realtime/ws"
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, parts.query, ""))


def http_url(url: str) -> str:
    """The address of the server, for HTTP, that has the door at `url` (`ws://host/realtime/ws` or `…/events`)."""
    parts = urlsplit(url)
    schemes = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
    if parts.scheme not in schemes:
        raise VecheError("bad_url", f"an address begins with http://, https://, ws:// or wss://, not {url!r}")
    path = parts.path.split("/realtime/")[0].rstrip("/")
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, "", ""))
