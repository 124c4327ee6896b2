"""Third-party identifiers: proving them, and those of the account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tinyserver.accounts.registration import Registration
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, MethodT, Surface, endpoint
from tinyserver.api.web.texts import preferred_language
from tinyserver.protocol.errors import ThreepidMediumNotSupported
from tinyserver.threepids.contacts import Contacts
from tinyserver.threepids.validation import EmailValidation, MailRequest, Purpose

_V3 = "/_matrix/client/v3"
_REGISTER = "client-server-api#legacy-account-registration"
_PASSWORD = "client-server-api#password-management"
_CONTACTS = "client-server-api#adding-account-administrative-contact-information"


class _TokenBody(msgspec.Struct, kw_only=True):
    """Who wants a token. An identity server that is named is not asked: this server sends it itself."""

    client_secret: str
    send_attempt: int
    next_link: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


class EmailBody(_TokenBody, kw_only=True):
    """Where a mail is wanted."""

    email: str


class TelephoneBody(_TokenBody, kw_only=True):
    """Where a text message is wanted."""

    country: str
    phone_number: str


class AddBody(msgspec.Struct):
    """The body of `POST /account/3pid/add`."""

    client_secret: str
    sid: str
    auth: dict[str, Any] | None = None


def _token_endpoint(path: str, spec: str, body: type[_TokenBody]) -> Callable[[MethodT], MethodT]:
    return endpoint("POST", f"{_V3}{path}/requestToken", spec=spec, auth=Auth.NONE, body=body, limit=Limit.MAIL)


class ThreepidsApi:
    """Validation sessions, and the administrative contact information."""

    surface = Surface.CLIENT

    def __init__(self, contacts: Contacts, validation: EmailValidation, registration: Registration) -> None:
        self._contacts = contacts
        self._validation = validation
        self._registration = registration

    @_token_endpoint("/register/email", _REGISTER, EmailBody)
    async def register_by_email(self, call: Call[EmailBody, NoQuery]) -> Answer:
        """Have a mail sent for making an account."""
        self._registration.check_open()
        if self._registration.email_mode == "no":
            raise ThreepidMediumNotSupported("This server takes no mail addresses from those who register.")
        return await self._request(Purpose.REGISTER, call)

    @_token_endpoint("/account/password/email", _PASSWORD, EmailBody)
    async def password_by_email(self, call: Call[EmailBody, NoQuery]) -> Answer:
        """Have a mail sent for a new password."""
        return await self._request(Purpose.PASSWORD, call)

    @_token_endpoint("/account/3pid/email", _CONTACTS, EmailBody)
    async def add_by_email(self, call: Call[EmailBody, NoQuery]) -> Answer:
        """Have a mail sent for adding its address to an account."""
        return await self._request(Purpose.ADD, call)

    async def _request(self, purpose: Purpose, call: Call[EmailBody, NoQuery]) -> Answer:
        body = call.body
        asked = MailRequest(body.client_secret, body.email, body.send_attempt, body.next_link or None)
        language = preferred_language(call.headers.get("accept-language", ""))
        return {"sid": await self._validation.request(purpose, asked, language)}

    @_token_endpoint("/register/msisdn", _REGISTER, TelephoneBody)
    @_token_endpoint("/account/password/msisdn", _PASSWORD, TelephoneBody)
    @_token_endpoint("/account/3pid/msisdn", _CONTACTS, TelephoneBody)
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
