"""Which channels are wanted, and how far each was heard, so that coming back misses nothing and doubles nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

#: So many of the newest message ids are remembered.
REMEMBERED = 10_000


class Subscription:
    """A wish for a channel, with the position up to which everything has arrived."""

    def __init__(
        self,
        channel: str,
        filters: Mapping[str, Any] | None = None,
        *,
        presence: bool = False,
        epoch: str | None = None,
        offset: int = 0,
    ) -> None:
        self.channel = channel
        self.filters = dict(filters) if filters else None
        self.presence = presence
        self.epoch = epoch
        self.offset = offset
        self._newest = 0
        self._kept_left = 0

    def request(self) -> dict[str, Any]:
        """The message that asks for the channel, and for what was missed since the position."""
        message: dict[str, Any] = {"type": "subscribe", "channel": self.channel}
        if self.filters:
            message["filters"] = self.filters
        if self.presence:
            message["presence"] = True
        if self.epoch is not None:
            message["recover"] = {"epoch": self.epoch, "offset": self.offset}
        return message

    def on_subscribed(self, answer: Mapping[str, Any]) -> None:
        """The server agrees. What follows now are missed or kept messages: until they are here, the position is not
        the one that the answer names."""
        if answer.get("recovered") is True:
            return
        self.epoch = answer.get("epoch")
        self._newest = int(answer.get("offset") or 0)
        self._kept_left = int(answer.get("kept") or 0)
        self.offset = 0 if self._kept_left else self._newest

    def on_message(self, message: Mapping[str, Any]) -> None:
        """A message of the channel has arrived."""
        offset = message.get("offset")
        if not isinstance(offset, int) or message.get("epoch", self.epoch) != self.epoch:
            # Kept from an earlier epoch.
            self._count_kept()
            return
        self.offset = max(self.offset, offset)
        if offset > self._newest:
            self._kept_left = 0
        else:
            self._count_kept()

    def _count_kept(self) -> None:
        if self._kept_left:
            self._kept_left -= 1
            if not self._kept_left:
                self.offset = max(self.offset, self._newest)


class Seen:
    """The ids of the newest messages: what comes twice is heard once."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, message_id: object) -> bool:
        """Whether a message is heard for the first time; what has no id always is."""
        if not isinstance(message_id, str):
            return True
        if message_id in self._ids:
            return False
        self._ids[message_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True
