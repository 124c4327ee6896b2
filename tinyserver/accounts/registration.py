"""Making accounts.

spec: client-server-api#legacy-account-registration, client-server-api#guest-access
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tinyserver.accounts.authentication import TokenCache
from tinyserver.accounts.passwords import PasswordHasher, check_new_password
from tinyserver.accounts.profiles import DISPLAYNAME, check_value
from tinyserver.accounts.registration_tokens import RegistrationTokens, RegistrationTokenStage
from tinyserver.accounts.sessions import NewSession, Sessions, Tokens
from tinyserver.accounts.tokens import digest, new_localpart
from tinyserver.accounts.uia import DummyStage, Flow, Stage, UserInteractiveAuth
from tinyserver.clock import Clock
from tinyserver.protocol.errors import (
    Exclusive,
    Forbidden,
    InvalidUsername,
    MissingParam,
    ThreepidAuthFailed,
    UnknownToken,
    UserInUse,
)
from tinyserver.protocol.identifiers import check_localpart
from tinyserver.storage import accounts, names, profiles, registration_tokens
from tinyserver.storage import sessions as stored_sessions
from tinyserver.storage.database import Database
from tinyserver.storage.email_sessions import EmailSessionRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction
from tinyserver.threepids.validation import STAGE as EMAIL
from tinyserver.threepids.validation import EmailStage, EmailValidation, Purpose

DUMMY = "m.login.dummy"
TOKEN = "m.login.registration_token"

Mode = Literal["open", "token", "closed"]
EmailMode = Literal["no", "optional", "required"]


class NameReservations(Protocol):
    """Who else lays claim to user IDs: application services with an exclusive namespace."""

    def is_reserved(self, user_id: str) -> bool:
        """Whether nobody else may register this user ID."""
        ...


@dataclass(frozen=True, slots=True)
class RegistrationRequest:
    """What the client asks for. Without a username it gets a random one; `session` is None for `inhibit_login`."""

    username: str | None
    password: str | None
    session: NewSession | None
    guest_access_token: str | None = None


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account is made of: its name (None: any), the hash of its password, the registration token that is
    spent for it, and the session in which its mail address was proved."""

    localpart: str | None
    password: str
    token: str | None
    email: EmailSessionRow | None


@dataclass(frozen=True, slots=True)
class Registered:
    """The new user ID, and its first session unless none was wanted."""

    user_id: str
    tokens: Tokens | None


class Registration:
    """Makes accounts.

    Args:
        mode: who may register: anybody, who has a registration token, or nobody.
        allow_guests: whether there are guest accounts.
        reservations: those who lay claim to user IDs.
        emails, email_mode: mail addresses, and whether they are asked for where they can be proved.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        cache: TokenCache,
        sessions: Sessions,
        hasher: PasswordHasher,
        uia: UserInteractiveAuth,
        tokens: RegistrationTokens,
        *,
        server_name: str,
        mode: Mode,
        allow_guests: bool,
        reservations: Sequence[NameReservations] = (),
        emails: EmailValidation | None = None,
        email_mode: EmailMode = "no",
    ) -> None:
        self._db = db
        self._clock = clock
        self._cache = cache
        self._sessions = sessions
        self._hasher = hasher
        self._uia = uia
        self._tokens = tokens
        self._server_name = server_name
        self._mode = mode
        self._allow_guests = allow_guests
        self._reservations = reservations
        self._stages: dict[str, Stage] = {DUMMY: DummyStage(), TOKEN: RegistrationTokenStage(tokens)}
        self._emails = emails if emails is not None and emails.is_offered else None
        self._email_mode: EmailMode = "no" if self._emails is None else email_mode
        if self._emails is not None:
            self._stages[EMAIL] = EmailStage(self._emails, Purpose.REGISTER)

    async def register(self, request: RegistrationRequest, auth: Mapping[str, Any] | None) -> Registered:
        """Register an ordinary account.

        Raises:
            Forbidden: registration is closed.
            InvalidUsername, UserInUse, Exclusive: the name cannot be had.
            WeakPassword, MissingParam, InvalidParam.
            UserInteractionRequired: the client must complete a stage.
        """
        self.check_open()
        guest = None if request.guest_access_token is None else self._guest(request)
        localpart = None
        if request.username is not None and guest is None:
            localpart = self.check_username(request.username)
        if request.password is not None:
            check_new_password(request.password)
        elif auth:
            raise MissingParam("Choose a password: 'password' is missing.")
        if request.session is not None:
            request.session.check()
        asked = [request.username, None if request.password is None else digest(request.password).hex()]
        results = await self._uia.authorise(
            auth,
            operation="register",
            parameters=asked if any(asked) else None,
            flows=self._flows(auth),
            stages=self._stages,
        )
        assert request.password is not None  # given with auth, and without that nobody comes here
        hashed = await self._hasher.hash(request.password)
        wanted = NewAccount(localpart, hashed, results.get(TOKEN), results.get(EMAIL))
        return await self._db.write(lambda tx: self._store(tx, wanted, guest, request.session))

    @property
    def mode(self) -> Mode:
        """Who may register."""
        return self._mode

    @property
    def email_mode(self) -> EmailMode:
        """Whether whoever registers is asked for a mail address."""
        return self._email_mode

    def check_open(self) -> None:
        """Raises Forbidden when registration is closed."""
        if self._mode == "closed":
            raise Forbidden("Registration is closed on this server. Ask its administrator for an account.")

    async def register_on_page(
        self, username: str, password: str, token: str | None, email: EmailSessionRow | None = None
    ) -> str:
        """Register an ordinary account for somebody on one of this server's own pages; the user ID.

        Args:
            token: a registration token; needed where only those who have one may register.
            email: a validated session; needed where mail addresses are.

        Raises:
            Forbidden: registration is closed, or the token is not valid.
            MissingParam: no token was given.
            ThreepidAuthFailed: no mail address was proved.
            InvalidUsername, UserInUse, Exclusive, WeakPassword, ThreepidInUse.
        """
        self.check_open()
        if token is None and self._mode == "token":
            raise MissingParam("To register on this server you need a registration token from its administrator.")
        localpart = self.check_username(username)
        check_new_password(password)
        if token is not None:
            self._db.glance(lambda tx: self._tokens.check(tx, token))
        if email is None and self._email_mode == "required":
            raise ThreepidAuthFailed("To register on this server you need a mail address.")
        wanted = NewAccount(localpart, await self._hasher.hash(password), token, email)
        registered = await self._db.write(lambda tx: self._store(tx, wanted, None, None))
        return registered.user_id

    async def register_guest(self, session: NewSession) -> Registered:
        """Make a guest account with a random name.

        Raises:
            Forbidden: the server has no guests.
        """
        if not self._allow_guests:
            raise Forbidden("This server does not admit guests.")
        session.check()

        def step(tx: WriteTransaction) -> Registered:
            user_id = self._free_user_id(tx, "guest-")
            nid = accounts.add(tx, user_id, None, self._clock.now_ms(), guest=True)
            return Registered(user_id, self._sessions.open(tx, nid, session))

        return await self._db.write(step)

    async def register_trusted(
        self,
        username: str,
        password: str,
        session: NewSession | None,
        *,
        displayname: str | None = None,
        admin: bool = False,
    ) -> Registered:
        """Make an account on the word of somebody who administers the server, in every mode.

        Raises:
            InvalidUsername, UserInUse, Exclusive, WeakPassword, InvalidParam.
        """
        localpart = self.check_username(username)
        check_new_password(password)
        if displayname:
            check_value(DISPLAYNAME, displayname)
        if session is not None:
            session.check()
        hashed = await self._hasher.hash(password)

        def step(tx: WriteTransaction) -> Registered:
            user_id = self._check_free(tx, localpart)
            nid = self._add(tx, user_id, hashed, admin=admin)
            if displayname:
                profiles.put(tx, nid, json.dumps({DISPLAYNAME: displayname}), DISPLAYNAME, untold=False)
            return Registered(user_id, None if session is None else self._sessions.open(tx, nid, session))

        return await self._db.write(step)

    def check_username(self, username: str) -> str:
        """The localpart that a username gives (it is put into lower case), if it can be had.

        Raises:
            InvalidUsername, UserInUse, Exclusive.
        """
        localpart = username.lower()
        check_localpart(localpart, self._server_name)
        self._db.glance(lambda tx: self._check_free(tx, localpart))
        return localpart

    def is_valid_token(self, token: str) -> bool:
        """Whether a registration token is good for an account. Raises Forbidden when registration is closed."""
        self.check_open()
        return self._tokens.is_valid(token)

    def _flows(self, auth: Mapping[str, Any] | None) -> list[Flow]:
        # The dummy stage behind the token asks nothing, but clients take it for granted (`register_with_token` of
        # matrix-nio reads the answer to the token as a challenge). Who sends the token at once needs no session.
        at_once = auth is not None and auth.get("type") == TOKEN and auth.get("session") is None
        by_token: Flow = (TOKEN,) if at_once else (TOKEN, DUMMY)
        if self._mode == "token":
            flows = [by_token]
        else:
            # Where anybody can register, a token still matters for the first account: it becomes the admin's.
            flows = [(DUMMY,)] if self._db.glance(accounts.any_registered) else [(DUMMY,), by_token]
        if self._email_mode == "no":
            return flows
        with_email = [(*(stage for stage in flow if stage != DUMMY), EMAIL) for flow in flows]
        return with_email if self._email_mode == "required" else [*flows, *with_email]

    def _check_free(self, tx: ReadTransaction, localpart: str) -> str:
        user_id = f"@{localpart}:{self._server_name}"
        if any(claim.is_reserved(user_id) for claim in self._reservations):
            raise Exclusive
        if accounts.find(tx, user_id) is not None:
            raise UserInUse
        return user_id

    def _free_user_id(self, tx: WriteTransaction, prefix: str) -> str:
        while True:
            try:
                return self._check_free(tx, new_localpart(prefix))
            except (UserInUse, Exclusive):
                continue

    def _store(
        self, tx: WriteTransaction, wanted: NewAccount, guest: int | None, session: NewSession | None
    ) -> Registered:
        """The account and its first session in one step; token and mail address are used up in the same."""
        admin = wanted.token is not None and self._tokens.spend(tx, wanted.token)
        if guest is not None:
            user_id, nid = self._upgrade(tx, guest, wanted.password, admin=admin)
        else:
            name = wanted.localpart
            user_id = self._free_user_id(tx, "user-") if name is None else self._check_free(tx, name)
            nid = self._add(tx, user_id, wanted.password, admin=admin)
        if wanted.email is not None and self._emails is not None:
            self._emails.attach(tx, nid, wanted.email)
        return Registered(user_id, None if session is None else self._sessions.open(tx, nid, session))

    def _add(self, tx: WriteTransaction, user_id: str, password: str, *, admin: bool) -> int:
        if not accounts.any_registered(tx):
            registration_tokens.remove_admin_tokens(tx)
        return accounts.add(tx, user_id, password, self._clock.now_ms(), admin=admin)

    def _guest(self, request: RegistrationRequest) -> int:
        """The number of the guest who wants an ordinary account with the same name."""
        access_hash = digest(request.guest_access_token or "")
        session = self._db.glance(lambda tx: stored_sessions.of_access_token(tx, access_hash))
        account = None if session is None else self._db.glance(lambda tx: accounts.get(tx, session.user))
        if account is None or not account.is_guest or account.is_deactivated:
            raise UnknownToken("The guest's access token is not known.", status=403)
        user_id = self._db.glance(lambda tx: names.text(tx, account.nid))
        if request.username is None or user_id != f"@{request.username}:{self._server_name}":
            raise InvalidUsername("A guest keeps its user name: 'username' must be the one it has.")
        return account.nid

    def _upgrade(self, tx: WriteTransaction, guest: int, password: str, *, admin: bool) -> tuple[str, int]:
        account = accounts.get(tx, guest)
        if account is None or not account.is_guest or account.is_deactivated:
            raise UserInUse
        accounts.upgrade_guest(tx, guest, password, admin=admin)
        tx.on_commit(lambda: self._cache.drop_user(guest))
        return names.text(tx, guest), guest
