"""From a server name to where the server is, what to call it there, and what its certificate must say.

spec: server-server-api#resolving-server-names
"""

from __future__ import annotations

from tinyserver.federation.well_known import WellKnown
from tinyserver.outgoing.dns import Resolver
from tinyserver.outgoing.errors import Unreachable
from tinyserver.outgoing.targets import Hop, Target
from tinyserver.protocol.identifiers import (
    HostKind,
    InvalidIdentifier,
    ServerName,
    is_valid_server_name,
    parse_server_name,
)

DEFAULT_PORT = 8448
SERVICES = ("_matrix-fed._tcp", "_matrix._tcp")
"""The second name is the one from before its registration; still looked up, as the specification wants it."""


class Discovery:
    """Finds servers.

    Args:
        resolver: SRV records. (Addresses are looked up when a connection is made.)
        well_known: delegations.
    """

    def __init__(self, resolver: Resolver, well_known: WellKnown) -> None:
        self._resolver = resolver
        self._well_known = well_known

    async def find(self, server_name: str) -> Target:
        """Where to send requests for a server. Cheap for a server that was found before.

        Raises:
            Unreachable: this is no server name, or the server says that there is none.
        """
        try:
            name = parse_server_name(server_name)
        except InvalidIdentifier as error:
            raise Unreachable(str(error)) from error
        if name.port is not None or name.kind is not HostKind.DNS:
            return _direct(name)  # steps 1 and 2
        delegated = await self._well_known.delegated(name.host)  # step 3
        if delegated is None:
            return await self._by_service(name.host)  # steps 4 to 6
        if delegated.port is not None or delegated.kind is not HostKind.DNS:
            return _direct(delegated)  # steps 3.1 and 3.2
        return await self._by_service(delegated.host)  # steps 3.3 to 3.5

    async def _by_service(self, host: str) -> Target:
        """A host without a port: by its SRV records, or else on the usual port; the certificate is the host's."""
        for service in SERVICES:
            try:
                records = await self._resolver.services(f"{service}.{host}")
            except Unreachable as error:  # many a home router does not know of SRV records
                if error.local:
                    break  # nobody answers: the second question would only cost time
                continue
            hops = tuple(
                Hop(record.host, record.port)
                for record in records
                if record.port and is_valid_server_name(record.host) and ":" not in record.host
            )
            if hops:
                return Target(host, host, hops)
            if records:  # the root alone as host: "decidedly not available" (RFC 2782)
                raise Unreachable(f"{host} has no Matrix server, says its SRV record")
        return Target(host, host, (Hop(host, DEFAULT_PORT),))


def _direct(name: ServerName) -> Target:
    port = DEFAULT_PORT if name.port is None else name.port
    return Target(str(name), name.host, (Hop(name.host, port),))
