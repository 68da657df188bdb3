"""The WebSocket client: stays connected, comes back where it was, and answers what it is asked."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ..api import RealtimeAPI, binary_body
from ..auth import Credentials, TokenCallback, http_url
from ..backoff import Backoff
from ..errors import AuthenticationError, ConnectionLost, RequestError, RequestTimeout, VecheError
from ..files import FileSource, Progress
from ..frames import from_frame, to_frame
from ..models import BinaryMessage, ChannelMessage, History, Position, Published, Subscribed
from .inbox import Handler, Inbox, Message
from .subscriptions import Seen, Subscription

log = logging.getLogger("realtime.websocket")

#: After these close codes, or these statuses of the handshake, coming back is of no use without another token.
AUTHENTICATION_CODES = frozenset({4001, 4002, 4003})
AUTHENTICATION_STATUSES = frozenset({401})
#: After these statuses of the handshake the server may take us a moment later.
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
#: After these codes coming back is of no use at all.
FINAL_CODES = frozenset({4400, 4403, 4404})


class _Cut(Exception):
    """The connection went away while an answer was waited for."""


class WSClient:
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

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        api_key: str | None = None,
        refresh_token: TokenCallback | None = None,
        credentials: Credentials | None = None,
        reconnect: bool = True,
        backoff: Backoff | None = None,
        native_binary: bool = False,
        request_timeout: float = 15.0,
        open_timeout: float = 10.0,
        max_message_bytes: int = 64 * 1024 * 1024,
        inbox: int = 1024,
        connect_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.credentials = credentials or Credentials(token, api_key, refresh_token)
        #: What the server said in its latest welcome.
        self.welcome: Message = {}
        self._reconnect = reconnect
        self._backoff = backoff or Backoff()
        self._native_binary = native_binary
        self._request_timeout = request_timeout
        self._open_timeout = open_timeout
        self._max_message_bytes = max_message_bytes
        self._connect_options = dict(connect_options or {})
        self._inbox = Inbox(inbox)
        self._api: RealtimeAPI | None = None

        self._socket: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._first: asyncio.Future[None] | None = None
        self._over: VecheError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ids = itertools.count(1)
        self._pending: dict[str, tuple[asyncio.Future[Message], Subscription | None]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._seen = Seen()
        self._last_error: Message = {}
        self._last_words: Message = {}

    # Connecting

    async def connect(self) -> Self:
        """Connects. Raises `AuthenticationError` or `ConnectionLost` when that fails."""
        if self._tasks:
            raise VecheError("already_connected", "connect() was called before; make another client")
        self._first = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._inbox.run()), asyncio.create_task(self._stay_connected())]
        try:
            await self._first
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Closes the connection for good. Handlers hear no more."""
        if self._over is None:
            self._over = ConnectionLost("closed", "the client was closed", 1000)
            self._ready.set()
        if self._socket is not None:
            await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._api is not None:
            await self._api.aclose()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether the connection stands and all subscriptions are made."""
        return self._ready.is_set() and self._over is None

    @property
    def connection_id(self) -> str | None:
        """Our id at the server; another one after every reconnection."""
        return self.welcome.get("connection_id")

    @property
    def user_id(self) -> str | None:
        """Who the server says we are."""
        return self.welcome.get("user_id")

    @property
    def api(self) -> RealtimeAPI:
        """The HTTP endpoints of the same server, with the same credentials."""
        if self._api is None:
            self._api = RealtimeAPI(http_url(self.url), credentials=self.credentials)
        return self._api

    # Hearing

    def on_message(self, handler: Handler) -> Handler:
        """From now on `handler` is called with every message that is no answer to one of our requests.

        Handlers may be coroutine functions. They are called one after the other, in the order in which the messages
        came. Can be used as a decorator.
        """
        self._inbox.add_handler(handler)
        return handler

    def remove_handler(self, handler: Handler) -> None:
        """Ends `on_message`."""
        self._inbox.remove_handler(handler)

    def on(self, event: str, handler: Handler) -> Self:
        """From now on `handler` is called with a dictionary whenever something happens to the connection.

        - `open`: connected, or connected again (`reconnected` says which), with all subscriptions made
        - `close`: the connection is lost; `code`, `reason`
        - `reconnecting`: the next attempt is made in `wait` seconds; `attempt` counts from 1
        - `recovered`: back in `channel`, with everything that was missed
        - `lost`: back in `channel`, but what was missed is not known any more; now at `epoch`, `offset`
        - `error`: the server refused to give a channel back, or said that something is wrong
        """
        self._inbox.add_event_handler(event, handler)
        return self

    def messages(self) -> AsyncIterator[Message]:
        """Iterates over the messages. Ends when the client is closed; raises when the connection is lost for good."""
        return self._inbox.messages()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.messages()

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

    def position(self, channel: str) -> Position | None:
        """How far a subscribed channel has arrived: something to keep for the next start of the program."""
        subscription = self._subscriptions.get(channel)
        if subscription is None or subscription.epoch is None:
            return None
        return Position(epoch=subscription.epoch, offset=subscription.offset)

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
        await self._send(_to_json(message))

    async def request(self, message: Mapping[str, Any]) -> Message:
        """Sends a message and waits for its answer. After a cut it is sent again, so it must do no harm twice."""
        return await self._request(dict(message))

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

    async def send_direct(self, data: Any, *, user_id: str | None = None, connection_id: str | None = None) -> Published:
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

    # The connection's life

    async def _stay_connected(self) -> None:
        over: VecheError | None = None
        try:
            while over is None:
                lost = await self._connect_once()
                first = self._first is not None and not self._first.done()
                wait = self._backoff.next() if self._reconnect and not first and _may_pass(lost) else None
                if wait is None:
                    over = lost
                    break
                log.info("%s; trying again in %.1f s", lost, wait)
                self._inbox.put_event("reconnecting", {"attempt": self._backoff.made, "wait": wait})
                await asyncio.sleep(wait)
        except Exception as error:
            log.exception("the connection to %s failed", self.url)
            over = ConnectionLost("failed", repr(error))
        finally:
            self._finish(over)

    def _finish(self, error: VecheError | None) -> None:
        if self._over is None:
            self._over = error or ConnectionLost("closed", "the client was closed", 1000)
        self._ready.set()
        if self._first is not None and not self._first.done():
            self._first.set_exception(self._over)
        closed_by_us = isinstance(self._over, ConnectionLost) and self._over.code == "closed"
        self._inbox.end(None if closed_by_us else self._over)

    async def _connect_once(self) -> VecheError:
        """Connects and serves the connection until it is lost; returns why. A refused token is replaced once."""
        lost = await self._open_and_serve()
        if isinstance(lost, AuthenticationError) and self.credentials.can_refresh:
            try:
                await self.credentials.refresh(self.credentials.token)
            except VecheError as error:
                return error
            except Exception as error:
                return AuthenticationError("refresh_failed", f"refresh_token failed: {error!r}")
            lost = await self._open_and_serve()
        return lost

    async def _open_and_serve(self) -> VecheError:
        resuming: asyncio.Task[None] | None = None
        self._last_error, self._last_words = {}, {}
        try:
            async with asyncio.timeout(self._open_timeout):
                url = self.url
                if self._native_binary:
                    url += ("&" if "?" in url else "?") + "binary=1"
                options = {"max_size": self._max_message_bytes, **self._connect_options}
                socket = await connect(url, additional_headers=await self.credentials.headers(), **options)
                try:
                    self.welcome = await self._expect_welcome(socket)
                except BaseException:
                    await socket.close()
                    raise
            try:
                self._socket = socket
                await self._inbox.put(self.welcome)
                resuming = asyncio.create_task(self._resume(socket))
                async for frame in socket:
                    await self._handle_frame(frame)
                return self._why_closed(socket)
            finally:
                self._cut(socket)
                if resuming is not None:
                    resuming.cancel()
                    await asyncio.gather(resuming, return_exceptions=True)
                await socket.close()
        except ConnectionClosed as closed:
            return self._lost(closed.rcvd.code if closed.rcvd else 1006, closed.rcvd.reason if closed.rcvd else "")
        except InvalidStatus as refused:
            return _refused(refused)
        except InvalidURI as error:
            return ConnectionLost("bad_url", str(error))
        except VecheError as error:
            return error
        except (OSError, InvalidHandshake, TimeoutError, EOFError) as error:
            return ConnectionLost("unreachable", f"{self.url} cannot be reached: {error!r}", 1006)

    async def _expect_welcome(self, socket: ClientConnection) -> Message:
        async for frame in socket:
            if isinstance(frame, str):
                message: Message = json.loads(frame)
                if message.get("type") == "welcome":
                    return message
                self._note(message)
        raise self._why_closed(socket)

    async def _resume(self, socket: ClientConnection) -> None:
        """Makes all subscriptions again, then lets requests through."""
        reconnected = self._first is not None and self._first.done()
        self._backoff.reset()
        try:
            await asyncio.gather(*(self._resubscribe(socket, one) for one in list(self._subscriptions.values())))
        except (_Cut, ConnectionClosed):
            return
        self._ready.set()
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._inbox.put_event("open", {"reconnected": reconnected, **self.welcome})

    async def _resubscribe(self, socket: ClientConnection, subscription: Subscription) -> None:
        had_position = subscription.epoch is not None
        try:
            answer = await self._ask(socket, subscription.request(), subscription)
        except RequestError as error:
            log.warning("the channel %r is not given back: %s", subscription.channel, error)
            if self._subscriptions.get(subscription.channel) is subscription:
                del self._subscriptions[subscription.channel]
            about = {"channel": subscription.channel, "code": error.code, "message": error.message}
            self._inbox.put_event("error", about)
            return
        if had_position:
            name = "recovered" if answer.get("recovered") else "lost"
            about = {key: answer.get(key) for key in ("channel", "epoch", "offset")}
            self._inbox.put_event(name, about)

    def _cut(self, socket: ClientConnection) -> None:
        self._socket = None
        if self._over is None:
            self._ready.clear()
        for future, _ in self._pending.values():
            if not future.done():
                future.set_exception(_Cut())
        self._pending.clear()
        self._inbox.put_event("close", {"code": socket.close_code, "reason": socket.close_reason})

    def _why_closed(self, socket: ClientConnection) -> VecheError:
        return self._lost(socket.close_code or 1006, socket.close_reason or "")

    def _lost(self, code: int, reason: str) -> VecheError:
        error = self._last_error.get("error") or {}
        name = str(error.get("code") or self._last_words.get("reason") or f"closed_{code}")
        text = str(error.get("message") or reason or "the connection was closed")
        if code in AUTHENTICATION_CODES:
            return AuthenticationError(name, text)
        if code in FINAL_CODES or self._last_words.get("reconnect") is False:
            return _Final(name, text, code)
        return ConnectionLost(name, text, code)

    # Frames

    async def _handle_frame(self, frame: str | bytes) -> None:
        try:
            message: Message = json.loads(frame) if isinstance(frame, str) else from_frame(frame)
        except ValueError as error:
            log.warning("a frame that makes no sense was dropped: %s", error)
            return
        if not isinstance(message, dict):
            return
        self._note(message)
        if (pending := self._pending.get(str(message.get("id")))) is not None and "id" in message:
            self._answer(message, *pending)
            return
        channel = message.get("channel")
        is_new = self._seen.is_new(message.get("message_id"))
        if is_new:
            await self._inbox.put(message)
        # Only what is in the inbox counts as arrived.
        subscription = self._subscriptions.get(channel) if isinstance(channel, str) else None
        if subscription is not None and "offset" in message:
            subscription.on_message(message)
        if message.get("type") == "unsubscribed" and isinstance(channel, str):
            self._subscriptions.pop(channel, None)

    def _note(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "error":
            self._last_error = message
        elif kind == "disconnect":
            self._last_words = message

    def _answer(self, message: Message, future: asyncio.Future[Message], subscription: Subscription | None) -> None:
        del self._pending[str(message["id"])]
        if subscription is not None and message.get("type") == "subscribed":
            # At once, since the channel's messages are right behind.
            subscription.on_subscribed(message)
            self._subscriptions[subscription.channel] = subscription
        if not future.done():
            future.set_result(message)

    # Requests

    async def _request(self, message: Message, subscription: Subscription | None = None) -> Message:
        try:
            async with asyncio.timeout(self._request_timeout):
                while True:
                    socket = await self._when_ready()
                    try:
                        return await self._ask(socket, message, subscription)
                    except (_Cut, ConnectionClosed):
                        # Until the reader has noticed as well, the old connection would be taken for a good one.
                        await asyncio.sleep(0)
        except TimeoutError as error:
            kind = message.get("type")
            raise RequestTimeout(
                "timeout", f"no answer to {kind!r} within {self._request_timeout} s"
            ) from error

    async def _ask(self, socket: ClientConnection, message: Message, subscription: Subscription | None) -> Message:
        identity = next(self._ids)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[str(identity)] = (future, subscription)
        try:
            await socket.send(self._encode({**message, "id": identity}))
            answer = await future
        finally:
            self._pending.pop(str(identity), None)
        if answer.get("type") == "error":
            error = answer.get("error") or {}
            raise RequestError(str(error.get("code", "error")), str(error.get("message", answer.get("message", ""))))
        return answer

    def _encode(self, message: Message) -> str | bytes:
        if self._native_binary and message.get("type") == "binary":
            return to_frame(message)
        return _to_json(message)

    async def _send(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._request_timeout):
                socket = await self._when_ready()
                await socket.send(text)
        except TimeoutError as error:
            raise RequestTimeout("timeout", f"not connected within {self._request_timeout} s") from error
        except ConnectionClosed as error:
            raise ConnectionLost("closed", "the connection was lost while sending") from error

    async def _when_ready(self) -> ClientConnection:
        if not self._tasks:
            raise VecheError("not_connected", "call connect(), or use the client in `async with`")
        while True:
            await self._ready.wait()
            if self._over is not None:
                raise self._over
            if self._socket is not None:
                return self._socket
            await asyncio.sleep(0)


class _Final(ConnectionLost):
    """Coming back is of no use."""


def _may_pass(lost: VecheError) -> bool:
    return isinstance(lost, ConnectionLost) and not isinstance(lost, _Final) and lost.code != "bad_url"


def _refused(refused: InvalidStatus) -> VecheError:
    status = refused.response.status_code
    code, text = f"http_{status}", refused.response.reason_phrase
    try:
        error = json.loads(refused.response.body or b"")["error"]
        code, text = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        pass
    if status in AUTHENTICATION_STATUSES:
        return AuthenticationError(code, text)
    if status in PASSING_STATUSES:
        return ConnectionLost(code, text)
    return _Final(code, text)


def _to_json(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


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
