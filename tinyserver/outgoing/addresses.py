"""Which addresses may be connected to: a stranger must not make this server look into its own network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from tinyserver.outgoing.errors import AddressRefused

# Addresses that stand for an IPv4 address, which then decides: NAT64 and 6to4.
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_PROTOCOL_ASSIGNMENTS = IPv4Network("192.0.0.0/24")  # partly public for older Pythons; nobody lives there


class AddressPolicy:
    """Allows public addresses only, or all.

    Args:
        allow_private: also private, loopback and link-local ones.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    def check(self, address: str) -> None:
        """Raise AddressRefused unless this IP address may be connected to."""
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError as error:
            raise AddressRefused(f"{address} is not an IP address") from error
        if not self._allow_private and not is_public(parsed):
            raise AddressRefused(f"{address} is a private address (outgoing.allow_private_addresses is false)")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is one of the public internet, also where IPv6 wraps an IPv4 address."""
    if isinstance(address, IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if wrapped is None and address in _NAT64:
            wrapped = IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(wrapped)
        if address in _NAT64_LOCAL or address.teredo is not None or address.is_site_local:
            return False
        if not int(address) >> 32:  # ::/96, the old form of an IPv4 address
            return False
    elif address in _PROTOCOL_ASSIGNMENTS:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
