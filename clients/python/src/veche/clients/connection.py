"""One lasting connection over the WebSocket: it is welcomed, keeps its subscriptions and their positions over losses,
and answers requests."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ..auth import Credentials, TokenCallback
from ..backoff import Backoff
from ..errors import AuthenticationError, ConnectionLost, RequestError, RequestTimeout, VecheError
from ..frames import from_frame, to_frame
from ..models import Position
from .inbox import Handler, Inbox, Message
from .subscriptions import Seen, Subscription

log = logging.getLogger("realtime.websocket")

#: After these close codes, or these statuses of the handshake, coming back is of no use without another token.
AUTHENTICATION_CODES = frozenset({4001, 4002, 4003})
AUTHENTICATION_STATUSES = frozenset({401})
#: After these statuses of the handshake the server may take us a moment later.
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
#: How long we are quiet after the server has dropped messages because they came too fast, in seconds.
PAUSE = 1.0
#: After these codes coming back is of no use at all.
FINAL_CODES = frozenset({4400, 4403, 4404})


class _Cut(Exception):
    """The connection went away while an answer was waited for."""


class _TooFast(Exception):
    """The server has dropped messages because there were too many; perhaps this one."""


class Connection:
    """What `WSClient` is built on; see there."""

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
        open_timeout: float = 15.0,
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

        self._socket: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._first: asyncio.Future[None] | None = None
        self._over: VecheError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._newest_id = 0
        self._pending: dict[str, tuple[asyncio.Future[Message], Subscription | None]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._seen = Seen()
        self._was_welcomed = False
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
        self._inbox.close()

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

    def position(self, channel: str) -> Position | None:
        """How far a subscribed channel has arrived: something to keep for the next start of the program."""
        subscription = self._subscriptions.get(channel)
        if subscription is None or subscription.epoch is None:
            return None
        return Position(epoch=subscription.epoch, offset=subscription.offset)

    async def request(self, message: Mapping[str, Any]) -> Message:
        """Sends a message and waits for its answer. After a cut it is sent again, so it must do no harm twice."""
        return await self._request(dict(message))

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
        """Connects and serves the connection until it is lost; returns why. A refused token is replaced, but not twice
        in a row."""
        refused = False
        while True:
            lost = await self._open_and_serve()
            refused = refused and not self._was_welcomed
            if refused or not isinstance(lost, AuthenticationError) or not self.credentials.can_refresh:
                return lost
            refused = True
            try:
                await self.credentials.refresh(self.credentials.token)
            except VecheError as error:
                return error
            except Exception as error:
                return AuthenticationError("refresh_failed", f"refresh_token failed: {error!r}")

    async def _open_and_serve(self) -> VecheError:
        resuming: asyncio.Task[None] | None = None
        self._last_error, self._last_words, self._was_welcomed = {}, {}, False
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
                self._socket, self._was_welcomed = socket, True
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
            answer = await self._ask_patiently(socket, subscription.request(), subscription)
        except RequestError as error:
            log.warning("the channel %r is not given back: %s", subscription.channel, error)
            if self._subscriptions.get(subscription.channel) is subscription:
                del self._subscriptions[subscription.channel]
            refusal = {"channel": subscription.channel, "code": error.code, "message": error.message}
            self._inbox.put_event("error", refusal)
            return
        if had_position:
            name = "recovered" if answer.get("recovered") else "lost"
            about = {key: answer.get(key) for key in ("channel", "epoch", "offset")}
            self._inbox.put_event(name, about)

    def _cut(self, socket: ClientConnection) -> None:
        self._socket = None
        if self._over is None:
            self._ready.clear()
        self._fail_pending(_Cut())
        self._inbox.put_event("close", {"code": socket.close_code, "reason": socket.close_reason})

    def _fail_pending(self, error: Exception) -> None:
        for future, _ in self._pending.values():
            if not future.done():
                future.set_exception(error)
        self._pending.clear()

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
        if (identity := message.get("id")) is not None:
            if (pending := self._pending.get(str(identity))) is not None:
                self._answer(message, *pending)
                return
            if isinstance(identity, int) and identity <= self._newest_id:
                # The answer to something that was asked again since.
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
            if "id" not in message and (message.get("error") or {}).get("code") == "rate_limited":
                self._fail_pending(_TooFast())
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
                        return await self._ask_patiently(socket, message, subscription)
                    except (_Cut, ConnectionClosed):
                        # Until the reader has noticed as well, the old connection would be taken for a good one.
                        await asyncio.sleep(0.01)
        except TimeoutError as error:
            kind = message.get("type")
            raise RequestTimeout("timeout", f"no answer to {kind!r} within {self._request_timeout} s") from error

    async def _ask_patiently(
        self, socket: ClientConnection, message: Message, subscription: Subscription | None
    ) -> Message:
        while True:
            try:
                return await self._ask(socket, message, subscription)
            except _TooFast:
                await asyncio.sleep(PAUSE)

    async def _ask(self, socket: ClientConnection, message: Message, subscription: Subscription | None) -> Message:
        self._newest_id += 1
        identity = self._newest_id
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
        return to_json(message)

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


def to_json(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
