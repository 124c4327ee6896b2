"""Proving that one reads the mails of an address: a session, a mail with a link, and a button on the page behind it.

Nobody who asks learns whether an address belongs to an account. Where it does not fit what was asked for, the mail
says so, and the session is never validated.

spec: client-server-api#post_matrixclientv3registeremailrequesttoken, identity-service-api#establishing-associations
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from tinyserver.accounts.tokens import digest
from tinyserver.accounts.uia import StageFailed
from tinyserver.clock import Clock
from tinyserver.mail.mailer import Mailer, MailFailed
from tinyserver.mail.message import Mail
from tinyserver.mail.texts import mail_text
from tinyserver.protocol.errors import (
    EmailSendError,
    InvalidParam,
    MissingParam,
    ThreepidAuthFailed,
    ThreepidDenied,
    ThreepidInUse,
    ThreepidMediumNotSupported,
    Unauthorized,
)
from tinyserver.protocol.sso import is_safe_redirect
from tinyserver.protocol.threepids import EMAIL, canonical_email, is_valid_client_secret
from tinyserver.storage import accounts, email_sessions, names, threepids
from tinyserver.storage.database import Database
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.storage.threepids import ThreepidRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

STAGE = "m.login.email.identity"
LIFETIME_MS = 24 * 3600 * 1000
"""How long a session lasts after its last mail, and after it was validated."""
PATIENCE = 60.0
"""Seconds that somebody who asks for a mail waits until it is on its way."""
MAX_ADDRESSES = 20
_MAX_ATTEMPT = 2**53 - 1


class Purpose(StrEnum):
    """What an address is proved for; a session is good for nothing else."""

    REGISTER = "register"
    PASSWORD = "password"
    ADD = "add"
    RECOVER = "recover"
    """A new password, chosen on a page of this server."""


@dataclass(frozen=True, slots=True)
class MailRequest:
    """What a client says when it asks for a mail.

    ``page`` makes the URL for the mail out of its token; without it that is the page that only confirms.
    """

    client_secret: str
    email: str
    send_attempt: int
    next_link: str | None = None
    page: Callable[[str], str] | None = None


class EmailValidation:
    """All sessions; they are on disk.

    Args:
        page: the URL behind which a mail's token is put.
        allowance: raises LimitExceeded where too many mails were sent to an address.
        domains: those whose addresses are taken; none: all.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        mailer: Mailer,
        server_name: str,
        page: str,
        allowance: Callable[[str], None],
        domains: Collection[str] = (),
    ) -> None:
        self._db = db
        self._clock = clock
        self._mailer = mailer
        self._server_name = server_name
        self._page = page
        self._allowance = allowance
        self._domains = frozenset(domain.lower() for domain in domains)

    @property
    def is_offered(self) -> bool:
        """Whether mails can be sent at all."""
        return self._mailer.is_configured

    async def request(self, purpose: Purpose, asked: MailRequest, language: str) -> str:
        """Send a mail, unless one was sent for this attempt already; the ID of the session.

        Raises:
            ThreepidMediumNotSupported: this server sends no mails.
            InvalidParam: the secret, the address, the attempt or the next link.
            ThreepidDenied: addresses of this domain are not taken.
            LimitExceeded: too many mails to this address.
            EmailSendError: the mail server does not take it.
        """
        address = self._check(purpose, asked)
        now, secret = self._clock.now_ms(), digest(asked.client_secret)
        known = self._db.glance(lambda tx: email_sessions.find(tx, purpose, address, secret, now))
        if known is not None and known.attempt >= asked.send_attempt:
            return known.sid
        self._allowance(address)
        token = secrets.token_urlsafe(32)
        url = f"{self._page}?{urlencode({'token': token})}" if asked.page is None else asked.page(token)

        def begin(tx: WriteTransaction) -> tuple[EmailSessionRow, int, Mail] | str:
            before = email_sessions.find(tx, purpose, address, secret, now)
            if before is not None and before.attempt >= asked.send_attempt:
                return before.sid
            session = EmailSessionRow(
                nid=0,
                sid=secrets.token_urlsafe(18) if before is None else before.sid,
                purpose=purpose,
                address=address,
                secret=secret,
                attempt=asked.send_attempt,
                next_link=asked.next_link,
                validated=None,
                expires=now + LIFETIME_MS,
            )
            mail = self._mail(tx, purpose, address, url, language)
            email_sessions.put(tx, session, None if mail.link is None else digest(token), now)
            return session, -1 if before is None else before.attempt, mail

        begun = await self._db.write(begin)
        if isinstance(begun, str):
            return begun
        session, attempt_before, mail = begun
        try:
            async with asyncio.timeout(PATIENCE):
                await self._mailer.send(mail)
        except (MailFailed, TimeoutError) as error:
            await self._db.write(lambda tx: email_sessions.set_attempt(tx, session.sid, attempt_before))
            raise EmailSendError("The mail could not be sent. Try again later.", status=400) from error
        return session.sid

    def find(self, token: str) -> EmailSessionRow | None:
        """The session whose last mail has this token, or None; nothing changes."""
        now = self._clock.now_ms()
        return self._db.glance(lambda tx: email_sessions.by_token(tx, digest(token), now))

    async def confirm(self, token: str) -> bool:
        """Whoever reads the mails says yes; False when the token is not known (any more)."""
        now = self._clock.now_ms()

        def step(tx: WriteTransaction) -> bool:
            session = email_sessions.by_token(tx, digest(token), now)
            if session is None:
                return False
            if session.validated is None:
                email_sessions.validate(tx, session.nid, now, now + LIFETIME_MS)
            return True

        return await self._db.write(step)

    def validated(self, purpose: Purpose, sid: str, client_secret: str) -> EmailSessionRow:
        """A session in which the address was proved.

        Raises:
            ThreepidAuthFailed: no such session, another client's, or for something else; or not (yet) proved.
        """
        now = self._clock.now_ms()
        session = self._db.glance(lambda tx: email_sessions.by_sid(tx, sid, now))
        if session is None or session.secret != digest(client_secret) or session.purpose != purpose:
            raise ThreepidAuthFailed("There is no such validation session, or it has expired. Begin again.")
        if session.validated is None:
            raise ThreepidAuthFailed("The mail address is not confirmed yet. Open the link in the mail first.")
        return session

    def spend(self, tx: WriteTransaction, session: EmailSessionRow) -> None:
        """Use a validated session up, in the step that it makes possible. Raises ThreepidAuthFailed."""
        if session.validated is None or not email_sessions.remove(tx, session.nid):
            raise ThreepidAuthFailed("This validation session was used already. Begin again.")

    def attach(self, tx: WriteTransaction, user: int, session: EmailSessionRow) -> None:
        """Give the address of a validated session to a user (nid).

        Raises:
            ThreepidAuthFailed, ThreepidInUse.
            ThreepidDenied: the user has too many already.
        """
        self.spend(tx, session)
        give_address(tx, user, session.address, session.validated or 0, self._clock.now_ms())

    def _check(self, purpose: Purpose, asked: MailRequest) -> str:
        if not self.is_offered:
            raise ThreepidMediumNotSupported("This server sends no mails, so it takes no mail addresses.")
        if not is_valid_client_secret(asked.client_secret):
            raise InvalidParam("'client_secret' must have 1 to 255 characters of 0-9 a-z A-Z . = _ -")
        if not 0 <= asked.send_attempt <= _MAX_ATTEMPT:
            raise InvalidParam("'send_attempt' must be a number that grows from one mail to the next.")
        if asked.next_link is not None and not is_safe_redirect(asked.next_link):
            raise InvalidParam("'next_link' must be the URL of a website or an app.")
        address = canonical_email(asked.email)
        if address is None:
            raise InvalidParam("This is not a mail address such as alice@example.org.")
        if purpose in (Purpose.REGISTER, Purpose.ADD):
            self.check_domain(address)
        return address

    def check_domain(self, address: str) -> None:
        """Raises ThreepidDenied for an address (canonical) of a domain from which none are taken."""
        if self._domains and address.rpartition("@")[2] not in self._domains:
            raise ThreepidDenied("This server takes no mail addresses of this domain.")

    def _mail(self, tx: ReadTransaction, purpose: Purpose, address: str, url: str, language: str) -> Mail:
        """What is to be sent; without a link where the address does not fit what is wanted."""
        user = _owner(tx, address)
        values = {"server": self._server_name, "user": "" if user is None else names.text(tx, user)}

        def text(key: str) -> str:
            return mail_text(language, key, **values)

        wants_account = purpose in (Purpose.PASSWORD, Purpose.RECOVER)
        if wants_account != (user is not None):
            about = "nobody" if user is None else "taken"
            return Mail(address, language, text(f"{about}_subject"), [text(about)], closing=[text("ignore")])
        subject = text("password_subject" if wants_account else f"{purpose}_subject")
        link = (text(f"{purpose}_link"), url)
        return Mail(address, language, subject, [text(purpose)], link, [text("lasts"), text("ignore")])


class EmailStage:
    """The stage `m.login.email.identity`; its result is the validated session."""

    def __init__(self, validation: EmailValidation, purpose: Purpose) -> None:
        self._validation = validation
        self.purpose = purpose

    async def check(self, auth: Mapping[str, Any]) -> EmailSessionRow:
        """Look whether the address was proved. Raises StageFailed."""
        creds = auth.get("threepid_creds", auth.get("threepidCreds"))
        if not isinstance(creds, Mapping):
            raise StageFailed(MissingParam("The stage needs 'threepid_creds'."))
        sid, secret = creds.get("sid"), creds.get("client_secret")
        if not isinstance(sid, str) or not isinstance(secret, str):
            raise StageFailed(MissingParam("'threepid_creds' needs a 'sid' and a 'client_secret'."))
        try:
            return self._validation.validated(self.purpose, sid, secret)
        except ThreepidAuthFailed as error:
            raise StageFailed(Unauthorized(error.message)) from error


def give_address(tx: WriteTransaction, user: int, address: str, validated: int, now: int) -> None:
    """Give a mail address (canonical) to a user (nid).

    Raises:
        ThreepidInUse: it is somebody else's.
        ThreepidDenied: the user has too many already.
    """
    owner = threepids.user_of(tx, EMAIL, address)
    if owner is not None and owner != user:
        raise ThreepidInUse("This mail address belongs to another account.")
    if owner is None and len(threepids.of_user(tx, user)) >= MAX_ADDRESSES:
        raise ThreepidDenied(f"An account can have {MAX_ADDRESSES} mail addresses. Remove one first.")
    threepids.put(tx, user, ThreepidRow(EMAIL, address, validated, now))


def _owner(tx: ReadTransaction, address: str) -> int | None:
    user = threepids.user_of(tx, EMAIL, address)
    account = None if user is None else accounts.get(tx, user)
    return None if account is None or account.is_deactivated else user
