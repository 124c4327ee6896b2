"""What a client needs to know before it can sign somebody in.

spec: client-server-api#server-metadata-discovery
"""

from __future__ import annotations

from typing import Any

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth import locations
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.account_actions import ACTION_NAMES
from tinyserver.protocol.oauth.client_metadata import GRANT_TYPES

_SPEC = "client-server-api#server-metadata-discovery"


class MetadataApi:
    """The metadata of the authorization server, which is this one, under every name that clients look for."""

    surface = Surface.CLIENT

    def __init__(self, public_url: PublicUrl) -> None:
        self._public_url = public_url

    @endpoint("GET", "/_matrix/client/v1/auth_metadata", spec=_SPEC, auth=Auth.NONE)
    @endpoint("GET", "/.well-known/oauth-authorization-server", spec="RFC 8414", auth=Auth.NONE)
    @endpoint("GET", "/.well-known/openid-configuration", spec="RFC 8414", auth=Auth.NONE)
    async def metadata(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Everything at once."""
        return FullAnswer(200, metadata_at(self._public_url.of(call)), {"Cache-Control": "no-cache"})

    @endpoint("GET", "/_matrix/client/unstable/org.matrix.msc2965/auth_issuer", spec="MSC2965", auth=Auth.NONE)
    async def issuer(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Only who issues the tokens, for older clients: they find the metadata below it."""
        return {"issuer": issuer_at(self._public_url.of(call))}


def issuer_at(public_url: str) -> str:
    """The issuer of the tokens."""
    return f"{public_url}/"


def metadata_at(public_url: str) -> dict[str, Any]:
    """The metadata of the server with this URL."""
    return {
        "issuer": issuer_at(public_url),
        "authorization_endpoint": public_url + locations.AUTHORIZATION,
        "token_endpoint": public_url + locations.TOKEN,
        "revocation_endpoint": public_url + locations.REVOCATION,
        "registration_endpoint": public_url + locations.REGISTRATION,
        "device_authorization_endpoint": public_url + locations.DEVICE_AUTHORIZATION,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "prompt_values_supported": ["create"],
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": ["urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"],
        "account_management_uri": public_url + locations.ACCOUNT,
        "account_management_actions_supported": list(ACTION_NAMES),
    }
