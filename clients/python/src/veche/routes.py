"""`webrtc_rooms`: the rooms of the server of `VECHE_URL`."""

from __future__ import annotations

from typing import Any

from .rooms import WebRTCRoom


class WebRTCRooms:
    """All rooms of calls; see `WebRTCRoom` for what can be done with one."""

    async def create(self, room_id: str, name: str | None = None, max_participants: int | None = None) -> WebRTCRoom:
        """Makes a room."""
        return await WebRTCRoom(room_id=room_id, name=name, max_participants=max_participants).create()

    async def list(self) -> tuple[WebRTCRoom, ...]:
        """All rooms."""
        return await WebRTCRoom.list()

    async def get(self, room_id: str) -> WebRTCRoom:
        """The room with this id."""
        return await WebRTCRoom.get(room_id)

    async def update(self, room_id: str, **changes: Any) -> WebRTCRoom:
        """Changes a room."""
        return await WebRTCRoom(room_id=room_id).update(**changes)

    async def delete(self, room_id: str) -> None:
        """Deletes a room."""
        await WebRTCRoom(room_id=room_id).delete()


webrtc_rooms = WebRTCRooms()
