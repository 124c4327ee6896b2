"""Account data and tags: what a user's clients keep on the server.

spec: client-server-api#client-config, client-server-api#room-tagging
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import BadJson, Forbidden, InvalidParam, NotFound, TooLarge
from tinyserver.protocol.identifiers import is_valid_room_id
from tinyserver.storage import account_data, devices
from tinyserver.storage.database import Database
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

MAX_TYPE_BYTES = 255
MAX_CONTENT_BYTES = 512 * 1024
MAX_ENTRIES = 20_000
MAX_TAG_BYTES = 255

TAG = "m.tag"
SERVER_MANAGED = frozenset({"m.fully_read", "m.push_rules"})
"""Types that have endpoints of their own and cannot be set as account data."""

_SETTINGS_OF_DEVICE = ("m.local_notification_settings.", "org.matrix.msc3890.local_notification_settings.")
"""Types that end with the ID of a device."""

Computed = Callable[[ReadTransaction, int], dict[str, Any]]
"""Makes the content of a global type that is stored elsewhere, for the user with a number."""


class AccountData:
    """Reads and stores account data, global (`room_id` None) and for rooms.

    Args:
        computed: global types that are not stored as account data, and what makes them.
    """

    def __init__(self, db: Database, computed: Mapping[str, Computed] | None = None) -> None:
        self._db = db
        self._computed = dict(computed or {})

    async def get(self, requester: Requester, user_id: str, room_id: str | None, data_type: str) -> bytes:
        """The content of a type: a JSON object in UTF-8.

        Raises:
            Forbidden: another user's.
            InvalidParam: not a room ID.
            NotFound: the user has no such data.
        """
        _check_owner(requester, user_id, room_id)
        if room_id is None and data_type in self._computed:
            compute = self._computed[data_type]
            return msgspec.json.encode(self._db.glance(lambda tx: compute(tx, requester.user_nid)))
        content = self._db.glance(lambda tx: account_data.get(tx, requester.user_nid, room_id, data_type))
        if content is None:
            raise NotFound("There is no account data of this type.")
        return content

    async def put(
        self, requester: Requester, user_id: str, room_id: str | None, data_type: str, content: dict[str, Any]
    ) -> None:
        """Store the content of a type.

        Raises:
            Forbidden: another user's.
            BadJson (405): the server manages this type.
            InvalidParam: not a room ID, or no possible type.
            TooLarge: the content, or the number of different types and rooms.
        """
        _check_owner(requester, user_id, room_id)
        _check_type(data_type)
        if not data_type or len(data_type.encode("utf-8")) > MAX_TYPE_BYTES:
            raise InvalidParam(f"A type of account data has 1 to {MAX_TYPE_BYTES} bytes.")
        encoded = msgspec.json.encode(content)
        await self._db.write(lambda tx: _store(tx, requester.user_nid, room_id, data_type, encoded))

    async def delete(self, requester: Requester, user_id: str, room_id: str | None, data_type: str) -> None:
        """Delete the content of a type; it need not be there.

        Raises:
            Forbidden: another user's.
            BadJson (405): the server manages this type.
            InvalidParam: not a room ID.

        spec: MSC3391
        """
        _check_owner(requester, user_id, room_id)
        _check_type(data_type)
        if self._db.glance(lambda tx: account_data.get(tx, requester.user_nid, room_id, data_type)) is not None:
            await self._db.write(lambda tx: account_data.remove(tx, requester.user_nid, room_id, data_type))

    async def tags(self, requester: Requester, user_id: str, room_id: str) -> dict[str, Any]:
        """The tags of a room with what each holds. Raises Forbidden, InvalidParam."""
        _check_owner(requester, user_id, room_id)
        return self._db.glance(lambda tx: _tags(tx, requester.user_nid, room_id))

    async def put_tag(
        self, requester: Requester, user_id: str, room_id: str, tag: str, content: dict[str, Any]
    ) -> None:
        """Tag a room.

        Raises:
            Forbidden: another user's.
            InvalidParam: not a room ID, or too long a name.
            BadJson: `order` is not a number between 0 and 1.
            TooLarge: too many tags.
        """
        _check_owner(requester, user_id, room_id)
        if len(tag.encode("utf-8")) > MAX_TAG_BYTES:
            raise InvalidParam(f"The name of a tag cannot be longer than {MAX_TAG_BYTES} bytes.")
        order = content.get("order")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int | float) or not 0 <= order <= 1):
            raise BadJson("'order' must be a number between 0 and 1.")
        await self._change_tags(requester, room_id, lambda tags: {**tags, tag: content})

    async def remove_tag(self, requester: Requester, user_id: str, room_id: str, tag: str) -> None:
        """Take a tag off a room; it need not be there. Raises Forbidden, InvalidParam."""
        _check_owner(requester, user_id, room_id)
        await self._change_tags(
            requester, room_id, lambda tags: {name: content for name, content in tags.items() if name != tag}
        )

    async def _change_tags(
        self, requester: Requester, room_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        def step(tx: WriteTransaction) -> None:
            before = _tags(tx, requester.user_nid, room_id)
            after = change(before)
            if after != before:
                _store(tx, requester.user_nid, room_id, TAG, msgspec.json.encode({"tags": after}))

        await self._db.write(step)


class DeviceSettings:
    """What clients keep as account data of the whole user for a single device; a `DeviceListener` of sessions.

    spec: MSC3890
    """

    def devices_removed(self, tx: WriteTransaction, user: int, removed: Sequence[int]) -> None:
        """It goes with the devices (by number)."""
        for device in removed:
            row = devices.get(tx, device)
            if row is not None:
                for prefix in _SETTINGS_OF_DEVICE:
                    account_data.remove(tx, user, None, prefix + row.device_id)

    def device_renamed(self, tx: WriteTransaction, user: int, device: int) -> None:
        """The name is no part of it."""


def _check_type(data_type: str) -> None:
    if data_type in SERVER_MANAGED:
        raise BadJson(f"{data_type} is managed by the server and has an endpoint of its own.", status=405)


def tag_room(tx: WriteTransaction, user: int, room_id: str, tag: str) -> None:
    """Tag a room for a user on the server's own account, in a step. Raises TooLarge: they have too many tags."""
    tags = _tags(tx, user, room_id)
    if tag not in tags:
        _store(tx, user, room_id, TAG, msgspec.json.encode({"tags": {**tags, tag: {}}}))


def _store(tx: WriteTransaction, user: int, room_id: str | None, data_type: str, content: bytes) -> None:
    if len(content) > MAX_CONTENT_BYTES:
        raise TooLarge(f"Account data of one type can have {MAX_CONTENT_BYTES} bytes.")
    stored = account_data.get(tx, user, room_id, data_type)
    if stored == content:
        return
    if stored is None and account_data.count(tx, user) >= MAX_ENTRIES:
        raise TooLarge("There is too much account data of this user.")
    account_data.put(tx, user, room_id, data_type, content)


def _tags(tx: ReadTransaction, user: int, room_id: str) -> dict[str, Any]:
    stored = account_data.get(tx, user, room_id, TAG)
    # Clients can also set m.tag as account data, to anything.
    tags = None if stored is None else msgspec.json.decode(stored).get("tags")
    return tags if isinstance(tags, dict) else {}


def _check_owner(requester: Requester, user_id: str, room_id: str | None) -> None:
    if requester.user_id != user_id:
        raise Forbidden("This is the account data of another user.")
    if room_id is not None and not is_valid_room_id(room_id):
        raise InvalidParam("This is not a room ID.")
