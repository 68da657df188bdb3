"""What can go wrong, as exceptions."""

from __future__ import annotations


class VecheError(Exception):
    """Anything that this package raises on purpose. `code` is a word for programs, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class RequestError(VecheError):
    """The server refused a request. `status` is the HTTP status, where there is one."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


class AuthenticationError(VecheError):
    """The server wants a token or an API key, or does not accept the one it was given."""


class ConnectionLost(VecheError):
    """The connection is gone and does not come back: closed, refused, or all attempts failed."""

    def __init__(self, code: str, message: str, close_code: int | None = None) -> None:
        super().__init__(code, message)
        self.close_code = close_code


class RequestTimeout(VecheError, TimeoutError):
    """No answer came in time. Whether the server has acted is not known."""
