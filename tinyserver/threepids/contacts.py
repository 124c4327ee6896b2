"""The third-party identifiers of an account.

spec: client-server-api#adding-account-administrative-contact-information
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyserver.accounts.capabilities import CapabilityProvider
from tinyserver.accounts.password_check import PasswordCheck, PasswordStage
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.uia import UserInteractiveAuth
from tinyserver.clock import Clock
from tinyserver.protocol.errors import InvalidParam
from tinyserver.protocol.threepids import EMAIL, canonical_address, canonical_email
from tinyserver.storage import pushers, threepids
from tinyserver.storage.database import Database
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.storage.transaction import WriteTransaction
from tinyserver.threepids.validation import EmailValidation, Purpose, give_address

_PASSWORD = "m.login.password"


def threepid_capability(validation: EmailValidation) -> CapabilityProvider:
    """`m.3pid_changes`: whether addresses can be added."""
    return lambda requester: {"m.3pid_changes": {"enabled": validation.is_offered and not requester.is_guest}}


class Contacts:
    """Lists, adds and removes addresses."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        validation: EmailValidation,
        passwords: PasswordCheck,
        uia: UserInteractiveAuth,
    ) -> None:
        self._db = db
        self._clock = clock
        self._validation = validation
        self._passwords = passwords
        self._uia = uia

    def all_of(self, user: int) -> list[dict[str, Any]]:
        """All addresses of a user (nid), as the client-server API shows them."""
        rows = self._db.glance(lambda tx: threepids.of_user(tx, user))
        return [
            {"medium": row.medium, "address": row.address, "validated_at": row.validated, "added_at": row.added}
            for row in rows
        ]

    async def add(self, requester: Requester, sid: str, client_secret: str, auth: Mapping[str, Any] | None) -> None:
        """Add the address that was proved in a session.

        Raises:
            ThreepidAuthFailed: there is no such session, or it is not validated.
            UserInteractionRequired: the user must first prove who they are.
            ThreepidInUse: it belongs to another account.
            ThreepidDenied: the user has too many.
        """
        session = self._validation.validated(Purpose.ADD, sid, client_secret)
        await self._uia.authorise(
            auth,
            operation=f"add an address of {requester.user_id}",
            parameters=[sid],
            flows=[(_PASSWORD,)],
            stages={_PASSWORD: PasswordStage(self._passwords, requester.user_nid)},
        )
        await self.add_proved(requester.user_nid, session)

    async def add_proved(self, user: int, session: EmailSessionRow) -> None:
        """Add the address of a validated session to a user (nid) who has just proved who they are.

        Raises:
            ThreepidAuthFailed, ThreepidInUse, ThreepidDenied.
        """
        await self._db.write(lambda tx: self._validation.attach(tx, user, session))

    async def remove(self, user: int, medium: str, address: str) -> bool:
        """Take an address from a user (nid); False when it was not theirs. Raises InvalidParam."""
        canonical = canonical_address(medium, address)
        if canonical is None:
            raise InvalidParam("This is no mail address or telephone number.")

        def step(tx: WriteTransaction) -> bool:
            if medium == EMAIL:
                pushers.remove_emails(tx, user, canonical)
            return threepids.remove(tx, user, medium, canonical)

        return await self._db.write(step)

    async def put_trusted(self, user: int, address: str) -> str:
        """Give a mail address to a user (nid) on the word of an administrator; its canonical form.

        Raises:
            InvalidParam: no mail address.
            ThreepidInUse, ThreepidDenied.
        """
        canonical = canonical_email(address)
        if canonical is None:
            raise InvalidParam("This is not a mail address such as alice@example.org.")
        now = self._clock.now_ms()
        await self._db.write(lambda tx: give_address(tx, user, canonical, now, now))
        return canonical
