"""The server as programs meet it that know nothing of this package: plain `websockets`, and curl."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from typing import Any

import websockets
from support import Server


async def curl(*arguments: str) -> Any:
    """The JSON that comes back."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-fsS", "--noproxy", "*", *arguments, stdout=PIPE, stderr=PIPE
    )
    out, problem = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, problem.decode()
    return json.loads(out)


async def test_plain_websockets_chat_in_a_room(server: Server) -> None:
    async with websockets.connect(server.ws) as anna, websockets.connect(server.ws) as boris:

        async def say(socket: websockets.ClientConnection, **message: str) -> None:
            await socket.send(json.dumps(message))

        async def hear(socket: websockets.ClientConnection) -> dict[str, Any]:
            return json.loads(await asyncio.wait_for(socket.recv(), 10))

        for socket in (anna, boris):
            assert (await hear(socket))["type"] == "welcome"
        await say(anna, action="set_username", username="Анна")
        assert await hear(anna) == {"type": "system", "message": "Имя установлено: Анна"}
        for socket, name in ((anna, "Анна"), (boris, "Аноним")):
            await say(socket, action="join", room="plain")
            joined = await hear(anna)
            assert (joined["message"], joined["room"]) == (f"{name} присоединился к комнате", "plain")
        assert (await hear(boris))["room"] == "plain"
        await say(boris, action="message", text="Привет")
        for socket in (anna, boris):
            chat = await hear(socket)
            assert (chat["type"], chat["user"], chat["message"]) == ("chat", "Аноним", "Привет")
        await say(boris, action="leave")
        assert (await hear(anna))["message"] == "Аноним покинул комнату"
        await say(anna, type="greeting", message="Привет, сервер!")
        assert (await hear(anna))["original"] == {"type": "greeting", "message": "Привет, сервер!"}


async def test_curl_sends_reads_back_and_follows_events(server: Server) -> None:
    url = f"{server.url}/realtime"
    stream = await asyncio.create_subprocess_exec(
        *("curl", "-fsSN", "--noproxy", "*", f"{url}/events?channel=curl"), stdout=PIPE
    )
    assert stream.stdout is not None
    try:

        async def event(kind: str) -> dict[str, Any]:
            """What the next event of this name says."""
            assert stream.stdout is not None
            async with asyncio.timeout(20):
                while (await stream.stdout.readline()).decode().strip() != f"event: {kind}":
                    assert not stream.stdout.at_eof()
                while not (line := (await stream.stdout.readline()).decode()).startswith("data: "):
                    assert not stream.stdout.at_eof()
            return json.loads(line.removeprefix("data: "))

        await event("subscribed")
        message = json.dumps({"channel": "curl", "data": {"text": "привет"}})
        sent = await curl("--json", message, "-H", "Idempotency-Key: once", f"{url}/send")
        assert (sent["recipients"], sent["repeated"]) == (1, False)
        again = await curl("--json", message, "-H", "Idempotency-Key: once", f"{url}/send")
        assert (again["message_id"], again["repeated"]) == (sent["message_id"], True)
        heard = await event("message")
        assert (heard["message_id"], heard["data"]) == (sent["message_id"], {"text": "привет"})
        history = await curl(f"{url}/channels/curl/history")
        assert [message["message_id"] for message in history["messages"]] == [sent["message_id"]]
    finally:
        stream.kill()
        await stream.communicate()
