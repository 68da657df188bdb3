"""Files over HTTP: whole or in pieces that survive a broken connection (tus 1.0), with progress."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import mimetypes
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx

from .backoff import Backoff
from .errors import ConnectionLost, RequestError, VecheError
from .models import DEFAULT_CONTENT_TYPE, FileInfo, Published

if TYPE_CHECKING:
    from .api import RealtimeAPI

#: Called with the bytes that are done and with all there are (`None` while that is unknown).
Progress = Callable[[int, int | None], object]
#: A path, the bytes themselves, or a file that is open for reading bytes.
FileSource = str | Path | bytes | IO[bytes]

#: Files from this size on are uploaded in pieces.
RESUMABLE_FROM = 8 * 1024 * 1024
#: A piece of such an upload.
PIECE = 4 * 1024 * 1024
#: So many times in a row may a piece, or a download, fail before it is given up.
ATTEMPTS = 6
BLOCK = 64 * 1024
#: With these statuses another attempt may succeed: 409 is an offset that the server does not have, which is put right
#: by asking for it; 423 a piece that the server has not finished with.
PASSING = frozenset({408, 409, 423, 429, 502, 503, 504})
TUS = {"Tus-Resumable": "1.0.0"}


async def upload(
    api: RealtimeAPI,
    file: FileSource,
    *,
    channel: str | None,
    filename: str | None,
    content_type: str | None,
    persistent: bool,
    inline: bool | None,
    resumable: bool | None,
    on_progress: Progress | None,
) -> Published:
    """See `RealtimeAPI.upload_file`."""
    with ExitStack() as opened:
        source, name = _open(file, opened)
        filename = filename or name or "file"
        content_type = content_type or mimetypes.guess_type(filename)[0] or DEFAULT_CONTENT_TYPE
        size = _size(source)
        if resumable or (resumable is None and size >= RESUMABLE_FROM):
            about = {"filename": filename, "content_type": content_type, "channel": channel}
            if persistent:
                about["persistent"] = "true"
            return await _upload_in_pieces(api, source, size, about, on_progress)
        fields = {"channel": channel, "persistent": "true" if persistent else None}
        if inline is not None:
            fields["inline"] = "true" if inline else "false"
        return await _upload_whole(api, source, size, filename, content_type, fields, on_progress)


async def _upload_whole(
    api: RealtimeAPI,
    source: IO[bytes],
    size: int,
    filename: str,
    content_type: str,
    fields: Mapping[str, str | None],
    on_progress: Progress | None,
) -> Published:
    start = source.tell()
    backoff = Backoff(first=0.5, attempts=ATTEMPTS - 1)
    while True:
        source.seek(start)
        watched = _Watched(source, size, on_progress)
        try:
            response = await api.send_request(
                "POST",
                "/realtime/binary/upload",
                retry=False,
                data={name: value for name, value in fields.items() if value is not None},
                files={"file": (filename, watched, content_type)},
                timeout=httpx.Timeout(30.0, read=120.0),
            )
            return Published.model_validate(response.json())
        except (ConnectionLost, RequestError) as error:
            if isinstance(error, ConnectionLost) and watched.tell() == size:
                # All of it has left: the server may have announced it, and would do so again.
                raise
            await _wait_or_raise(backoff, error)


async def _upload_in_pieces(
    api: RealtimeAPI, source: IO[bytes], size: int, about: Mapping[str, str | None], on_progress: Progress | None
) -> Published:
    metadata = ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in about.items() if value is not None
    )
    start = source.tell()
    created = await api.send_request(
        "POST",
        "/realtime/files/uploads",
        headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata},
    )
    # The place may be told as a path or as a whole address; behind a proxy only its path is sure to be ours.
    place = urlsplit(created.headers["location"]).path
    if api.base_url.endswith(prefix := urlsplit(api.base_url).path) and prefix:
        place = place.removeprefix(prefix)
    done, is_sure = 0, True
    backoff = Backoff(first=0.5, attempts=ATTEMPTS - 1)
    while done < size or not is_sure:
        try:
            if not is_sure:
                head = await api.send_request("HEAD", place, headers=TUS)
                done, is_sure = int(head.headers["upload-offset"]), True
                continue
            source.seek(start + done)
            piece = source.read(min(PIECE, size - done))
            response = await api.send_request(
                "PATCH",
                place,
                headers={**TUS, "Upload-Offset": str(done), "Content-Type": "application/offset+octet-stream"},
                retry=False,
                content=_blocks(piece, done, size, on_progress),
                timeout=httpx.Timeout(30.0, read=120.0),
            )
            done = int(response.headers["upload-offset"])
            backoff.reset()
        except (ConnectionLost, RequestError) as error:
            await _wait_or_raise(backoff, error)
            is_sure = False
    return Published.model_validate({"file_id": place.rsplit("/", 1)[-1], "size": size})


async def _blocks(piece: bytes, before: int, size: int, on_progress: Progress | None) -> AsyncIterator[bytes]:
    for offset in range(0, len(piece), BLOCK):
        block = piece[offset : offset + BLOCK]
        yield block
        if on_progress is not None:
            on_progress(before + offset + len(block), size)


async def download(
    api: RealtimeAPI, file: str | FileInfo | Mapping[str, Any], to: str | Path | None, *, on_progress: Progress | None
) -> bytes:
    """See `RealtimeAPI.download_file`."""
    place, sha256 = _place(file)
    if to is None:
        memory = io.BytesIO()
        await _download_into(api, place, memory, sha256, on_progress)
        return memory.getvalue()
    target = Path(to)
    half = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with half.open("w+b") as sink:
            await _download_into(api, place, sink, sha256, on_progress)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return b""


async def _download_into(
    api: RealtimeAPI, place: str, sink: IO[bytes], sha256: str | None, on_progress: Progress | None
) -> None:
    digest = hashlib.sha256()
    backoff = Backoff(first=0.5, attempts=ATTEMPTS - 1)
    tag: str | None = None
    refreshed = False
    while True:
        done = sink.tell()
        # Sizes and ranges are those of the file itself, so it may not be compressed on the way.
        headers = {**await api.credentials.headers(), "Accept-Encoding": "identity"}
        if done and tag:
            headers |= {"Range": f"bytes={done}-", "If-Range": tag}
        try:
            async with api._client.stream("GET", api.url(place), headers=headers) as response:
                if response.status_code == 401 and api.credentials.can_refresh and not refreshed:
                    refreshed = True
                    await api.credentials.refresh(api.credentials.token)
                    continue
                if response.status_code >= 400:
                    await response.aread()
                    from .api import raise_for_error  # api.py needs this module

                    raise_for_error(response)
                if response.status_code != 206 and done:
                    sink.seek(0)
                    sink.truncate()
                    digest, done = hashlib.sha256(), 0
                tag = response.headers.get("etag")
                length = response.headers.get("content-length")
                total = done + int(length) if length else None
                async for block in response.aiter_bytes():
                    sink.write(block)
                    digest.update(block)
                    done += len(block)
                    if on_progress is not None:
                        on_progress(done, total)
            break
        except httpx.TransportError as error:
            lost = ConnectionLost("unreachable", f"the download broke off: {error!r}")
            await _wait_or_raise(backoff, lost)
        except RequestError as error:
            await _wait_or_raise(backoff, error)
    if sha256 is not None and digest.hexdigest() != sha256:
        raise VecheError("corrupted", f"the file's SHA-256 is {digest.hexdigest()}, not {sha256}")


def _place(file: str | FileInfo | Mapping[str, Any]) -> tuple[str, str | None]:
    if isinstance(file, FileInfo):
        return file.url, file.sha256
    if isinstance(file, Mapping):
        inner = file.get("file", file)
        return str(inner["url"]), inner.get("sha256")
    if file.startswith(("/", "http://", "https://")):
        return file, None
    return f"/realtime/files/{quote(file, safe='')}", None


def _open(file: FileSource, opened: ExitStack) -> tuple[IO[bytes], str | None]:
    if isinstance(file, str | Path):
        path = Path(file)
        return opened.enter_context(path.open("rb")), path.name
    if isinstance(file, bytes | bytearray | memoryview):
        return io.BytesIO(file), None
    name = getattr(file, "name", None)
    return file, Path(name).name if isinstance(name, str) else None


def _size(source: IO[bytes]) -> int:
    """What is left of a file; it must be one that can be read twice."""
    here = source.tell()
    end = source.seek(0, os.SEEK_END)
    source.seek(here)
    return end - here


class _Watched(io.RawIOBase):
    """A file whose reading is told; httpx reads it in blocks as they leave."""

    def __init__(self, source: IO[bytes], size: int, on_progress: Progress | None) -> None:
        super().__init__()
        self._source = source
        self._start = source.tell()
        self._size = size
        self._on_progress = on_progress

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        if self._on_progress is not None and block:
            self._on_progress(self._source.tell() - self._start, self._size)
        return block

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            return self._source.seek(self._start + offset) - self._start
        return self._source.seek(offset, whence) - self._start

    def tell(self) -> int:
        return self._source.tell() - self._start


async def _wait_or_raise(backoff: Backoff, error: VecheError) -> None:
    passing = not isinstance(error, RequestError) or error.status in PASSING
    wait = backoff.next() if passing else None
    if wait is None:
        raise error
    await asyncio.sleep(wait)
