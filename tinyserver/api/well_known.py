"""Where clients and servers find this server, for those who know only its name.

The pages belong to the host of the server name, port 443: where web browsers and clients come in.
"""

from __future__ import annotations

from typing import Any

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth.locations import ACCOUNT
from tinyserver.api.oauth.metadata import issuer_at
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.config import Config, Support
from tinyserver.protocol.errors import NotFound


class WellKnownApi:
    """The pages under ``/.well-known/matrix``.

    :param config: what to tell: ``public_url``, ``federation.public_address``, ``support`` and ``policy_server``.
    :param call_transports: what carries the media of group calls (MSC4143).
    """

    surface = Surface.CLIENT

    def __init__(self, config: Config, call_transports: list[dict[str, Any]]) -> None:
        self._client: dict[str, Any] = {}
        if config.public_url:
            self._client["m.homeserver"] = {"base_url": config.public_url}
            public_url = config.public_url.rstrip("/")
            self._client["org.matrix.msc2965.authentication"] = {
                "issuer": issuer_at(public_url),
                "account": public_url + ACCOUNT,
            }
        if self._client and config.identity.base_url:
            self._client["m.identity_server"] = {"base_url": config.identity.base_url}
        if call_transports:
            self._client["org.matrix.msc4143.rtc_foci"] = call_transports
        self._server = _server_address(config) if config.federation.enabled else ""
        self._support = _support(config.support)
        self._policy_key = config.policy_server.public_key

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

    @endpoint(
        "GET",
        "/.well-known/matrix/support",
        spec="client-server-api#getwell-knownmatrixsupport",
        auth=Auth.NONE,
    )
    async def get_support(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whom to turn to; 404 where the configuration does not say."""
        if not self._support:
            raise NotFound("This server does not tell whom to turn to.")
        return self._support

    @endpoint(
        "GET",
        "/.well-known/matrix/policy_server",
        spec="client-server-api#getwell-knownmatrixpolicy_server",
        auth=Auth.NONE,
    )
    async def get_policy_server(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The key of the policy server of this name; 404 where there is none."""
        if not self._policy_key:
            raise NotFound("There is no policy server here.")
        return {"public_keys": {"ed25519": self._policy_key}}


def _support(config: Support) -> dict[str, Any]:
    """The page about support; empty where there is nothing to tell."""
    told: dict[str, Any] = {}
    contacts = [
        {"matrix_id" if contact.startswith("@") else "email_address": contact, "role": role}
        for role, listed in (("m.role.admin", config.admins), ("m.role.security", config.security))
        for contact in listed
    ]
    if contacts:
        told["contacts"] = contacts
    if config.page:
        told["support_page"] = config.page
    return told


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
