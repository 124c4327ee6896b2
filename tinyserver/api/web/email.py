"""Where the links in mails lead: a page with a button. Looking changes nothing: programs look at links, too.

spec: identity-service-api#email-associations
"""

from __future__ import annotations

from tinyserver.api.answers import FullAnswer
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.oauth import locations
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.gate import Gate
from tinyserver.api.web.page import button, escape, facts, link, paragraph
from tinyserver.api.web.visit import Visit
from tinyserver.protocol.oauth.requests import form_target
from tinyserver.protocol.sso import place_of
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.threepids.validation import EmailValidation, Purpose

_SPEC = "client-server-api#post_matrixclientv3registeremailrequesttoken"
_TEXTS = {
    Purpose.REGISTER: ("email_title", "email_register", "email_confirm"),
    Purpose.ADD: ("email_title", "email_add", "email_confirm"),
    Purpose.PASSWORD: ("email_password_title", "email_password", "email_password_confirm"),
}
"""Title, text and button, by purpose."""


class EmailPages:
    """The page on which whoever reads the mails of an address confirms that."""

    surface = Surface.CLIENT

    def __init__(self, gate: Gate, validation: EmailValidation) -> None:
        self._gate = gate
        self._validation = validation

    @endpoint("GET", locations.EMAIL, spec=_SPEC, auth=Auth.NONE)
    @endpoint("POST", locations.EMAIL, spec=_SPEC, auth=Auth.NONE)
    async def email(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Confirm; `token` in the query is what stood in the mail."""
        return await self._gate.show(call, self._email)

    async def _email(self, visit: Visit) -> FullAnswer:
        token = visit.query.get("token", "")
        session = self._validation.find(token)
        if session is None or session.purpose not in _TEXTS:
            return visit.problem("error_email_link", status=404)
        if visit.action == "confirm":
            if not await self._validation.confirm(token):
                return visit.problem("error_email_link", status=404)
            return visit.redirect(session.next_link or visit.here())
        if session.validated is not None:
            return self._done(visit, session)
        title, text, label = _TEXTS[Purpose(session.purpose)]
        content = paragraph(visit.text(text, server=visit.server_name))
        entries = [(visit.text("email_address"), escape(session.address))]
        targets = ""
        if session.next_link is not None:
            # Whoever asked for the mail has chosen this place; whoever reads it must know before they go there.
            entries.append((visit.text("returns_to"), escape(place_of(session.next_link))))
            targets = form_target(session.next_link)
        content += facts(entries) + visit.form_of(button("confirm", visit.text(label)))
        return visit.page(title, content, form_targets=targets)

    def _done(self, visit: Visit, session: EmailSessionRow) -> FullAnswer:
        content = paragraph(visit.text("done_email"), "good")
        url = session.next_link
        if url is not None and url.startswith(("http://", "https://")):
            content += f"<p>{link(url, visit.text('continue_to', place=place_of(url)))}</p>"
        return visit.page("email_title", content)
