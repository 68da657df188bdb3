"""Settings from the environment, under the names that the server uses."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """What the environment says, with the server's defaults. Read-only."""

    model_config = ConfigDict(frozen=True)

    WEBSOCKET_ENABLED: bool = True
    WEBSOCKET_AUTH_REQUIRED: bool = False
    WEBSOCKET_MAX_CONNECTIONS: int = 1000
    WEBSOCKET_HEARTBEAT_INTERVAL: int = 30
    WEBSOCKET_BINARY_MAX_SIZE: int = 52_428_800

    SSE_ENABLED: bool = True
    SSE_AUTH_REQUIRED: bool = False
    SSE_MAX_CONNECTIONS: int = 500
    SSE_HEARTBEAT_INTERVAL: int = 15
    SSE_RETRY_TIMEOUT: int = 3000

    WEBRTC_ENABLED: bool = True
    WEBRTC_STUN_SERVERS: str = "stun:stun.l.google.com:19302,stun:stun1.l.google.com:19302"
    WEBRTC_MAX_ROOMS: int = 100
    WEBRTC_MAX_PARTICIPANTS_PER_ROOM: int = 10

    BINARY_DATA_ENABLED: bool = True
    BINARY_MAX_FILE_SIZE: int = 52_428_800
    BINARY_ALLOWED_TYPES: str = "image/*,video/*,audio/*,application/pdf,text/*"
    BINARY_COMPRESSION_ENABLED: bool = True

    #: Where the server is, for `connection_manager`, `WSAuthenticator`, `WebRTCRoom` and `RealtimeAPI()`.
    VECHE_URL: str = "http://localhost:8000"
    #: What they show the server.
    VECHE_TOKEN: str | None = None
    VECHE_API_KEY: str | None = None

    def allows_type(self, content_type: str) -> bool:
        """Whether `BINARY_ALLOWED_TYPES` lets this content type through; knows wildcards such as `image/*`."""
        plain = content_type.split(";")[0].strip().lower()
        for pattern in self.BINARY_ALLOWED_TYPES.lower().split(","):
            pattern = pattern.strip()
            if pattern in ("*", "*/*", plain) or (pattern.endswith("/*") and plain.startswith(pattern[:-1])):
                return True
        return False


def get_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings as the environment has them now.

    Raises `pydantic.ValidationError` (a `ValueError`) that names the variable when one has a bad value.
    """
    variables = os.environ if environment is None else environment
    return Settings.model_validate({name: variables[name] for name in Settings.model_fields if variables.get(name)})
