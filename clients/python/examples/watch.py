"""Prints what happens in channels: python watch.py CHANNEL... (VECHE_URL names the server)."""

import asyncio
import sys

from veche import create_sse_client, get_settings


async def watch(channels: list[str]) -> None:
    async with create_sse_client(f"{get_settings().VECHE_URL}/realtime/events", channels=channels) as client:
        async for event in client.events():
            print(f"{event.event:14} {client.last_event_id:20} {event.text[:200]}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(watch(sys.argv[1:]))
