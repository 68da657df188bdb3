"""`connection_manager`: sending from programs that hold no connection themselves, over the HTTP API of `VECHE_URL`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import Any

import httpx

from .api import RealtimeAPI, raise_for_error
from .config import get_settings
from .errors import ConnectionLost
from .models import Published

Settled = tuple[str, str | None, str | None]


class ConnectionManager:
    """Sends to channels and to everybody, and tells who is connected.

    The server, and what is shown to it, are `VECHE_URL` and `VECHE_TOKEN` or `VECHE_API_KEY`, read at every call.
    Connections to it are kept, for each event loop its own.
    """

    def __init__(self) -> None:
        self._apis: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Settled, RealtimeAPI]]
        self._apis = weakref.WeakKeyDictionary()

    async def send_to_channel(self, channel: str, message: Any) -> Published:
        """Sends a message to a channel: a `binary` or `notification` message (a dictionary with that `type`) as such,
        anything else as data."""
        return await self._send(message, channel)

    async def broadcast_message(self, message: Any) -> Published:
        """The same to everybody who is connected."""
        return await self._send(message, None)

    async def send_to_user(self, user_id: str, message: Any) -> Published:
        """Sends data to all connections of a user."""
        return await (await self._api()).send(message, user_id=user_id)

    def get_stats(self) -> dict[str, Any]:
        """Who is connected: `total`, `websocket`, `sse`, `channels` (how many subscribe to each) …

        Waits for the answer without the event loop; `await RealtimeAPI().connections()` waits with it.
        """
        settings = get_settings()
        headers = {}
        if settings.VECHE_TOKEN:
            headers["Authorization"] = f"Bearer {settings.VECHE_TOKEN}"
        elif settings.VECHE_API_KEY:
            headers["X-API-Key"] = settings.VECHE_API_KEY
        try:
            response = httpx.get(
                f"{settings.VECHE_URL.rstrip('/')}/realtime/connections", headers=headers, timeout=10.0
            )
        except httpx.TransportError as error:
            raise ConnectionLost("unreachable", f"{settings.VECHE_URL} cannot be reached: {error!r}") from error
        raise_for_error(response)
        return dict(response.json())

    async def aclose(self) -> None:
        """Closes the connections of this event loop to the server."""
        entry = self._apis.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()

    async def _send(self, message: Any, channel: str | None) -> Published:
        api = await self._api()
        kind = message.get("type") if isinstance(message, Mapping) else None
        target = {} if channel is None else {"channel": channel}
        if kind == "binary":
            fields = {name: message[name] for name in ("binary_data", "content_type", "filename") if message.get(name)}
            return Published.model_validate(await api.post("/realtime/binary/send", json={**fields, **target}))
        if kind == "notification":
            fields = {name: value for name, value in message.items() if name != "type"}
            path = "channel" if target else "broadcast"
            return Published.model_validate(
                await api.post(f"/realtime/notifications/{path}", json={**fields, **target})
            )
        if channel is None:
            return await api.broadcast(message)
        return await api.send(message, channel=channel)

    async def _api(self) -> RealtimeAPI:
        settings = get_settings()
        wanted = (settings.VECHE_URL, settings.VECHE_TOKEN, settings.VECHE_API_KEY)
        loop = asyncio.get_running_loop()
        entry = self._apis.get(loop)
        if entry is None or entry[0] != wanted:
            await self.aclose()
            entry = (wanted, RealtimeAPI())
            self._apis[loop] = entry
        return entry[1]


connection_manager = ConnectionManager()
