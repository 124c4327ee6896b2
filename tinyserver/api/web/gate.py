"""Signing in, and making an account: what comes before every page that is for somebody.

spec: client-server-api#user-registration
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tinyserver.accounts.password_check import PasswordCheck
from tinyserver.accounts.registration import Registration
from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.api.web.by_mail import ByMail
from tinyserver.api.web.new_password import new_password_fields, refused_password
from tinyserver.api.web.page import button, checkbox, escape, field, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.oauth.browser_sessions import BrowserSession, BrowserSessions
from tinyserver.protocol.errors import (
    Exclusive,
    Forbidden,
    InvalidUsername,
    LimitExceeded,
    MatrixError,
    MissingParam,
    ThreepidAuthFailed,
    ThreepidInUse,
    UserInUse,
    UserLocked,
    WeakPassword,
)
from tinyserver.protocol.threepids import EMAIL
from tinyserver.threepids.validation import Purpose as MailPurpose

_MAX_HINT = 255

_TOLD: dict[type[MatrixError], str] = {
    LimitExceeded: "error_too_often",
    UserLocked: "error_locked",
    InvalidUsername: "error_username",
    UserInUse: "error_taken",
    Exclusive: "error_taken",
    WeakPassword: "error_weak",
    MissingParam: "error_token",
    Forbidden: "error_token",
    ThreepidAuthFailed: "error_email_link",
    ThreepidInUse: "error_email_taken",
}
_REFUSALS = tuple(_TOLD)


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why somebody comes to the gate: for whom (text; empty: for nobody else), as whom, and whether to register."""

    client: str = ""
    user_hint: str = ""
    register: bool = False


class Gate:
    """Keeps everybody out who is not signed in, and shows them how to get in.

    Args:
        server_name: what is written above every page.
        public_url: where browsers come, so that cookies are for TLS only where that has it.
    """

    def __init__(
        self,
        sessions: BrowserSessions,
        passwords: PasswordCheck,
        registration: Registration,
        limiter: RateLimiter,
        server_name: str,
        public_url: PublicUrl,
        by_mail: ByMail,
    ) -> None:
        self._sessions = sessions
        self._passwords = passwords
        self._registration = registration
        self._limiter = limiter
        self._server_name = server_name
        self._public_url = public_url
        self._by_mail = by_mail
        # Forms that were open while the server started anew must be sent again.
        self._secret = secrets.token_bytes(32)

    async def show(self, call: Call[Any, Any], answer: Callable[[Visit], Awaitable[FullAnswer]]) -> FullAnswer:
        """Answer a visit, and turn errors into pages."""
        visit = Visit(call, self._sessions, self._secret, self._server_name, secure=self._public_url.is_secure(call))
        try:
            await visit.read_form()
            return await answer(visit)
        except MatrixError as error:
            return visit.problem_of(error)

    async def enter(self, visit: Visit, purpose: Purpose) -> FullAnswer | BrowserSession:
        """Who is signed in; otherwise the page, or the redirect, by which the visitor gets there."""
        if visit.action == "sign_in":
            return await self._sign_in(visit, purpose)
        if visit.action == "register":
            return await self._register(visit, purpose)
        if visit.action == "sign_out":
            visit.sign_out()
            return visit.redirect(visit.here())
        wanted = visit.query.get("show", "")
        if wanted == "recover" and self._by_mail.is_offered:
            return await self._by_mail.recover(visit)
        if visit.session is not None and not (purpose.register and not wanted):
            return visit.session
        if wanted == "register" or (purpose.register and not wanted):
            if self._needs_address(visit):
                return await self._by_mail.ask(visit, MailPurpose.REGISTER)
            return self._register_page(visit, purpose)
        return self._sign_in_page(visit, purpose)

    async def confirm(self, session: BrowserSession, password: str) -> bool:
        """Whether this is the password of who is signed in. Raises LimitExceeded, UserLocked."""
        try:
            await self._passwords.check({"type": "m.id.user", "user": session.user_id}, password)
        except Forbidden:
            return False
        return True

    def limit(self, visit: Visit) -> None:
        """Raises LimitExceeded when too much was tried from the visitor's address."""
        self._limiter.spend(Limit.LOGIN_ADDRESS, address_key(visit.call.client_address))

    async def _sign_in(self, visit: Visit, purpose: Purpose) -> FullAnswer:
        user = visit.form.get("user", "").strip()
        identifier = {"type": "m.id.user", "user": user}
        if "@" in user[1:]:
            identifier = {"type": "m.id.thirdparty", "medium": EMAIL, "address": user}
        try:
            self.limit(visit)
            user_id, account = await self._passwords.check(identifier, visit.form.get("password", ""))
            if account.is_guest:
                raise Forbidden
        except Forbidden as error:
            return self._sign_in_page(visit, purpose, "error_wrong", error.status)
        except (LimitExceeded, UserLocked) as error:
            return self._sign_in_page(visit, purpose, _TOLD[type(error)], error.status)
        visit.sign_in(user_id)
        return visit.redirect(visit.here())

    async def _register(self, visit: Visit, purpose: Purpose) -> FullAnswer:
        form = visit.form
        password = form.get("password", "")
        refused = refused_password(form)
        if refused:
            return self._register_page(visit, purpose, refused, 400)
        try:
            self._limiter.spend(Limit.REGISTRATION, address_key(visit.call.client_address))
            email = await self._by_mail.confirmed(visit, MailPurpose.REGISTER)
            user_id = await self._registration.register_on_page(
                form.get("user", "").strip(), password, form.get("token", "").strip() or None, email
            )
        except _REFUSALS as error:
            return self._register_page(visit, purpose, _TOLD[type(error)], error.status)
        visit.sign_in(user_id)
        return visit.redirect(visit.here())

    def _sign_in_page(self, visit: Visit, purpose: Purpose, error: str = "", status: int = 200) -> FullAnswer:
        user = visit.form.get("user", "") or _user_hint(purpose.user_hint)
        failed = bool(error)
        attributes = 'autocapitalize="none" spellcheck="false"'
        focus = "" if user else " autofocus"
        form = (
            field("user", visit.text("user_name_or_email" if self._by_mail.is_offered else "user_name"), value=user,
                  failed=failed, extra=f'autocomplete="username" {attributes}{focus}')
            + field("password", visit.text("password"), kind="password", failed=failed,
                    extra=f'autocomplete="current-password"{" autofocus" if user else ""}')
            + button("sign_in", visit.text("sign_in"))
        )  # fmt: skip
        content = self._intro(visit, purpose, error) + visit.form_of(form)
        if self._by_mail.is_offered:
            content += f'<p><a href="{escape(visit.here(show="recover"))}">{escape(visit.text("recover_link"))}</a></p>'
        if self._registration.mode != "closed":
            content += f'<p><a href="{escape(visit.here(show="register"))}">{escape(visit.text("no_account"))}</a></p>'
        return visit.page("sign_in_title", content, status=status)

    def _register_page(self, visit: Visit, purpose: Purpose, error: str = "", status: int = 200) -> FullAnswer:
        content = self._intro(visit, purpose, error)
        if self._registration.mode == "closed":
            content += paragraph(visit.text("register_closed"))
        else:
            content += visit.form_of(self._register_form(visit, purpose, failed=bool(error)))
        if visit.session is not None:
            label = visit.text("continue_as", user=visit.session.user_id)
        else:
            label = visit.text("have_account")
        content += f'<p><a href="{escape(visit.here(show="sign_in"))}">{escape(label)}</a></p>'
        return visit.page("register_title", content, status=status)

    def _needs_address(self, visit: Visit) -> bool:
        """Whether a mail address must be proved before the form for a new account is shown."""
        required = self._registration.mode != "closed" and self._registration.email_mode == "required"
        return required and self._by_mail.session(visit, MailPurpose.REGISTER) is None

    def _register_form(self, visit: Visit, purpose: Purpose, *, failed: bool) -> str:
        user = visit.form.get("user", "") or _user_hint(purpose.user_hint).removeprefix("@").partition(":")[0]
        token = visit.form.get("token", "") or visit.query.get("token", "")
        form = field(
            "user", visit.text("user_name"), value=user, failed=failed,
            hint=visit.text("user_name_hint", server=self._server_name),
            extra='autocomplete="username" autocapitalize="none" spellcheck="false" autofocus',
        )  # fmt: skip
        form += new_password_fields(visit, "password", failed=failed)
        if self._registration.mode == "token" or token:
            form += field("token", visit.text("register_token"), value=token[:_MAX_HINT], failed=failed,
                          hint=visit.text("register_token_hint"), extra='autocomplete="off"')  # fmt: skip
        return form + button("register", visit.text("create_account"))

    def _intro(self, visit: Visit, purpose: Purpose, error: str) -> str:
        intro = paragraph(visit.text("sign_in_for", client=purpose.client)) if purpose.client else ""
        return intro + (paragraph(visit.text(error), "error") if error else "")


def password_form(visit: Visit, *, failed: bool) -> str:
    """The fields for a new password."""
    return (
        field("current", visit.text("current_password"), kind="password", failed=failed,
              extra='autocomplete="current-password"')
        + new_password_fields(visit, "new_password", failed=failed)
        + checkbox("logout", visit.text("password_logout"))
        + button("change_password", visit.text("change_password"))
    )  # fmt: skip


def _user_hint(hint: str) -> str:
    """A user name out of a `login_hint`: a name, a user ID, or that with `mxid:` before it."""
    return hint.removeprefix("mxid:")[:_MAX_HINT]
