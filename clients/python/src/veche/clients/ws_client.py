"""The WebSocket client: everything that can be said over a lasting connection, and the HTTP endpoints beside it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from ..api import RealtimeAPI, binary_body
from ..auth import TokenCallback, http_url
from ..files import FileSource, Progress
from ..models import BinaryMessage, ChannelMessage, History, Position, Published, Subscribed
from .connection import Connection, to_json
from .subscriptions import Subscription


class WSClient(Connection):
    """A client of `WS /realtime/ws`.

    Use it as an asynchronous context manager, or call `connect` and `close`::

        async with WSClient("ws://localhost:8000/realtime/ws") as client:
            client.on_message(print)
            await client.subscribe_to_channel("general")
            await client.send_to_channel("general", "hello")

    The first attempt to connect is made once and raises when it fails. After that a lost connection is opened again
    (`backoff`: 1 s, growing by 1.5 to at most 30 s, with jitter), all subscriptions are made again, and what was
    missed comes in order and once. Requests wait for that, up to `request_timeout` seconds; a publication that is sent
    again is published once.

    `refresh_token` is called for a new token when the old one was refused or is about to expire. With `native_binary`
    bytes travel as binary frames instead of base64; messages look the same either way. At most `inbox` messages wait
    for handlers; then the server has to wait, and cuts us off when it has waited for too much. So a handler must not
    be slow for long. `connect_options` go to `websockets.connect`, for example `{"ssl": context}`.
    """

    _api: RealtimeAPI | None = None

    async def close(self) -> None:
        """Closes the connection for good. Handlers hear no more."""
        await super().close()
        if self._api is not None:
            await self._api.aclose()

    @property
    def api(self) -> RealtimeAPI:
        """The HTTP endpoints of the same server, with the same credentials."""
        if self._api is None:
            self._api = RealtimeAPI(http_url(self.url), credentials=self.credentials)
        return self._api

    # Channels

    async def subscribe_to_channel(
        self,
        channel: str,
        filters: Mapping[str, Any] | None = None,
        *,
        presence: bool = False,
        recover: Position | None = None,
    ) -> Subscribed:
        """Subscribes to a channel; again with other filters replaces them.

        Filters: `binary_data`, `max_file_size`, `allowed_types`, `notification_types`; only those named filter.
        `recover` asks for what was published after a position, see `position`.
        """
        subscription = Subscription(channel, filters, presence=presence)
        if recover is not None:
            subscription.epoch, subscription.offset = recover.epoch, recover.offset
        answer = await self._request(subscription.request(), subscription=subscription)
        return Subscribed.model_validate(answer)

    async def subscribe(self, channel: str, filters: Mapping[str, Any] | None = None, **options: Any) -> Subscribed:
        """The same as `subscribe_to_channel`."""
        return await self.subscribe_to_channel(channel, filters, **options)

    async def unsubscribe(self, channel: str) -> None:
        """Ends a subscription."""
        self._subscriptions.pop(channel, None)
        await self._request({"type": "unsubscribe", "channel": channel})

    async def unsubscribe_from_channel(self, channel: str) -> None:
        """The same as `unsubscribe`."""
        await self.unsubscribe(channel)

    async def publish(
        self, channel: str, data: Any, *, persistent: bool = False, idempotency_key: str | None = None
    ) -> Published:
        """Publishes `data` in a channel and waits until the server has it (in storage, if `persistent`)."""
        message = ChannelMessage(
            channel=channel, data=data, persistent=persistent, idempotency_key=idempotency_key or uuid.uuid4().hex
        )
        return await self.send_channel_message(message)

    async def send_to_channel(self, channel: str, data: Any, persistent: bool = False) -> Published:
        """The same as `publish`."""
        return await self.publish(channel, data, persistent=persistent)

    async def send_channel_message(self, message: ChannelMessage) -> Published:
        """Publishes a `ChannelMessage` and waits until the server has it."""
        body = message.dict()
        body["data"] = message.model_dump(mode="json")["data"]
        body.setdefault("idempotency_key", uuid.uuid4().hex)
        return Published.model_validate(await self._request(body))

    async def history(
        self, channel: str, *, since: int | None = None, epoch: str | None = None, limit: int | None = None
    ) -> History:
        """The newest messages of a channel, or those after the offset `since`, oldest first."""
        options = {"since": since, "epoch": epoch, "limit": limit}
        wanted = {name: value for name, value in options.items() if value is not None}
        answer = await self._request({"type": "history", "channel": channel, **wanted})
        return History.model_validate(answer)

    async def presence(self, channel: str) -> list[dict[str, Any]]:
        """Who is subscribed to a channel, since when, with their attributes."""
        answer = await self._request({"type": "presence", "channel": channel})
        return list(answer.get("presence") or [])

    # Sending

    async def send_text(self, text: str) -> None:
        """Sends text as it is. The server answers text that is no JSON with an `echo` message."""
        await self._send(text)

    async def send_json(self, message: Mapping[str, Any]) -> None:
        """Sends a message as it is, and waits for no answer."""
        await self._send(to_json(message))

    async def send_binary(
        self,
        message: BinaryMessage | bytes,
        content_type: str | None = None,
        filename: str | None = None,
        *,
        channel: str | None = None,
        user_id: str | None = None,
        connection_id: str | None = None,
    ) -> Published:
        """Sends bytes to a channel, a user or a connection; with none of them, to everybody else who is connected."""
        body = binary_body(message, content_type, filename, channel, user_id, connection_id)
        body["idempotency_key"] = uuid.uuid4().hex
        return Published.model_validate(await self._request(body))

    async def send_direct(
        self, data: Any, *, user_id: str | None = None, connection_id: str | None = None
    ) -> Published:
        """Sends `data` to all connections of a user, or to one connection."""
        target = {"user_id": user_id} if user_id is not None else {"connection_id": connection_id}
        body = {"type": "direct", **target, "data": data, "idempotency_key": uuid.uuid4().hex}
        return Published.model_validate(await self._request(body))

    async def broadcast(self, data: Any) -> Published:
        """Sends `data` to everybody who is connected."""
        body = {"type": "broadcast", "data": data, "idempotency_key": uuid.uuid4().hex}
        return Published.model_validate(await self._request(body))

    async def send_notification(
        self,
        title: str,
        body: str = "",
        *,
        notification_type: str | None = None,
        data: Any = None,
        user_id: str | None = None,
        channel: str | None = None,
    ) -> Published:
        """Sends a notification to a user, to a channel, or with neither to everybody."""
        optional = {"notification_type": notification_type, "data": data, "user_id": user_id, "channel": channel}
        message = {"type": "notification", "title": title, "body": body, "idempotency_key": uuid.uuid4().hex}
        message |= {name: value for name, value in optional.items() if value is not None}
        return Published.model_validate(await self._request(message))

    async def send_webrtc_signal(
        self,
        signal_type: str,
        target_peer_id: str,
        room_id: str | None = None,
        sdp: str | None = None,
        ice_candidate: Mapping[str, Any] | None = None,
    ) -> None:
        """Sends a WebRTC signal to a peer: a connection, a user, or a participant of a call room.

        It is not sent again after a cut, since signals are about a moment. Where the peer is not there, the server
        says so in an `error` message.
        """
        optional = {"room_id": room_id, "sdp": sdp, "ice_candidate": dict(ice_candidate) if ice_candidate else None}
        message = {"type": "webrtc_signal", "signal_type": signal_type, "target_peer_id": target_peer_id}
        await self.send_json(message | {name: value for name, value in optional.items() if value is not None})

    async def ping(self) -> float:
        """Asks for a sign of life and returns how long it took, in seconds."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await self._request({"type": "ping"})
        return loop.time() - asked

    # Files and HTTP

    async def send_file(
        self, file: FileSource, channel: str | None = None, *, on_progress: Progress | None = None, **options: Any
    ) -> Published:
        """Uploads a file of any size over HTTP and announces it; see `RealtimeAPI.upload_file`."""
        return await self.api.upload_file(file, channel=channel, on_progress=on_progress, **options)

    async def download_file(self, file: Any, to: Any = None, *, on_progress: Progress | None = None) -> bytes:
        """Downloads a file that was announced; see `RealtimeAPI.download_file`."""
        return await self.api.download_file(file, to, on_progress=on_progress)

    async def get(self, path: str, **options: Any) -> Any:
        """GETs an HTTP endpoint of the same server."""
        return await self.api.get(path, **options)

    async def post(self, path: str, **options: Any) -> Any:
        """POSTs to an HTTP endpoint of the same server."""
        return await self.api.post(path, **options)

    async def put(self, path: str, **options: Any) -> Any:
        """PUTs to an HTTP endpoint of the same server."""
        return await self.api.put(path, **options)

    async def delete(self, path: str) -> Any:
        """DELETEs at an HTTP endpoint of the same server."""
        return await self.api.delete(path)


def create_authenticated_client(
    url: str,
    token: str | None = None,
    *,
    api_key: str | None = None,
    refresh_token: TokenCallback | None = None,
    **options: Any,
) -> WSClient:
    """A `WSClient` that shows a token or an API key."""
    return WSClient(url, token=token, api_key=api_key, refresh_token=refresh_token, **options)
