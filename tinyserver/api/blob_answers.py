"""Files as answers: whole or in part, with the headers that keep them from doing harm in a browser.

spec: client-server-api#content-repository
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from tinyserver.api.calls import AsgiApp, ClientGone, Receive, Scope, Send
from tinyserver.media.blobs import Blob
from tinyserver.media.repository import MediaRepository
from tinyserver.storage.errors import StorageError

_SAFETY: list[tuple[bytes, bytes]] = [
    (
        b"content-security-policy",
        b"sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline';"
        b" object-src 'self';",
    ),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex, nofollow, noarchive, noimageindex"),
    (b"referrer-policy", b"no-referrer"),
]
# The content behind an mxc:// URI never changes.
_KEEP = b"private, max-age=31536000, immutable"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Content:
    """What is served: content by its digest, and what it is said to be."""

    digest: bytes
    content_type: str
    disposition: str


def serve_content(repository: MediaRepository, content: Content) -> AsgiApp:
    """The answer with the content, the part of it that is asked for (one range), or nothing if it is known already."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        asked = {name: value.decode("latin-1") for name, value in scope["headers"]}
        etag = f'"{content.digest.hex()}"'
        headers = [(b"etag", etag.encode()), (b"cache-control", _KEEP), (b"accept-ranges", b"bytes"), *_SAFETY]
        if _names(asked.get(b"if-none-match", ""), etag):
            await _send_all(send, 304, headers)
            return
        blob = await repository.open(content.digest)
        try:
            start, stop, status = 0, blob.size, 200
            in_parts = scope["method"] == "GET" and asked.get(b"if-range", etag) == etag
            part = _range(asked.get(b"range", ""), blob.size) if in_parts else None
            if part is not None:
                start, stop, status = *part, 206
                if start >= stop:
                    await _send_all(send, 416, [*headers, (b"content-range", f"bytes */{blob.size}".encode())])
                    return
                headers.append((b"content-range", f"bytes {start}-{stop - 1}/{blob.size}".encode()))
            headers += [
                (b"content-type", content.content_type.encode("latin-1")),
                (b"content-disposition", content.disposition.encode("latin-1")),
                (b"content-length", str(stop - start).encode()),
            ]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await _send_pieces(send, blob.chunks(start, start if scope["method"] == "HEAD" else stop))
        finally:
            await blob.close()

    return respond


def serve_parts(repository: MediaRepository, content: Content) -> AsgiApp:
    """The answer as other servers want it: a part with metadata (there are none), and one with the content.

    spec: server-server-api#get_matrixfederationv1mediadownloadmediaid
    """

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        blob = await repository.open(content.digest)
        try:
            boundary = secrets.token_hex(16)
            before = (
                f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{orjson.dumps({}).decode()}\r\n"
                f"--{boundary}\r\nContent-Type: {content.content_type}\r\n"
                f"Content-Disposition: {content.disposition}\r\n\r\n"
            ).encode("latin-1")
            after = f"\r\n--{boundary}--\r\n".encode()
            headers = [
                (b"content-type", f"multipart/mixed; boundary={boundary}".encode()),
                (b"content-length", str(len(before) + blob.size + len(after)).encode()),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _send_pieces(send, _framed(before, blob, after))
        finally:
            await blob.close()

    return respond


async def _framed(before: bytes, blob: Blob, after: bytes) -> AsyncIterator[bytes]:
    yield before
    async for piece in blob.chunks(0, blob.size):
        yield piece
    yield after


async def _send_pieces(send: Send, pieces: AsyncIterator[bytes]) -> None:
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except StorageError as error:
        # The status has been sent: all that is left is to break the connection off.
        raise ClientGone from error
    await send({"type": "http.response.body", "body": b""})


async def _send_all(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    length = [] if status == 304 else [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b""})


def _names(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the one range that a header asks for; None: everything, or several ranges."""
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        return max(size - int(found[2]), 0), size
    return int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)
