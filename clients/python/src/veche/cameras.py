"""Cameras that send pictures (JPEG) into rooms of calls."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

from .api import RealtimeAPI

_BOUNDARY = "veche-frame"

# How long one request waits for the next frame, in seconds: shorter than clients wait for an answer.
_WAIT = 20


class Camera:
    """A camera of a room, to send as or to look at. The newest frame is all that a server keeps of it.

    >>> async with RealtimeAPI(url, token=token) as api:
    ...     camera = Camera("tea", "door", api)
    ...     await camera.send(jpeg)
    """

    def __init__(self, room_id: str, name: str, api: RealtimeAPI) -> None:
        self._api = api
        self._path = f"/realtime/webrtc/rooms/{quote(room_id, safe='')}/cameras/{quote(name, safe='')}"

    async def send(self, jpeg: bytes) -> dict[str, Any]:
        """Sends a frame, once: the next is better. The answer has its number (`frame`) and how many look (`viewers`).
        Raises `RequestError` when it is not taken: `bad_picture`, `rate_limited` …"""
        return await self._send(jpeg, "image/jpeg")

    async def stream(self, frames: AsyncIterable[bytes] | Iterable[bytes]) -> dict[str, Any]:
        """Sends all of these frames in one request, each when it is there. A frame that is no good is passed over; the
        answer says how many were `taken` and `refused`."""
        return await self._send(_parts(frames), f"multipart/x-mixed-replace; boundary={_BOUNDARY}")

    async def latest(self) -> bytes:
        """The newest frame. Raises `RequestError` (`camera_not_found`) when the camera sends nothing."""
        answer = await self._api.send_request("GET", f"{self._path}/latest.jpg")
        return answer.content

    async def watch(self) -> AsyncIterator[bytes]:
        """Frames as they come, each at most once; those that come while one is worked on are passed over."""
        after = ""
        while True:
            params = {"after": after, "wait": _WAIT}
            answer = await self._api.send_request("GET", f"{self._path}/latest.jpg", params=params)
            if answer.status_code == 200:
                after = answer.headers["etag"].strip('"')
                yield answer.content

    async def remove(self) -> None:
        """Removes the camera. It is there again with its next frame."""
        await self._api.delete(self._path)

    async def _send(self, content: bytes | AsyncIterator[bytes], kind: str) -> dict[str, Any]:
        headers = {"Content-Type": kind}
        url = f"{self._path}/frames"
        answer = await self._api.send_request("POST", url, content=content, headers=headers, retry=False)
        result: dict[str, Any] = answer.json()
        return result


async def _parts(frames: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    async for jpeg in _each(frames):
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        yield head.encode() + jpeg + b"\r\n"
    yield f"--{_BOUNDARY}--\r\n".encode()


async def _each(frames: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
    else:
        for frame in frames:
            yield frame
