"""Profiles: display name, avatar, time zone and whatever fields clients invent.

spec: client-server-api#profiles
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from tinyserver.accounts.directory import AccountsDirectory
from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import (
    BadJson,
    Forbidden,
    GuestAccessForbidden,
    InvalidParam,
    KeyTooLarge,
    MissingParam,
    NotFound,
    ProfileTooLarge,
    UserSuspended,
)
from tinyserver.protocol.identifiers import InvalidIdentifier, is_valid_namespaced_id, parse_mxc_uri, parse_user_id
from tinyserver.rooms.on_demand import NothingOnDemand, OnDemand
from tinyserver.storage import accounts, events, names, profiles, user_directory
from tinyserver.storage.database import Database
from tinyserver.storage.errors import StorageError
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

log = logging.getLogger(__name__)

MAX_PROFILE_BYTES = 65536
MAX_KEY_BYTES = 255
MAX_DISPLAYNAME = 256
MAX_AVATAR_URL = 1000
_MAX_TIME_ZONE = 255

DISPLAYNAME = "displayname"
AVATAR_URL = "avatar_url"
_UNSPACED = frozenset({DISPLAYNAME, AVATAR_URL})
_SPACED = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")


class ProfilePropagator(Protocol):
    """Carries a new display name or avatar into the rooms."""

    async def profile_changed(self, user_id: str, displayname: str | None, avatar_url: str | None) -> None:
        """The stored profile of a local user is now this: tell it to every room that the user is in."""
        ...


class RemoteProfiles(Protocol):
    """Asks other servers for the profiles of their users."""

    async def fetch(self, user_id: str, field: str | None, otherwise: dict[str, Any] | None) -> dict[str, Any]:
        """All fields, or the one asked for.

        Args:
            otherwise: what is known if the server does not answer soon; None: nothing.

        Raises:
            NotFound: no such user or field, or the server cannot be reached.
        """
        ...


class Profiles:
    """Reads and changes profiles.

    Args:
        propagator: told after a display name or avatar was stored.
        remote: asked for users of other servers; without it those are not found.
        on_demand: makes users who are asked for.
    """

    def __init__(
        self,
        db: Database,
        directory: AccountsDirectory,
        propagator: ProfilePropagator | None = None,
        remote: RemoteProfiles | None = None,
        on_demand: OnDemand | None = None,
    ) -> None:
        self._on_demand = on_demand or NothingOnDemand()
        self._db = db
        self._directory = directory
        self._propagator = propagator
        self._remote = remote
        self.on_change: list[Callable[[int, str | None, str | None], None]] = []
        """Called with a user (a nid), display name and avatar, once a new one of these is stored."""

    async def get(self, user_id: str) -> dict[str, Any]:
        """All fields of a user of any server; empty for one who has set none.

        Raises:
            InvalidParam: not a user ID.
            NotFound: no such user.
        """
        _check_user_id(user_id)
        if self._directory.is_local(user_id):
            fields = self._db.glance(lambda tx: _local(tx, user_id))
            if fields is None and await self._on_demand.user(user_id):
                fields = self._db.glance(lambda tx: _local(tx, user_id))
            if fields is None:
                raise NotFound("There is no such user.")
            return fields
        if self._remote is None:
            raise NotFound("There is no profile of this user.")
        return await self._remote.fetch(user_id, None, self._shown(user_id))

    async def get_field(self, user_id: str, field: str) -> dict[str, Any]:
        """One field of a user of any server, as an object with that one key.

        Raises:
            InvalidParam: not a user ID, or no name of a field.
            NotFound: no such user, or it has no such field.
        """
        _check_user_id(user_id)
        check_field_name(field)
        if self._directory.is_local(user_id) or self._remote is None:
            fields = await self.get(user_id)
        else:
            shown = self._shown(user_id)
            fields = await self._remote.fetch(user_id, field, shown if shown and field in shown else None)
        if field not in fields:
            raise NotFound("The profile has no such field.")
        return {field: fields[field]}

    def _shown(self, user_id: str) -> dict[str, Any] | None:
        """What a room that everybody may look into shows of a user of another server; None if there is none."""

        def step(tx: ReadTransaction) -> dict[str, Any] | None:
            user = names.find(tx, user_id)
            member = None if user is None else user_directory.seen_in(tx, user)
            if member is None:
                return None
            content = events.get(tx, member).event.content
            return {key: content[key] for key in sorted(_UNSPACED) if isinstance(content.get(key), str)}

        return self._db.glance(step)

    async def put_field(self, requester: Requester, user_id: str, field: str, body: dict[str, Any]) -> None:
        """Set one field of one's own profile to what the body has under its name.

        Raises:
            Forbidden, GuestAccessForbidden: not the requester's to change.
            InvalidParam, KeyTooLarge: no name of a field, or a value that the field cannot have.
            MissingParam, BadJson: the body does not have the field, or of the wrong type.
            ProfileTooLarge.
        """
        _check_may_change(requester, user_id, field)
        check_field_name(field)
        if field not in body:
            raise MissingParam(f"The body must have the key '{field}'.")
        value = body[field]
        check_value(field, value)
        # Clients from before fields could be deleted set an empty string instead.
        await self._change(requester, field, None if field in _UNSPACED and value == "" else value)

    async def delete_field(self, requester: Requester, user_id: str, field: str) -> None:
        """Delete one field of one's own profile; it need not be there.

        Raises:
            Forbidden, GuestAccessForbidden, InvalidParam, KeyTooLarge.
        """
        _check_may_change(requester, user_id, field)
        check_field_name(field)
        await self._change(requester, field, None, delete=True)

    async def _change(self, requester: Requester, field: str, value: Any, *, delete: bool = False) -> None:
        delete = delete or (value is None and field in _UNSPACED)

        def step(tx: WriteTransaction) -> dict[str, Any] | None:
            account = accounts.get(tx, requester.user_nid)
            if account is not None and account.is_suspended:
                raise UserSuspended
            fields = _fields(tx, requester.user_nid)
            before = dict(fields)
            if delete:
                fields.pop(field, None)
            else:
                fields[field] = value
            if fields == before:
                return None
            encoded = msgspec.json.encode(fields)
            if len(encoded) >= MAX_PROFILE_BYTES and not delete:
                raise ProfileTooLarge
            profiles.put(tx, requester.user_nid, encoded.decode("utf-8"), field, untold=is_shown)
            return fields

        is_shown = field in _UNSPACED and self._propagator is not None
        fields = await self._db.write(step)
        if fields is not None and field in _UNSPACED:
            for tell in self.on_change:
                tell(requester.user_nid, fields.get(DISPLAYNAME), fields.get(AVATAR_URL))
        if fields is not None and is_shown:
            await self._tell_rooms(requester.user_nid)

    async def resume(self) -> None:
        """Tell rooms what a stop of the server kept from them; on a full disk after the next start."""
        try:
            for user in self._db.glance(profiles.untold):
                await self._tell_rooms(user)
        except StorageError as error:
            log.warning("rooms go on showing old names for now: %s", error)

    async def _tell_rooms(self, user: int) -> None:
        """Have every room show the profile of a user (a nid) as it is now."""
        if self._propagator is None:
            return

        def current(tx: ReadTransaction) -> tuple[str, str]:
            return names.text(tx, user), profiles.get(tx, user) or "{}"

        user_id, stored = self._db.glance(current)
        fields = msgspec.json.decode(stored)
        await self._propagator.profile_changed(user_id, fields.get(DISPLAYNAME), fields.get(AVATAR_URL))
        await self._db.write(lambda tx: profiles.told(tx, user, stored))


def check_field_name(field: str) -> None:
    """Raises KeyTooLarge or InvalidParam for what cannot be the name of a profile field."""
    if len(field.encode("utf-8")) > MAX_KEY_BYTES:
        raise KeyTooLarge
    if field not in _UNSPACED and not (is_valid_namespaced_id(field) and _SPACED.fullmatch(field)):
        raise InvalidParam("A profile field is called displayname, avatar_url, m.tz, or like com.example.field.")


def _local(tx: ReadTransaction, user_id: str) -> dict[str, Any] | None:
    account = accounts.find(tx, user_id)
    return None if account is None else _fields(tx, account.nid)


def _fields(tx: ReadTransaction, user: int) -> dict[str, Any]:
    stored = profiles.get(tx, user)
    fields: dict[str, Any] = {} if stored is None else msgspec.json.decode(stored)
    return fields


def _check_user_id(user_id: str) -> None:
    try:
        parse_user_id(user_id)
    except InvalidIdentifier as error:
        raise InvalidParam("This is not a user ID.") from error


def _check_may_change(requester: Requester, user_id: str, field: str) -> None:
    if requester.user_id != user_id:
        raise Forbidden("Only the user can change this profile.")
    if requester.is_guest and field != DISPLAYNAME:
        raise GuestAccessForbidden("Guests can only change their display name.")


def check_value(field: str, value: Any) -> None:
    """Raises BadJson or InvalidParam for what a field cannot have."""
    if field not in _UNSPACED and field != "m.tz":
        return
    if not isinstance(value, str):
        raise BadJson(f"'{field}' must be text.")
    if field == DISPLAYNAME and len(value) > MAX_DISPLAYNAME:
        raise InvalidParam(f"The display name cannot be longer than {MAX_DISPLAYNAME} characters.")
    if field == "m.tz" and not 0 < len(value) <= _MAX_TIME_ZONE:
        raise InvalidParam("The time zone is a name such as Europe/Berlin.")
    if field == AVATAR_URL and value:
        try:
            parse_mxc_uri(value)
        except InvalidIdentifier as error:
            raise InvalidParam("The avatar must be an mxc:// URI.") from error
        if len(value) > MAX_AVATAR_URL:
            raise InvalidParam(f"The avatar's URI cannot be longer than {MAX_AVATAR_URL} characters.")
