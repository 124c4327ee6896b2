"""Single sign-on for clients that know nothing newer: the same pages, and a login token at the end.

spec: client-server-api#sso-client-loginauthentication
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from tinyserver.accounts.login import Login
from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth import locations
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.authorization import signed_in_as
from tinyserver.api.web.gate import Gate, Purpose
from tinyserver.api.web.page import button, escape, facts, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.protocol.errors import NotFound
from tinyserver.protocol.oauth.requests import form_target
from tinyserver.protocol.sso import is_safe_redirect, place_of, with_login_token

PROVIDER_ID = "tinyserver"
TOKEN_SECONDS = 30.0
"""The specification recommends about five; a small computer with slow readers needs a little more."""

_REDIRECT = "/_matrix/client/v3/login/sso/redirect"
_SPEC = "client-server-api#client-login-via-sso"


def sso_flow(server_name: str) -> dict[str, Any]:
    """The flow as `GET /login` shows it; `oauth_aware_preferred` also by its name from before it was specified."""
    return {
        "type": "m.login.sso",
        "identity_providers": [{"id": PROVIDER_ID, "name": server_name}],
        "oauth_aware_preferred": True,
        "org.matrix.msc3824.delegated_oidc_compatibility": True,
    }


class RedirectQuery(msgspec.Struct):
    """Where the browser is to end, and whether an account is to be made."""

    redirectUrl: str
    action: str = ""
    unstable_action: str = msgspec.field(name="org.matrix.msc3824.action", default="")


class SsoPages:
    """The way from a client to the page, and the page."""

    surface = Surface.CLIENT

    def __init__(self, gate: Gate, login: Login, public_url: PublicUrl) -> None:
        self._gate = gate
        self._login = login
        self._public_url = public_url

    @endpoint("GET", _REDIRECT, spec=_SPEC, auth=Auth.NONE, query=RedirectQuery)
    @endpoint("GET", f"{_REDIRECT}/{{idpId}}", spec=_SPEC, auth=Auth.NONE, query=RedirectQuery)
    async def redirect(self, call: Call[NoBody, RedirectQuery]) -> Answer:
        """Send the browser to the page."""
        if call.path.get("idpId", PROVIDER_ID) != PROVIDER_ID:
            raise NotFound("This server has no such identity provider.")
        wanted = {"redirectUrl": call.query.redirectUrl}
        if "register" in (call.query.action, call.query.unstable_action):
            wanted["action"] = "register"
        location = f"{self._public_url.of(call)}{locations.SSO}?{urlencode(wanted)}"
        return FullAnswer(302, b"", {"Location": location, "Cache-Control": "no-store"})

    @endpoint("GET", locations.SSO, spec=_SPEC, auth=Auth.NONE)
    @endpoint("POST", locations.SSO, spec=_SPEC, auth=Auth.NONE)
    async def page(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Sign in, agree, and go back to the client."""
        return await self._gate.show(call, self._page)

    async def _page(self, visit: Visit) -> FullAnswer:
        url = visit.query.get("redirectUrl", "")
        if not is_safe_redirect(url):
            return visit.problem("error_redirect_url")
        place = place_of(url)
        register = visit.query.get("action") == "register" and visit.session is None
        entered = await self._gate.enter(visit, Purpose(place, register=register))
        if isinstance(entered, FullAnswer):
            return entered
        if visit.action == "allow":
            return visit.redirect(with_login_token(url, self._login.issue_token(entered.user, TOKEN_SECONDS)))
        # Nobody else knows this address, so the user must say whether they do.
        content = facts([(visit.text("returns_to"), escape(place))]) + paragraph(visit.text("sso_text"))
        content += visit.form_of(button("allow", visit.text("continue_to", place=place)))
        return visit.page("consent_title", content + signed_in_as(visit, entered), form_targets=form_target(url))
