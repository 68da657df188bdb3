"""How a client behaves towards a server that misbehaves as told: one made for these tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from support import Heard, free_port, until
from websockets.asyncio.server import ServerConnection, serve

from veche import (
    AuthenticationError,
    Backoff,
    ConnectionLost,
    RequestError,
    RequestTimeout,
    VecheError,
    WSClient,
)

EPOCH = "0a0b0c0d"
Answer = Callable[["FakeServer", ServerConnection, dict[str, Any]], Awaitable[None]]


class FakeServer:
    """One channel with a history, and answers that a test may replace."""

    def __init__(self) -> None:
        self.port = free_port()
        self.connections: list[ServerConnection] = []
        self.requests: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.history: list[dict[str, Any]] = []
        self.published: dict[str, dict[str, Any]] = {}
        self.epoch = EPOCH
        #: Closes a new connection with this code instead of welcoming it.
        self.refuse: Callable[[str | None], int | None] = lambda token: None
        #: Answers requests of a type.
        self.answers: dict[str, Answer] = {}

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/realtime/ws"

    def publish(self, data: Any, key: str | None = None) -> dict[str, Any]:
        offset = len(self.history) + 1
        message = {"type": "channel_message", "channel": "c", "data": data, "epoch": self.epoch, "offset": offset}
        message["message_id"] = f"{self.epoch}-{offset}"
        self.history.append(message)
        if key:
            self.published[key] = message
        return message

    async def tell(self, message: dict[str, Any]) -> None:
        for connection in self.connections:
            await connection.send(json.dumps(message))

    def cut(self) -> None:
        for connection in self.connections:
            connection.transport.abort()
        self.connections.clear()

    async def serve(self, connection: ServerConnection) -> None:
        token = connection.request.headers.get("Authorization") if connection.request else None
        self.tokens.append(token)
        if (code := self.refuse(token)) is not None:
            await connection.close(code, "refused")
            return
        self.connections.append(connection)
        await connection.send(json.dumps({"type": "welcome", "connection_id": f"conn_{len(self.tokens)}"}))
        async for text in connection:
            request = json.loads(text)
            self.requests.append(request)
            answer = self.answers.get(request.get("type"), self.answer)
            await (answer(request, connection) if answer == self.answer else answer(self, connection, request))

    async def answer(self, request: dict[str, Any], connection: ServerConnection) -> None:
        kind, identity = request.get("type"), request.get("id")
        if kind == "subscribe":
            await self.subscribe(request, connection)
        elif kind == "channel_message":
            key = request["idempotency_key"]
            message = self.published.get(key) or self.publish(request["data"], key)
            answer = {"type": "published", **{name: message[name] for name in ("channel", "epoch", "offset")}}
            await connection.send(json.dumps({**answer, "id": identity}))
        else:
            await connection.send(json.dumps({"type": "pong", "id": identity}))

    async def subscribe(self, request: dict[str, Any], connection: ServerConnection) -> None:
        recover = request.get("recover")
        known = recover is not None and recover["epoch"] == self.epoch
        answer = {"type": "subscribed", "channel": "c", "epoch": self.epoch, "offset": len(self.history), "kept": 0}
        if recover is not None:
            answer["recovered"] = known
        await connection.send(json.dumps({**answer, "id": request["id"]}))
        for message in self.history[recover["offset"] :] if known else []:
            await connection.send(json.dumps(message))


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    async with serve(server.serve, "127.0.0.1", server.port):
        yield server


def client_of(fake: FakeServer, **options: Any) -> WSClient:
    options.setdefault("backoff", Backoff(first=0.01, longest=0.05))
    return WSClient(fake.url, **options)


async def test_what_was_missed_comes_once_and_in_order_over_many_cuts(leftovers: None, fake: FakeServer) -> None:
    heard = Heard()
    events: list[str] = []
    async with client_of(fake) as client:
        client.on_message(heard)
        for name in ("open", "close", "reconnecting", "recovered", "lost"):
            client.on(name, lambda about, name=name: events.append(name))
        await client.subscribe_to_channel("c", {"binary_data": False})
        for round_ in range(20):
            await fake.tell(fake.publish(round_ * 3))
            fake.publish(round_ * 3 + 1)
            fake.cut()
            fake.publish(round_ * 3 + 2)
            await until("back", lambda: fake.connections and client.connected)
        await heard.several("channel_message", 60)
    assert [message["data"] for message in heard.of("channel_message")] == list(range(60))
    assert all(request["filters"] == {"binary_data": False} for request in fake.requests)
    assert events.count("recovered") == 20 and "lost" not in events
    assert events.count("open") == 20 and events.count("reconnecting") >= 20


async def test_another_epoch_is_told_and_the_client_goes_on_from_there(fake: FakeServer) -> None:
    lost: list[dict[str, Any]] = []
    async with client_of(fake) as client:
        client.on("lost", lost.append)
        await client.subscribe_to_channel("c")
        fake.epoch, fake.history = "ffffffff", []
        fake.publish("unseen")
        fake.cut()
        await until("told", lambda: lost)
        assert lost == [{"channel": "c", "epoch": "ffffffff", "offset": 1}]
        position = client.position("c")
        assert position is not None and position.offset == 1


async def test_a_publication_over_a_cut_is_published_once(fake: FakeServer) -> None:
    lost_answers = 2

    async def lose_answer(server: FakeServer, connection: ServerConnection, request: dict[str, Any]) -> None:
        nonlocal lost_answers
        lost_answers -= 1
        if not lost_answers:
            del server.answers["channel_message"]
        if request["idempotency_key"] not in server.published:
            server.publish(request["data"], request["idempotency_key"])
        server.cut()

    fake.answers["channel_message"] = lose_answer
    async with client_of(fake) as client:
        published = await client.send_to_channel("c", {"a": None})
        assert published.offset == 1
    assert [message["data"] for message in fake.history] == [{"a": None}]


async def test_requests_wait_for_the_connection_but_not_for_ever(fake: FakeServer) -> None:
    async def silence(server: FakeServer, connection: ServerConnection, request: dict[str, Any]) -> None:
        return

    fake.answers["ping"] = silence
    async with client_of(fake, request_timeout=0.2) as client:
        with pytest.raises(RequestTimeout, match="ping"):
            await client.ping()
        fake.refuse = lambda token: 1013
        fake.cut()
        with pytest.raises(TimeoutError):
            await client.send_to_channel("c", 1)
        with pytest.raises(TimeoutError):
            await client.send_text("x")


async def test_what_was_dropped_because_it_came_too_fast_is_sent_again(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veche.clients.connection.PAUSE", 0.01)
    seen = 0

    async def limit(server: FakeServer, connection: ServerConnection, request: dict[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen in (2, 3):
            return  # One word for a row of them, as the server does it.
        if seen == 4:
            await connection.send(json.dumps({"type": "error", "error": {"code": "rate_limited", "message": "slower"}}))
            return
        await server.answer(request, connection)

    fake.answers["channel_message"] = limit
    heard = Heard()
    async with client_of(fake) as client:
        client.on_message(heard)
        await asyncio.gather(*(client.publish("c", n) for n in range(6)))
        await client.ping()
    assert sorted(message["data"] for message in fake.history) == list(range(6))
    assert not heard.of("published")


async def test_a_refusal_is_an_exception_with_a_code(fake: FakeServer) -> None:
    async def refuse(server: FakeServer, connection: ServerConnection, request: dict[str, Any]) -> None:
        error = {"code": "bad_channel", "message": "not a name"}
        await connection.send(json.dumps({"type": "error", "error": error, "id": request["id"]}))

    fake.answers["subscribe"] = refuse
    async with client_of(fake) as client:
        with pytest.raises(RequestError, match="not a name") as caught:
            await client.subscribe_to_channel("c")
        assert caught.value.code == "bad_channel"
        assert client.position("c") is None


async def test_a_refused_token_is_replaced_once(fake: FakeServer) -> None:
    fake.refuse = lambda token: None if token == "Bearer good" else 4002
    asked = 0

    async def refresh() -> str:
        nonlocal asked
        asked += 1
        return "good"

    async with client_of(fake, token="bad", refresh_token=refresh) as client:
        assert client.connected and asked == 1
        # It expires while connected.
        fake.refuse = lambda token: None if asked == 2 else 4002
        await fake.connections[0].close(4002, "expired")
        await until("back", lambda: asked == 2 and client.connected)
    fake.refuse = lambda token: 4002
    with pytest.raises(AuthenticationError):
        await client_of(fake, token="bad", refresh_token=lambda: "worse").connect()


@pytest.mark.parametrize("code", [4001, 4002, 4003])
async def test_without_credentials_there_is_no_second_attempt(fake: FakeServer, code: int) -> None:
    fake.refuse = lambda token: code
    with pytest.raises(AuthenticationError):
        await client_of(fake).connect()
    assert len(fake.tokens) == 1


async def test_the_first_attempt_is_made_once(leftovers: None) -> None:
    with pytest.raises(ConnectionLost, match="cannot be reached"):
        async with WSClient(f"ws://127.0.0.1:{free_port()}/realtime/ws"):
            raise AssertionError("connected to nobody")
    with pytest.raises(VecheError):
        await WSClient("nonsense").connect()
    with pytest.raises(VecheError, match="connect"):
        await WSClient("ws://127.0.0.1/").send_text("x")


async def test_attempts_run_out(fake: FakeServer) -> None:
    async with client_of(fake, backoff=Backoff(first=0.001, attempts=3)) as client:
        fake.refuse = lambda token: 1013
        messages = client.messages()
        await anext(messages)
        fake.cut()
        with pytest.raises(ConnectionLost):
            await anext(messages)
        with pytest.raises(ConnectionLost):
            await client.ping()
        assert len(fake.tokens) == 4


async def test_who_is_told_to_stay_away_does(fake: FakeServer) -> None:
    async with client_of(fake) as client:
        messages = client.messages()
        await fake.tell({"type": "disconnect", "reason": "banned", "reconnect": False})
        await fake.connections[0].close(1001, "bye")
        with pytest.raises(ConnectionLost, match="bye"):
            async for _ in messages:
                pass
    assert len(fake.tokens) == 1


async def test_a_channel_that_is_not_given_back_is_told(fake: FakeServer) -> None:
    async def refuse(server: FakeServer, connection: ServerConnection, request: dict[str, Any]) -> None:
        error = {"code": "forbidden", "message": "no more"}
        await connection.send(json.dumps({"type": "error", "error": error, "id": request["id"]}))

    errors: list[dict[str, Any]] = []
    async with client_of(fake) as client:
        client.on("error", errors.append)
        await client.subscribe_to_channel("c")
        fake.answers["subscribe"] = refuse
        fake.cut()
        await until("told", lambda: errors)
        assert errors == [{"channel": "c", "code": "forbidden", "message": "no more"}]
        await until("connected", lambda: client.connected)
        assert client.position("c") is None


async def test_a_handler_may_publish_and_wait(fake: FakeServer) -> None:
    answered = asyncio.Event()
    async with client_of(fake) as client:

        @client.on_message
        async def answer(message: dict[str, Any]) -> None:
            if message.get("data") == "question":
                await client.send_to_channel("c", "answer")
                answered.set()

        await client.subscribe_to_channel("c")
        await fake.tell(fake.publish("question"))
        async with asyncio.timeout(5):
            await answered.wait()


async def test_iteration_ends_when_the_client_is_closed(fake: FakeServer) -> None:
    async with client_of(fake) as client:
        await fake.tell({"type": "direct", "data": 1})
        kinds = []

        async def listen() -> None:
            async for message in client:
                kinds.append(message["type"])

        listening = asyncio.create_task(listen())
        await until("heard", lambda: len(kinds) == 2)
        await client.close()
        await asyncio.wait_for(listening, 5)
        assert kinds == ["welcome", "direct"]


async def test_nonsense_from_the_server_changes_nothing(fake: FakeServer) -> None:
    async with client_of(fake) as client:
        for frame in ("", "{", "null", "[]", '"x"', b"", b"\x12", b"\x99" * 40):
            await fake.connections[0].send(frame)
        assert await client.ping() < 5
        assert client.connected
