"""Uploads a file with a progress bar: python upload.py FILE [CHANNEL] (VECHE_URL, VECHE_TOKEN: where and who)."""

import asyncio
import sys

from veche import RealtimeAPI


def progress(done: int, total: int | None) -> None:
    share = done / total if total else 1
    print(f"\r[{'#' * round(40 * share):40}] {share:4.0%}", end="", flush=True)


async def upload(path: str, channel: str) -> None:
    async with RealtimeAPI() as api:
        published = await api.upload_file(path, channel=channel, on_progress=progress)
        print(f"\n{published.message_id} in {channel}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(upload(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "general"))
