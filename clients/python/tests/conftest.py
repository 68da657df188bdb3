"""What tests share: a real server, a proxy that cuts connections, and a place of their own to work in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from PIL import Image
from support import Proxy, Server

# Without a comma: in the environment, a list of secrets is parted by them.
SECRET = "a secret of the tests that is long enough for HS256"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is open to everybody."""
    running = Server(tmp_path_factory.mktemp("open"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants to know who comes."""
    running = Server(
        tmp_path_factory.mktemp("closed"),
        WEBSOCKET_AUTH_REQUIRED="true",
        SSE_AUTH_REQUIRED="true",
        VECHE_ACCESS_SECRETS=SECRET,
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """A proxy before the open server."""
    running = await Proxy.start(server.port)
    yield running
    await running.stop()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the files that the samples read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "downloads").mkdir()
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "image.png")
    (tmp_path / "file.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine stands between the tests and their server."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def leftovers() -> AsyncIterator[None]:
    """Fails a test that leaves tasks behind."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
