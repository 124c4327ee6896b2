"""What lists are filtered and sorted by: facts about rooms, and when something happened there last. In memory, the same
for all users; what is not there is read once and then kept up by the bell.

spec: MSC4186 (lists)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tinyserver.bell import Bell
from tinyserver.storage import names, room_state, rooms, state_trie, timeline
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Commit
from tinyserver.storage.transaction import ReadTransaction, Topic

BUMPING_TYPES = (
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
    "org.matrix.msc3672.beacon_info",
)
"""The events that move a room up in a client's own order."""
MAX_LOOKED_AT = 5000
"""How many events are looked at for one of them."""
MAX_ROOMS = 20_000
"""For how many rooms it is remembered when something happened there last."""
_FACTS_BYTES = 1_000_000
_BUMPS_BYTES = 1_000_000
_ENTRY_BYTES = 300


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """What filters ask of a room, as it was at the position `read_at`. `children` are the room IDs in a space."""

    read_at: int
    room_type: str | None
    is_encrypted: bool
    name: str
    children: frozenset[str] = frozenset()


def facts_from(read_at: int, contents: Mapping[str, Mapping[str, object]]) -> RoomFacts:
    """The facts that the contents of state events, by type, tell."""
    room_type = contents.get("m.room.create", {}).get("type")
    name = contents.get("m.room.name", {}).get("name")
    return RoomFacts(
        read_at,
        room_type if isinstance(room_type, str) else None,
        "m.room.encryption" in contents,
        name.casefold() if isinstance(name, str) else "",
    )


class Catalogue:
    """Facts about rooms. Lives on the event loop, but for what takes a transaction."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._facts: BoundedCache[int, RoomFacts] = BoundedCache(
            _FACTS_BYTES, lambda facts: _ENTRY_BYTES + len(facts.name) + 150 * len(facts.children)
        )
        self._activity: dict[int, int] = {}
        self._bumps: BoundedCache[int, tuple[int, int]] = BoundedCache(_BUMPS_BYTES, lambda entry: _ENTRY_BYTES)
        bell.subscribe(self._note)

    # -- when something happened last ------------------------------------------------------------

    def activity(self, wanted: Collection[int]) -> tuple[dict[int, int], list[int]]:
        """Where the newest events of rooms are in the one order, and the rooms of which it is not known."""
        known = self._activity
        found = {room: known[room] for room in wanted if room in known}
        return found, [] if len(found) == len(wanted) else [room for room in wanted if room not in found]

    def learn_activity(self, places: Mapping[int, int]) -> None:
        """Note what `timeline.newest_places` found; the bell may know better by now."""
        for room, place in places.items():
            if place > self._activity.get(room, place - 1):
                self._activity[room] = place
        while len(self._activity) > MAX_ROOMS:
            del self._activity[next(iter(self._activity))]

    def _note(self, commit: Commit) -> None:
        activity = self._activity
        for change in commit.changes:
            if change.topic is Topic.TIMELINE and change.nid in activity:
                activity[change.nid] = max(activity[change.nid], change.position)

    def bump_stamp(self, tx: ReadTransaction, room: int, until: int) -> int | None:
        """Where the newest event that moves a room up is in the one order, up to a position; None if there is none."""
        bump, seen = self._bumps.get(room) or (0, 0)
        if seen >= until:
            return bump or None
        types = [nid for nid in (names.find(tx, name) for name in BUMPING_TYPES) if nid is not None]
        newer = timeline.newest_of_types(tx, room, seen, until, types, MAX_LOOKED_AT)
        bump = bump if newer is None else newer
        self._bumps.put(room, (bump, until))
        return bump or None

    # -- facts -----------------------------------------------------------------------------------

    def facts(self, wanted: Collection[int]) -> tuple[dict[int, RoomFacts], list[int]]:
        """The facts of rooms, and the rooms of which they must be read."""
        changed = self._bell.changes[Topic.STATE].changed
        found, missing = {}, []
        for room in wanted:
            facts = self._facts.get(room)
            if facts is None or changed(room, facts.read_at):
                missing.append(room)
            else:
                found[room] = facts
        return found, missing

    def learn_facts(self, facts: Mapping[int, RoomFacts]) -> None:
        """Note what was read."""
        for room, each in facts.items():
            self._facts.put(room, each)

    @staticmethod
    def read_facts(tx: ReadTransaction, room: int, read_at: int) -> RoomFacts | None:
        """The facts of a room whose state is known; None where it is not.

        Args:
            read_at: a position that the transaction sees for sure.
        """
        root = rooms.state_now(tx, room)
        if not root:
            return None
        keys = [("m.room.create", ""), ("m.room.encryption", ""), ("m.room.name", "")]
        found = room_state.events_at(tx, root, keys, keep=False)
        facts = facts_from(read_at, {key[0]: stored.event.content for key, stored in found.items()})
        if facts.room_type != "m.space":
            return facts
        return RoomFacts(read_at, facts.room_type, facts.is_encrypted, facts.name, _children(tx, root))


def _children(tx: ReadTransaction, root: int) -> frozenset[str]:
    """The rooms in a space: those that say by which servers they can be joined.

    spec: client-server-api#mspacechild
    """
    child_type = names.find(tx, "m.space.child")
    if child_type is None:
        return frozenset()
    nids = (nid for _, nid in state_trie.items_of_type(tx, root, child_type))
    return frozenset(
        stored.event.state_key or ""
        for stored in room_state.walk(tx, nids)
        if isinstance(stored.event.content.get("via"), list)
    )
