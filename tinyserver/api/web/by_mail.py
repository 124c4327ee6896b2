"""What goes by way of a mail on the pages before somebody is signed in: proving an address, a lost password.

The link in a mail leads to a page of this server only, and not on to the client for which somebody wanted to sign in:
whoever asked for the mail need not be its reader.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from tinyserver.accounts.management import AccountManagement
from tinyserver.api.answers import FullAnswer
from tinyserver.api.oauth import locations
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import Limit, RateLimiter, address_key
from tinyserver.api.web.new_password import new_password_fields, refused_password
from tinyserver.api.web.page import button, checkbox, escape, facts, field, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.protocol.errors import (
    EmailSendError,
    Forbidden,
    InvalidParam,
    LimitExceeded,
    MatrixError,
    ThreepidAuthFailed,
    ThreepidDenied,
    WeakPassword,
)
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.threepids.validation import EmailValidation, MailRequest, Purpose

_TOLD: dict[type[MatrixError], str] = {
    InvalidParam: "error_email",
    ThreepidDenied: "error_email_denied",
    LimitExceeded: "error_too_often",
    EmailSendError: "error_mail",
}
REFUSALS = tuple(_TOLD)
"""Why a mail is not sent."""
_MAX_INVITATION = 64
_TITLES = {Purpose.REGISTER: "register_title", Purpose.RECOVER: "recover_title"}


def told_of(refusal: MatrixError) -> str:
    """What a visitor is told of one of the `REFUSALS`: the key of a text."""
    return _TOLD[type(refusal)]


class ByMail:
    """The pages; `email` in their query is the token of a mail."""

    def __init__(
        self, emails: EmailValidation, management: AccountManagement, limiter: RateLimiter, public_url: PublicUrl
    ) -> None:
        self._emails = emails
        self._management = management
        self._limiter = limiter
        self._public_url = public_url

    @property
    def is_offered(self) -> bool:
        """Whether mails can be sent."""
        return self._emails.is_offered

    def session(self, visit: Visit, purpose: Purpose) -> EmailSessionRow | None:
        """The session of the mail that the visitor came by, or None."""
        token = visit.query.get("email", "")
        session = self._emails.find(token) if token else None
        return session if session is not None and session.purpose == purpose else None

    async def confirmed(self, visit: Visit, purpose: Purpose) -> EmailSessionRow | None:
        """The same for somebody who has pressed a button: now the address is proved. Raises ThreepidAuthFailed."""
        token = visit.query.get("email", "")
        if not token:
            return None
        if self.session(visit, purpose) is None or not await self._emails.confirm(token):
            raise ThreepidAuthFailed
        return self.session(visit, purpose)

    async def ask(self, visit: Visit, purpose: Purpose) -> FullAnswer:
        """The page that asks for a mail address, and sends the mail."""
        if visit.action != "send_mail":
            error = "error_email_link" if visit.query.get("email") else ""
            return self._ask_page(visit, purpose, error, 404 if error else 200)
        path = locations.INVITATION if purpose is Purpose.REGISTER else locations.ACCOUNT
        invitation = visit.query.get("token", "")[:_MAX_INVITATION]

        def page(token: str) -> str:
            query = {"show": str(purpose), "email": token, **({"token": invitation} if invitation else {})}
            return f"{self._public_url.of(visit.call)}{path}?{urlencode(query)}"

        asked = MailRequest(secrets.token_urlsafe(18), visit.form.get("address", ""), 1, page=page)
        try:
            self._limiter.spend(Limit.MAIL, address_key(visit.call.client_address))
            await self._emails.request(purpose, asked, visit.language)
        except REFUSALS as error:
            return self._ask_page(visit, purpose, told_of(error), error.status)
        return visit.page(_TITLES[purpose], paragraph(visit.text("mail_sent"), "good"))

    async def recover(self, visit: Visit) -> FullAnswer:
        """Choose a new password instead of a lost one; then the visitor is signed in."""
        session = self.session(visit, Purpose.RECOVER)
        if session is None:
            return await self.ask(visit, Purpose.RECOVER)
        if visit.action != "reset_password":
            return self._recover_page(visit, session, "", 200)
        refused = refused_password(visit.form)
        if refused:
            return self._recover_page(visit, session, refused, 400)
        try:
            proved = await self.confirmed(visit, Purpose.RECOVER)
            if proved is None:
                raise ThreepidAuthFailed
            user_id = await self._management.reset_password(
                proved, visit.form["password"], logout_devices="logout" in visit.form
            )
        except WeakPassword as error:
            return self._recover_page(visit, session, "error_weak", error.status)
        except (ThreepidAuthFailed, Forbidden) as error:
            return visit.problem("error_email_link", status=error.status)
        visit.sign_in(user_id)
        return visit.redirect(f"{locations.ACCOUNT}?done=done_password")

    def _ask_page(self, visit: Visit, purpose: Purpose, error: str, status: int) -> FullAnswer:
        content = paragraph(visit.text(error), "error") if error else ""
        content += paragraph(visit.text("recover_text" if purpose is Purpose.RECOVER else "register_mail_text"))
        address = visit.form.get("address", "")
        extra = 'autocomplete="email" autofocus'
        content += visit.form_of(
            field("address", visit.text("email_address"), kind="email", value=address, extra=extra, failed=bool(error))
            + button("send_mail", visit.text("send_mail"))
        )
        back = f'<a href="{escape(visit.here(show="sign_in"))}">{escape(visit.text("have_account"))}</a>'
        return visit.page(_TITLES[purpose], f"{content}<p>{back}</p>", status=status)

    def _recover_page(self, visit: Visit, session: EmailSessionRow, error: str, status: int) -> FullAnswer:
        content = paragraph(visit.text(error), "error") if error else ""
        content += facts([(visit.text("email_address"), escape(session.address))])
        content += visit.form_of(
            new_password_fields(visit, "new_password", failed=bool(error))
            + checkbox("logout", visit.text("password_logout"))
            + button("reset_password", visit.text("change_password"))
        )
        return visit.page("recover_title", content, status=status)
