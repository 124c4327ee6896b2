"""Room upgrades: a new room in another version takes the place of an old one.

spec: client-server-api#room-upgrades
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tinyserver.protocol.errors import Forbidden, MatrixError
from tinyserver.protocol.power_levels import parse_level
from tinyserver.protocol.room_versions import RoomVersion, get_room_version
from tinyserver.rooms.access import check_user_id, room_of_member
from tinyserver.rooms.creation import RoomCreation
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_events import member_draft
from tinyserver.rooms.partial_state import PartialRooms
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.predecessors import carry_settings
from tinyserver.rooms.upgraded_levels import levels_for_upgrade
from tinyserver.rooms.upgraded_state import content_for_upgrade
from tinyserver.storage import events, memberships, names, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import WriteTransaction

TRANSFERRED = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.policy",
)
"""State that moves to the new room, besides the power levels; bans and the links between spaces follow too."""

SPACE_LINKS = ("m.space.parent", "m.space.child")

_MAX_BANS = 2000


@dataclass(slots=True)
class _Replacement:
    """What a new room is recognised by: it must be the same room when a step is run anew, because the room's policy
    server has signed events of the old room that name it. `created_ts` is known after the first run."""

    version: RoomVersion
    room_id: str | None
    created_ts: int | None = None


class RoomUpgrades:
    """Upgrades rooms.

    Args:
        db: where rooms are stored.
        pipeline: makes events.
        creation: makes the replacement.
        partial: rooms whose members are not all known.
    """

    def __init__(self, db: Database, pipeline: EventPipeline, creation: RoomCreation, partial: PartialRooms) -> None:
        self._db = db
        self._partial = partial
        self._pipeline = pipeline
        self._creation = creation

    async def upgrade(self, user_id: str, room_id: str, new_version: str, additional_creators: list[str]) -> str:
        """Replace a room by one of another version, all in one step.

        Args:
            additional_creators: who shall count as creator besides `user_id`, in versions that know such people.

        Returns:
            The ID of the new room.

        Raises:
            UnsupportedRoomVersion: there is no such version.
            InvalidParam: one of the creators is no user ID.
            Forbidden: the user may not send `m.room.tombstone` events in the old room.
        """
        version = get_room_version(new_version)
        if version.privileged_creators:
            additional_creators = list(dict.fromkeys(check_user_id(creator) for creator in additional_creators))

        replacement = _Replacement(version, self._creation.new_room_id(version))

        def step(tx: WriteTransaction) -> str:
            old = room_of_member(tx, room_id, user_id)
            levels = room_state.power_levels(tx, old.state)
            if levels.user_level(user_id) < levels.event_level("m.room.tombstone", True):
                raise Forbidden("You do not have the power to upgrade this room")
            new = self._replace(tx, old, replacement, user_id, additional_creators)
            self._transfer(tx, old, new, user_id)
            self._move_aliases(tx, old, new, user_id)
            if old.is_public:
                rooms.set_public(tx, old.nid, False)
                rooms.set_public(tx, new.nid, True)
            self._silence(tx, old, user_id)
            carry_settings(tx, rooms.get(tx, new.nid), user_id)
            return new.room_id

        await self._partial.whole(room_id)  # bans move to the new room
        return await self._db.write(step)

    def _replace(
        self,
        tx: WriteTransaction,
        old: RoomRow,
        replacement: _Replacement,
        user_id: str,
        additional_creators: list[str],
    ) -> RoomRow:
        """The new room's first two events and the old room's tombstone, each naming the other room."""
        create = room_state.content_at(tx, old.state, "m.room.create")
        predecessor = {"room_id": old.room_id}
        content: dict[str, Any] = {"predecessor": predecessor}
        content |= {key: create[key] for key in ("type", "m.federate") if key in create}
        version = replacement.version
        if version.privileged_creators and additional_creators:
            content["additional_creators"] = additional_creators
        if replacement.room_id is not None:
            predecessor["event_id"] = self._bury(tx, old, user_id, replacement.room_id).event_id
            return self._creation.begin(tx, version, user_id, content, replacement.room_id)
        # The new room's ID is a hash over its create event, which thus cannot name the tombstone that names the room.
        new = self._creation.begin(tx, version, user_id, content, None, replacement.created_ts)
        created = room_state.event_at(tx, new.state, "m.room.create")
        assert created is not None
        replacement.created_ts = created.event.origin_server_ts
        self._bury(tx, old, user_id, new.room_id)
        return new

    def _bury(self, tx: WriteTransaction, old: RoomRow, user_id: str, replacement: str) -> StoredEvent:
        content = {"body": "This room has been replaced", "replacement_room": replacement}
        return self._pipeline.send(tx, old.nid, EventDraft("m.room.tombstone", user_id, content, state_key=""))

    def _transfer(self, tx: WriteTransaction, old: RoomRow, new: RoomRow, user_id: str) -> None:
        """Copy state and bans. The power levels come last: until then its creator may do everything in the new room,
        and what protects the room (its encryption above all) cannot get lost for want of power."""
        for stored in list(room_state.without_members(tx, old.state)):
            event = stored.event
            if not event.content:
                continue
            if event.type in TRANSFERRED and event.state_key == "":
                content = content_for_upgrade(event.type, event.content, old.version, new.version)
                self._pipeline.send(tx, new.nid, EventDraft(event.type, user_id, content, state_key=""))
            elif event.type in SPACE_LINKS:
                content = content_for_upgrade(event.type, event.content, old.version, new.version)
                self._try(tx, new, EventDraft(event.type, user_id, content, state_key=event.state_key))
        self._transfer_bans(tx, old, new, user_id)
        levels = levels_for_upgrade(tx, old, new, user_id)
        self._pipeline.send(tx, new.nid, EventDraft("m.room.power_levels", user_id, levels, state_key=""))

    def _transfer_bans(self, tx: WriteTransaction, old: RoomRow, new: RoomRow, user_id: str) -> None:
        banned = memberships.members(tx, old.nid, Membership.BAN, _MAX_BANS)
        bans = events.get_many(tx, [ban for _, ban in banned], keep=False)
        for target, ban in banned:
            reason = bans[ban].event.content.get("reason")
            draft = member_draft(
                tx,
                sender=user_id,
                target=names.text(tx, target),
                membership="ban",
                reason=reason if isinstance(reason, str) else None,
            )
            self._try(tx, new, draft)

    def _try(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft) -> None:
        """Send what the room's rules allow; what they do not allow stays behind."""
        with suppress(MatrixError):
            self._pipeline.send(tx, room.nid, draft)

    def _move_aliases(self, tx: WriteTransaction, old: RoomRow, new: RoomRow, user_id: str) -> None:
        for alias in rooms.aliases(tx, old.nid):
            found = rooms.of_alias(tx, alias)
            assert found is not None
            rooms.remove_alias(tx, alias)
            rooms.set_alias(tx, alias, new.nid, found[1])
        canonical = room_state.event_at(tx, old.state, "m.room.canonical_alias")
        if canonical is not None and canonical.event.content:
            content = content_for_upgrade("m.room.canonical_alias", canonical.event.content, old.version, new.version)
            self._try(tx, new, EventDraft("m.room.canonical_alias", user_id, content, state_key=""))
            self._try(tx, old, EventDraft("m.room.canonical_alias", user_id, {}, state_key=""))

    def _silence(self, tx: WriteTransaction, old: RoomRow, user_id: str) -> None:
        """Keep people from talking on in the old room, as far as the one who upgrades has the power."""
        stored = room_state.event_at(tx, old.state, "m.room.power_levels")
        if stored is None:
            return
        content = dict(stored.event.content)
        floor = max(50, (parse_level(content.get("users_default"), old.version) or 0) + 1)
        for key in ("events_default", "invite"):
            if (parse_level(content.get(key), old.version) or 0) < floor:
                content[key] = floor
        if content != stored.event.content:
            self._try(tx, old, EventDraft("m.room.power_levels", user_id, content, state_key=""))
