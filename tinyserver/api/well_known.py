"""Where clients and servers find this server, for those who know only its name.

Both pages belong to the host of the server name, port 443: where web browsers and clients come in.
"""

from __future__ import annotations

from typing import Any

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth.locations import ACCOUNT
from tinyserver.api.oauth.metadata import issuer_at
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.config import Config
from tinyserver.protocol.errors import NotFound


class WellKnownApi:
    """The pages under ``/.well-known/matrix``.

    :param config: what to tell: ``public_url`` and ``federation.public_address``.
    """

    surface = Surface.CLIENT

    def __init__(self, config: Config) -> None:
        self._client: dict[str, Any] = {}
        if config.public_url:
            self._client["m.homeserver"] = {"base_url": config.public_url}
            public_url = config.public_url.rstrip("/")
            self._client["org.matrix.msc2965.authentication"] = {
                "issuer": issuer_at(public_url),
                "account": public_url + ACCOUNT,
            }
        self._server = _server_address(config) if config.federation.enabled else ""

    @endpoint(
        "GET",
        "/.well-known/matrix/client",
        spec="client-server-api#getwell-knownmatrixclient",
        auth=Auth.NONE,
    )
    async def get_client(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Where clients go; 404 where the configuration does not say."""
        if not self._client:
            raise NotFound("This server does not tell where its clients go.")
        return self._client

    @endpoint(
        "GET",
        "/.well-known/matrix/server",
        spec="server-server-api#getwell-knownmatrixserver",
        auth=Auth.NONE,
    )
    async def get_server(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Where servers go; 404 where they are to look at the usual port of the server name."""
        if not self._server:
            raise NotFound("This server delegates to no other address.")
        return {"m.server": self._server}


def _server_address(config: Config) -> str:
    """Host and port for other servers: as configured, or else those of the public URL where it serves them, too."""
    if config.federation.public_address:
        return config.federation.public_address
    scheme, _, rest = config.public_url.partition("://")
    host = rest.partition("/")[0]
    together = any({"client", "federation"} <= set(listener.serves) for listener in config.listen)
    if scheme != "https" or not host or not together:
        return ""
    return host if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else f"{host}:443"
