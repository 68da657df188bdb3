"""The README's blocks and the programs in `examples`, run as they are written."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import Heard, Server, until

from veche import RealtimeAPI, WSClient

PACKAGE = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)


async def block(names: str, server: Server, **changes: str) -> None:
    """Runs the README's block that has this text, with the server's address in place of the one that stands there."""
    (code,) = (block for block in BLOCKS if names in block)
    code = code.replace("localhost:8000", f"127.0.0.1:{server.port}")
    for there, here in changes.items():
        code = code.replace(f'{there}="…"', f'{there}="{here}"')
    # Where it has an event loop of its own, it runs in this one.
    code = code.replace("asyncio.run(main())", "await main()")
    result = eval(compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {"__name__": "__main__"})
    if inspect.iscoroutine(result):
        await result


@asynccontextmanager
async def running(job: Awaitable[None]) -> AsyncIterator[None]:
    """Something that does not end by itself."""
    task = asyncio.ensure_future(job)
    yield
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError), outcome


@asynccontextmanager
async def example(name: str, *arguments: str, server: Server) -> AsyncIterator[Process]:
    """A program of `examples`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-u", str(PACKAGE / "examples" / name), *arguments),
        env={**os.environ, "VECHE_URL": server.url},
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: Process, what: str) -> str:
    """The first line that has this in it."""
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(20):
        while line := (await process.stdout.readline()).decode():
            if what in line:
                return line
            lines.append(line)
    raise AssertionError(f"{what!r} was not said: {lines}")


def subscribed(api: RealtimeAPI, channel: str, count: int = 1) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return bool((await api.connections())["channels"].get(channel, 0) >= count)

    return check


async def test_the_readme_s_websocket(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    heard = ""

    def is_said() -> bool:
        nonlocal heard
        heard += capsys.readouterr().out
        return "channel_message {'hello': 'world'}" in heard

    async with running(block("WSClient(", server)):
        await until("the block hears itself", is_said)


async def test_the_readme_s_events(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    heard = ""

    def is_said() -> bool:
        nonlocal heard
        heard += capsys.readouterr().out
        return "notification" in heard and "'A title'" in heard

    async with RealtimeAPI(server.url) as api, running(block("create_sse_client(", server)):
        await until("the block listens", subscribed(api, "notifications"))
        await api.notify_channel("notifications", "A title")
        await until("the event is printed", is_said)


async def test_the_readme_s_http(closed_server: Server, folder: Path) -> None:
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(1000))
    token = closed_server.command("token", "--user", "anna", "--admin").strip()
    heard = Heard()
    async with WSClient(closed_server.ws, token=token) as client, RealtimeAPI(closed_server.url, token=token) as api:
        client.on_message(heard)
        await client.subscribe_to_channel("general")
        await block("RealtimeAPI(", closed_server, token=token)
        assert (await heard.first("channel_message"))["data"] == {"hello": "world"}
        assert (await heard.first("binary"))["filename"] == "film.mp4"
        assert (await heard.first("notification"))["title"] == "Title"
        assert (await api.get("/realtime/webrtc/rooms/kitchen"))["max_participants"] == 4


async def test_a_chat(server: Server) -> None:
    async with example("chat.py", "Anna", "talk", server=server) as anna:
        await said(anna, "in talk; write")
        async with example("chat.py", "Boris", "talk", server=server) as boris:
            await said(boris, "in talk; write")
            assert anna.stdin is not None
            anna.stdin.write("Добрый день\n".encode())
            assert await said(boris, "Anna") == "Anna: Добрый день\n"
            anna.stdin.close()
            assert await asyncio.wait_for(anna.wait(), 20) == 0


async def test_an_upload_with_a_bar_while_somebody_watches(server: Server, folder: Path) -> None:
    async with RealtimeAPI(server.url) as api, example("watch.py", "files:a", "files:b", server=server) as watcher:
        await until("it watches", subscribed(api, "files:b"))
        async with example("upload.py", "image.png", "files:b", server=server) as upload:
            assert "100%" in await said(upload, "#" * 40)
            assert await asyncio.wait_for(upload.wait(), 20) == 0
        assert '"channel":"files:b"' in await said(watcher, "binary_data  ")
