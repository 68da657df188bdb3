"""A call between two aiortc peers through a real server: pictures, tones and messages must arrive as they were sent.

Each peer sends a picture of its own colour with a bar that moves, and a tone of its own pitch; the other must see the
colour, the bar in many places, and hear the pitch. A message goes over a data channel and comes back. Then one peer
adds a second picture by another offer, and what flowed before must go on.
"""

import asyncio
import fractions
import json
import os
import re
import sys
import tempfile
import time

import aiohttp
import aioice.ice
import numpy
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from av import AudioFrame, VideoFrame

WIDTH, HEIGHT, BAR = 320, 240, 20
RATE, CHUNK = 48000, 960
# Levels of Y, U and V that tell the pictures apart.
COLOURS = {"anna": (81, 90, 240), "boris": (41, 240, 110), "anna-screen": (145, 54, 34)}
PITCHES = {"anna": 440, "boris": 1000}
PATIENCE = 20.0


class Picture(VideoStreamTrack):
    """A field of one colour, and a bright bar that moves a little with each frame."""

    def __init__(self, colour):
        super().__init__()
        self.colour = colour
        self.count = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        planes = [
            numpy.full((HEIGHT // size, WIDTH // size), level, numpy.uint8)
            for size, level in zip((1, 2, 2), self.colour)
        ]
        left = self.count * 4 % (WIDTH - BAR)
        planes[0][:, left : left + BAR] = 235
        self.count += 1
        image = numpy.concatenate([plane.reshape(-1, WIDTH) for plane in planes])
        frame = VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(MediaStreamTrack):
    """A sine of one pitch."""

    kind = "audio"

    def __init__(self, pitch):
        super().__init__()
        self.pitch = pitch
        self.sample = 0
        self.start = None

    async def recv(self):
        self.start = self.start or time.monotonic()
        await asyncio.sleep(max(0, self.start + self.sample / RATE - time.monotonic()))
        times = (self.sample + numpy.arange(CHUNK)) / RATE
        samples = (8000 * numpy.sin(2 * numpy.pi * self.pitch * times)).astype(numpy.int16)
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.sample, fractions.Fraction(1, RATE)
        self.sample += CHUNK
        return frame


class Seen:
    """What came out of one video slot."""

    def __init__(self):
        self.frames = 0
        self.wrong = 0
        self.name = None
        self.bars = set()

    def take(self, frame):
        image = frame.to_ndarray(format="yuv420p")
        luma = image[:HEIGHT].astype(int)
        chroma = [image[start : start + HEIGHT // 4].mean() for start in (HEIGHT, HEIGHT * 5 // 4)]
        errors = {
            name: max(abs(numpy.median(luma) - y), abs(chroma[0] - u), abs(chroma[1] - v))
            for name, (y, u, v) in COLOURS.items()
        }
        name = min(errors, key=errors.get)
        self.frames += 1
        if errors[name] > 20:
            self.wrong += 1
            return
        self.name = name
        self.bars.add(int(luma.mean(axis=0).argmax()) // BAR)


class Heard:
    """What came out of one audio slot: the pitches of its last second."""

    def __init__(self):
        self.samples = numpy.zeros(0)

    def take(self, frame):
        channels = len(frame.layout.channels)
        samples = frame.to_ndarray().reshape(-1)[::channels]
        self.samples = numpy.concatenate([self.samples, samples])[-RATE:]

    def pitch(self):
        """The strongest pitch; None before there is a whole second with sound in it."""
        if len(self.samples) < RATE or numpy.abs(self.samples).mean() < 500:
            return None
        return int(numpy.abs(numpy.fft.rfft(self.samples)).argmax())


class Peer:
    """One aiortc peer with its signaling connection."""

    def __init__(self, name, session, port):
        self.name, self.session, self.port = name, session, port
        # aiortc takes a transport's candidates from the last section that uses it; the server's are in the first of
        # the bundle. So each section begins with a transport of its own, before they are bundled.
        self.pc = RTCPeerConnection(RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_COMPAT))
        self.seen, self.heard, self.messages, self.slots = [], [], [], {}
        self.tasks, self.answers, self.offers = [], asyncio.Queue(), 0
        self.pc.on("track", lambda track: self.tasks.append(asyncio.ensure_future(self.watch(track))))

    async def join(self):
        url = f"http://127.0.0.1:{self.port}/realtime/webrtc/signaling?room_id=interop&peer_id={self.name}"
        self.socket = await self.session.ws_connect(url)
        self.tasks.append(asyncio.ensure_future(self.listen()))
        self.pc.addTransceiver(Tone(PITCHES[self.name]), direction="sendonly")
        self.pc.addTransceiver(Picture(COLOURS[self.name]), direction="sendonly")
        for kind in ("audio", "video", "video"):
            self.pc.addTransceiver(kind, direction="recvonly")
        self.channel = self.pc.createDataChannel("chat")
        self.channel.on("message", self.on_message)
        await self.offer()

    async def offer(self):
        await self.pc.setLocalDescription(await self.pc.createOffer())
        self.offers += 1
        offer = {"signal_type": "offer", "id": self.offers, "sdp": self.pc.localDescription.sdp}
        await self.socket.send_json(offer)
        answer = await asyncio.wait_for(self.answers.get(), 5)
        await self.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))

    async def listen(self):
        async for message in self.socket:
            message = json.loads(message.data)
            kind = message["signal_type"]
            if kind == "answer":
                await self.answers.put(message)
            elif kind == "slots":
                self.slots.update({slot["mid"]: slot for slot in message["slots"]})
            elif kind == "error":
                fail(f"{self.name}: the server says {message['error']}")

    async def watch(self, track):
        into = Heard() if track.kind == "audio" else Seen()
        (self.heard if track.kind == "audio" else self.seen).append(into)
        while True:
            into.take(await track.recv())

    def send(self, text, to=""):
        """Flags (TEXT), the length of the receiver's peer id, the id, the text: see PROTOCOL.md."""
        self.channel.send(bytes([2, len(to)]) + to.encode() + text.encode())

    def on_message(self, data):
        length = data[1]
        sender, text = data[2 : 2 + length].decode(), data[2 + length :].decode()
        self.messages.append((sender, text))
        if text.startswith("echo "):
            self.send(text.removeprefix("echo "), to=sender)

    def shows(self, name, frames=30):
        """Whether a slot shows this picture, in motion."""
        return any(s.name == name and s.frames >= frames and len(s.bars) >= 6 for s in self.seen)

    def hears(self, name):
        return any(h.pitch() is not None and abs(h.pitch() - PITCHES[name]) <= 2 for h in self.heard)

    def report(self):
        seen = [(s.name, s.frames, f"{s.wrong} wrong", f"{len(s.bars)} places") for s in self.seen]
        return f"{self.name}: sees {seen}, hears {[h.pitch() for h in self.heard]}, has {self.messages}"

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await self.pc.close()
        await self.socket.close()


def fail(text):
    sys.exit(f"aiortc: FAILED: {text}")


async def until(what, condition, peers):
    """Waits for what must come."""
    start = time.monotonic()
    while not condition():
        for peer in peers:
            for task in peer.tasks:
                if task.done() and task.exception():
                    raise task.exception()
        if time.monotonic() > start + PATIENCE:
            fail(f"{what} did not come within {PATIENCE:.0f} s.\n  " + "\n  ".join(p.report() for p in peers))
        await asyncio.sleep(0.05)
    print(f"aiortc: {what} ({time.monotonic() - start:.1f} s)")


async def start_server(binary, folder, settings=None):
    """The server on ports of its own, with these settings too; returns it with its HTTP port."""
    environment = {
        **os.environ,
        "VECHE_HTTP_LISTEN": "127.0.0.1:0",
        "VECHE_HTTP_HTTPS_LISTEN": "",
        "VECHE_HTTP_DATA_DIR": folder,
        "VECHE_MEDIA_FIRST_PORT": "0",
        "VECHE_LOG_FILTER": "warn,dcsctp=off",
        **(settings or {}),
    }
    server = await asyncio.create_subprocess_exec(
        os.path.abspath(binary), env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    while line := await server.stdout.readline():
        if found := re.search(rb"http://localhost:(\d+)", line):
            return server, int(found[1])
    fail("the server did not start")


async def call(port):
    async with aiohttp.ClientSession() as session:
        anna, boris = peers = Peer("anna", session, port), Peer("boris", session, port)
        for peer in peers:
            await peer.join()
        connected = lambda: all(peer.pc.connectionState == "connected" for peer in peers)
        await until("both are connected", connected, peers)
        await until("both see the other's moving picture", lambda: anna.shows("boris") and boris.shows("anna"), peers)
        await until("both hear the other's tone", lambda: anna.hears("boris") and boris.hears("anna"), peers)

        await until("the data channel is open", lambda: anna.channel.readyState == "open", peers)
        anna.send("echo hello")
        await until("a message comes back", lambda: ("boris", "hello") in anna.messages, peers)
        if ("anna", "echo hello") not in boris.messages:
            fail("the message has not its sender's name")

        anna.pc.addTransceiver(Picture(COLOURS["anna-screen"]), direction="sendonly")
        before = {seen: seen.frames for seen in boris.seen}
        await anna.offer()
        await until("a second picture, added by another offer, arrives", lambda: boris.shows("anna-screen"), peers)
        went_on = lambda: all(seen.frames > frames + 15 for seen, frames in before.items() if frames)
        await until("what flowed before goes on", went_on, peers)
        if not boris.shows("anna") or not anna.shows("boris"):
            fail("a picture is gone")
        wrong = sum(seen.wrong for peer in peers for seen in peer.seen)
        frames = sum(seen.frames for peer in peers for seen in peer.seen)
        if wrong * 50 > frames:
            fail(f"{wrong} of {frames} pictures have colours that nobody sent")
        for peer in peers:
            await peer.close()


async def main(binary):
    # aioice leaves loopback out; on a machine that has nothing else it is all there is.
    hosts = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda **families: hosts(**families) or ["127.0.0.1"]
    with tempfile.TemporaryDirectory() as folder:
        server, port = await start_server(binary, folder)
        try:
            await call(port)
            if server.returncode is not None:
                fail(f"the server has ended with {server.returncode}")
        finally:
            if server.returncode is None:
                server.terminate()
                await server.wait()
    print("aiortc: passed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
