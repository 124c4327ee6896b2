"""Answers that hold a list of any length: sent as one piece if it is short, else streamed as it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tinyserver.api.answers import JSON_HEADERS
from tinyserver.api.calls import Receive, Scope, Send
from tinyserver.api.routing import Answer
from tinyserver.rooms.long_list import LongList


def json_list(prefix: bytes, items: LongList, suffix: bytes) -> Answer:
    """The answer `prefix items suffix`, the items separated by commas.

    Args:
        prefix, suffix: JSON text such that the whole is valid, like `{"chunk":[` and `]}`.
    """
    return json_text(prefix, items, suffix)


def json_text(*parts: bytes | LongList) -> Answer:
    """An answer of several parts: JSON text, and lists between pieces of text like `{"chunk":[` and `]}`."""
    if not any(isinstance(part, LongList) and part.is_long for part in parts):
        return b"".join(part if isinstance(part, bytes) else b",".join(part.first) for part in parts)

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": JSON_HEADERS})
        for part in parts:
            if isinstance(part, bytes):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                continue
            async for piece in _pieces(part):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return respond


async def _pieces(items: LongList) -> AsyncIterator[bytes]:
    """A list's items with commas between them, a batch at a time."""
    separator = b""
    if items.first:
        yield b",".join(items.first)
        separator = b","
    async for batch in items.rest():
        if batch:
            yield separator + b",".join(batch)
            separator = b","
