"""The address of the client itself, also behind reverse proxies."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tinyserver.api.calls import Scope

_FORWARDED_FOR = b"x-forwarded-for"


class ClientAddresses:
    """Reads ``X-Forwarded-For``, which anybody can send, only from proxies that are trusted.

    :param trusted_proxies: addresses and networks. Raises ValueError for what is neither.
    """

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = [ip_network(proxy, strict=False) for proxy in trusted_proxies]

    def of(self, scope: Scope) -> str:
        """The client's address: the last one in the chain of proxies that is not a trusted proxy. "" if unknown."""
        peer: str = scope["client"][0] if scope.get("client") else ""
        forwarded = [value for name, value in scope["headers"] if name == _FORWARDED_FOR]
        if not forwarded or not self._is_trusted(peer):
            return peer
        hops = [hop.strip() for hop in b",".join(forwarded).decode("latin-1").split(",")]
        client = peer
        for hop in reversed(hops):
            parsed = _parse(hop)
            if parsed is None:
                break
            client = str(parsed)
            if not self._is_trusted(client):
                break
        return client

    def _is_trusted(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    """An address, also written with a port ("192.0.2.1:5000", "[2001:db8::1]:443"); None if it is none."""
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
