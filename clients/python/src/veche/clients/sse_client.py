"""The client of server-sent events: stays connected and comes back where it was."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import EventSource, SSEError, aconnect_sse

from ..api import raise_for_error, retry_after
from ..auth import Credentials, TokenCallback
from ..backoff import Backoff
from ..errors import AuthenticationError, ConnectionLost, RequestError, VecheError
from .subscriptions import Seen

log = logging.getLogger("realtime.sse")

#: Nothing for so long, not even a heartbeat: the connection is dead. The server's default is one in 15 s.
SILENCE_SECONDS = 60.0
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class SSEEvent:
    """An event of the stream."""

    #: Its name: `connected`, `message`, `notification`, `binary_data`, `file`, `presence` …
    event: str
    #: What its JSON says.
    data: Any
    #: The position after it, for `last_event_id`.
    id: str
    #: How long the server wants us to wait before coming back, in milliseconds, where it said so.
    retry: int | None
    #: The data as it came.
    text: str

    def json(self) -> Any:
        """The same as `data`."""
        return self.data


class SSEClient:
    """A client of `GET /realtime/events`.

    ::

        async with SSEClient("http://localhost:8000/realtime/events", channel="news") as client:
            async for event in client.events():
                print(event.event, event.data)

    Entering connects once and raises when that fails. After that a lost connection is opened again, with the position
    of the last event, so that nothing is missed or comes twice. `last_event_id` continues where another run ended.
    """

    def __init__(
        self,
        url: str,
        channel: str | None = None,
        channels: Iterable[str] = (),
        *,
        filters: Mapping[str, Any] | None = None,
        token: str | None = None,
        api_key: str | None = None,
        refresh_token: TokenCallback | None = None,
        credentials: Credentials | None = None,
        last_event_id: str = "",
        reconnect: bool = True,
        backoff: Backoff | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.url = url
        self.channels = ([channel] if channel is not None else []) + list(channels)
        #: The position after the newest event.
        self.last_event_id = last_event_id
        self.credentials = credentials or Credentials(token, api_key, refresh_token)
        #: How often the stream was opened again.
        self.reconnections = 0
        self._filters = dict(filters or {})
        self._reconnect = reconnect
        self._backoff = backoff or Backoff()
        self._client = client or httpx.AsyncClient(timeout=httpx.Timeout(10.0, read=SILENCE_SECONDS))
        self._owns_client = client is None
        self._seen = Seen()
        self._stream: EventSource | None = None
        self._opened: AsyncExitStack | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> Self:
        """Connects. Raises `AuthenticationError`, `RequestError` or `ConnectionLost` when that fails."""
        if self._stream is None:
            try:
                await self._open()
            except httpx.TransportError as error:
                raise ConnectionLost("unreachable", f"{self.url} cannot be reached: {error!r}") from error
        return self

    async def close(self) -> None:
        """Closes the stream for good; `events` ends."""
        self._closed = True
        await self._leave()
        if self._owns_client:
            await self._client.aclose()

    async def events(self) -> AsyncIterator[SSEEvent]:
        """Iterates over the events, across reconnections, until the client is closed."""
        while not self._closed:
            wait_at_least = 0.0
            try:
                if self._stream is None:
                    await self._open()
                    self.reconnections += 1
                assert self._stream is not None, "opened above"
                async for received in self._stream.aiter_sse():
                    if not received.data:
                        # A `retry` alone is no event.
                        continue
                    event = _to_event(received.event, received.data, received.id, received.retry)
                    is_new = self._seen.is_new(event.data.get("message_id") if isinstance(event.data, dict) else None)
                    self._backoff.reset()
                    if received.id:
                        self.last_event_id = received.id
                    if is_new:
                        yield event
                lost = ConnectionLost("ended", "the server ended the stream")
            except (httpx.TransportError, httpx.StreamError, SSEError) as error:
                lost = ConnectionLost("unreachable", f"the stream of {self.url} broke off: {error!r}")
            except _Passing as error:
                lost, wait_at_least = ConnectionLost(error.code, error.message), error.seconds
            if self._closed:
                return
            await self._leave()
            wait = self._backoff.next() if self._reconnect else None
            if wait is None:
                raise lost
            wait = max(wait, wait_at_least)
            log.info("%s; trying again in %.1f s", lost, wait)
            await asyncio.sleep(wait)

    def __aiter__(self) -> AsyncIterator[SSEEvent]:
        return self.events()

    async def _open(self) -> None:
        refreshed = False
        while True:
            headers = {**await self.credentials.headers(), "Cache-Control": "no-store"}
            if self.last_event_id:
                headers["Last-Event-ID"] = self.last_event_id
            stack = AsyncExitStack()
            try:
                stream = await stack.enter_async_context(
                    aconnect_sse(self._client, "GET", self.url, params=self._query(), headers=headers)
                )
                await _check(stream.response)
            except AuthenticationError:
                await stack.aclose()
                if refreshed or not self.credentials.can_refresh:
                    raise
                refreshed = True
                await self.credentials.refresh(self.credentials.token)
                continue
            except BaseException:
                await stack.aclose()
                raise
            self._stream, self._opened = stream, stack
            return

    def _query(self) -> httpx.QueryParams:
        query = httpx.URL(self.url).params
        for channel in self.channels:
            query = query.add("channel", channel)
        for name, value in self._filters.items():
            if isinstance(value, bool):
                value = "true" if value else "false"
            elif isinstance(value, list | tuple):
                value = ",".join(map(str, value))
            query = query.set(name, value)
        return query

    async def _leave(self) -> None:
        opened, self._stream, self._opened = self._opened, None, None
        if opened is not None:
            await opened.aclose()


class _Passing(VecheError):
    """The server is busy; it may take us in `seconds`."""

    def __init__(self, error: RequestError, seconds: float) -> None:
        super().__init__(error.code, error.message)
        self.seconds = seconds


async def _check(response: httpx.Response) -> None:
    if response.status_code < 400:
        if response.status_code != 200:
            raise RequestError(f"http_{response.status_code}", "this is no event stream", response.status_code)
        return
    await response.aread()
    try:
        raise_for_error(response)
    except RequestError as error:
        if error.status in PASSING_STATUSES:
            raise _Passing(error, retry_after(response)) from error
        raise


def _to_event(name: str, text: str, identity: str, retry: int | None) -> SSEEvent:
    try:
        data = json.loads(text)
    except ValueError:
        data = text
    return SSEEvent(name, data, identity, retry, text)


def create_sse_client(
    url: str,
    channel: str | None = None,
    *,
    channels: Iterable[str] = (),
    token: str | None = None,
    api_key: str | None = None,
    **options: Any,
) -> SSEClient:
    """An `SSEClient` of a channel, or of several."""
    return SSEClient(url, channel, channels, token=token, api_key=api_key, **options)
