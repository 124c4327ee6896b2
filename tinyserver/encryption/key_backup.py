"""Server-side key backups: sealed session keys, kept for the user's next device.

Sessions are stored as they come in, some at a time. An upload that breaks off has stored what was complete; the same
upload again does no harm, since a session is only ever replaced by a better one.

spec: client-server-api#server-side-key-backups
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import orjson

from tinyserver.accounts.requester import Requester
from tinyserver.encryption.json_members import JsonMembers
from tinyserver.protocol.errors import BadJson, InvalidParam, NotFound, TooLarge, WrongRoomKeysVersion
from tinyserver.storage import key_backup, names
from tinyserver.storage.database import Database
from tinyserver.storage.key_backup import BackupRow, SessionRow
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_NAME = 255
"""Bytes of a room ID, a session ID and an algorithm."""
MAX_DATA = 65536
"""Bytes of the data of a session or of a backup."""
SESSIONS_AT_ONCE = 200
"""How many sessions are stored or read in one go."""
PIECE = 32 * 1024
"""Bytes of an upload that are looked at together at least."""
DELETED_AT_ONCE = 1000

_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class SessionData(msgspec.Struct):
    """What a client says of one session."""

    first_message_index: Count
    forwarded_count: Count
    is_verified: bool
    session_data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a backup holds after a change."""

    etag: str
    count: int


class KeyBackup:
    """All backups."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # -- versions --------------------------------------------------------------------------------

    async def create(self, requester: Requester, algorithm: str, auth_data: Mapping[str, Any]) -> str:
        """Begin a new backup, the current one from now on; its version. Raises InvalidParam, BadJson, TooLarge."""
        if not 0 < len(algorithm.encode()) <= MAX_NAME:
            raise InvalidParam(f"The name of an algorithm has 1 to {MAX_NAME} bytes.")
        encoded = _encode(auth_data)
        version = await self._db.write(lambda tx: key_backup.create(tx, requester.user_nid, algorithm, encoded))
        await self._purge(requester)
        return str(version)

    def info(self, requester: Requester, version: str | None) -> dict[str, Any]:
        """A version of the requester's backup (None: the current one) as clients see it. Raises NotFound."""

        def step(tx: ReadTransaction) -> dict[str, Any]:
            row = key_backup.latest(tx, requester.user_nid) if version is None else _find(tx, requester, version)
            if row is None:
                raise NotFound("You have no key backup.")
            return {
                "algorithm": row.algorithm,
                "auth_data": orjson.Fragment(row.auth_data),
                "count": row.count,
                "etag": str(row.etag),
                "version": str(row.version),
            }

        return self._db.glance(step)

    async def update(self, requester: Requester, version: str, algorithm: str, auth_data: Mapping[str, Any]) -> None:
        """Replace the data of a backup. Raises NotFound, InvalidParam for another algorithm."""
        encoded = _encode(auth_data)

        def step(tx: WriteTransaction) -> None:
            row = _find(tx, requester, version)
            if row.algorithm != algorithm:
                raise InvalidParam("The algorithm of a backup cannot be changed.")
            key_backup.set_auth_data(tx, row.nid, encoded)

        await self._db.write(step)

    async def delete(self, requester: Requester, version: str) -> None:
        """Delete a backup with all its sessions; one that is deleted already is no error. Raises NotFound."""

        def step(tx: WriteTransaction) -> None:
            row = key_backup.get(tx, requester.user_nid, _number(version))
            if row is None:
                raise NotFound("You have no such key backup.")
            key_backup.mark_deleted(tx, row.nid)

        await self._db.write(step)
        await self._purge(requester)

    async def _purge(self, requester: Requester) -> None:
        # Some at a time, so that others can write in between; what a crash leaves goes with the next deletion.
        while await self._db.write(lambda tx: key_backup.purge(tx, requester.user_nid, DELETED_AT_ONCE)):
            pass

    # -- sessions --------------------------------------------------------------------------------

    async def put_one(
        self, requester: Requester, version: str, room_id: str, session_id: str, data: SessionData
    ) -> Kept:
        """Store one session. Raises NotFound, WrongRoomKeysVersion, InvalidParam, BadJson, TooLarge."""
        row = _checked_session(room_id, session_id, data)
        return await self._db.write(lambda tx: _store(tx, requester, version, [row]))

    async def put_stream(
        self, requester: Requester, version: str, room_id: str | None, pieces: AsyncIterator[bytes]
    ) -> Kept:
        """Store the sessions of a JSON text that comes in pieces: of one room, or (None) of several.

        Raises:
            NotFound, WrongRoomKeysVersion: there is no backup, or another is the current one.
            NotJson, BadJson, InvalidParam, TooLarge: something is malformed; what came before it is stored.
        """
        kept = await self._db.read(lambda tx: _kept(_current(tx, requester, version)))
        batch: list[SessionRow] = []
        async for path, value in _members(pieces, room_id):
            batch.append(_checked_session(room_id or path[1], path[-1], _session_data(value)))
            if len(batch) >= SESSIONS_AT_ONCE:
                kept = await self._store_batch(requester, version, batch)
                batch = []
        return await self._store_batch(requester, version, batch) if batch else kept

    async def _store_batch(self, requester: Requester, version: str, batch: Sequence[SessionRow]) -> Kept:
        return await self._db.write(lambda tx: _store(tx, requester, version, batch))

    def one(self, requester: Requester, version: str, room_id: str, session_id: str) -> dict[str, Any]:
        """One session. Raises NotFound."""

        def step(tx: ReadTransaction) -> SessionRow | None:
            return key_backup.session(tx, _find(tx, requester, version).nid, room_id, session_id)

        row = self._db.glance(step)
        if row is None:
            raise NotFound("The backup has no key of this session.")
        return {
            "first_message_index": row.first_message_index,
            "forwarded_count": row.forwarded_count,
            "is_verified": row.is_verified,
            "session_data": orjson.Fragment(row.session_data),
        }

    async def sessions(
        self, requester: Requester, version: str, room_id: str | None
    ) -> AsyncIterator[list[SessionRow]]:
        """All sessions of a backup, or of one room in it, room by room, some at a time. Raises NotFound."""

        def begin(tx: ReadTransaction) -> tuple[int, int | None]:
            backup = _find(tx, requester, version).nid
            return backup, None if room_id is None else names.find(tx, room_id) or 0

        backup, room = self._db.glance(begin)
        after = (0, "")
        while True:

            def step(tx: ReadTransaction, after: tuple[int, str] = after) -> tuple[list[SessionRow], tuple[int, str]]:
                return key_backup.sessions_after(tx, backup, after, room, SESSIONS_AT_ONCE)

            found, after = await self._db.read(step)
            yield found
            if len(found) < SESSIONS_AT_ONCE:
                return

    async def remove(self, requester: Requester, version: str, room_id: str | None, session_id: str | None) -> Kept:
        """Delete one session, those of a room, or all of a backup. Raises NotFound for the backup."""

        def step(tx: WriteTransaction) -> Kept:
            key_backup.remove(tx, _find(tx, requester, version).nid, room_id, session_id)
            return _kept(_find(tx, requester, version))

        return await self._db.write(step)


def _number(version: str) -> int:
    return int(version) if _VERSION.fullmatch(version) else 0


def _find(tx: ReadTransaction, requester: Requester, version: str) -> BackupRow:
    row = key_backup.get(tx, requester.user_nid, _number(version))
    if row is None or row.is_deleted:
        raise NotFound("You have no such key backup.")
    return row


def _current(tx: ReadTransaction, requester: Requester, version: str) -> BackupRow:
    """The backup that may be written to."""
    row = key_backup.latest(tx, requester.user_nid)
    if row is None:
        raise NotFound("You have no key backup.")
    if row.version != _number(version):
        raise WrongRoomKeysVersion(current_version=str(row.version))
    return row


def _store(tx: WriteTransaction, requester: Requester, version: str, rows: Sequence[SessionRow]) -> Kept:
    key_backup.store(tx, _current(tx, requester, version).nid, rows)
    return _kept(_current(tx, requester, version))


def _kept(row: BackupRow) -> Kept:
    return Kept(str(row.etag), row.count)


async def _members(pieces: AsyncIterator[bytes], room_id: str | None) -> AsyncIterator[tuple[tuple[str, ...], Any]]:
    members = JsonMembers(("rooms", None, "sessions", None) if room_id is None else ("sessions", None))
    collected = bytearray()
    async for piece in pieces:
        collected += piece
        if len(collected) >= PIECE:
            for member in members.feed(bytes(collected)):
                yield member
            collected.clear()
    for member in members.feed(bytes(collected)):
        yield member
    members.finish()


def _session_data(value: Any) -> SessionData:
    try:
        return msgspec.convert(value, SessionData)
    except msgspec.ValidationError as error:
        raise BadJson(f"A session is malformed: {error}.") from error


def _checked_session(room_id: str, session_id: str, data: SessionData) -> SessionRow:
    for name, sign in ((room_id, "!"), (session_id, "")):
        if not name.startswith(sign) or not 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME:
            raise InvalidParam(f"'{name[:MAX_NAME]!a}' is not a room ID or session ID.")
        if not name.isprintable():
            raise InvalidParam(f"'{name[:MAX_NAME]!a}' is not a room ID or session ID.")
    return SessionRow(
        room_id,
        session_id,
        data.first_message_index,
        data.forwarded_count,
        data.is_verified,
        _encode(data.session_data),
    )


def _encode(value: Mapping[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise BadJson(f"The data has a value that cannot be stored: {error}.") from error
    if len(encoded) > MAX_DATA:
        raise TooLarge(f"The data has more than {MAX_DATA} bytes.")
    return encoded
