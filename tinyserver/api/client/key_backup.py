"""Key backups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson

from tinyserver.api.answers import JSON_HEADERS
from tinyserver.api.calls import Call, NoBody, NoQuery, Receive, Scope, Send
from tinyserver.api.rate_limits import Limit
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.encryption.key_backup import Kept, KeyBackup, SessionData
from tinyserver.protocol.errors import InvalidParam
from tinyserver.storage.key_backup import SessionRow

MAX_UPLOAD = 128 * 1024 * 1024
"""Bytes of one upload, which is never held whole."""
_SPEC = "client-server-api#server-side-key-backups"
_VERSION = "/_matrix/client/v3/room_keys/version"
_KEYS = "/_matrix/client/v3/room_keys/keys"


class BackupBody(msgspec.Struct):
    """The body of `POST` and `PUT /room_keys/version`."""

    algorithm: str
    auth_data: dict[str, Any]
    version: str | None = None


class VersionQuery(msgspec.Struct):
    """Which backup is meant."""

    version: str


class KeyBackupApi:
    """The key backup chapter."""

    surface = Surface.CLIENT

    def __init__(self, backup: KeyBackup) -> None:
        self._backup = backup

    @endpoint("POST", _VERSION, spec=_SPEC, auth=Auth.USER, body=BackupBody, limit=Limit.OTHER)
    async def create(self, call: Call[BackupBody, NoQuery]) -> Answer:
        """Begin a new backup."""
        return {"version": await self._backup.create(call.requester, call.body.algorithm, call.body.auth_data)}

    @endpoint("GET", _VERSION, spec=_SPEC, auth=Auth.USER, limit=Limit.OTHER)
    async def current(self, call: Call[NoBody, NoQuery]) -> Answer:
        """The current backup."""
        return self._backup.info(call.requester, None)

    @endpoint("GET", _VERSION + "/{version}", spec=_SPEC, auth=Auth.USER, limit=Limit.OTHER)
    async def version(self, call: Call[NoBody, NoQuery]) -> Answer:
        """A backup."""
        return self._backup.info(call.requester, call.path["version"])

    @endpoint("PUT", _VERSION + "/{version}", spec=_SPEC, auth=Auth.USER, body=BackupBody, limit=Limit.OTHER)
    async def update(self, call: Call[BackupBody, NoQuery]) -> Answer:
        """Replace the data of a backup."""
        version, body = call.path["version"], call.body
        if body.version is not None and body.version != version:
            raise InvalidParam("The version in the body is not the one in the path.")
        await self._backup.update(call.requester, version, body.algorithm, body.auth_data)
        return {}

    @endpoint("DELETE", _VERSION + "/{version}", spec=_SPEC, auth=Auth.USER, limit=Limit.OTHER)
    async def delete(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Delete a backup."""
        await self._backup.delete(call.requester, call.path["version"])
        return {}

    @endpoint(
        "PUT",
        _KEYS + "/{roomId}/{sessionId}",
        spec=_SPEC,
        auth=Auth.USER,
        body=SessionData,
        query=VersionQuery,
        limit=Limit.OTHER,
    )
    async def put_session(self, call: Call[SessionData, VersionQuery]) -> Answer:
        """Store one session."""
        path = call.path
        return _kept(
            await self._backup.put_one(call.requester, call.query.version, path["roomId"], path["sessionId"], call.body)
        )

    @endpoint("PUT", _KEYS + "/{roomId}", spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def put_room(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """Store sessions of one room."""
        return await self._put(call, call.path["roomId"])

    @endpoint("PUT", _KEYS, spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def put_all(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """Store sessions of several rooms."""
        return await self._put(call, None)

    async def _put(self, call: Call[NoBody, VersionQuery], room_id: str | None) -> Answer:
        pieces = call.stream(MAX_UPLOAD)
        return _kept(await self._backup.put_stream(call.requester, call.query.version, room_id, pieces))

    @endpoint("GET", _KEYS + "/{roomId}/{sessionId}", spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def session(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """One session."""
        return self._backup.one(call.requester, call.query.version, call.path["roomId"], call.path["sessionId"])

    @endpoint("GET", _KEYS + "/{roomId}", spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def of_room(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """The sessions of one room."""
        batches = self._backup.sessions(call.requester, call.query.version, call.path["roomId"])
        return await _streamed(_room_texts(batches))

    @endpoint("GET", _KEYS, spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def all_sessions(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """All sessions."""
        return await _streamed(_rooms_texts(self._backup.sessions(call.requester, call.query.version, None)))

    @endpoint(
        "DELETE", _KEYS + "/{roomId}/{sessionId}", spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER
    )
    async def delete_session(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """Delete one session."""
        return await self._remove(call, call.path["roomId"], call.path["sessionId"])

    @endpoint("DELETE", _KEYS + "/{roomId}", spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def delete_room(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """Delete the sessions of one room."""
        return await self._remove(call, call.path["roomId"], None)

    @endpoint("DELETE", _KEYS, spec=_SPEC, auth=Auth.USER, query=VersionQuery, limit=Limit.OTHER)
    async def delete_all(self, call: Call[NoBody, VersionQuery]) -> Answer:
        """Delete all sessions; the backup stays."""
        return await self._remove(call, None, None)

    async def _remove(self, call: Call[NoBody, VersionQuery], room_id: str | None, session_id: str | None) -> Answer:
        return _kept(await self._backup.remove(call.requester, call.query.version, room_id, session_id))


def _kept(kept: Kept) -> Answer:
    return {"etag": kept.etag, "count": kept.count}


def _session_text(row: SessionRow) -> bytes:
    return b'%b:{"first_message_index":%d,"forwarded_count":%d,"is_verified":%b,"session_data":%b}' % (
        orjson.dumps(row.session_id),
        row.first_message_index,
        row.forwarded_count,
        b"true" if row.is_verified else b"false",
        row.session_data,
    )


async def _room_texts(batches: AsyncIterator[list[SessionRow]]) -> AsyncIterator[bytes]:
    """The JSON of the sessions of one room, in pieces."""
    start = b'{"sessions":{'
    async for batch in batches:
        if batch:
            yield start + b",".join(map(_session_text, batch))
            start = b","
    yield (b"" if start == b"," else start) + b"}}"


async def _rooms_texts(batches: AsyncIterator[list[SessionRow]]) -> AsyncIterator[bytes]:
    """The JSON of the sessions of all rooms, in pieces."""
    room_id: str | None = None
    pieces = [b'{"rooms":{']
    async for batch in batches:
        for row in batch:
            if row.room_id == room_id:
                pieces.append(b",")
            else:
                pieces.append(b'%b%b:{"sessions":{' % (b"" if room_id is None else b"}},", orjson.dumps(row.room_id)))
                room_id = row.room_id
            pieces.append(_session_text(row))
        yield b"".join(pieces)
        pieces = []
    yield b"}}" if room_id is None else b"}}}}"


async def _streamed(texts: AsyncIterator[bytes]) -> Answer:
    """An answer in pieces; what is wrong with the request comes out before the first one."""
    first = await anext(texts)

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": JSON_HEADERS})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for text in texts:
            await send({"type": "http.response.body", "body": text, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return respond
