"""What has arrived and waits to be heard: by handlers, one message after the other, and by iteration."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Message = dict[str, Any]
#: Called with a message; may be a coroutine function, which is then waited for before the next message.
Handler = Callable[[Message], Awaitable[object] | object]

log = logging.getLogger("realtime.websocket")


class Inbox:
    """Gives messages and events to those who want them, in the order in which they came.

    At most `limit` messages wait: then `put` waits too, so that a slow program slows the server down, not its own
    memory. While nobody listens at all, the newest `limit` messages are kept for who comes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[str | None, Message]] = deque()
        self._changed = asyncio.Event()
        self._space = asyncio.Event()
        self._unheard: deque[Message] = deque(maxlen=limit)
        self._handlers: list[Handler] = []
        self._handlers_by_event: dict[str, list[Handler]] = {}
        self._iterations: set[asyncio.Queue[Message | None]] = set()
        self._over = False
        self._error: Exception | None = None

    def add_handler(self, handler: Handler) -> None:
        """From now on `handler` hears every message."""
        self._handlers.append(handler)
        self._changed.set()

    def remove_handler(self, handler: Handler) -> None:
        """`handler` hears no more."""
        if handler in self._handlers:
            self._handlers.remove(handler)

    def add_event_handler(self, event: str, handler: Handler) -> None:
        """From now on `handler` hears every `event`."""
        self._handlers_by_event.setdefault(event, []).append(handler)

    async def put(self, message: Message) -> None:
        """Adds a message, once there is room."""
        while len(self._waiting) >= self._limit:
            self._space.clear()
            await self._space.wait()
        self._waiting.append((None, message))
        self._changed.set()

    def put_event(self, event: str, about: Message) -> None:
        """Adds an event; those are few and never wait for room."""
        if event in self._handlers_by_event:
            self._waiting.append((event, about))
            self._changed.set()

    def messages(self) -> AsyncIterator[Message]:
        """Iterates over the messages from now on, until the end."""
        queue: asyncio.Queue[Message | None] = asyncio.Queue(self._limit)
        if self._over:
            queue.put_nowait(None)
        else:
            self._iterations.add(queue)
            self._changed.set()
        return self._drain(queue)

    def end(self, error: Exception | None) -> None:
        """There will be no more messages; iterations end, with `error` if there is one."""
        self._over = True
        self._error = error
        self._changed.set()

    def close(self) -> None:
        """Ends iterations now, whatever waits; `run` may be over."""
        self._over = True
        for queue in self._iterations:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def run(self) -> None:
        """Gives everything out until the end."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._unheard and self._is_heard():
                await self._give(self._unheard.popleft())
            while self._waiting:
                event, message = self._waiting.popleft()
                self._space.set()
                if event is not None:
                    for handler in list(self._handlers_by_event.get(event, ())):
                        await call(handler, message)
                elif self._is_heard():
                    await self._give(message)
                else:
                    self._unheard.append(message)
            if self._over:
                for queue in self._iterations:
                    await queue.put(None)
                return

    def _is_heard(self) -> bool:
        return bool(self._handlers or self._iterations)

    async def _give(self, message: Message) -> None:
        for handler in list(self._handlers):
            await call(handler, message)
        for queue in list(self._iterations):
            await queue.put(message)

    async def _drain(self, queue: asyncio.Queue[Message | None]) -> AsyncIterator[Message]:
        try:
            while (message := await queue.get()) is not None:
                yield message
            if self._error is not None:
                raise self._error
        finally:
            self._iterations.discard(queue)
            # Whoever waits for room in it shall not wait for ever.
            while not queue.empty():
                queue.get_nowait()


async def call(handler: Handler, message: Message) -> None:
    """Calls a handler; one that fails is logged and keeps nobody else from hearing."""
    try:
        result = handler(message)
        if inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("a handler failed with a message of type %r", message.get("type"))
