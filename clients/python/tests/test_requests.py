"""How HTTP and event streams behave towards a server that misbehaves as told, without a network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from veche import AuthenticationError, Backoff, ConnectionLost, RealtimeAPI, RequestError, SSEClient, VecheError

Handler = Callable[[httpx.Request], httpx.Response]
EVENTS = "http://server/realtime/events"


class Stream(httpx.AsyncByteStream):
    """A body that ends in the middle of something, if told so."""

    def __init__(self, text: str, breaks: bool = False) -> None:
        self._text = text
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._text.encode()
        if self._breaks:
            raise httpx.ReadError("cut")


def answers(*given: httpx.Response | Exception) -> tuple[httpx.AsyncClient, list[httpx.Request]]:
    """A client whose requests are answered one after the other, and the requests."""
    requests: list[httpx.Request] = []
    left = list(given)

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.AsyncClient(transport=httpx.MockTransport(handle)), requests


def stream(text: str, breaks: bool = False) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream(text, breaks))


def event(offset: int, name: str = "message") -> str:
    data = {"type": "channel_message", "data": offset, "message_id": f"m{offset}"}
    return f"id: aaaa0001:{offset}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": f"because of {code}"}}, headers=headers)


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    for module in ("api", "files", "clients.sse_client"):
        monkeypatch.setattr(f"veche.{module}.asyncio.sleep", sleep)
    return waits


async def test_a_stream_goes_on_where_it_was_and_doubles_nothing() -> None:
    client, requests = answers(
        stream("retry: 3000\n\n: heartbeat\n\n" + event(1) + event(2), breaks=True),
        problem(503, "server_stopping", **{"retry-after": "7"}),
        httpx.ConnectError("refused"),
        stream(event(2) + event(3)),
        stream(event(4)),
    )
    heard = []
    async with SSEClient(
        EVENTS, "c", filters={"binary_data": False, "allowed_types": ["a/*", "b/*"]}, client=client
    ) as one:
        async for received in one:
            heard.append(received.data["data"])
            if heard[-1] == 4:
                break
    assert heard == [1, 2, 3, 4]
    assert one.reconnections == 2
    assert dict(requests[0].url.params) == {"channel": "c", "binary_data": "false", "allowed_types": "a/*,b/*"}
    assert [request.headers.get("last-event-id") for request in requests] == [
        None,
        "aaaa0001:2",
        "aaaa0001:2",
        "aaaa0001:2",
        "aaaa0001:3",
    ]


async def test_the_server_says_how_long_to_wait(_no_waits: list[float]) -> None:
    client, _ = answers(stream(""), problem(429, "rate_limited", **{"retry-after": "7"}), stream(event(1)))
    async with SSEClient(EVENTS, "c", client=client) as one:
        await anext(one.events())
    assert _no_waits[0] < 2 and 7 <= _no_waits[1] < 9


async def test_a_stream_gives_up_when_told() -> None:
    client, requests = answers(stream(""), *[httpx.ConnectError("refused")] * 3)
    async with SSEClient(EVENTS, "c", client=client, backoff=Backoff(attempts=3)) as one:
        with pytest.raises(ConnectionLost):
            await anext(one.events())
    assert len(requests) == 4
    for refusal, error in ((401, AuthenticationError), (403, RequestError), (404, RequestError)):
        client, _ = answers(stream(event(1)), problem(refusal, "no"))
        async with SSEClient(EVENTS, "c", client=client) as one:
            events = one.events()
            await anext(events)
            with pytest.raises(error, match="because of no"):
                await anext(events)


async def test_a_refused_token_is_replaced_once_for_a_stream() -> None:
    client, requests = answers(problem(401, "token_expired"), stream(event(1)))
    async with SSEClient(EVENTS, "c", token="old", refresh_token=lambda: "new", client=client):
        pass
    assert [request.headers["authorization"] for request in requests] == ["Bearer old", "Bearer new"]
    client, requests = answers(problem(401, "invalid_token"), problem(401, "invalid_token"))
    with pytest.raises(AuthenticationError):
        await SSEClient(EVENTS, "c", token="old", refresh_token=lambda: "worse", client=client).connect()


async def test_what_is_no_json_is_text() -> None:
    client, _ = answers(stream("event: odd\ndata: {a\ndata: b\n\n"))
    async with SSEClient(EVENTS, client=client) as one:
        odd = await anext(one.events())
    assert (odd.event, odd.data, odd.text) == ("odd", "{a\nb", "{a\nb")


async def test_a_post_is_tried_again_with_the_same_key() -> None:
    sent = httpx.Response(200, json={"status": "sent", "message_id": "m", "channel": "c", "offset": 1})
    client, requests = answers(httpx.ReadError("cut"), problem(503, "storage_unavailable"), sent)
    async with RealtimeAPI("http://server", client=client) as api:
        published = await api.send({"a": 1}, channel="c", persistent=True)
    assert (published.message_id, published.offset) == ("m", 1)
    assert len({request.headers["idempotency-key"] for request in requests}) == 1
    assert json.loads(requests[-1].content) == {"channel": "c", "data": {"a": 1}, "persistent": True}


async def test_refusals_have_a_code_and_are_not_tried_again() -> None:
    client, requests = answers(problem(403, "forbidden"), httpx.Response(500, text="<html>"))
    async with RealtimeAPI("http://server", client=client) as api:
        with pytest.raises(RequestError) as caught:
            await api.broadcast("x")
        assert (caught.value.code, caught.value.status) == ("forbidden", 403)
        with pytest.raises(RequestError) as caught:
            await api.broadcast("x")
        assert caught.value.code == "http_500"
    assert len(requests) == 2


async def test_the_endpoints() -> None:
    client, requests = answers(*[httpx.Response(200, json={}) for _ in range(9)])
    async with RealtimeAPI("http://server/below", client=client) as api:
        await api.send(None, user_id="u")
        await api.send_binary(b"x", "image/png", "a.png", user_id="u")
        await api.send_text_as_binary("text", channel="c")
        await api.notify_user("u", "T", "B", notification_type="call", data={"x": 1})
        await api.notify_all("T")
        await api.send_webrtc_signal("offer", "peer", sdp="v=0")
        await api.history("a/b", since=3, epoch="aaaa0001")
        await api.presence("a b")
        await api.room_events("r", since=0)
    assert [f"{one.method} {one.url.raw_path.decode()}" for one in requests] == [
        "POST /below/realtime/send",
        "POST /below/realtime/binary/send",
        "POST /below/realtime/binary/text",
        "POST /below/realtime/notifications/send",
        "POST /below/realtime/notifications/broadcast",
        "POST /below/realtime/webrtc/signal",
        "GET /below/realtime/channels/a%2Fb/history?since=3&epoch=aaaa0001",
        "GET /below/realtime/channels/a%20b/presence",
        "GET /below/realtime/webrtc/rooms/r/events?since=0",
    ]
    assert json.loads(requests[0].content) == {"user_id": "u", "data": None}


async def test_credentials_go_to_their_server_only() -> None:
    async with RealtimeAPI("http://server", token="secret") as api:
        for address in ("http://elsewhere/x", "http://server.evil/x", "https://server/x"):
            with pytest.raises(VecheError, match="not an address"):
                api.url(address)
        assert api.url("/x") == api.url("http://server/x") == "http://server/x"


async def test_a_download_that_breaks_goes_on_and_is_checked(tmp_path: Path) -> None:
    tag = {"etag": '"1"'}
    client, requests = answers(
        httpx.Response(200, headers=tag, stream=Stream("hello ", breaks=True)),
        httpx.Response(206, headers=tag, stream=Stream("world")),
    )
    about: dict[str, Any] = {"url": "/realtime/files/f?expires=1&signature=s"}
    about["sha256"] = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    target = tmp_path / "hello.txt"
    async with RealtimeAPI("http://server", client=client) as api:
        await api.download_file({"type": "file", "file": about}, target)
        assert target.read_text() == "hello world"
        assert (requests[1].headers["range"], requests[1].headers["if-range"]) == ("bytes=6-", '"1"')
    client, _ = answers(httpx.Response(200, stream=Stream("something else")))
    async with RealtimeAPI("http://server", client=client) as api:
        with pytest.raises(VecheError, match="SHA-256"):
            await api.download_file(about, tmp_path / "other.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["hello.txt"]


async def test_an_upload_in_pieces_asks_how_much_there_is_after_a_break() -> None:
    created = httpx.Response(201, headers={"location": "/realtime/files/uploads/f1", "upload-offset": "0"})
    client, requests = answers(
        created,
        httpx.WriteError("cut"),
        problem(423, "upload_busy"),
        httpx.Response(200, headers={"upload-offset": "2"}),
        httpx.Response(204, headers={"upload-offset": "5"}),
    )
    async with RealtimeAPI("http://server", client=client) as api:
        published = await api.upload_file(b"hello", channel="c", filename="имя.txt", resumable=True)
    assert published.file_id == "f1"
    assert [request.method for request in requests] == ["POST", "PATCH", "HEAD", "HEAD", "PATCH"]
    assert requests[0].headers["upload-length"] == "5"
    assert [request.headers["upload-offset"] for request in requests if request.method == "PATCH"] == ["0", "2"]
    assert requests[-1].content == b"llo"
