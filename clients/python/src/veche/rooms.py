"""Rooms of calls, over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from pydantic import ConfigDict, Field

from .api import RealtimeAPI
from .models import Message

ROOMS = "/realtime/webrtc/rooms"


class WebRTCRoom(Message):
    """A room, and what can be done with it. Every method takes a `RealtimeAPI`; without one, the server of `VECHE_URL`
    is asked."""

    model_config = ConfigDict(extra="allow")

    room_id: str = Field(min_length=1)
    name: str | None = None
    max_participants: int | None = Field(default=None, ge=1)

    async def create(self, api: RealtimeAPI | None = None) -> WebRTCRoom:
        """Makes the room at the server and returns it as the server has it."""
        async with _api(api) as server:
            return WebRTCRoom.model_validate(await server.post(ROOMS, json=self.dict()))

    @classmethod
    async def get(cls, room_id: str, api: RealtimeAPI | None = None) -> WebRTCRoom:
        """The room with this id. Raises `RequestError` (`room_not_found`) when there is none."""
        async with _api(api) as server:
            return cls.model_validate(await server.get(_place(room_id)))

    @classmethod
    async def list(cls, api: RealtimeAPI | None = None) -> tuple[WebRTCRoom, ...]:
        """All rooms."""
        async with _api(api) as server:
            answer = await server.get(ROOMS)
            rooms = answer["rooms"] if isinstance(answer, dict) else answer
            return tuple(cls.model_validate(room) for room in rooms)

    async def update(self, api: RealtimeAPI | None = None, **changes: Any) -> WebRTCRoom:
        """Changes the room (`name`, `max_participants` …) and returns it as the server has it then."""
        async with _api(api) as server:
            return WebRTCRoom.model_validate(await server.put(_place(self.room_id), json=changes))

    async def delete(self, api: RealtimeAPI | None = None) -> None:
        """Deletes the room; everybody in it has to leave."""
        async with _api(api) as server:
            await server.delete(_place(self.room_id))


def _place(room_id: str) -> str:
    return f"{ROOMS}/{quote(room_id, safe='')}"


@asynccontextmanager
async def _api(given: RealtimeAPI | None) -> AsyncIterator[RealtimeAPI]:
    if given is not None:
        yield given
    else:
        async with RealtimeAPI() as own:
            yield own
