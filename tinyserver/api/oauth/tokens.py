"""What clients ask without a browser: to be registered, for tokens, for the end of tokens, for a device code.

spec: client-server-api#oauth-20-api
"""

from __future__ import annotations

from typing import Any

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.client.session_answers import origin_of
from tinyserver.api.forms import read_form
from tinyserver.api.oauth import locations
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.oauth.clients import OAuthClient, OAuthClients
from tinyserver.oauth.codes import DEVICE_CODE_SECONDS, POLL_SECONDS, DeviceGrants
from tinyserver.oauth.tokens import GrantedTokens, OAuthTokens, check_scope
from tinyserver.protocol.errors import InvalidParam
from tinyserver.protocol.oauth.client_metadata import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.protocol.oauth.requests import Parameters, parse_scope, required, single

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_FORM = "application/x-www-form-urlencoded"
_MAX_METADATA = 32 * 1024


class OAuthApi:
    """The endpoints that speak JSON and forms."""

    surface = Surface.CLIENT

    def __init__(
        self, clients: OAuthClients, tokens: OAuthTokens, device_grants: DeviceGrants, public_url: PublicUrl
    ) -> None:
        self._clients = clients
        self._tokens = tokens
        self._device_grants = device_grants
        self._public_url = public_url

    @endpoint(
        "POST",
        locations.REGISTRATION,
        spec="client-server-api#dynamic-client-registration-flow",
        auth=Auth.NONE,
        body=dict,
        max_body=_MAX_METADATA,
        limit=Limit.LOGIN_ADDRESS,
    )
    async def register(self, call: Call[dict[str, Any], NoQuery]) -> Answer:
        """Register a client."""
        return FullAnswer(201, await self._clients.register(call.body), _NO_STORE)

    @endpoint("POST", locations.TOKEN, spec="client-server-api#grant-types", auth=Auth.NONE, limit=Limit.OTHER)
    async def token(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Tokens for a code or a refresh token."""
        form = await _form(call)
        grant_type = required(form, "grant_type")
        client = self._clients.must_find(required(form, "client_id"))
        if grant_type == REFRESH_TOKEN:
            granted = await self._tokens.refresh(client, required(form, "refresh_token"))
        elif grant_type == AUTHORIZATION_CODE:
            granted = await self._by_code(call, client, form)
        elif grant_type == DEVICE_CODE:
            client.check_grant(DEVICE_CODE)
            device_code = required(form, "device_code")
            granted = await self._tokens.exchange_device_code(client, device_code, origin_of(call))
        else:
            raise OAuthError("unsupported_grant_type", "this grant type is not supported")
        return FullAnswer(200, _answer(granted), _NO_STORE)

    async def _by_code(self, call: Call[NoBody, NoQuery], client: OAuthClient, form: Parameters) -> GrantedTokens:
        client.check_grant(AUTHORIZATION_CODE)
        code, redirect_uri = required(form, "code"), required(form, "redirect_uri")
        verifier = required(form, "code_verifier")
        return await self._tokens.exchange_code(client, code, redirect_uri, verifier, origin_of(call))

    @endpoint(
        "POST", locations.REVOCATION, spec="client-server-api#token-revocation", auth=Auth.NONE, limit=Limit.OTHER
    )
    async def revoke(self, call: Call[NoBody, NoQuery]) -> Answer:
        """End a session. Whoever has the token may do it: also somebody who found it and means well."""
        form = await _form(call)
        await self._tokens.revoke(required(form, "token"))
        return FullAnswer(200, {}, _NO_STORE)

    @endpoint(
        "POST",
        locations.DEVICE_AUTHORIZATION,
        spec="client-server-api#device-authorisation-flow",
        auth=Auth.NONE,
        limit=Limit.LOGIN_ADDRESS,
    )
    async def authorize_device(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A code that the user types into a page."""
        form = await _form(call)
        client = self._clients.must_find(required(form, "client_id"))
        client.check_grant(DEVICE_CODE)
        scope = parse_scope(single(form, "scope") or "")
        check_scope(scope)
        device_code, grant = self._device_grants.issue(client.nid, scope, call.client_address)
        user_code = f"{grant.user_code[:4]}-{grant.user_code[4:]}"
        page = self._public_url.of(call) + locations.LINK
        answer = {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": int(DEVICE_CODE_SECONDS),
            "interval": POLL_SECONDS,
        }
        return FullAnswer(200, answer, _NO_STORE)


async def _form(call: Call[NoBody, NoQuery]) -> Parameters:
    """The fields of the form. Raises OAuthError, `invalid_request`."""
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise OAuthError("invalid_request", f"the body must be {_FORM}")
    try:
        return await read_form(call)
    except InvalidParam as error:
        raise OAuthError("invalid_request", "the form is not encoded as it should be") from error


def _answer(granted: GrantedTokens) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "access_token": granted.tokens.access_token,
        "token_type": "Bearer",
        "refresh_token": granted.tokens.refresh_token,
        "scope": granted.scope,
    }
    if granted.tokens.expires_in_ms is not None:
        answer["expires_in"] = granted.tokens.expires_in_ms // 1000
    return answer
