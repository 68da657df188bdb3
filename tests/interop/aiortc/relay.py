"""aioice as a client of the server's TURN server, over UDP, TCP and TLS with a certificate that it checks.

Over each of them a peer that sends everything back is reached through a relay, and two ICE agents that may use nothing but
relays find each other and talk, both ways. What is closed is gone from the server.
"""

import asyncio
import contextlib
import os
import ssl
import sys
import tempfile
import time

import aiohttp
from aioice import Connection, TransportPolicy
from aioice.turn import create_turn_endpoint

from call import start_server

# What differs from the usual: relays on loopback, which may reach loopback, and TLS with the certificate that the server makes.
SETTINGS = {
    "VECHE_HTTP_HTTPS_LISTEN": "127.0.0.1:0",
    "VECHE_TURN_LISTEN": "127.0.0.1:0",
    "VECHE_TURN_EXTERNAL_ADDRESSES": "127.0.0.1",
    "VECHE_TURN_ALLOW": "127.0.0.0/8",
}
SIZES = [1, 2, 3, 4, 160, 1000, 1200, 1400]
ROUNDS = 25
PATIENCE = 10.0


class Echo(asyncio.DatagramProtocol):
    """A peer that sends everything back."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Received(asyncio.DatagramProtocol):
    """What comes out of a relay."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.queue.put_nowait((data, address))

    def error_received(self, error):
        self.queue.put_nowait((error, None))


def payloads():
    """Datagrams of many sizes, no two the same."""
    for count in range(ROUNDS):
        for size in SIZES:
            yield (f"{count}/{size} ".encode() * size)[:size]


async def reaches_a_peer(way, credential):
    """A peer outside is reached through a relay, and its answers come back."""
    loop = asyncio.get_running_loop()
    peer, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    address = peer.get_extra_info("sockname")
    relay, received = await create_turn_endpoint(Received, **way, **credential)
    for payload in payloads():
        relay.sendto(payload, address)
        back = await asyncio.wait_for(received.queue.get(), PATIENCE)
        assert back == (payload, address), f"{back} came back instead of {payload} from {address}"
    relay.close()
    peer.close()


async def agents_meet(way, credential):
    """Two ICE agents that may use relays only."""
    agents = [
        Connection(
            ice_controlling=controlling,
            turn_server=way["server_addr"],
            turn_username=credential["username"],
            turn_password=credential["password"],
            turn_ssl=way["ssl"],
            turn_transport=way["transport"],
            transport_policy=TransportPolicy.RELAY,
        )
        for controlling in (True, False)
    ]
    for agent in agents:
        await agent.gather_candidates()
        kinds = [candidate.type for candidate in agent.local_candidates]
        assert kinds == ["relay"], f"the candidates are {kinds}"
    for one, other in (agents, agents[::-1]):
        one.remote_username, one.remote_password = other.local_username, other.local_password
        for candidate in other.local_candidates:
            await one.add_remote_candidate(candidate)
        await one.add_remote_candidate(None)
    await asyncio.gather(*(agent.connect() for agent in agents))
    for one, other in (agents, agents[::-1]):
        for payload in payloads():
            await one.send(payload)
            came = await asyncio.wait_for(other.recv(), PATIENCE)
            assert came == payload, f"{came} came instead of {payload}"
    await asyncio.gather(*(agent.close() for agent in agents))


def told(servers):
    """Where the server says that its TURN server is, and by what name and password it is used."""
    (server,) = servers
    url = next(url for url in server["urls"] if url.endswith("transport=udp"))
    host, port = url.removeprefix("turn:").removesuffix("?transport=udp").rsplit(":", 1)
    return (host, int(port)), {"username": server["username"], "password": server["credential"]}


async def nothing_is_left(session, port):
    """What was closed is gone; the server tells it of each second."""
    deadline = time.monotonic() + PATIENCE
    while True:
        async with session.get(f"http://127.0.0.1:{port}/realtime/webrtc/turn") as response:
            total = (await response.json())["total"]
        if total["allocations"] == 0 and total["packets_to_peers"] > 0 and total["packets_to_clients"] > 0:
            return
        assert time.monotonic() < deadline, f"the server still has {total}"
        await asyncio.sleep(0.1)


async def clients(port, folder):
    trust = ssl.create_default_context(cafile=os.path.join(folder, "https-certificate.pem"))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/realtime/webrtc/ice-servers?room_id=interop") as response:
            server, credential = told((await response.json())["ice_servers"])
        for name, transport, tls in (("UDP", "udp", None), ("TCP", "tcp", None), ("TLS", "tcp", trust)):
            way = {"server_addr": server, "transport": transport, "ssl": tls}
            start = time.monotonic()
            await reaches_a_peer(way, credential)
            await agents_meet(way, credential)
            print(f"aioice: relayed both ways over {name} ({time.monotonic() - start:.1f} s)")
        await nothing_is_left(session, port)


async def main(binary):
    with tempfile.TemporaryDirectory() as folder:
        server, port = await start_server(binary, folder, SETTINGS)
        try:
            await clients(port, folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.terminate()
            await server.wait()
    print("aioice: passed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
