"""Clients of the Veche realtime server.

`WSClient` speaks over a WebSocket, `SSEClient` hears over server-sent events, `RealtimeAPI` asks over HTTP. What is
sent is a `BinaryMessage`, a `ChannelMessage` or anything that JSON has; what is received are dictionaries.
"""

from .api import RealtimeAPI
from .auth import WSAuthenticator
from .backoff import Backoff
from .cameras import Camera
from .clients import SSEClient, SSEEvent, WSClient, create_authenticated_client, create_sse_client
from .config import Settings, get_settings
from .errors import AuthenticationError, ConnectionLost, RequestError, RequestTimeout, VecheError
from .manager import ConnectionManager, connection_manager
from .models import BinaryMessage, ChannelMessage, FileInfo, History, Notification, Position, Published, Subscribed
from .rooms import WebRTCRoom
from .routes import WebRTCRooms, webrtc_rooms

__all__ = [
    "AuthenticationError",
    "Backoff",
    "BinaryMessage",
    "Camera",
    "ChannelMessage",
    "ConnectionLost",
    "ConnectionManager",
    "FileInfo",
    "History",
    "Notification",
    "Position",
    "Published",
    "RealtimeAPI",
    "RequestError",
    "RequestTimeout",
    "SSEClient",
    "SSEEvent",
    "Settings",
    "Subscribed",
    "VecheError",
    "WSAuthenticator",
    "WSClient",
    "WebRTCRoom",
    "WebRTCRooms",
    "connection_manager",
    "create_authenticated_client",
    "create_sse_client",
    "get_settings",
    "webrtc_rooms",
]
__version__ = "0.1.0"
