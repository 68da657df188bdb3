"""The parts that need no server: waits, models, frames, positions, settings, credentials."""

from __future__ import annotations

import asyncio
import base64
import time
import warnings

import jwt
import pytest

from veche import Backoff, BinaryMessage, ChannelMessage, VecheError, get_settings
from veche.auth import Credentials, http_url, websocket_url
from veche.clients.inbox import Inbox
from veche.clients.subscriptions import Seen, Subscription
from veche.errors import AuthenticationError
from veche.frames import from_frame, to_frame


def test_waits_grow_by_half_to_thirty_seconds_and_are_spread() -> None:
    backoff = Backoff(random=lambda: 1.0)
    waits = [backoff.next() for _ in range(12)]
    assert waits[:4] == [1.0, 1.5, 2.25, 3.375]
    assert waits[-1] == 30.0
    backoff.reset()
    assert backoff.next() == 1.0
    assert Backoff(random=lambda: 0.0).next() == 0.0
    drawn = Backoff()
    assert all(0.0 <= (drawn.next() or 0.0) <= 30.0 for _ in range(1000))


def test_attempts_run_out_and_come_back_after_a_success() -> None:
    backoff = Backoff(attempts=2)
    assert [backoff.next() is None for _ in range(3)] == [False, False, True]
    backoff.reset()
    assert backoff.next() is not None


@pytest.mark.parametrize("text", ["invalid_base64", "AAA", "AA=A", "Ж", "AAAA\n"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        BinaryMessage(binary_data=text, content_type="image/png")


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", bytes(range(256)) * 40])
def test_bytes_become_a_message_and_bytes_again(data: bytes) -> None:
    message = BinaryMessage.from_bytes(data, content_type="image/png", filename="a.png")
    assert (message.data, message.size) == (data, len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wire = message.dict()
    assert wire == {
        "type": "binary",
        "binary_data": base64.b64encode(data).decode(),
        "content_type": "image/png",
        "filename": "a.png",
    }
    assert BinaryMessage.from_message({**wire, "message_id": "m"}) == message


def test_a_channel_message_needs_a_channel() -> None:
    with pytest.raises(ValueError, match="channel"):
        ChannelMessage(channel="", data=1)


def test_frames_to_the_server_are_as_documented() -> None:
    message = BinaryMessage.from_bytes(b"\x01\x02", "image/png", "a.png", channel="чат").dict()
    frame = to_frame({**message, "id": 258, "persistent": True, "idempotency_key": "k"})
    channel = "чат".encode()
    texts = bytes([len(channel)]) + channel + b"\x09image/png\x05a.png\x01k"
    assert frame == b"\x11\x03\x00\x00\x01\x02" + texts + b"\x01\x02"
    with pytest.raises(ValueError, match="255 bytes"):
        to_frame({**message, "filename": "ж" * 128})


def test_frames_from_the_server_are_messages_as_json_would_have_brought_them() -> None:
    texts = b"".join(bytes([len(text)]) + text for text in (b"m", b"c", b"image/png", b"a.png", b"u", b"", b"x"))
    head = bytes([0x12, 2]) + (7).to_bytes(8) + bytes.fromhex("0a0b0c0d") + (1_704_067_200_123).to_bytes(8)
    assert from_frame(head + texts + b"\x01\x02\x03") == {
        "type": "binary",
        "channel": "c",
        "offset": 7,
        "epoch": "0a0b0c0d",
        "binary_data": "AQID",
        "content_type": "image/png",
        "filename": "a.png",
        "size": 3,
        "message_id": "m",
        "persistent": True,
        "sender": {"user_id": "u", "name": None, "connection_id": "x"},
        "timestamp": "2024-01-01T00:00:00.123Z",
    }
    for end in range(len(head + texts)):
        with pytest.raises(ValueError, match="header"):
            from_frame((head + texts)[:end])


def test_a_position_is_that_of_what_has_arrived() -> None:
    one = Subscription("c")
    assert "recover" not in one.request()
    one.on_subscribed({"epoch": "e", "offset": 5, "kept": 0})
    one.on_message({"epoch": "e", "offset": 6})
    assert one.request()["recover"] == {"epoch": "e", "offset": 6}
    # Cut in the middle of what was missed: the newest of the answer has not arrived.
    one.on_subscribed({"epoch": "e", "offset": 9, "recovered": True})
    assert one.offset == 6
    one.on_subscribed({"epoch": "f", "offset": 2, "recovered": False, "kept": 2})
    assert (one.epoch, one.offset) == ("f", 0)
    one.on_message({"epoch": "older", "offset": 70})
    assert one.offset == 0
    one.on_message({"epoch": "f", "offset": 1})
    assert one.offset == 2


def test_what_comes_twice_is_heard_once_and_memory_is_bounded() -> None:
    seen = Seen(limit=2)
    assert [seen.is_new(one) for one in ("a", "b", "a", "c", "b", None, None)] == [
        True,
        True,
        False,
        True,
        False,
        True,
        True,
    ]
    assert seen.is_new("a")


def test_settings_have_the_servers_names_and_defaults() -> None:
    settings = get_settings({})
    assert settings.WEBSOCKET_ENABLED and settings.BINARY_MAX_FILE_SIZE == 52_428_800
    assert settings.allows_type("image/png") and settings.allows_type("text/plain; charset=utf-8")
    assert not settings.allows_type("application/zip")
    assert get_settings({"SSE_ENABLED": "false", "WEBRTC_MAX_ROOMS": "7"}).WEBRTC_MAX_ROOMS == 7
    with pytest.raises(ValueError, match="SSE_MAX_CONNECTIONS"):
        get_settings({"SSE_MAX_CONNECTIONS": "many"})


def test_addresses_of_one_server() -> None:
    assert websocket_url("https://a.example/veche/") == "wss://a.example/veche/realtime/ws"
    assert http_url("ws://a.example:8000/realtime/ws?x=1") == "http://a.example:8000"
    assert http_url("https://a.example/veche/realtime/events") == "https://a.example/veche"
    with pytest.raises(VecheError, match="http"):
        http_url("ftp://a.example")


async def test_a_token_is_refreshed_before_it_expires_and_once_for_many() -> None:
    asked = 0

    async def refresh() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return jwt.encode({"exp": time.time() + 3600}, "x" * 32)

    old = jwt.encode({"exp": time.time() + 1}, "x" * 32)
    credentials = Credentials(old, refresh_token=refresh)
    headers = await asyncio.gather(*(credentials.headers() for _ in range(5)))
    assert asked == 1 and len({str(one) for one in headers}) == 1
    assert credentials.token != old
    with pytest.raises(AuthenticationError):
        await Credentials("a").refresh("a")


async def test_messages_wait_for_room_and_for_somebody_to_hear() -> None:
    inbox = Inbox(limit=2)
    running = asyncio.create_task(inbox.run())
    await inbox.put({"n": 1})
    await asyncio.sleep(0)
    heard: list[int] = []
    gate = asyncio.Event()

    async def slow(message: dict[str, int]) -> None:
        await gate.wait()
        heard.append(message["n"])

    inbox.add_handler(slow)
    await asyncio.sleep(0)
    for n in (2, 3):
        await inbox.put({"n": n})
    full = asyncio.create_task(inbox.put({"n": 4}))
    await asyncio.sleep(0)
    assert not full.done()
    gate.set()
    await full
    messages = inbox.messages()
    await asyncio.sleep(0.01)
    assert heard == [1, 2, 3, 4]
    await inbox.put({"n": 5})
    assert (await anext(messages))["n"] == 5
    inbox.end(VecheError("over", "it is over"))
    with pytest.raises(VecheError, match="over"):
        await anext(messages)
    await running


async def test_a_handler_that_fails_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(limit=8)
    running = asyncio.create_task(inbox.run())
    heard: list[object] = []

    def fail(message: dict[str, object]) -> None:
        raise RuntimeError("mine")

    inbox.add_handler(fail)
    inbox.add_handler(heard.append)
    await inbox.put({"type": "x"})
    inbox.end(None)
    await running
    assert heard == [{"type": "x"}]
    assert "a handler failed" in caplog.text


async def test_an_iteration_that_is_left_holds_nobody_up() -> None:
    inbox = Inbox(limit=2)
    running = asyncio.create_task(inbox.run())
    messages = inbox.messages()
    for n in range(2):
        await inbox.put({"n": n})
    assert (await anext(messages))["n"] == 0
    await messages.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(2):
        for n in range(10):
            await inbox.put({"n": n})
    inbox.end(None)
    await running
