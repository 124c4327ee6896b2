"""The mail addresses of an account, on its pages: for those whose client leaves that to the server."""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from tinyserver.api.answers import FullAnswer
from tinyserver.api.oauth import locations
from tinyserver.api.public_url import PublicUrl
from tinyserver.api.rate_limits import Limit, RateLimiter
from tinyserver.api.web.by_mail import REFUSALS, told_of
from tinyserver.api.web.gate import Gate
from tinyserver.api.web.page import button, escape, facts, field, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.oauth.browser_sessions import BrowserSession
from tinyserver.protocol.errors import ThreepidAuthFailed, ThreepidDenied, ThreepidInUse
from tinyserver.protocol.threepids import EMAIL
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.threepids.contacts import Contacts
from tinyserver.threepids.validation import EmailValidation, MailRequest, Purpose

PAGE = "emails"  # no client links to it


class EmailSettings:
    """The page; `proof` in its query is the token of a mail."""

    def __init__(
        self, gate: Gate, contacts: Contacts, emails: EmailValidation, limiter: RateLimiter, public_url: PublicUrl
    ) -> None:
        self._gate = gate
        self._contacts = contacts
        self._emails = emails
        self._limiter = limiter
        self._public_url = public_url

    @property
    def is_offered(self) -> bool:
        """Whether addresses can be added."""
        return self._emails.is_offered

    async def page(self, visit: Visit, session: BrowserSession, error: str = "", status: int = 200) -> FullAnswer:
        """The addresses, and a form for another one; with a proof, the question whether to add its address."""
        told = paragraph(visit.text(error), "error") if error else ""
        token = visit.query.get("proof", "")
        if token and not error:
            proof = self._proof(token)
            if proof is None:
                return await self.page(visit, session, "error_email_link", 404)
            content = facts([(visit.text("email_address"), escape(proof.address))])
            content += paragraph(visit.text("signed_in_as", user=session.user_id))
            return visit.page("emails", content + visit.form_of(button("confirm_email", visit.text("email_confirm"))))
        entries = "".join(self._entry(visit, each["address"]) for each in self._contacts.all_of(session.user))
        content = told + (f"<ul>{entries}</ul>" if entries else paragraph(visit.text("emails_none")))
        if self.is_offered:
            form = field(
                "address",
                visit.text("email_address"),
                kind="email",
                extra='autocomplete="email"',
                failed=bool(error),
            )
            form += field("current", visit.text("password"), kind="password", extra='autocomplete="current-password"')
            title = escape(visit.text("emails_add"))
            content += f"<h2>{title}</h2>"
            content += visit.form_of(form + button("add_email", visit.text("send_mail")))
        return visit.page(
            "emails", content + f'<p><a href="?action=">{escape(visit.text("back"))}</a></p>', status=status
        )

    async def add(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        """Have a mail sent to the address that was filled in."""
        self._gate.limit(visit)
        if not await self._gate.confirm(session, visit.form.get("current", "")):
            return await self.page(visit, session, "error_password", 403)
        base = f"{self._public_url.of(visit.call)}{locations.ACCOUNT}"
        asked = MailRequest(
            secrets.token_urlsafe(18),
            visit.form.get("address", ""),
            1,
            page=lambda token: f"{base}?{urlencode({'action': PAGE, 'proof': token})}",
        )
        try:
            self._limiter.spend(Limit.MAIL, session.user_id)
            await self._emails.request(Purpose.ADD, asked, visit.language)
        except REFUSALS as error:
            return await self.page(visit, session, told_of(error), error.status)
        return visit.page("emails", paragraph(visit.text("mail_sent"), "good"))

    async def confirm(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        """Add the address of the mail by which the visitor came."""
        token = visit.query.get("proof", "")
        if self._proof(token) is None or not await self._emails.confirm(token):
            return await self.page(visit, session, "error_email_link", 404)
        proof = self._proof(token)
        try:
            if proof is None:
                raise ThreepidAuthFailed
            await self._contacts.add_proved(session.user, proof)
        except ThreepidInUse as error:
            return await self.page(visit, session, "error_email_taken", error.status)
        except (ThreepidAuthFailed, ThreepidDenied) as error:
            return await self.page(visit, session, "error_email_link", error.status)
        return visit.redirect(f"?action={PAGE}")

    async def remove(self, visit: Visit, session: BrowserSession) -> FullAnswer:
        """Take an address from the account."""
        await self._contacts.remove(session.user, EMAIL, visit.form.get("address", ""))
        return visit.redirect(f"?action={PAGE}")

    def _proof(self, token: str) -> EmailSessionRow | None:
        found = self._emails.find(token)
        return found if found is not None and found.purpose == Purpose.ADD else None

    def _entry(self, visit: Visit, address: str) -> str:
        hidden = f'<input type="hidden" name="address" value="{escape(address)}">'
        form = visit.form_of(hidden + button("remove_email", visit.text("remove"), "link"))
        return f"<li>{escape(address)}{form}</li>"
