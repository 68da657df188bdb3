"""Binary WebSocket frames: bytes with a small header, instead of base64 in JSON, as the server's PROTOCOL.md says."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: The first byte of a frame: version 1, and which way it goes.
PUBLISH = 0x11
DELIVERY = 0x12

_HAS_ID = 0x01
_PERSISTENT = 0x02
_TO_USER = 0x04
_TO_CONNECTION = 0x08

#: Version, flags, offset, epoch, time in milliseconds.
_DELIVERY_HEAD = struct.Struct(">BBQIQ")


def to_frame(message: Mapping[str, Any]) -> bytes:
    """The frame of a `binary` message to the server. Raises `ValueError` when a text has more than 255 bytes."""
    flags, target = 0, ""
    if message.get("channel"):
        target = message["channel"]
    elif message.get("user_id"):
        flags, target = _TO_USER, message["user_id"]
    elif message.get("connection_id"):
        flags, target = _TO_CONNECTION, message["connection_id"]
    if message.get("persistent"):
        flags |= _PERSISTENT
    identity = b""
    if "id" in message:
        flags |= _HAS_ID
        identity = struct.pack(">I", int(message["id"]))
    texts = (target, message.get("content_type"), message.get("filename"), message.get("idempotency_key"))
    head = bytes([PUBLISH, flags]) + identity + b"".join(_text(text) for text in texts)
    return head + base64.b64decode(message["binary_data"])


def from_frame(frame: bytes) -> dict[str, Any]:
    """The `binary` message of a frame from the server, just as JSON would have brought it."""
    try:
        version, flags, offset, epoch, time = _DELIVERY_HEAD.unpack_from(frame)
        if version != DELIVERY:
            raise ValueError(f"a binary frame begins with the byte {version:#04x}, which means nothing to this version")
        texts, place = [], _DELIVERY_HEAD.size
        for _ in range(7):
            end = place + 1 + frame[place]
            if end > len(frame):
                raise IndexError
            texts.append(frame[place + 1 : end].decode("utf-8"))
            place = end
    except (struct.error, IndexError) as error:
        raise ValueError("a binary frame ends within its header") from error
    message_id, channel, content_type, filename, user_id, name, connection_id = texts
    payload = frame[place:]
    when = datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message: dict[str, Any] = {"type": "binary"}
    if channel:
        message |= {"channel": channel, "offset": offset, "epoch": f"{epoch:08x}"}
    message |= {
        "binary_data": base64.b64encode(payload).decode("ascii"),
        "content_type": content_type,
        "filename": filename or None,
        "size": len(payload),
        "message_id": message_id,
        "persistent": bool(flags & _PERSISTENT),
        "sender": {"user_id": user_id or None, "name": name or None, "connection_id": connection_id or None},
        "timestamp": when,
    }
    return message


def _text(text: str | None) -> bytes:
    encoded = (text or "").encode("utf-8")
    if len(encoded) > 255:
        raise ValueError(f"a text of a binary frame has at most 255 bytes, not {len(encoded)}: {text!r}")
    return bytes([len(encoded)]) + encoded
