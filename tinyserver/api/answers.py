"""What goes out: JSON encoding and the headers that are on every response."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from tinyserver.api.calls import Receive, Scope, Send

# spec: client-server-api#web-browser-clients (the recommended headers, and the further methods that are answered here)
CORS_HEADERS: list[tuple[bytes, bytes]] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match"),
    (b"access-control-max-age", b"86400"),
]
JSON_HEADERS: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json"), *CORS_HEADERS]


def with_cors(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """``headers`` with the CORS ones added, except for those that are in it already."""
    present = {name.lower() for name, _ in headers}
    return [*headers, *(header for header in CORS_HEADERS if header[0] not in present)]


class FullAnswer:
    """An ASGI response of which everything is said: status, headers, body.

    :param body: bytes as they are, or anything else to be encoded as JSON.
    """

    def __init__(self, status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        self._status = status
        self._body = encode_answer(body)
        self._headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()
        ]
        if not isinstance(body, bytes):
            self._headers.append((b"content-type", b"application/json"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = list(self._headers)
        if self._status not in (204, 304):
            headers.append((b"content-length", str(len(self._body)).encode("ascii")))
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


def encode_answer(answer: Any) -> bytes:
    """JSON bytes of a dict, list, msgspec Struct or orjson.Fragment; bytes are JSON already and stay as they are.

    A Struct inside may hold no Fragment.
    """
    if isinstance(answer, bytes):
        return answer
    try:
        return orjson.dumps(answer, default=msgspec.to_builtins)
    except orjson.JSONEncodeError:
        # Old room versions allow integers of more than 64 bits, which orjson cannot write.
        return json.dumps(answer, default=_plain, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value))
    return msgspec.to_builtins(value)
