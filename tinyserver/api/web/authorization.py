"""Pages on which a user lets a client in: after a redirect, by a device code, and for clients that know only SSO.

spec: client-server-api#authorisation-code-flow, client-server-api#device-authorisation-flow, RFC 9700
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth import locations
from tinyserver.api.oauth.metadata import issuer_at
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.gate import Gate, Purpose
from tinyserver.api.web.page import button, escape, facts, field, link, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.oauth.browser_sessions import BrowserSession
from tinyserver.oauth.clients import OAuthClient, OAuthClients
from tinyserver.oauth.codes import AuthorizationCodes, DeviceGrant, DeviceGrants
from tinyserver.oauth.tokens import check_scope
from tinyserver.protocol.oauth.client_metadata import AUTHORIZATION_CODE, may_redirect_to
from tinyserver.protocol.oauth.errors import OAuthError
from tinyserver.protocol.oauth.requests import (
    AuthorizationRefused,
    AuthorizationRequest,
    form_target,
    parse_authorization,
    required,
)

_SPEC = "client-server-api#authorisation-code-flow"
_LINK_SPEC = "client-server-api#device-authorisation-flow"


class AuthorizationPages:
    """Sign-in and consent."""

    surface = Surface.CLIENT

    def __init__(
        self,
        gate: Gate,
        clients: OAuthClients,
        codes: AuthorizationCodes,
        device_grants: DeviceGrants,
        public_url: PublicUrl,
    ) -> None:
        self._gate = gate
        self._clients = clients
        self._codes = codes
        self._device_grants = device_grants
        self._public_url = public_url

    @endpoint("GET", locations.AUTHORIZATION, spec=_SPEC, auth=Auth.NONE)
    @endpoint("POST", locations.AUTHORIZATION, spec=_SPEC, auth=Auth.NONE)
    async def authorize(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The page that a client sends its user to."""
        return await self._gate.show(call, self._authorize)

    @endpoint("GET", locations.LINK, spec=_LINK_SPEC, auth=Auth.NONE)
    @endpoint("POST", locations.LINK, spec=_LINK_SPEC, auth=Auth.NONE)
    async def link(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The page on which the code of a device is typed."""
        return await self._gate.show(call, self._link)

    async def _authorize(self, visit: Visit) -> FullAnswer:
        parameters = visit.call.query_parameters
        try:
            client = self._clients.find(required(parameters, "client_id"))
            redirect_uri = required(parameters, "redirect_uri")
        except OAuthError as error:
            return visit.problem("error_request", problem=error.message)
        if client is None:
            return visit.problem("error_client")
        if not may_redirect_to(client.metadata, redirect_uri):
            return visit.problem("error_redirect")
        try:
            request = parse_authorization(parameters, redirect_uri)
            _check_may_ask(client, request)
        except AuthorizationRefused as refused:
            # Anybody can register a client. Whoever follows a link to this server must not land there unasked.
            back = link(refused.location, visit.text("back_to_client", client=client.name))
            return visit.problem("error_request", problem=refused.message, more=f"<p>{back}</p>")
        purpose = Purpose(_named(client), request.login_hint, register="create" in request.prompts)
        entered = await self._gate.enter(visit, purpose)
        if isinstance(entered, FullAnswer):
            return entered
        issuer = issuer_at(self._public_url.of(visit.call))  # spec: RFC 9207, so that clients mix up no servers
        if visit.action == "allow":
            code = self._codes.issue(client.nid, entered.user, request)
            return visit.redirect(request.callback({"code": code, "iss": issuer}))
        if visit.action == "deny":
            told = {"error": "access_denied", "error_description": "the user has refused", "iss": issuer}
            return visit.redirect(request.callback(told))
        return self._consent_page(visit, entered, client, request)

    def _consent_page(
        self, visit: Visit, session: BrowserSession, client: OAuthClient, request: AuthorizationRequest
    ) -> FullAnswer:
        target = form_target(request.redirect_uri)
        place = visit.text("this_app") if _stays_here(request.redirect_uri) else urlsplit(target).netloc
        content = paragraph(visit.text("client_wants", client=client.name))
        content += paragraph(visit.text("full_access"))
        content += facts(
            [*_facts_of(visit, client, request.scope.device_id), (visit.text("returns_to"), escape(place))]
        )
        content += visit.form_of(button("allow", visit.text("allow")) + button("deny", visit.text("cancel"), "second"))
        return visit.page("consent_title", content + signed_in_as(visit, session), form_targets=target)

    async def _link(self, visit: Visit) -> FullAnswer:
        entered = await self._gate.enter(visit, Purpose())
        if isinstance(entered, FullAnswer):
            return entered
        typed = visit.query.get("user_code", "")
        if not typed:
            return self._code_page(visit, entered)
        self._gate.limit(visit)
        grant = self._device_grants.of_user_code(typed)
        client = None if grant is None else self._clients.by_number(grant.client)
        if grant is None or client is None:
            return self._code_page(visit, entered, typed, "error_code")
        if visit.action == "allow":
            grant.user = entered.user
            return visit.page("link_title", paragraph(visit.text("done_linked"), "good"))
        if visit.action == "deny":
            grant.denied = True
            return visit.page("link_title", paragraph(visit.text("done_link_denied")))
        return self._device_page(visit, entered, client, grant)

    def _code_page(self, visit: Visit, session: BrowserSession, typed: str = "", error: str = "") -> FullAnswer:
        told = paragraph(visit.text(error), "error") if error else ""
        extra = 'autocomplete="off" autocapitalize="characters" spellcheck="false" autofocus'
        typed_in = field("user_code", visit.text("code"), value=typed[:20], extra=extra, failed=bool(error))
        form = visit.form_of(f"{typed_in}<button>{escape(visit.text('continue'))}</button>", "get")
        content = told + paragraph(visit.text("code_text")) + form
        return visit.page("link_title", content + signed_in_as(visit, session), status=404 if error else 200)

    def _device_page(
        self, visit: Visit, session: BrowserSession, client: OAuthClient, grant: DeviceGrant
    ) -> FullAnswer:
        asked = visit.text("minutes_ago", minutes=self._device_grants.minutes_ago(grant))
        content = paragraph(visit.text("client_wants", client=client.name))
        content += paragraph(f"{grant.user_code[:4]}-{grant.user_code[4:]}", "code")
        content += paragraph(visit.text("code_compare")) + paragraph(visit.text("full_access"))
        content += facts(
            [
                *_facts_of(visit, client, grant.scope.device_id),
                (visit.text("address"), escape(grant.address)),
                (visit.text("requested"), escape(asked)),
            ]
        )
        content += visit.form_of(
            button("allow", visit.text("allow_sign_in")) + button("deny", visit.text("cancel"), "second")
        )
        return visit.page("link_title", content + signed_in_as(visit, session))


def signed_in_as(visit: Visit, session: BrowserSession) -> str:
    """Who is signed in, and how to change that."""
    told = paragraph(visit.text("signed_in_as", user=session.user_id), "hint")
    return told + visit.form_of(button("sign_out", visit.text("not_you"), "link"))


def _check_may_ask(client: OAuthClient, request: AuthorizationRequest) -> None:
    try:
        client.check_grant(AUTHORIZATION_CODE)
        check_scope(request.scope)
    except OAuthError as error:
        told = {"error": error.code, "error_description": error.message}
        raise AuthorizationRefused(error, request.callback(told)) from error


def _named(client: OAuthClient) -> str:
    """The name that a client gives itself, with the host that it could not make up so easily."""
    host = urlsplit(client.metadata["client_uri"]).netloc
    return client.name if client.name == host else f"{client.name} ({host})"


def _stays_here(redirect_uri: str) -> bool:
    parts = urlsplit(redirect_uri)
    return parts.scheme != "https"


def _facts_of(visit: Visit, client: OAuthClient, device_id: str) -> list[tuple[str, str]]:
    metadata: Any = client.metadata
    found = [
        (visit.text("application"), escape(client.name)),
        (visit.text("website"), link(metadata["client_uri"], urlsplit(metadata["client_uri"]).netloc)),
        (visit.text("device_id"), escape(device_id)),
    ]
    for key, text in (("tos_uri", "terms"), ("policy_uri", "policy")):
        if key in metadata:
            found.append((visit.text(text), link(metadata[key], urlsplit(metadata[key]).netloc)))
    return found
