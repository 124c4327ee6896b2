"""A small internet on loopback: an authority for certificates, a DNS server, and web servers that do as told."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

A, CNAME, AAAA, SRV = 1, 5, 28, 33


class Authority:
    """A certificate authority; `ca_file` is its certificate."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._certificate = self._sign(self._name, self._key.public_key(), [], ca=True)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, ends_in_days: int = 30) -> tuple[Path, Path]:
        """The files of a certificate for these host names and IP addresses, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), list(names), ends_in_days=ends_in_days)
        base = self._directory / f"{names[0].replace(':', '_')}-{ends_in_days}"
        chain, key_file = base.with_suffix(".pem"), base.with_suffix(".key")
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return chain, key_file

    def _sign(
        self, subject: x509.Name, public_key: Any, names: list[str], *, ca: bool = False, ends_in_days: int = 30
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        end = now + datetime.timedelta(days=ends_in_days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, end) - datetime.timedelta(days=1))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# -- DNS


@dataclass
class Zone:
    """What the DNS server answers, by name and record type; `asked` counts the questions, by name and type.

    A name that is not there does not exist. While `silent`, nothing is answered; while `broken`, "server failure".
    """

    records: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    ttl: int = 300
    asked: dict[tuple[str, int], int] = field(default_factory=dict)
    silent: bool = False
    broken: bool = False

    def add_address(self, name: str, *addresses: str) -> None:
        for address in addresses:
            parsed = ip_address(address)
            self.records.setdefault((name, A if parsed.version == 4 else AAAA), []).append(parsed.packed)

    def add_srv(self, name: str, host: str, port: int, priority: int = 0, weight: int = 0) -> None:
        self.records.setdefault((name, SRV), []).append(struct.pack("!HHH", priority, weight, port) + _encoded(host))


def _encoded(name: str) -> bytes:
    labels = [label for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


class _DnsProtocol(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        labels, position = [], 12
        while data[position]:
            labels.append(data[position + 1 : position + 1 + data[position]].decode())
            position += 1 + data[position]
        kind, _ = struct.unpack_from("!HH", data, position + 1)
        question = data[12 : position + 5]
        name = ".".join(labels).lower()
        zone = self._zone
        zone.asked[(name, kind)] = zone.asked.get((name, kind), 0) + 1
        if zone.silent:
            return
        found = zone.records.get((name, kind), [])
        exists = any(known == name for known, _ in zone.records)
        code = 2 if zone.broken else 0 if exists else 3
        answers = b"" if zone.broken else b"".join(_answer(kind, zone.ttl, data) for data in found)
        header = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, 0 if zone.broken else len(found), 0, 0)
        self._transport.sendto(header + question + answers, addr)


def _answer(kind: int, ttl: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


@asynccontextmanager
async def dns_server(zone: Zone) -> AsyncIterator[str]:
    """A DNS server; gives its address "127.0.0.1:port"."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _DnsProtocol(zone), local_addr=("127.0.0.1", 0)
    )
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


# -- HTTP


@dataclass(frozen=True)
class Seen:
    """A request as the server saw it; `sni` is the name that the client asked for, None without one."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    sni: str | None


@dataclass(frozen=True)
class Reply:
    """What a web server answers; `raw` replaces everything, and then the connection is closed. `drip`: seconds between
    the bytes of the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    drip: float = 0.0


def json_reply(content: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(content).encode(), headers)


Handler = Callable[[Seen], Awaitable[Reply]]


class WebServer:
    """A web server with TLS on a random port of 127.0.0.1: `handler` answers; `seen` are the requests so far."""

    def __init__(self, certificate: tuple[Path, Path] | None, handler: Handler, address: str = "127.0.0.1") -> None:
        self._handler = handler
        self._address = address
        self._sni: dict[int, str | None] = {}
        self.seen: list[Seen] = []
        self.connections = 0
        self.port = 0
        self._context: ssl.SSLContext | None = None
        self._last_sni: str | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.all_gone = asyncio.Event()
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
            self._context.sni_callback = self._note_sni

    def _note_sni(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self._last_sni = name

    async def __aenter__(self) -> WebServer:
        self._server = await asyncio.start_server(self._serve, self._address, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening, and cut all connections."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        sni = self._last_sni
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer, sni):
                pass
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self._writers.discard(writer)
            if not self._writers:
                self.all_gone.set()
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sni: str | None) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(method, target, headers, body, sni)
        self.seen.append(seen)
        reply = await self._handler(seen)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        fields = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
        told = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{told}\r\n".encode())
        for piece in [reply.body[at : at + 1] for at in range(len(reply.body))] if reply.drip else [reply.body]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(reply.drip)
        return True
