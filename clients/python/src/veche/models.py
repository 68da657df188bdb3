"""What is sent and received, as pydantic models. Received messages themselves are plain dictionaries."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Dict, Literal  # noqa: UP035 - `dict` is a method below

from pydantic import BaseModel, ConfigDict, Field, field_validator

DEFAULT_CONTENT_TYPE = "application/octet-stream"


class Message(BaseModel):
    """A model whose `dict()` is the JSON object that goes over the wire."""

    def dict(self, **options: Any) -> Dict[str, Any]:  # noqa: UP006
        """The message as the protocol has it: only JSON types, without what is not set."""
        options.setdefault("mode", "json")
        options.setdefault("exclude_none", True)
        return self.model_dump(**options)


class BinaryMessage(Message):
    """Bytes with a content type and, if it is a file, its name."""

    type: Literal["binary"] = "binary"
    #: The bytes in base64 (RFC 4648, section 4, with padding).
    binary_data: str
    content_type: str = Field(default=DEFAULT_CONTENT_TYPE, min_length=1, max_length=255)
    filename: str | None = Field(default=None, max_length=255)
    #: The receiver: at most one of these; none of them is everybody else who is connected.
    channel: str | None = None
    user_id: str | None = None
    connection_id: str | None = None

    @field_validator("binary_data")
    @classmethod
    def _is_base64(cls, value: str) -> str:
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"binary_data must be base64 with padding: {error}") from error
        return value

    @classmethod
    def from_bytes(
        cls,
        data: bytes | bytearray | memoryview,
        content_type: str = DEFAULT_CONTENT_TYPE,
        filename: str | None = None,
        channel: str | None = None,
    ) -> BinaryMessage:
        """Makes a message of bytes."""
        text = base64.b64encode(data).decode("ascii")
        return cls(binary_data=text, content_type=content_type, filename=filename, channel=channel)

    @classmethod
    def from_file(cls, path: str | Path, content_type: str | None = None) -> BinaryMessage:
        """Makes a message of a file; its type is guessed by its name unless told."""
        path = Path(path)
        guessed = content_type or mimetypes.guess_type(path.name)[0] or DEFAULT_CONTENT_TYPE
        return cls.from_bytes(path.read_bytes(), guessed, path.name)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> BinaryMessage:
        """Makes a model of a received `binary` message."""
        return cls.model_validate({name: message[name] for name in cls.model_fields if message.get(name) is not None})

    @property
    def data(self) -> bytes:
        """The bytes themselves."""
        return base64.b64decode(self.binary_data)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        padding = self.binary_data[-2:].count("=")
        return len(self.binary_data) // 4 * 3 - padding


class ChannelMessage(Message):
    """Something for a channel. With `persistent` it is kept and given to everybody who subscribes later."""

    type: Literal["channel_message"] = "channel_message"
    channel: str = Field(min_length=1, max_length=255)
    #: Anything that JSON has.
    data: Any = None
    persistent: bool = False
    #: The same key within ten minutes is the same message: sending again publishes nothing.
    idempotency_key: str | None = None


class Notification(Message):
    """Something to show a person."""

    type: Literal["notification"] = "notification"
    title: str
    body: str = ""
    #: What it is about, for filters: `message`, `call`, `file` …
    notification_type: str | None = None
    data: Any = None


class Position(BaseModel):
    """A place in a channel: what was published after it can be asked for."""

    epoch: str
    offset: int = Field(ge=0)


class Answer(BaseModel):
    """What the server answers. Fields that this version does not know are kept."""

    model_config = ConfigDict(extra="allow")


class Published(Answer):
    """A message is published (and stored, if it was persistent). What goes to no channel has no epoch and offset."""

    message_id: str | None = None
    channel: str | None = None
    epoch: str | None = None
    offset: int | None = None
    #: How many connections it was given to, where the server tells.
    recipients: int | None = None
    #: Of an upload, and of bytes that became a file.
    file: dict[str, Any] | None = None
    #: Of an upload in pieces.
    file_id: str | None = None


class Subscribed(Answer):
    """A subscription stands."""

    channel: str
    epoch: str | None = None
    offset: int | None = None
    #: Whether everything since the position came, where one was given.
    recovered: bool | None = None
    #: How many kept messages come now.
    kept: int = 0
    #: Who is subscribed, where that was asked for.
    presence: list[dict[str, Any]] | None = None


class History(Answer):
    """The newest messages of a channel, or those since a position, oldest first."""

    channel: str
    epoch: str | None = None
    offset: int | None = None
    messages: list[dict[str, Any]] = Field(default_factory=list)


class FileInfo(Answer):
    """A file that the server has."""

    file_id: str
    filename: str | None = None
    content_type: str = DEFAULT_CONTENT_TYPE
    size: int
    #: In hexadecimal digits.
    sha256: str | None = None
    #: A signed link, relative to the server.
    url: str
    expires_at: str | None = None
