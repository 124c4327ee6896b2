"""Connections under httpcore: to addresses that were checked, as the names that were asked for.

What is connected to is the very address that the policy has allowed: a name cannot turn into another address between
the check and the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any

import httpcore

from tinyserver.outgoing.addresses import AddressPolicy
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.errors import AddressRefused, Unreachable
from tinyserver.outgoing.targets import Hop, hops_of
from tinyserver.outgoing.tls import TlsClient

if find_spec("sniffio") is None:
    # httpcore tries to import it several times a request, each time through all folders, where it is not installed.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried as well, while the one before has not answered yet. (RFC 8305)"""
_BUFFER = 64 * 1024
_LOCAL_ERRORS = {"ENETUNREACH", "ENETDOWN", "EHOSTUNREACH", "EADDRNOTAVAIL", "EMFILE", "ENFILE", "EACCES", "EPERM"}


class Network(httpcore.AsyncNetworkBackend):
    """Opens connections on asyncio. The host that httpcore knows is a `Target.pool_key`.

    Args:
        resolver: names to addresses.
        policy: which addresses are allowed.
        tls: the certificates.
    """

    def __init__(self, resolver: Resolver, policy: AddressPolicy, tls: TlsClient) -> None:
        self._resolver = resolver
        self._policy = policy
        self._tls = tls

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the target's hops that answers.

        Raises:
            Unreachable: none does.
            httpcore.ConnectTimeout: none does in time.
        """
        failures: list[Exception] = []
        try:
            async with asyncio.timeout(timeout):
                for hop in hops_of(host):
                    try:
                        return _Socket(await self.open_socket(hop), self._tls)
                    except (OSError, Unreachable) as error:
                        failures.append(error)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection to {host} in time") from error
        raise _summary(failures)

    async def open_socket(self, hop: Hop) -> socket.socket:
        """A connected socket to one host and port.

        Raises:
            AddressRefused: the host has only addresses that may not be connected to.
            Unreachable: it has none.
            OSError: none can be connected to.
        """
        allowed, refused = [], None
        for address in await self._addresses(hop.host):
            try:
                self._policy.check(address)
                allowed.append(address)
            except AddressRefused as error:
                refused = error
        if not allowed:
            raise refused or Unreachable(f"the host {hop.host} has no address")
        return await _race(allowed, hop.port)

    async def _addresses(self, host: str) -> tuple[str, ...]:
        try:
            return (str(ip_address(host)),)
        except ValueError:
            return await self._resolver.addresses(host)


class _Socket(httpcore.AsyncNetworkStream):
    """A connected socket, on which a stream begins with TLS, or without."""

    def __init__(self, connected: socket.socket, tls: TlsClient) -> None:
        self._socket = connected
        self._tls = tls
        self._plain: _Stream | None = None

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        context = self._tls.context()
        context.set_alpn_protocols(["http/1.1"])
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(
                    sock=self._socket, ssl=context, server_hostname=server_hostname, limit=_BUFFER
                )
        except TimeoutError as error:
            self._socket.close()
            raise httpcore.ConnectTimeout("no TLS connection in time") from error
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"the certificate of {server_hostname} is refused: {error.verify_message}") from error
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            self._socket.close()
            raise Unreachable(f"no TLS connection with {server_hostname}: {error}") from error
        stream = _Stream(reader, writer)
        try:
            self._tls.check(writer.get_extra_info("ssl_object"))
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await (await self._opened()).read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await (await self._opened()).write(buffer, timeout)

    async def aclose(self) -> None:
        if self._plain is not None:
            await self._plain.aclose()
        else:
            self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        return None if self._plain is None else self._plain.get_extra_info(info)

    async def _opened(self) -> _Stream:
        if self._plain is None:
            self._plain = _Stream(*await asyncio.open_connection(sock=self._socket, limit=_BUFFER))
        return self._plain


class _Stream(httpcore.AsyncNetworkStream):
    """Reads and writes on an open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("the answer stopped") from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the request is not taken") from error
        except (OSError, RuntimeError) as error:  # RuntimeError: uvloop's word for a closed transport
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        # At once: a polite goodbye (close_notify) would wait for a peer that may never answer.
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("TLS begins with the connection, or not at all")

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: then it has been closed by the other side
            return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()
        return self._writer.get_extra_info(info)


async def _race(addresses: list[str], port: int) -> socket.socket:
    """The first connection, where each address gets a head start before the next.

    Raises:
        OSError: no address can be connected to.
    """
    failures: list[OSError] = []
    attempts: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.ensure_future(_connect_socket(waiting.pop(0), port)))
            done, attempts = await asyncio.wait(
                attempts, timeout=ATTEMPT_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winners = [task for task in done if task.exception() is None]
            for late in winners[1:]:
                late.result().close()
            if winners:
                return winners[0].result()
            failures += [error for task in done if isinstance(error := task.exception(), OSError)]
    finally:
        for task in attempts:
            task.cancel()
        for outcome in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(outcome, socket.socket):
                outcome.close()
    raise failures[0] if failures else OSError("no address to connect to")


async def _connect_socket(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, (address, port))
    except BaseException:
        connecting.close()
        raise
    return connecting


def _summary(failures: list[Exception]) -> Unreachable:
    """One error out of those of all hops: a private address is told as such, anything else in words."""
    if len(failures) == 1 and isinstance(failures[0], Unreachable):
        return failures[0]
    # Our own fault only if no hop failed otherwise.
    local = bool(failures) and all(_is_local(error) for error in failures)
    return Unreachable("; ".join(str(error) for error in failures) or "nowhere to connect to", local=local)


def _is_local(error: Exception) -> bool:
    import errno

    if isinstance(error, Unreachable):
        return error.local
    return isinstance(error, OSError) and errno.errorcode.get(error.errno or 0, "") in _LOCAL_ERRORS
