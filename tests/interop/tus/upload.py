"""A file goes to a real server by tuspy, a client of the tus protocol that others wrote.

It goes in pieces; in the middle the server is killed with SIGKILL and started again, and the client goes on where it was. The
file then has the bytes that were sent, and is in the list of its channel. A file that is too large is refused, and so is
a type that is not allowed.
"""

import hashlib
import io
import os
import random
import re
import subprocess
import sys
import tempfile

import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

PIECE = 1 << 20
# No multiple of the piece.
SIZE = 8 * PIECE + 12345
NAME = "Отчёт за май.txt"


class Server:
    """A server that keeps what it has in a folder."""

    def __init__(self, veche, folder):
        command = [os.path.abspath(veche), "--http-listen", "127.0.0.1:0", "--https-listen", "", "--data-dir", folder]
        command += ["--set", "media.first_port=0", "--set", "media.workers=1"]
        environment = {"PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        self.url = None
        for line in self.process.stdout:
            found = re.search(r"http://localhost:(\d+)", line)
            if found:
                self.url = f"http://127.0.0.1:{found[1]}"
            if "Veche is ready." in line:
                return
        raise SystemExit(f"the server ended with {self.process.wait()}")

    def tus(self):
        return TusClient(f"{self.url}/realtime/files/uploads")

    def kill(self):
        self.process.kill()
        self.process.wait()


def main():
    random.seed(9)
    content = random.randbytes(SIZE // 2).hex().encode()
    content += b"." * (SIZE - len(content))
    metadata = {"filename": NAME, "filetype": "text/plain", "channel": "tus", "persistent": "true"}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(sys.argv[1], folder)
        try:
            uploader = server.tus().uploader(file_stream=io.BytesIO(content), chunk_size=PIECE, metadata=metadata)
            uploader.upload(stop_at=3 * PIECE)
            path = uploader.url.removeprefix(server.url)
            assert uploader.offset == 3 * PIECE, uploader.offset
            server.kill()

            server = Server(sys.argv[1], folder)
            # The client asks where it was.
            uploader = server.tus().uploader(
                file_stream=io.BytesIO(content), chunk_size=PIECE, url=server.url + path
            )
            assert uploader.offset == 3 * PIECE, uploader.offset
            uploader.upload()
            check(server, content)
            refused(server)
        finally:
            server.kill()
    print("a file came whole through a server that was killed in the middle")


def check(server, content):
    """The file is in the list of its channel, with its name, and has the bytes that were sent."""
    files = requests.get(f"{server.url}/realtime/files", params={"channel": "tus"}, timeout=20).json()["files"]
    assert [file["filename"] for file in files] == [NAME], files
    assert files[0]["sha256"] == hashlib.sha256(content).hexdigest(), files
    got = requests.get(server.url + files[0]["url"], timeout=20)
    assert got.status_code == 200 and got.content == content, got.status_code
    history = requests.get(f"{server.url}/realtime/channels/tus/history", timeout=20).json()["messages"]
    assert [message["type"] for message in history] == ["file"], history


def refused(server):
    """What is refused is refused with a status that the client understands."""
    too_large = {"filename": "large.txt", "filetype": "text/plain", "channel": "tus"}
    wrong_type = {"filename": "a.exe", "filetype": "application/x-msdownload", "channel": "tus"}
    for metadata, size, status in [(too_large, 60 << 20, 413), (wrong_type, 100, 415)]:
        uploader = server.tus().uploader(file_stream=io.BytesIO(bytes(size)), metadata=metadata)
        try:
            uploader.create_url()
        except TusCommunicationError as error:
            assert error.status_code == status, error
        else:
            raise AssertionError(f"{metadata} was taken")


main()
