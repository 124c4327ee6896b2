"""Asks a TURN server for a relay address, as a client in a call does: proves that credentials are good there.

spec: RFC 8656 (TURN), RFC 8489 (STUN)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import ssl
import struct
from collections.abc import Callable

_ALLOCATE, _REFRESH = 0x0003, 0x0004
_SUCCESS, _ERROR = 0x0100, 0x0110
_COOKIE = 0x2112A442
_USERNAME, _INTEGRITY, _ERROR_CODE, _REALM, _NONCE = 0x0006, 0x0008, 0x0009, 0x0014, 0x0015
_LIFETIME, _RELAYED, _TRANSPORT = 0x000D, 0x0016, 0x0019
_UDP = b"\x11\0\0\0"
_URI = re.compile(r"(turns?):(\[[0-9A-Fa-f:.]+\]|[^:?\[\]]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?")
SECONDS = 5.0


class TurnError(Exception):
    """The server gives no relay address; the message says why."""


class CredentialsRefused(TurnError):
    """The server does not take what was made of the secret."""


async def allocate(uri: str, username: str, password: str) -> str:
    """Have a relay address given and taken back; the address.

    Args:
        uri: `turn:host:port?transport=udp`, as in the configuration.

    Raises:
        TurnError: there is none.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise TurnError(f"{uri} is not a TURN URI")
    tls = found[1] == "turns"
    host, port = found[2].strip("[]"), int(found[3] or (5349 if tls else 3478))
    try:
        async with asyncio.timeout(SECONDS):
            exchange, close = await _connect(host, port, tcp=tls or found[4] == "tcp", tls=tls)
            try:
                return await _allocate(exchange, username, password)
            finally:
                close()
    except (OSError, OverflowError, UnicodeError, struct.error, asyncio.IncompleteReadError) as error:
        raise TurnError(f"it cannot be reached: {str(error) or f'no answer within {SECONDS:.0f} s'}") from error


async def _allocate(exchange: Callable[[bytes], asyncio.Task[bytes]], username: str, password: str) -> str:
    kind, attributes = _parse(await exchange(_message(_ALLOCATE, [(_TRANSPORT, _UDP)])))
    if kind != _ALLOCATE | _ERROR or _code(attributes) != 401:
        raise TurnError("the server does not ask for credentials")
    realm, nonce = attributes.get(_REALM, b""), attributes.get(_NONCE, b"")
    key = hashlib.md5(b":".join((username.encode(), realm, password.encode()))).digest()
    signed = [(_USERNAME, username.encode()), (_REALM, realm), (_NONCE, nonce)]
    kind, attributes = _parse(await exchange(_message(_ALLOCATE, [(_TRANSPORT, _UDP), *signed], key)))
    if kind != _ALLOCATE | _SUCCESS:
        raise CredentialsRefused(f"the server refuses the credentials (error {_code(attributes)})")
    await exchange(_message(_REFRESH, [(_LIFETIME, b"\0\0\0\0"), *signed], key))
    return _address(attributes.get(_RELAYED, b""))


async def _connect(
    host: str, port: int, *, tcp: bool, tls: bool
) -> tuple[Callable[[bytes], asyncio.Task[bytes]], Callable[[], None]]:
    """How to send a message and get the answer, and how to end it."""
    if tcp:
        reader, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context() if tls else None)

        async def by_stream(message: bytes) -> bytes:
            writer.write(message)
            head = await reader.readexactly(20)
            return head + await reader.readexactly(struct.unpack_from(">H", head, 2)[0])

        return lambda message: asyncio.ensure_future(by_stream(message)), writer.close
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answers.put_nowait(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, remote_addr=(host, port))

    async def by_datagram(message: bytes) -> bytes:
        while True:
            transport.sendto(message)
            try:
                async with asyncio.timeout(0.5):
                    return await answers.get()
            except TimeoutError:
                continue

    return lambda message: asyncio.ensure_future(by_datagram(message)), transport.close


def _message(kind: int, attributes: list[tuple[int, bytes]], key: bytes | None = None) -> bytes:
    body = b"".join(
        struct.pack(">HH", number, len(value)) + value + b"\0" * (-len(value) % 4) for number, value in attributes
    )
    transaction = secrets.token_bytes(12)
    if key is None:
        return struct.pack(">HHI", kind, len(body), _COOKIE) + transaction + body
    head = struct.pack(">HHI", kind, len(body) + 24, _COOKIE) + transaction
    digest = hmac.new(key, head + body, hashlib.sha1).digest()
    return head + body + struct.pack(">HH", _INTEGRITY, 20) + digest


def _parse(message: bytes) -> tuple[int, dict[int, bytes]]:
    kind, length = struct.unpack_from(">HH", message)
    attributes: dict[int, bytes] = {}
    at, end = 20, min(20 + length, len(message))
    while at + 4 <= end:
        number, size = struct.unpack_from(">HH", message, at)
        attributes[number] = message[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return kind, attributes


def _code(attributes: dict[int, bytes]) -> int:
    value = attributes.get(_ERROR_CODE, b"")
    return value[2] * 100 + value[3] if len(value) >= 4 else 0


def _address(value: bytes) -> str:
    """An XOR-ed IPv4 address, or "" for another one."""
    if len(value) != 8 or value[1] != 1:
        return ""
    port = struct.unpack_from(">H", value, 2)[0] ^ (_COOKIE >> 16)
    number = struct.unpack_from(">I", value, 4)[0] ^ _COOKIE
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0)) + f":{port}"
