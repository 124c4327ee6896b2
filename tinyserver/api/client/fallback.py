"""Web pages for clients that cannot do a stage of interactive authentication, or the login, by themselves.

spec: client-server-api#fallback, client-server-api#login-fallback
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from tinyserver.accounts.uia import UserInteractionRequired, UserInteractiveAuth
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.forms import read_form
from tinyserver.api.pages import Page, as_html
from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.page import escape
from tinyserver.api.web.texts import preferred_language
from tinyserver.protocol.errors import MatrixError, NotFound
from tinyserver.threepids.validation import STAGE as EMAIL_STAGE
from tinyserver.threepids.validation import EmailStage, EmailValidation, MailRequest

_STAGE = "/_matrix/client/v3/auth/{authType}/fallback/web"
_SPEC = "client-server-api#fallback"

_FORMS = {
    "m.login.dummy": '<form method="post"><button>Continue</button></form>',
    "m.login.registration_token": (
        '<p>To register on this server you need a token from its administrator.</p><form method="post">'
        '<label>Registration token <input name="token" autocomplete="off" required autofocus></label>'
        "<button>Continue</button></form>"
    ),
    EMAIL_STAGE: (
        '<form method="post"><label>Mail address <input name="email" type="email" autocomplete="email" required '
        "autofocus></label><button>Send a mail</button></form>"
    ),
    "m.login.password": (
        '<p>Confirm that it is you.</p><form method="post">'
        '<label>User name <input name="user" autocomplete="username" required autofocus></label>'
        '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
        "<button>Continue</button></form>"
    ),
}

_DONE = """<p>You can go back to your client.</p>
<script>
if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}
</script>"""

_LOGIN = """<form id="login">
<label>User name <input name="user" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button>
<p role="alert" id="error"></p>
</form>
<script>
document.getElementById("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = new FormData(event.target), error = document.getElementById("error");
    const given = Object.fromEntries(new URLSearchParams(location.search));
    const body = {
        type: "m.login.password",
        identifier: {type: "m.id.user", user: form.get("user")},
        password: form.get("password"),
    };
    for (const key of ["device_id", "initial_device_display_name"]) if (given[key]) body[key] = given[key];
    if (given.refresh_token === "true") body.refresh_token = true;
    error.textContent = "";
    try {
        const answer = await fetch("/_matrix/client/v3/login", {
            method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
        });
        const result = await answer.json();
        if (!answer.ok) throw new Error(result.error);
        if (window.matrixLogin && window.matrixLogin.onLogin) window.matrixLogin.onLogin(result);
        else error.textContent = "You are logged in, but no client waits for it.";
    } catch (problem) {
        error.textContent = problem.message;
    }
});
</script>"""


class SessionQuery(msgspec.Struct):
    """Which session of interactive authentication a page is for."""

    session: str


class FallbackApi:
    """The pages."""

    surface = Surface.CLIENT

    def __init__(self, uia: UserInteractiveAuth, emails: EmailValidation, limiter: RateLimiter) -> None:
        self._uia = uia
        self._emails = emails
        self._limiter = limiter

    @endpoint("GET", _STAGE, spec=_SPEC, auth=Auth.NONE, query=SessionQuery)
    async def show_stage(self, call: Call[NoBody, SessionQuery]) -> Answer:
        """The form of a stage."""
        return Page("Authentication", _form(call.path["authType"]))

    @endpoint("POST", _STAGE, spec=_SPEC, auth=Auth.NONE, query=SessionQuery, limit=Limit.LOGIN_ADDRESS)
    async def complete_stage(self, call: Call[NoBody, SessionQuery]) -> Answer:
        """What was filled into the form."""
        stage = call.path["authType"]
        form = _form(stage)
        fields: dict[str, Any] = {name: values[-1] for name, values in (await read_form(call)).items()}
        if stage == EMAIL_STAGE:
            if "email" in fields:
                return await self._send_mail(call, fields["email"])
            form = _sent(fields)
            fields = {"threepid_creds": fields}
        try:
            await self._uia.complete_aside(call.query.session, {**fields, "type": stage})
        except UserInteractionRequired as refused:
            return _refused(form, refused.error or refused)
        except MatrixError as error:
            return _refused(form, error)
        return Page("Thank you", _DONE)

    async def _send_mail(self, call: Call[NoBody, SessionQuery], address: str) -> Answer:
        """Have a mail sent for the stage; the page on which its reader goes on."""
        secret = secrets.token_urlsafe(18)
        try:
            stage = self._uia.stage(call.query.session, EMAIL_STAGE)
            if not isinstance(stage, EmailStage):
                raise NotFound("This authentication session asks for no mail address.")
            self._limiter.spend(Limit.MAIL, address_key(call.client_address))
            language = preferred_language(call.headers.get("accept-language", ""))
            sid = await self._emails.request(stage.purpose, MailRequest(secret, address, 1), language)
        except MatrixError as error:
            return _refused(_form(EMAIL_STAGE), error)
        return Page("Authentication", _sent({"sid": sid, "client_secret": secret}))

    @endpoint("GET", "/_matrix/static/client/login/", spec="client-server-api#login-fallback", auth=Auth.NONE)
    async def login(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A page that logs in and hands the answer to the client around it."""
        return Page("Log in", _LOGIN)


def _form(stage: str) -> str:
    if stage not in _FORMS:
        raise NotFound("This server has no such stage of authentication.")
    return _FORMS[stage]


def _sent(creds: Mapping[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(creds.get(name, ""))}">'
        for name in ("sid", "client_secret")
    )
    text = "A mail is on its way. Open the link in it, confirm the address there, and then go on here."
    return f'<p>{text}</p><form method="post">{hidden}<button>Continue</button></form>'


def _refused(form: str, error: MatrixError) -> Page:
    return Page("Authentication", f'<p role="alert">{as_html(error.message)}</p>{form}', error.status)
