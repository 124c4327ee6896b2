"""Who someone is by user identifier and password: for logging in, and as a stage of interactive authentication.

spec: client-server-api#identifier-types
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tinyserver.accounts.passwords import PasswordHasher
from tinyserver.accounts.uia import StageFailed
from tinyserver.protocol.errors import BadJson, Forbidden, MissingParam, Unknown, UserLocked
from tinyserver.protocol.identifiers import MAX_IDENTIFIER_BYTES
from tinyserver.protocol.threepids import canonical_address
from tinyserver.storage import accounts, names, threepids
from tinyserver.storage.accounts import UserRow
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_WRONG = "The user name or the password is wrong."

AddressOwner = Callable[[str, str], str | None]
"""The user ID behind a medium and an address, if there is one."""


class LoginAttempts(Protocol):
    """Counts attempts to log in to an account, so that passwords cannot be tried out."""

    def begin(self, user_id: str) -> None:
        """Raises LimitExceeded when this account was tried too often."""
        ...

    def failed(self, user_id: str) -> None:
        """The password was wrong."""
        ...


def user_of_identifier(identifier: Mapping[str, Any], server_name: str, owner: AddressOwner) -> str:
    """The user ID that a user identifier object means; whether there is such a user is another question.

    Args:
        owner: whose an address is.

    Raises:
        MissingParam, BadJson: the object is malformed.
        Unknown: an unknown type of identifier.
        Forbidden: an address that belongs to no account here.
    """
    kind = identifier.get("type")
    if kind is None and "medium" in identifier:  # the spec's own example of such a login has no type
        kind = "m.id.thirdparty"
    if kind == "m.id.user":
        return full_user_id(_text(identifier, "user"), server_name)
    if kind == "m.id.thirdparty":
        user_id = owner(_text(identifier, "medium"), _text(identifier, "address"))
        if user_id is None:
            raise Forbidden(_WRONG)
        return user_id
    if kind == "m.id.phone":
        _text(identifier, "country"), _text(identifier, "phone" if "phone" in identifier else "number")
        raise Forbidden(_WRONG)
    raise Unknown("This type of user identifier is not supported.", status=400)


def full_user_id(user: str, server_name: str) -> str:
    """The user ID behind a whole user ID or only its localpart."""
    return user if user.startswith("@") and ":" in user else f"@{user.removeprefix('@')}:{server_name}"


def _text(identifier: Mapping[str, Any], key: str) -> str:
    value = identifier.get(key)
    if value is None:
        raise MissingParam(f"The user identifier has no '{key}'.")
    if not isinstance(value, str):
        raise BadJson(f"'{key}' of the user identifier must be text.")
    return value


class PasswordCheck:
    """Checks passwords of local users, brings old hashes up to date, and slows down those who guess."""

    def __init__(self, db: Database, hasher: PasswordHasher, attempts: LoginAttempts, server_name: str) -> None:
        self._db = db
        self._hasher = hasher
        self._attempts = attempts
        self._server_name = server_name

    async def check(self, identifier: Mapping[str, Any], password: str) -> tuple[str, UserRow]:
        """The user ID and the account that the identifier and the password belong to.

        Raises:
            Forbidden: no such user, or a wrong password: the message does not tell which.
            UserLocked: the password is right, but the account is locked.
            LimitExceeded: too many attempts.
        """
        wanted = user_of_identifier(identifier, self._server_name, self._owner)
        attempted = wanted[:MAX_IDENTIFIER_BYTES].lower()
        self._attempts.begin(attempted)
        user_id, user = self._db.glance(lambda tx: _find(tx, wanted))
        stored = None if user is None or user.is_deactivated else user.password
        if not await self._hasher.verify(stored, password) or user is None or stored is None:
            self._attempts.failed(attempted)
            raise Forbidden(_WRONG)
        if user.is_locked:
            raise UserLocked
        if self._hasher.is_outdated(stored):
            await self._rehash(user.nid, stored, password)
        return user_id, user

    def _owner(self, medium: str, address: str) -> str | None:
        canonical = canonical_address(medium, address)
        if canonical is None:
            return None
        # Addresses are tried out no faster than passwords, whether they are somebody's or not.
        self._attempts.begin(canonical)

        def step(tx: ReadTransaction) -> str | None:
            user = threepids.user_of(tx, medium, canonical)
            return None if user is None else names.text(tx, user)

        return self._db.glance(step)

    async def _rehash(self, nid: int, stored: str, password: str) -> None:
        hashed = await self._hasher.hash(password)

        def step(tx: WriteTransaction) -> None:
            user = accounts.get(tx, nid)
            if user is not None and user.password == stored:
                accounts.set_password(tx, nid, hashed)

        await self._db.write(step)


def _find(tx: ReadTransaction, user_id: str) -> tuple[str, UserRow | None]:
    """The account with this user ID, or else with the same in lower case: people type "Alice"."""
    for candidate in (user_id, user_id.lower()):
        user = accounts.find(tx, candidate)
        if user is not None:
            return candidate, user
    return user_id, None


class PasswordStage:
    """The stage `m.login.password`; its result is the account.

    Args:
        expected: the number of the user who must prove it; None: whoever it is.
    """

    def __init__(self, passwords: PasswordCheck, expected: int | None) -> None:
        self._passwords = passwords
        self._expected = expected

    async def check(self, auth: Mapping[str, Any]) -> tuple[str, UserRow]:
        """Compare user and password. Raises StageFailed for wrong ones, Forbidden for an unknown address."""
        identifier = auth.get("identifier")
        if identifier is None:
            # How clients before the identifier objects named the user.
            user = auth.get("user")
            address = {key: auth[key] for key in ("medium", "address") if key in auth}
            identifier = {"type": "m.id.user", "user": user} if user is not None else address
        password = auth.get("password")
        if not isinstance(identifier, Mapping) or not isinstance(password, str):
            raise StageFailed(MissingParam("The stage needs an 'identifier' and a 'password'."))
        if identifier.get("type") == "m.id.user":
            try:
                user_id, account = await self._passwords.check(identifier, password)
            except Forbidden as error:
                raise StageFailed(error) from error
        else:
            user_id, account = await self._passwords.check(identifier, password)
        if self._expected is not None and account.nid != self._expected:
            raise StageFailed(Forbidden("This is the password of another account."))
        return user_id, account
