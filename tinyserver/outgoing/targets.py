"""Where a request goes, and as whom the other side must prove itself."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tinyserver.outgoing.errors import Unreachable

_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Hop:
    """A host (a name, or an IP address without brackets) and a port to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to talk to.

    `hops` are tried in order. The certificate must be good for `tls_name` (a name, or an IP address without brackets;
    a name is also sent as SNI), and `host_header` is what the request says. Requests to equal targets share
    connections.
    """

    host_header: str
    tls_name: str
    hops: tuple[Hop, ...]
    scheme: str = "https"

    def pool_key(self) -> str:
        """What tells the target's connections from others; `hops_of` gives the hops back."""
        return f"{self.tls_name}|{','.join(map(str, self.hops))}"


def hops_of(pool_key: str) -> tuple[Hop, ...]:
    """The hops in a `Target.pool_key`."""
    hops = []
    for text in pool_key.partition("|")[2].split(","):
        host, _, port = text.rpartition(":")
        hops.append(Hop(host.removeprefix("[").removesuffix("]"), int(port)))
    return tuple(hops)


def target_of_url(url: str) -> tuple[Target, str]:
    """The target of an http or https URL, and what to ask it for (path and query).

    Raises:
        Unreachable: it is no such URL, or names a user.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Unreachable(f"{url[:200]!r} is not a URL: {error}") from error
    if (
        parts.scheme not in _PORTS
        or not host
        or parts.username is not None
        or not (url.isascii() and url.isprintable())
    ):
        raise Unreachable(f"{url[:200]!r} is not a URL that can be fetched")
    if any(character in host for character in ",|[] ") or " " in url or port == 0:
        raise Unreachable(f"{url[:200]!r} is not a URL that can be fetched")
    bracketed = f"[{host}]" if ":" in host else host
    header = bracketed if port in (None, _PORTS[parts.scheme]) else f"{bracketed}:{port}"
    target = Target(header, host, (Hop(host, port or _PORTS[parts.scheme]),), parts.scheme)
    return target, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
