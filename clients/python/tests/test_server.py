"""The clients and a real server: what is not in the samples."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import SECRET
from support import Heard, Proxy, Server, until

from veche import (
    AuthenticationError,
    Backoff,
    Camera,
    ConnectionLost,
    RealtimeAPI,
    RequestError,
    SSEClient,
    WSClient,
    create_authenticated_client,
    create_sse_client,
)

QUICK = {"first": 0.02, "longest": 0.2}


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "anna", "exp": int(time.time()) + 600, **claims}, SECRET)


# Channels


async def test_text_channels_presence_and_history(server: Server) -> None:
    heard = Heard()
    async with WSClient(server.ws) as anna, WSClient(server.ws) as boris:
        anna.on_message(heard)
        await anna.send_text("Привет!")
        assert (await heard.first("echo"))["message"] == "Привет!"
        subscribed = await anna.subscribe_to_channel("talk:alone", presence=True)
        assert [one["connection_id"] for one in subscribed.presence or []] == [anna.connection_id]
        await boris.subscribe_to_channel("talk:alone")
        joined = (await heard.first("presence"))["joined"]
        assert [one["connection_id"] for one in joined] == [boris.connection_id]
        assert len(await boris.presence("talk:alone")) == 2
        for n in range(3):
            published = await boris.publish("talk:alone", {"n": n, "nothing": None})
        assert (published.offset, published.channel) == (3, "talk:alone")
        said = await heard.several("channel_message", 3)
        assert [one["data"] for one in said] == [{"n": n, "nothing": None} for n in range(3)]
        assert said[0]["sender"]["connection_id"] == boris.connection_id
        history = await boris.history("talk:alone", limit=2)
        assert [one["data"]["n"] for one in history.messages] == [1, 2]
        await anna.unsubscribe("talk:alone")
        await boris.publish("talk:alone", "unheard")
        await anna.ping()
        assert len(heard.of("channel_message")) == 3


async def test_direct_broadcast_notification_and_signal(server: Server) -> None:
    heard = Heard()
    async with WSClient(server.ws) as anna, WSClient(server.ws) as boris:
        anna.on_message(heard)
        await boris.send_direct({"a": 1}, connection_id=anna.connection_id)
        assert (await heard.first("direct"))["data"] == {"a": 1}
        await boris.broadcast("everybody")
        assert (await heard.first("broadcast"))["data"] == "everybody"
        await boris.send_notification("T", "B", notification_type="call")
        assert (await heard.first("notification"))["title"] == "T"
        assert anna.connection_id is not None
        await boris.send_webrtc_signal("offer", anna.connection_id, sdp="v=0")
        signal = await heard.first("webrtc_signal")
        assert (signal["signal_type"], signal["sdp"], signal["from_peer_id"]) == ("offer", "v=0", boris.connection_id)
        with pytest.raises(RequestError) as caught:
            await boris.send_direct(1, connection_id="conn_0123456789abcdef")
        assert caught.value.code == "recipient_not_found"


async def test_iteration_and_a_bad_channel(server: Server) -> None:
    async with WSClient(server.ws) as client:
        with pytest.raises(RequestError) as caught:
            await client.subscribe_to_channel("no spaces please")
        assert caught.value.code == "bad_channel"
        await client.subscribe("loop")
        await client.send_to_channel("loop", "around")
        async for message in client:
            if message["type"] == "channel_message":
                assert message["data"] == "around"
                break


# Bytes


@pytest.mark.parametrize("native", [False, True])
async def test_bytes_in_both_forms(server: Server, native: bool) -> None:
    heard = Heard()
    data = os.urandom(100_000)
    async with (
        WSClient(server.ws, native_binary=native) as anna,
        WSClient(server.ws, native_binary=not native) as boris,
    ):
        boris.on_message(heard)
        await boris.subscribe_to_channel("bytes")
        published = await anna.send_binary(b"%PDF-1.4" + data, "application/pdf", "имя.pdf", channel="bytes")
        message = await heard.first("binary")
    assert base64.b64decode(message["binary_data"]) == b"%PDF-1.4" + data
    assert (message["filename"], message["offset"]) == ("имя.pdf", published.offset)
    assert (message["message_id"], message["epoch"]) == (published.message_id, published.epoch)
    assert message["sender"]["connection_id"] == anna.connection_id


async def test_a_camera_sends_pictures_and_is_looked_at(server: Server) -> None:
    head = bytes.fromhex("ffd8 ffc0000b080008000801011100 ffda0008010100003f00")
    frames = [head + bytes([n]) + b"\xff\xd9" for n in range(1, 4)]
    async with RealtimeAPI(server.url) as api:
        camera = Camera("tea", "door", api)
        assert (await camera.send(frames[0]))["frame"] == 1
        assert await camera.latest() == frames[0]
        with pytest.raises(RequestError) as refused:
            await camera.send(b"GIF89a")
        assert refused.value.code == "bad_picture"
        watching = camera.watch()
        assert await anext(watching) == frames[0]
        sent = await camera.stream([frames[1], b"nothing", frames[2]])
        assert (sent["frame"], sent["taken"], sent["refused"]) == (3, 2, 1)
        assert await anext(watching) == frames[2]
        await watching.aclose()
        await camera.remove()
        with pytest.raises(RequestError) as gone:
            await camera.latest()
        assert gone.value.code == "camera_not_found"


async def test_a_file_goes_up_and_comes_down(server: Server, tmp_path: Path) -> None:
    heard, up, down = Heard(), [], []  # type: ignore[var-annotated]
    source = tmp_path / "отчёт.pdf"
    source.write_bytes(b"%PDF-1.4" + os.urandom(1_000_000))
    async with WSClient(server.ws) as client:
        client.on_message(heard)
        await client.subscribe_to_channel("files")
        await client.send_file(source, "files", on_progress=lambda done, total: up.append((done, total)))
        message = await heard.first("file")
        assert message["file"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        target = tmp_path / "again.pdf"
        await client.download_file(message, target, on_progress=lambda done, total: down.append((done, total)))
        assert target.read_bytes() == source.read_bytes()
        assert await client.download_file(message["file"]["file_id"]) == source.read_bytes()
    size = source.stat().st_size
    for steps in (up, down):
        assert steps[-1] == (size, size) and len(steps) > 5 and steps == sorted(steps)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


async def test_a_large_file_goes_in_pieces_over_a_line_that_breaks(server: Server, proxy: Proxy) -> None:
    data = b"%PDF-1.4" + os.urandom(12_000_000)
    heard = Heard()
    cuts = 0

    def cut_now_and_then(done: int, total: int | None) -> None:
        nonlocal cuts
        if done > (cuts + 1) * 3_000_000 and cuts < 3:
            cuts += 1
            proxy.cut()

    async with WSClient(server.ws) as client, RealtimeAPI(proxy.url) as api:
        client.on_message(heard)
        await client.subscribe_to_channel("large")
        await api.upload_file(data, channel="large", filename="large.pdf", on_progress=cut_now_and_then)
        message = await heard.first("file", within=30)
        assert cuts == 3
        assert message["file"]["size"] == len(data)
        assert message["file"]["sha256"] == hashlib.sha256(data).hexdigest()


async def test_a_refused_upload_says_why(server: Server) -> None:
    async with RealtimeAPI(server.url) as api:
        with pytest.raises(RequestError) as caught:
            await api.upload_file(b"MZ" + bytes(100), filename="a.exe", content_type="application/x-msdownload")
        assert caught.value.status == 415
        with pytest.raises(RequestError) as caught:
            await api.get("/realtime/nowhere")
        assert caught.value.status == 404


# Coming back


@pytest.mark.parametrize("door", ["websocket", "sse"])
async def test_a_listener_that_is_cut_again_and_again_misses_nothing(server: Server, proxy: Proxy, door: str) -> None:
    channel, count, cuts = f"cuts-{door}", 2000, 40
    heard: list[int] = []
    rng = random.Random(7)
    done = asyncio.Event()

    def hear(message: dict[str, Any]) -> None:
        if message.get("type") == "channel_message":
            heard.append(message["data"])
            if len(heard) >= count:
                done.set()

    async def publish() -> None:
        async with WSClient(server.ws) as sender:
            for start in range(0, count, 20):
                await asyncio.gather(*(sender.publish(channel, n) for n in range(start, start + 20)))
                await asyncio.sleep(0.19)

    async def cut() -> None:
        for _ in range(cuts):
            await asyncio.sleep(rng.uniform(0.05, 0.4))
            proxy.cut()

    async def listen_sse(client: SSEClient) -> None:
        async for event in client.events():
            if isinstance(event.data, dict):
                hear(event.data)

    backoff = Backoff(**QUICK)
    async with asyncio.timeout(60):
        if door == "websocket":
            async with WSClient(proxy.ws, backoff=backoff) as client:
                lost: list[Any] = []
                client.on_message(hear)
                client.on("lost", lost.append)
                await client.subscribe_to_channel(channel)
                await asyncio.gather(publish(), cut())
                await done.wait()
                assert not lost
        else:
            events = f"{proxy.url}/realtime/events"
            async with SSEClient(events, channel, backoff=backoff) as stream:
                listening = asyncio.create_task(listen_sse(stream))
                await asyncio.gather(publish(), cut())
                await done.wait()
                listening.cancel()
                assert stream.reconnections > 5
    # Those of one burst go at once, so their order is the server's: each once, and each burst after the one before.
    assert sorted(heard) == list(range(count))
    assert [n // 20 for n in heard] == sorted(n // 20 for n in heard)


async def test_a_publisher_that_is_cut_publishes_each_message_once(server: Server, proxy: Proxy) -> None:
    heard = Heard()
    async with WSClient(server.ws) as listener, WSClient(proxy.ws, backoff=Backoff(**QUICK)) as sender:
        listener.on_message(heard)
        await listener.subscribe_to_channel("once")
        for n in range(60):
            publishing = asyncio.create_task(sender.publish("once", n))
            if n % 5 == 0:
                await asyncio.sleep(0)
                proxy.cut()
            await publishing
        said = await heard.several("channel_message", 60)
        await listener.ping()
    assert [one["data"] for one in said] == list(range(60))


async def test_a_position_survives_the_program(server: Server) -> None:
    heard = Heard()
    async with WSClient(server.ws) as client:
        await client.subscribe_to_channel("diary")
        position = client.position("diary")
    async with RealtimeAPI(server.url) as api:
        await api.send("while away", channel="diary")
    async with WSClient(server.ws) as client:
        client.on_message(heard)
        assert (await client.subscribe_to_channel("diary", recover=position)).recovered is True
        assert (await heard.first("channel_message"))["data"] == "while away"


async def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    server = Server(tmp_path)
    await asyncio.to_thread(server.start)
    heard = Heard()
    recovered: list[Any] = []
    try:
        async with WSClient(server.ws, backoff=Backoff(**QUICK)) as client:
            client.on_message(heard)
            client.on("recovered", recovered.append)
            await client.subscribe_to_channel("news")
            await client.publish("news", 1)
            await asyncio.to_thread(server.stop)
            assert (await heard.first("disconnect"))["reconnect"] is True
            await asyncio.to_thread(server.start)
            await until("back", lambda: client.connected)
            await client.publish("news", 2)
            said = await heard.several("channel_message", 2)
            assert [one["offset"] for one in said] == [1, 2]
            assert recovered
    finally:
        server.stop()


async def test_sse_continues_where_it_was_and_filters(server: Server) -> None:
    async with RealtimeAPI(server.url) as api:
        client = create_sse_client(server.events, channels=["x", "y"], filters={"binary_data": False})
        async with client:
            events = client.events()
            assert (await anext(events)).event == "connected"
            await api.send(1, channel="x")
            await api.send_binary(b"%PDF-1.4", "application/pdf", channel="x")
            await api.send(2, channel="y")
            seen = []
            while len(seen) < 2:
                event = await anext(events)
                if event.event == "message":
                    seen.append(event.data["data"])
            position = client.last_event_id
            assert event.json() == event.data and str(event.data["data"]) in event.text
        assert seen == [1, 2]
        await api.send(3, channel="x")
        async with SSEClient(server.events, channels=["x", "y"], last_event_id=position) as client:
            async for event in client:
                if event.event == "message":
                    assert event.data["data"] == 3
                    break


# Who may


async def test_credentials_of_every_kind(closed_server: Server) -> None:
    server = closed_server
    for client in (WSClient(server.ws), create_authenticated_client(server.ws, "wrong")):
        with pytest.raises(AuthenticationError):
            await client.connect()
    async with create_authenticated_client(url=server.ws, token=token()) as client:
        assert client.user_id == "anna"
    with pytest.raises(AuthenticationError):
        async with SSEClient(server.events, "c"):
            pass
    async with create_sse_client(server.events, "c", token=token()) as stream:
        async for event in stream.events():
            assert event.data["user_id"] == "anna"
            break
    with pytest.raises(AuthenticationError):
        async with RealtimeAPI(server.url, token=token(exp=int(time.time()) - 600)) as api:
            await api.send(1, channel="c")


async def test_a_token_that_expires_is_replaced_and_nothing_is_missed(closed_server: Server) -> None:
    # Accepted for the leeway of 30 s only: the client asks for a fresh one before it is of no use.
    asked = 0

    async def refresh() -> str:
        nonlocal asked
        asked += 1
        return token()

    async with WSClient(closed_server.ws, token=token(exp=1), refresh_token=refresh) as client:
        assert asked == 1 and client.user_id == "anna"
    async with RealtimeAPI(closed_server.url, token="nonsense", refresh_token=refresh) as api:
        await api.health()
        await api.send(1, channel="c")
        assert asked == 2


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost):
        async with RealtimeAPI("http://127.0.0.1:9") as api:
            await api.send_request("GET", "/health", retry=False)
    with pytest.raises(ConnectionLost):
        await SSEClient("http://127.0.0.1:9/realtime/events").connect()
