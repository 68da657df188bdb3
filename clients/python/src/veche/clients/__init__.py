"""The clients: `WSClient` and `SSEClient`, and functions that make them."""

from .sse_client import SSEClient, SSEEvent, create_sse_client
from .ws_client import WSClient, create_authenticated_client

__all__ = ["SSEClient", "SSEEvent", "WSClient", "create_authenticated_client", "create_sse_client"]
