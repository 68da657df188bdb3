"""Every sample of the specification, run as it stands against a real server."""

from __future__ import annotations

import ast
import asyncio
import base64
import inspect
import io
import json
import logging
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jwt
import pytest
from conftest import SECRET
from PIL import Image
from support import Heard, Server, until

import veche
from veche import BinaryMessage, ChannelMessage, RealtimeAPI, WSClient, connection_manager, get_settings

SAMPLES = Path(__file__).with_name("samples")


def source(name: str, server: Server) -> str:
    """A sample, with the server's address in place of the one that stands there."""
    return (SAMPLES / name).read_text().replace("localhost:8000", f"127.0.0.1:{server.port}")


async def run(name: str, server: Server, **names: Any) -> dict[str, Any]:
    """Runs a sample, with what stood before it, and gives what it defines."""
    scope = {"__name__": name, **names}
    code = compile(source(name, server), name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, scope)
    if inspect.iscoroutine(result):
        await result
    return scope


def shell(name: str, server: Server) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", source(name, server)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def _environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECHE_URL", server.url)


@pytest.fixture
async def listener(server: Server) -> Any:
    """Somebody else, and what they hear."""
    heard = Heard()
    async with WSClient(server.ws) as client:
        client.on_message(heard)
        yield client, heard
    await connection_manager.aclose()


async def test_a_file_over_the_websocket(server: Server, folder: Path, listener: Any) -> None:
    _, heard = listener
    await run("send_file.py", server)
    message = await heard.first("binary")
    assert base64.b64decode(message["binary_data"]) == (folder / "image.png").read_bytes()
    assert (message["content_type"], message["filename"]) == ("image/png", "image.png")


async def test_receiving_a_file(
    server: Server, folder: Path, listener: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client, _ = listener
    await run("receive_file.py", server, client=client, base64=base64)
    await run("send_file.py", server)
    saved = folder / "downloads" / "image.png"
    await until("the file is saved", saved.exists)
    await until("it is said", lambda: "Получен файл: image.png" in capsys.readouterr().out)
    assert saved.read_bytes() == (folder / "image.png").read_bytes()


async def test_uploads_with_curl(server: Server, folder: Path, listener: Any) -> None:
    client, heard = listener
    await client.subscribe_to_channel("general")
    await asyncio.to_thread(shell, "upload.sh", server)
    image, text = await heard.several("binary", 2)
    assert base64.b64decode(image["binary_data"]) == (folder / "image.png").read_bytes()
    assert base64.b64decode(text["binary_data"]).decode() == "Это сообщение будет отправлено как бинарные данные"
    assert text["content_type"].startswith("text/plain")


async def test_creating_a_room(server: Server) -> None:
    async with RealtimeAPI(server.url) as client:
        scope = await run("create_room.py", server, client=client)
        assert scope["response"]["room_id"] == "meeting_123"
        assert scope["response"]["max_participants"] == 10
        rooms = await scope["webrtc_rooms"].list()
        assert "meeting_123" in [room.room_id for room in rooms]
        await scope["webrtc_rooms"].delete("meeting_123")


async def test_subscribing_with_filters(server: Server, folder: Path, listener: Any) -> None:
    client, heard = listener
    await run("filters.py", server, client=client, user_id="7")
    async with RealtimeAPI(server.url) as api:
        await api.send_binary((folder / "image.png").read_bytes(), "image/png", "in.png", channel="file_sharing")
        await api.send_binary(b"text", "text/plain", "out.txt", channel="file_sharing")
        await api.notify_channel("user_7", "a call", notification_type="call")
        await api.notify_channel("user_7", "something else", notification_type="weather")
        await api.notify_channel("user_7", "a file", notification_type="file")
    assert [one["title"] for one in await heard.several("notification", 2)] == ["a call", "a file"]
    assert [one["filename"] for one in heard.of("binary")] == ["in.png"]


async def test_a_message_that_is_kept(server: Server, listener: Any) -> None:
    client, heard = listener
    async with WSClient(server.ws) as sender:
        await run("persistent.py", server, client=sender, ChannelMessage=ChannelMessage)
    assert (await client.subscribe_to_channel("announcements")).kept == 1
    message = await heard.first("channel_message")
    assert message["data"] == "Важное объявление для всех пользователей" and message["persistent"] is True


async def test_settings(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    await run("settings.py", server)
    assert capsys.readouterr().out == "WebSocket включен\nWebRTC включен\nМаксимальный размер файла: 50.0MB\n"


async def test_the_websocket_client(server: Server, folder: Path, listener: Any) -> None:
    client, heard = listener
    await client.subscribe_to_channel("general")
    await run("websocket_client.py", server)
    assert (await heard.first("channel_message"))["data"] == "Сообщение в канал"
    binary = await heard.first("binary")
    assert binary["content_type"] == "application/pdf"
    assert base64.b64decode(binary["binary_data"]) == (folder / "file.pdf").read_bytes()


async def test_the_sse_client(server: Server, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binaries: list[Any] = []
    running = asyncio.create_task(run("sse_client.py", server, handle_binary_event=binaries.append))
    async with RealtimeAPI(server.url) as api:

        async def is_there() -> bool:
            return bool((await api.connections())["channels"].get("notifications"))

        await until("the sample listens", is_there)
        await api.notify_channel("notifications", "Привет", "мир")
        await api.send_binary((folder / "image.png").read_bytes(), "image/png", channel="notifications")
    await until("both are heard", lambda: binaries)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    out = capsys.readouterr().out
    assert "Уведомление:" in out and "Привет" in out
    assert base64.b64decode(binaries[0]["binary_data"]) == (folder / "image.png").read_bytes()


async def test_checking_credentials(closed_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECHE_URL", closed_server.url)
    token = jwt.encode({"sub": "anna", "exp": 4_000_000_000}, SECRET)
    scope = await run("authenticator.py", closed_server, token=token, api_key="vk_unknown")
    assert scope["user_id"] == "anna"
    assert scope["auth_data"] is None


async def test_validation(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"settings": get_settings({}), "file_data": b"%PDF", "content_type": "application/pdf"}
    await run("validation.py", server, **names)
    assert "Ошибка валидации" in capsys.readouterr().out
    with pytest.raises(ValueError, match="слишком большой"):
        await run("validation.py", server, **{**names, "settings": get_settings({"BINARY_MAX_FILE_SIZE": "3"})})
    with pytest.raises(ValueError, match="не разрешен"):
        await run("validation.py", server, **{**names, "content_type": "application/zip"})
    # The sample compares by the beginning, wildcard and all; this knows what is meant.
    assert get_settings({}).allows_type("image/png")


async def test_logging(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    names = {"data": b"abc", "content_type": "image/png", "user_id": "7", "channel": "general"}
    await run("logging_setup.py", server, logger=logging.getLogger("realtime"), **names)
    record = next(record for record in caplog.records if record.message == "Binary data sent")
    assert (record.__dict__["file_size"], record.__dict__["channel"]) == (3, "general")
    assert logging.getLogger("realtime.websocket").level == logging.INFO
    for name in ("realtime", "realtime.websocket", "realtime.webrtc"):
        logging.getLogger(name).setLevel(logging.NOTSET)


async def test_metrics(server: Server, listener: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client, _ = listener
    await client.subscribe_to_channel("general")
    scope = await run("metrics.py", server, client=client, connection_manager=connection_manager)
    total, rtc, channels = capsys.readouterr().out.splitlines()
    assert total == "Активных соединений: 1"
    assert rtc == "WebRTC соединений: 0"
    assert channels == f"Каналов: {len(scope['stats']['channels'])}" and scope["stats"]["channels"]["general"] == 1


async def test_health(server: Server) -> None:
    text = await asyncio.to_thread(shell, "health.sh", server)
    decoder, answers = json.JSONDecoder(), []
    while text := text.lstrip():
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:]
    assert len(answers) == 3 and all(answer["status"] for answer in answers)


async def test_a_video_chat(server: Server) -> None:
    room = (await run("video_chat.py", server))["room"]
    made = await room.create()
    try:
        assert (made.room_id, made.name, made.max_participants) == ("video_call_123", "Видеозвонок", 4)
        assert (await made.update(name="Другое имя")).name == "Другое имя"
        assert (await veche.WebRTCRoom.get("video_call_123")).name == "Другое имя"
    finally:
        await made.delete()
    with pytest.raises(veche.RequestError) as caught:
        await veche.WebRTCRoom.get("video_call_123")
    assert caught.value.code == "room_not_found"


async def test_exchanging_files(server: Server, folder: Path, listener: Any) -> None:
    client, _ = listener
    names = {"connection_manager": connection_manager, "BinaryMessage": BinaryMessage, "base64": base64}
    scope = await run("file_exchange.py", server, **names)
    client.on_message(scope["handle_file_message"])
    await client.subscribe_to_channel("chat_5")
    await scope["send_file_to_chat"](str(folder / "image.png"), "5")
    saved = folder / "downloads" / "image.png"
    await until("the file is saved", lambda: saved.exists() and saved.stat().st_size > 0)
    assert saved.read_bytes() == (folder / "image.png").read_bytes()


async def test_streaming_a_camera(server: Server, listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, heard = listener
    monkeypatch.setitem(sys.modules, "cv2", camera(frames=10))
    names = {"connection_manager": connection_manager, "BinaryMessage": BinaryMessage}
    scope = await run("camera.py", server, **names)
    await scope["stream_camera"]()
    frames = await heard.several("binary", 10)
    assert {frame["content_type"] for frame in frames} == {"image/jpeg"}
    pictures = [Image.open(io.BytesIO(base64.b64decode(frame["binary_data"]))).getpixel((8, 8)) for frame in frames]
    # In order: each frame is brighter than the one before.
    assert pictures == sorted(pictures) and len(set(pictures)) == 10


def camera(frames: int) -> types.ModuleType:
    """What the sample uses of OpenCV, with generated frames."""
    module = types.ModuleType("cv2")

    class VideoCapture:
        def __init__(self, index: int) -> None:
            self.taken = 0

        def read(self) -> tuple[bool, Any]:
            self.taken += 1
            picture = Image.new("L", (16, 16), 20 * self.taken)
            return self.taken <= frames, picture

        def release(self) -> None:
            pass

    class Buffer:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def tobytes(self) -> bytes:
            return self._data

    def imencode(ending: str, picture: Image.Image) -> tuple[bool, Buffer]:
        sink = io.BytesIO()
        picture.save(sink, "JPEG")
        return True, Buffer(sink.getvalue())

    module.VideoCapture = VideoCapture  # type: ignore[attr-defined]
    module.imencode = imencode  # type: ignore[attr-defined]
    return module
