"""Room upgrades: a new room in another version takes the place of an old one.

spec: client-server-api#room-upgrades
"""

from __future__ import annotations

from typing import Any

from tinyserver.protocol.auth_rules import AuthError
from tinyserver.protocol.errors import Forbidden
from tinyserver.protocol.power_levels import PowerLevels, room_creators
from tinyserver.protocol.room_versions import RoomVersion, get_room_version
from tinyserver.rooms.access import check_user_id, room_of_member
from tinyserver.rooms.creation import RoomCreation, default_power_levels
from tinyserver.rooms.drafts import EventDraft
from tinyserver.rooms.member_events import member_draft
from tinyserver.rooms.pipeline import EventPipeline
from tinyserver.rooms.predecessors import carry_settings
from tinyserver.storage import events, memberships, names, room_state, rooms
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.rooms import RoomRow
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

TRANSFERRED = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.space.parent",
    "m.space.child",
    "m.room.policy",
)
"""State that moves to the new room, besides the power levels; bans follow too."""

_MAX_BANS = 2000


class RoomUpgrades:
    """Upgrades rooms.

    Args:
        db: where rooms are stored.
        pipeline: makes events.
        creation: makes the replacement.
    """

    def __init__(self, db: Database, pipeline: EventPipeline, creation: RoomCreation) -> None:
        self._db = db
        self._pipeline = pipeline
        self._creation = creation

    async def upgrade(self, user_id: str, room_id: str, new_version: str, additional_creators: list[str]) -> str:
        """Replace a room by one of another version, all in one step.

        Returns:
            The ID of the new room.

        Raises:
            UnsupportedRoomVersion: there is no such version.
            Forbidden: the user may not send `m.room.tombstone` events in the old room.
        """
        version = get_room_version(new_version)
        for creator in additional_creators:
            check_user_id(creator)

        def step(tx: WriteTransaction) -> str:
            old = room_of_member(tx, room_id, user_id)
            levels = room_state.power_levels(tx, old.state)
            if levels.user_level(user_id) < levels.event_level("m.room.tombstone", True):
                raise Forbidden("You do not have the power to upgrade this room")
            new = self._begin(tx, old, version, user_id, additional_creators)
            # The new room's ID is known before the old one is closed, whatever the room version names rooms by.
            tombstone = EventDraft(
                "m.room.tombstone",
                user_id,
                {"body": "This room has been replaced", "replacement_room": new.room_id},
                state_key="",
            )
            self._pipeline.send(tx, old.nid, tombstone)
            self._transfer(tx, old, new, user_id)
            self._move_aliases(tx, old, new, user_id)
            if old.is_public:
                rooms.set_public(tx, old.nid, False)
                rooms.set_public(tx, new.nid, True)
            self._silence(tx, old, user_id)
            carry_settings(tx, rooms.get(tx, new.nid), user_id)
            return new.room_id

        return await self._db.write(step)

    def _begin(
        self, tx: WriteTransaction, old: RoomRow, version: RoomVersion, user_id: str, additional_creators: list[str]
    ) -> RoomRow:
        create = room_state.content_at(tx, old.state, "m.room.create")
        content: dict[str, Any] = {"predecessor": {"room_id": old.room_id}}
        if not version.room_id_is_create_hash:
            newest = max(old.extremities, default=0)
            content["predecessor"]["event_id"] = events.get(tx, newest).event_id
        for key in ("type", "m.federate"):
            if key in create:
                content[key] = create[key]
        if version.privileged_creators and additional_creators:
            content["additional_creators"] = list(dict.fromkeys(additional_creators))
        return self._creation.begin_replacement(tx, version, user_id, content)

    def _transfer(self, tx: WriteTransaction, old: RoomRow, new: RoomRow, user_id: str) -> None:
        levels = self._levels_for(tx, old, new, user_id)
        # Until everything is there, the one who upgrades must be able to put it there.
        self._pipeline.send(tx, new.nid, EventDraft("m.room.power_levels", user_id, levels, state_key=""))
        for stored in list(room_state.without_members(tx, old.state)):
            if stored.event.type in TRANSFERRED and stored.event.content:
                self._copy(tx, new, user_id, stored)
        banned = memberships.members(tx, old.nid, Membership.BAN, _MAX_BANS)
        for target, _ in banned:
            draft = member_draft(tx, sender=user_id, target=names.text(tx, target), membership="ban")
            self._try(tx, new, draft)

    def _copy(self, tx: WriteTransaction, new: RoomRow, user_id: str, stored: StoredEvent) -> None:
        content = dict(stored.event.content)
        if stored.event.type == "m.room.join_rules" and content.get("join_rule") in ("restricted", "knock_restricted"):
            supported = new.version.restricted if content["join_rule"] == "restricted" else new.version.knock_restricted
            if not supported:
                content = {"join_rule": "invite"}
        draft = EventDraft(stored.event.type, user_id, content, state_key=stored.event.state_key)
        self._try(tx, new, draft)

    def _try(self, tx: WriteTransaction, room: RoomRow, draft: EventDraft) -> None:
        """Send what the new room's rules allow; what they do not allow stays behind."""
        try:
            self._pipeline.send(tx, room.nid, draft)
        except AuthError:
            return

    def _levels_for(self, tx: ReadTransaction, old: RoomRow, new: RoomRow, user_id: str) -> dict[str, Any]:
        """The old room's power levels as the new version wants them."""
        stored = room_state.event_at(tx, old.state, "m.room.power_levels")
        if stored is None:
            return default_power_levels(new.version, user_id, [])
        levels = dict(stored.event.content)
        known = levels.get("users")
        users = dict(known) if isinstance(known, dict) else {}
        before = room_state.power_levels(tx, old.state)
        old_create = room_state.event_at(tx, old.state, "m.room.create")
        new_create = room_state.event_at(tx, new.state, "m.room.create")
        assert old_create is not None
        assert new_create is not None
        if new.version.privileged_creators:
            for creator in room_creators(new_create.event):
                users.pop(creator, None)
        else:
            # Creators of the old room whose power was infinite, and the one who upgrades, are named now.
            for creator in {*room_creators(old_create.event), user_id}:
                users[creator] = _finite(before, creator, levels)
        levels["users"] = users
        given = levels.get("events")
        events_levels = dict(given) if isinstance(given, dict) else {}
        if new.version.privileged_creators:
            state_default = before.event_level("m.room.none", True)
            events_levels["m.room.tombstone"] = max(150, state_default + 1)
        elif isinstance(events_levels.get("m.room.tombstone"), int):
            events_levels["m.room.tombstone"] = min(events_levels["m.room.tombstone"], 100)
        levels["events"] = events_levels
        return levels

    def _move_aliases(self, tx: WriteTransaction, old: RoomRow, new: RoomRow, user_id: str) -> None:
        for alias in rooms.aliases(tx, old.nid):
            found = rooms.of_alias(tx, alias)
            assert found is not None
            rooms.remove_alias(tx, alias)
            rooms.set_alias(tx, alias, new.nid, found[1])
        canonical = room_state.event_at(tx, old.state, "m.room.canonical_alias")
        if canonical is not None and canonical.event.content:
            draft = EventDraft("m.room.canonical_alias", user_id, canonical.event.content, state_key="")
            self._try(tx, new, draft)
            self._try(tx, old, EventDraft("m.room.canonical_alias", user_id, {}, state_key=""))

    def _silence(self, tx: WriteTransaction, old: RoomRow, user_id: str) -> None:
        """Keep people from talking on in the old room, as far as the one who upgrades has the power."""
        stored = room_state.event_at(tx, old.state, "m.room.power_levels")
        if stored is None:
            return
        content = dict(stored.event.content)
        users_default = content.get("users_default", 0)
        floor = max(50, users_default + 1) if isinstance(users_default, int) else 50
        for key in ("events_default", "invite"):
            current = content.get(key, 0)
            content[key] = max(floor, current) if isinstance(current, int) else floor
        if content != stored.event.content:
            self._try(tx, old, EventDraft("m.room.power_levels", user_id, content, state_key=""))


def _finite(levels: PowerLevels, user_id: str, content: dict[str, Any]) -> int:
    """A creator's power in a room that knows no infinite one: 100, or more where the room asks for more."""
    given = content.get("events")
    asked = [level for level in given.values() if isinstance(level, int)] if isinstance(given, dict) else []
    return min(levels.user_level(user_id), max([100, *asked]))
