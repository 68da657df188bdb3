"""The HTTP side: everything that can be asked with a request and an answer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from . import files
from .auth import Credentials, TokenCallback, http_url
from .backoff import Backoff
from .config import get_settings
from .errors import AuthenticationError, ConnectionLost, RequestError, VecheError
from .files import FileSource, Progress
from .models import BinaryMessage, FileInfo, History, Published

log = logging.getLogger("realtime.http")

#: A request is tried so many times when the server cannot be reached or says that it is busy.
ATTEMPTS = 4
#: With these statuses the same request may succeed in a moment.
PASSING = frozenset({429, 502, 503, 504})
#: Nobody waits longer than this because a server says so.
LONGEST_RETRY_AFTER = 30.0


class RealtimeAPI:
    """A client of the HTTP endpoints.

    `base_url` is the server's address, `VECHE_URL` unless told; a token or API key comes from `VECHE_TOKEN` or
    `VECHE_API_KEY` unless one is given. Every POST carries an idempotency key, so that trying again after a broken
    connection does not do it twice. Bad answers are `RequestError`, with the server's code and text.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | None = None,
        api_key: str | None = None,
        refresh_token: TokenCallback | None = None,
        credentials: Credentials | None = None,
        timeout: float = 30.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        settings = get_settings()
        self.base_url = http_url(base_url or settings.VECHE_URL)
        if credentials is None:
            if not (token or api_key or refresh_token) and base_url is None:
                token, api_key = settings.VECHE_TOKEN, settings.VECHE_API_KEY
            credentials = Credentials(token, api_key, refresh_token)
        self.credentials = credentials
        self._client = client or httpx.AsyncClient(timeout=timeout)
        self._owns_client = client is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections to the server."""
        if self._owns_client:
            await self._client.aclose()

    # Any endpoint

    async def get(self, path: str, *, params: Mapping[str, Any] | None = None) -> Any:
        """GETs an address of the server and returns the JSON of the answer."""
        return await self.request("GET", path, params=params)

    async def post(self, path: str, *, json: Any = None, idempotency_key: str | None = None) -> Any:
        """POSTs JSON and returns the JSON of the answer."""
        return await self.request("POST", path, json=json, idempotency_key=idempotency_key)

    async def put(self, path: str, *, json: Any = None) -> Any:
        """PUTs JSON and returns the JSON of the answer."""
        return await self.request("PUT", path, json=json)

    async def delete(self, path: str) -> Any:
        """DELETEs what is at an address."""
        return await self.request("DELETE", path)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Sends a request, again if need be, and returns the JSON of the answer (`None` for an empty one)."""
        headers = {}
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or uuid.uuid4().hex
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        response = await self.send_request(method, path, params=wanted, json=json, headers=headers)
        return response.json() if response.content else None

    async def send_request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, retry: bool = True, **options: Any
    ) -> httpx.Response:
        """Sends a request and returns the whole response, once it is a good one."""
        if options.get("json") is None:
            options.pop("json", None)
        backoff = Backoff(first=0.5, attempts=ATTEMPTS - 1 if retry else 0)
        refreshed = False
        while True:
            shown = await self.credentials.headers()
            try:
                response = await self._client.request(
                    method, self.url(path), headers={**shown, **(headers or {})}, **options
                )
            except httpx.TransportError as error:
                wait = backoff.next()
                if wait is None:
                    raise ConnectionLost("unreachable", f"{self.base_url} cannot be reached: {error!r}") from error
                log.info("%s %s: %r; trying again in %.1f s", method, path, error, wait)
                await asyncio.sleep(wait)
                continue
            if response.status_code == 401 and self.credentials.can_refresh and not refreshed:
                refreshed = True
                await self.credentials.refresh(self.credentials.token)
                continue
            if response.status_code in PASSING and (wait := backoff.next()) is not None:
                await asyncio.sleep(max(wait, retry_after(response)))
                continue
            raise_for_error(response)
            return response

    def url(self, path: str) -> str:
        """The whole address of a path; a whole address of this server stays as it is.

        Raises `VecheError` for another server's: our credentials are not for it.
        """
        if path.startswith("/"):
            return self.base_url + path
        if path == self.base_url or path.startswith(self.base_url + "/"):
            return path
        raise VecheError("bad_url", f"{path!r} is not an address of {self.base_url}")

    # Messages

    async def send(
        self,
        data: Any,
        *,
        channel: str | None = None,
        user_id: str | None = None,
        connection_id: str | None = None,
        persistent: bool = False,
        idempotency_key: str | None = None,
    ) -> Published:
        """Sends `data` to a channel, to a user (all their connections) or to one connection."""
        body = _target(channel=channel, user_id=user_id, connection_id=connection_id)
        body["data"] = data
        if persistent:
            body["persistent"] = True
        return await self._publish("/realtime/send", body, idempotency_key)

    async def broadcast(self, data: Any, *, idempotency_key: str | None = None) -> Published:
        """Sends `data` to everybody who is connected."""
        return await self._publish("/realtime/broadcast", {"data": data}, idempotency_key)

    async def send_binary(
        self,
        message: BinaryMessage | bytes,
        content_type: str | None = None,
        filename: str | None = None,
        *,
        channel: str | None = None,
        user_id: str | None = None,
        connection_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Sends bytes to a channel, a user, a connection, or with none of them to everybody."""
        body = binary_body(message, content_type, filename, channel, user_id, connection_id)
        body.pop("type")
        return await self._publish("/realtime/binary/send", body, idempotency_key)

    async def send_text_as_binary(
        self, text: str, *, channel: str | None = None, filename: str | None = None, idempotency_key: str | None = None
    ) -> Published:
        """Sends text as a binary message of type `text/plain`."""
        body = {"text": text, **_target(channel=channel, filename=filename)}
        return await self._publish("/realtime/binary/text", body, idempotency_key)

    async def notify_user(
        self, user_id: str, title: str, body: str = "", *, notification_type: str | None = None, data: Any = None
    ) -> Published:
        """Sends a notification to all connections of a user."""
        return await self._notify("send", {"user_id": user_id}, title, body, notification_type, data)

    async def notify_channel(
        self, channel: str, title: str, body: str = "", *, notification_type: str | None = None, data: Any = None
    ) -> Published:
        """Sends a notification to a channel."""
        return await self._notify("channel", {"channel": channel}, title, body, notification_type, data)

    async def notify_all(
        self, title: str, body: str = "", *, notification_type: str | None = None, data: Any = None
    ) -> Published:
        """Sends a notification to everybody who is connected."""
        return await self._notify("broadcast", {}, title, body, notification_type, data)

    async def send_webrtc_signal(
        self,
        signal_type: str,
        target_peer_id: str,
        *,
        room_id: str | None = None,
        sdp: str | None = None,
        ice_candidate: Mapping[str, Any] | None = None,
    ) -> Any:
        """Sends a WebRTC signal to a peer: a connection, a user, or a participant of a call room."""
        body = _target(room_id=room_id, sdp=sdp, ice_candidate=dict(ice_candidate) if ice_candidate else None)
        return await self.post(
            "/realtime/webrtc/signal", json={"signal_type": signal_type, "target_peer_id": target_peer_id, **body}
        )

    # Files

    async def upload_file(
        self,
        file: FileSource,
        *,
        channel: str | None = None,
        filename: str | None = None,
        content_type: str | None = None,
        persistent: bool = False,
        inline: bool | None = None,
        resumable: bool | None = None,
        on_progress: Progress | None = None,
    ) -> Published:
        """Uploads a file and announces it in a channel, or without one to everybody who is connected.

        `file` is a path, bytes, or a file that is open for reading bytes. `on_progress(done, total)` is called as
        bytes leave. Files above 8 MiB (or with `resumable=True`) go in pieces: a broken connection costs only the
        piece that was under way.
        """
        return await files.upload(
            self,
            file,
            channel=channel,
            filename=filename,
            content_type=content_type,
            persistent=persistent,
            inline=inline,
            resumable=resumable,
            on_progress=on_progress,
        )

    async def download_file(
        self,
        file: str | FileInfo | Mapping[str, Any],
        to: str | Path | None = None,
        *,
        on_progress: Progress | None = None,
    ) -> bytes:
        """Downloads a file: by its id, its `FileInfo`, a `file` message, or an address of the server.

        With `to` it is written there as it comes (first beside it, so that there is never half a file) and the result
        is empty; without, the bytes are returned. A broken connection is continued, and the SHA-256 is checked where
        it is known.
        """
        return await files.download(self, file, to, on_progress=on_progress)

    # What there is

    async def connections(self) -> dict[str, Any]:
        """How many are connected, and with enough rights who and to which channels."""
        return dict(await self.get("/realtime/connections"))

    async def webrtc_connections(self) -> dict[str, Any]:
        """The participants of calls."""
        return dict(await self.get("/realtime/webrtc/connections"))

    async def health(self) -> dict[str, Any]:
        """How the messaging side is."""
        return dict(await self.get("/realtime/health"))

    async def channels(self) -> dict[str, Any]:
        """The channels that there are."""
        return dict(await self.get("/realtime/channels"))

    async def history(
        self, channel: str, *, since: int | None = None, epoch: str | None = None, limit: int | None = None
    ) -> History:
        """The newest messages of a channel, or those after the offset `since` of an epoch, oldest first."""
        params = {"since": since, "epoch": epoch, "limit": limit}
        answer = await self.get(f"/realtime/channels/{quote(channel, safe='')}/history", params=params)
        return History.model_validate({"channel": channel, **answer})

    async def presence(self, channel: str) -> dict[str, Any]:
        """Who is subscribed to a channel."""
        return dict(await self.get(f"/realtime/channels/{quote(channel, safe='')}/presence"))

    async def channel_events(self, channel: str, *, since: int | None = None) -> dict[str, Any]:
        """The event log of a channel."""
        return dict(await self.get(f"/realtime/channels/{quote(channel, safe='')}/events", params={"since": since}))

    async def room_events(self, room_id: str, *, since: int | None = None) -> dict[str, Any]:
        """The event log of a call room."""
        return dict(await self.get(f"/realtime/webrtc/rooms/{quote(room_id, safe='')}/events", params={"since": since}))

    async def _publish(self, path: str, body: dict[str, Any], idempotency_key: str | None) -> Published:
        return Published.model_validate(await self.post(path, json=body, idempotency_key=idempotency_key) or {})

    async def _notify(
        self, path: str, target: dict[str, Any], title: str, body: str, notification_type: str | None, data: Any
    ) -> Published:
        json = {**target, "title": title, "body": body, **_target(notification_type=notification_type, data=data)}
        return await self._publish(f"/realtime/notifications/{path}", json, None)


def binary_body(
    message: BinaryMessage | bytes,
    content_type: str | None,
    filename: str | None,
    channel: str | None,
    user_id: str | None,
    connection_id: str | None,
) -> dict[str, Any]:
    """The `binary` message of a model or of bytes; what is told beside a model wins over what it says."""
    if not isinstance(message, BinaryMessage):
        message = BinaryMessage.from_bytes(message)
    changes = _target(
        content_type=content_type, filename=filename, channel=channel, user_id=user_id, connection_id=connection_id
    )
    return {**message.dict(), **changes}


def _target(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def retry_after(response: httpx.Response) -> float:
    """How long the server asks us to wait, in seconds."""
    try:
        return min(float(response.headers.get("retry-after", 0)), LONGEST_RETRY_AFTER)
    except ValueError:
        return 0.0


def raise_for_error(response: httpx.Response) -> None:
    """Raises what a bad response says."""
    if response.status_code < 400:
        return
    code, message = f"http_{response.status_code}", response.reason_phrase
    try:
        error = response.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError, httpx.ResponseNotRead):
        pass
    if response.status_code == 401:
        raise AuthenticationError(code, message)
    raise RequestError(code, message, response.status_code)
