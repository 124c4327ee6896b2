"""Third-party identifiers: proving them, and those of the account."""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.accounts.registration import Registration
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.api.web.texts import preferred_language
from tinyserver.protocol.errors import ThreepidMediumNotSupported
from tinyserver.threepids.contacts import Contacts
from tinyserver.threepids.validation import EmailValidation, MailRequest, Purpose

_V3 = "/_matrix/client/v3"
_REGISTER = "client-server-api#legacy-account-registration"
_PASSWORD = "client-server-api#password-management"
_CONTACTS = "client-server-api#adding-account-administrative-contact-information"


class EmailBody(msgspec.Struct):
    """Who wants a mail where. An identity server that is named is not asked: this server sends the mail itself."""

    client_secret: str
    email: str
    send_attempt: int
    next_link: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


class TelephoneBody(msgspec.Struct):
    """Who wants a text message where."""

    client_secret: str
    country: str
    phone_number: str
    send_attempt: int
    next_link: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


class AddBody(msgspec.Struct):
    """The body of `POST /account/3pid/add`."""

    client_secret: str
    sid: str
    auth: dict[str, Any] | None = None


class ThreepidsApi:
    """Validation sessions, and the administrative contact information."""

    surface = Surface.CLIENT

    def __init__(self, contacts: Contacts, validation: EmailValidation, registration: Registration) -> None:
        self._contacts = contacts
        self._validation = validation
        self._registration = registration

    @endpoint(
        "POST",
        f"{_V3}/register/email/requestToken",
        spec=_REGISTER,
        auth=Auth.NONE,
        body=EmailBody,
        limit=Limit.MAIL,
    )
    async def register_by_email(self, call: Call[EmailBody, NoQuery]) -> Answer:
        """Have a mail sent for making an account."""
        self._registration.check_open()
        if self._registration.email_mode == "no":
            raise ThreepidMediumNotSupported("This server takes no mail addresses from those who register.")
        return await self._request(Purpose.REGISTER, call)

    @endpoint(
        "POST",
        f"{_V3}/account/password/email/requestToken",
        spec=_PASSWORD,
        auth=Auth.NONE,
        body=EmailBody,
        limit=Limit.MAIL,
    )
    async def password_by_email(self, call: Call[EmailBody, NoQuery]) -> Answer:
        """Have a mail sent for a new password."""
        return await self._request(Purpose.PASSWORD, call)

    @endpoint(
        "POST",
        f"{_V3}/account/3pid/email/requestToken",
        spec=_CONTACTS,
        auth=Auth.NONE,
        body=EmailBody,
        limit=Limit.MAIL,
    )
    async def add_by_email(self, call: Call[EmailBody, NoQuery]) -> Answer:
        """Have a mail sent for adding its address to an account."""
        return await self._request(Purpose.ADD, call)

    async def _request(self, purpose: Purpose, call: Call[EmailBody, NoQuery]) -> Answer:
        body = call.body
        asked = MailRequest(body.client_secret, body.email, body.send_attempt, body.next_link or None)
        language = preferred_language(call.headers.get("accept-language", ""))
        return {"sid": await self._validation.request(purpose, asked, language)}

    @endpoint(
        "POST",
        f"{_V3}/register/msisdn/requestToken",
        spec=_REGISTER,
        auth=Auth.NONE,
        body=TelephoneBody,
        limit=Limit.MAIL,
    )
    @endpoint(
        "POST",
        f"{_V3}/account/password/msisdn/requestToken",
        spec=_PASSWORD,
        auth=Auth.NONE,
        body=TelephoneBody,
        limit=Limit.MAIL,
    )
    @endpoint(
        "POST",
        f"{_V3}/account/3pid/msisdn/requestToken",
        spec=_CONTACTS,
        auth=Auth.NONE,
        body=TelephoneBody,
        limit=Limit.MAIL,
    )
    async def by_telephone(self, call: Call[TelephoneBody, NoQuery]) -> Answer:
        """Text messages would need a provider, which this server does not have."""
        raise ThreepidMediumNotSupported("This server sends no text messages, so it takes no telephone numbers.")

    @endpoint("GET", f"{_V3}/account/3pid", spec=_CONTACTS, auth=Auth.USER)
    async def get(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The addresses of the account."""
        return {"threepids": self._contacts.all_of(call.requester.user_nid)}

    @endpoint(
        "POST",
        f"{_V3}/account/3pid/add",
        spec=_CONTACTS,
        auth=Auth.USER,
        body=AddBody,
        limit=Limit.OTHER,
        suspended=False,
    )
    async def add(self, call: Call[AddBody, NoQuery]) -> Answer:
        """Add an address that was proved."""
        body = call.body
        await self._contacts.add(call.requester, body.sid, body.client_secret, body.auth)
        return {}
