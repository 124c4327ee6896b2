"""Answers that hold a list of any length: sent as one piece if it is short, else streamed as it is read."""

from __future__ import annotations

from tinyserver.api.answers import JSON_HEADERS
from tinyserver.api.calls import Receive, Scope, Send
from tinyserver.api.routing import Answer
from tinyserver.rooms.long_list import LongList


def json_list(prefix: bytes, items: LongList, suffix: bytes) -> Answer:
    """The answer `prefix items suffix`, the items separated by commas.

    Args:
        prefix, suffix: JSON text such that the whole is valid, like `{"chunk":[` and `]}`.
    """
    start = prefix + b",".join(items.first)
    if not items.is_long:
        return start + suffix

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": JSON_HEADERS})
        await send({"type": "http.response.body", "body": start, "more_body": True})
        separator = b"," if items.first else b""
        async for batch in items.rest():
            if batch:
                await send({"type": "http.response.body", "body": separator + b",".join(batch), "more_body": True})
                separator = b","
        await send({"type": "http.response.body", "body": suffix})

    return respond
