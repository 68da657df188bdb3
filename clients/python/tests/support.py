"""The server under test, and bad networks before it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import httpx

REPOSITORY = Path(__file__).resolve().parents[3]
T = TypeVar("T")


class Server:
    """A `veche` process with a data folder of its own, on ports that were free."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws = f"ws://127.0.0.1:{self.port}/realtime/ws"
        self.events = f"{self.url}/realtime/events"
        self._log = folder / "veche.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "RUST_BACKTRACE")},
            "VECHE_HTTP_LISTEN": f"127.0.0.1:{self.port}",
            "VECHE_HTTP_HTTPS_LISTEN": "",
            "VECHE_HTTP_DATA_DIR": str(folder / "data"),
            "VECHE_MEDIA_FIRST_PORT": "0",
            "VECHE_MEDIA_WORKERS": "1",
            **environment,
        }

    def start(self) -> None:
        """Starts it, again with the same data if it ran before, and waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binary()], cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the server did not start:\n{self.log}")

    def stop(self) -> None:
        """As an operator would."""
        self._end("terminate")

    def kill(self) -> None:
        """Without a word."""
        self._end("kill")

    def command(self, *arguments: str) -> str:
        """What the program prints for `veche arguments…` beside the server."""
        done = subprocess.run(
            [binary(), *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")[-20_000:]

    def _end(self, how: str) -> None:
        if self._process is not None and self._process.poll() is None:
            getattr(self._process, how)()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Proxy:
    """A TCP proxy whose connections can be cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._open = True
        self.port = 0
        #: How many connections there have been.
        self.carried = 0

    @classmethod
    async def start(cls, to: int) -> Proxy:
        proxy = cls(to)
        proxy._listener = await asyncio.start_server(proxy._carry, "127.0.0.1", 0)
        proxy.port = proxy._listener.sockets[0].getsockname()[1]
        return proxy

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/realtime/ws"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cuts all connections; new ones work."""
        for writer in list(self._writers):
            writer.transport.abort()

    def close(self) -> None:
        """Cuts all connections and lets none in."""
        self._open = False
        self.cut()

    def open(self) -> None:
        """Lets connections in again."""
        self._open = True

    async def stop(self) -> None:
        self.close()
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        self.carried += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
        for one in (writer, server_writer):
            self._writers.add(one)
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            task = asyncio.create_task(self._pipe(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while block := await source.read(65536):
                sink.write(block)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
            self._writers.discard(sink)


class Heard:
    """Keeps the messages that a client heard, to wait for some of them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    def __call__(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._changed.set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of this type so far."""
        return [message for message in self.messages if message.get("type") == kind]

    async def first(self, kind: str, within: float = 10.0) -> dict[str, Any]:
        """The first message of this type, once it is there."""
        return (await self.several(kind, 1, within))[0]

    async def several(self, kind: str, count: int, within: float = 10.0) -> list[dict[str, Any]]:
        """So many messages of this type, once they are there."""
        try:
            async with asyncio.timeout(within):
                while len(self.of(kind)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {count} of {kind!r} in vain; heard {self.messages}") from None
        return self.of(kind)


async def until(what: str, check: Callable[[], T | Awaitable[T]], within: float = 10.0) -> T:
    """Asks again and again until the answer is true."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        answer = check()
        answer = await answer if isinstance(answer, Awaitable) else answer
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary() -> str:
    """The server's program: named by VECHE_BIN, or the newest build there is."""
    named = os.environ.get("VECHE_BIN")
    if named:
        return str(Path(named).resolve())
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    found: Iterable[Path] = (target / profile / "veche" for profile in ("quick", "release", "debug"))
    for path in found:
        if path.exists():
            return str(path)
    raise AssertionError("the server is not built: run 'make build', or name it by VECHE_BIN")
