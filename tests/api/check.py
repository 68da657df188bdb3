"""Asks a real server what its OpenAPI text allows, and much that it forbids: no answer may be a 5xx, have a status or a
type that the text does not name, or a body that it does not describe; and nothing is answered without a credential."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENCE = 180


def main(binary: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "VECHE_HTTP_LISTEN": "127.0.0.1:0",
            "VECHE_HTTP_HTTPS_LISTEN": "",
            "VECHE_HTTP_DATA_DIR": folder,
            "VECHE_MEDIA_FIRST_PORT": "0",
            "VECHE_MEDIA_WORKERS": "1",
            "VECHE_LOG_FILTER": "warn",
            # The questions come faster than anybody may ask.
            "VECHE_SIGNALING_REQUESTS_PER_SECOND": "0",
            "VECHE_MESSAGING_REQUESTS_PER_SECOND": "0",
            "VECHE_MESSAGING_USER_MESSAGES_PER_SECOND": "0",
            "WEBSOCKET_AUTH_REQUIRED": "true",
            "SSE_AUTH_REQUIRED": "true",
            "VECHE_ACCESS_SECRETS": "a secret of the tests that is long enough for HS256",
        }
        start = {"env": environment, "cwd": folder, "text": True}
        token = subprocess.check_output([binary, "token", "--user", "anna", "--admin"], **start).strip()
        server = subprocess.Popen([binary], stdout=subprocess.PIPE, **start)
        try:
            status = ask(port(server), token)
            if server.poll() is not None:
                sys.exit(f"the server has ended with {server.returncode}")
            return status
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def port(server: subprocess.Popen) -> int:
    """Where it listens, once it does."""
    for line in server.stdout:
        if found := re.search(r"http://localhost:(\d+)", line):
            return int(found[1])
    sys.exit("the server did not start")


def ask(port: int, token: str) -> int:
    here = Path(__file__).resolve().parent
    command = [
        Path(sys.executable).with_name("schemathesis"),
        f"--config-file={here / 'schemathesis.toml'}",
        "run",
        f"http://127.0.0.1:{port}/openapi.json",
        "--no-color",
        f"--max-failures={os.environ.get('MAX_FAILURES', 20)}",
    ]
    environment = {**os.environ, "VECHE_TOKEN": token, "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1"}
    # Where it looks for hooks.
    return subprocess.run(command, env=environment, cwd=here, timeout=PATIENCE).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
