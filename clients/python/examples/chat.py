"""A chat in the terminal: python chat.py NAME [CHANNEL] (VECHE_URL names the server)."""

import asyncio
import sys

from veche import WSClient, get_settings
from veche.auth import websocket_url


async def chat(name: str, channel: str) -> None:
    async with WSClient(websocket_url(get_settings().VECHE_URL)) as client:

        @client.on_message
        def show(message: dict) -> None:
            if message["type"] == "channel_message" and message["channel"] == channel:
                print(f"{message['data']['name']}: {message['data']['text']}")
            elif message["type"] == "presence":
                print(f"(+{len(message.get('joined', []))} -{len(message.get('left', []))})")

        client.on("reconnecting", lambda about: print(f"(lost; again in {about['wait']:.1f} s)"))
        client.on("recovered", lambda about: print("(back, nothing missed)"))
        people = (await client.subscribe_to_channel(channel, presence=True)).presence or []
        print(f"{len(people)} in {channel}; write, or end with Ctrl-D")
        while text := await asyncio.to_thread(sys.stdin.readline):
            await client.publish(channel, {"name": name, "text": text.strip()})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    asyncio.run(chat(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "general"))
