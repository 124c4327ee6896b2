"""Which events relate to which (`m.relates_to`): found from the event that they point at, whether or not that is here.

The parent of an event whose relation is aggregated carries `Flag.PARENT`, so that an event without it costs nobody a
look-up.

spec: client-server-api#forming-relationships-between-events
"""

from __future__ import annotations

from collections.abc import Iterable

from tinyserver.protocol.relations import REFERENCE, REPLACE, THREAD, Relation, may_root_thread, relation_of
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.storage import events, names
from tinyserver.storage.events import event_id_of_key, event_key
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

AGGREGATED = frozenset((REPLACE, REFERENCE, THREAD))
"""The relation types that are bundled with the parent."""
MAX_RELATED = 50_000
"""How many events are looked at to find those that relate to one over several steps."""
_CHILDREN_OF_A_FILTER = 1_000

_ENTRY = "e.nid, e.place, e.type, e.sender, e.state_key, e.state"


# -- kept with each event ------------------------------------------------------------------------


def relate(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Make an event of the timeline findable from the event that it relates to, and give it the children that came
    before it."""
    relation = relation_of(stored.event.content)
    if relation.rel_type is not None and relation.parent_id is not None:
        _add(tx, stored, relation.rel_type, relation.parent_id)
    _adopt(tx, stored)


def unrelate(tx: WriteTransaction, stored: StoredEvent) -> None:
    """A redacted event relates to nothing any more.

    Args:
        stored: the event as it was before.
    """
    relation = relation_of(stored.event.content)
    if relation.parent_id is None or stored.place is None:
        return
    target = event_key(relation.parent_id)
    tx.execute("DELETE FROM relations WHERE room = ? AND target = ? AND place = ?", (stored.room, target, stored.place))
    if relation.rel_type == THREAD:
        gone = tx.execute("DELETE FROM threads WHERE room = ? AND latest = ?", (stored.room, stored.place)).rowcount
        places = _newest_replies(tx, stored.room, target) if gone else ()
        if places:
            _set_latest(tx, stored.room, target, places[0])


def thread_below(parent: StoredEvent, relation: Relation) -> int | None:
    """The nid of the root of the thread that an event is in which relates to `parent`: the parent itself if it may
    root a thread and is named as the root, else the parent's (a reaction to a threaded message is in that thread).

    spec: client-server-api#threaded-read-receipts
    """
    if relation.thread_root is not None and may_root_thread(parent.event):
        return parent.nid
    return parent.thread


def _add(tx: WriteTransaction, stored: StoredEvent, rel_type: str, parent_id: str) -> None:
    target = event_key(parent_id)
    tx.execute(
        "INSERT OR IGNORE INTO relations (room, target, place, child, rel_type, type, sender, ts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            stored.room,
            target,
            stored.place,
            stored.nid,
            names.intern(tx, rel_type),
            stored.type_nid,
            stored.sender_nid,
            stored.event.origin_server_ts,
        ),
    )
    if rel_type in AGGREGATED:
        parent = events.find(tx, parent_id)
        if parent is not None:
            events.mark_as_parent(tx, parent, stored.room)
    if rel_type == THREAD:
        latest, *before = _newest_replies(tx, stored.room, target)
        if latest == stored.place:
            if before:
                tx.execute("DELETE FROM threads WHERE room = ? AND latest = ?", (stored.room, before[0]))
            _set_latest(tx, stored.room, target, latest)


def _newest_replies(tx: ReadTransaction, room: int, target: bytes | str) -> list[int]:
    """The places of the two newest events of a thread, newest first."""
    rows = tx.rows(
        "SELECT place FROM relations WHERE room = ? AND target = ? AND rel_type = ? ORDER BY place DESC LIMIT 2",
        (room, target, names.find(tx, THREAD)),
    )
    return [row[0] for row in rows]


def _set_latest(tx: WriteTransaction, room: int, root: bytes | str, latest: int) -> None:
    tx.execute("INSERT OR REPLACE INTO threads (room, latest, root) VALUES (?, ?, ?)", (room, latest, root))


def _adopt(tx: WriteTransaction, stored: StoredEvent) -> None:
    kinds = tx.rows(
        "SELECT DISTINCT rel_type FROM relations WHERE room = ? AND target = ?",
        (stored.room, event_key(stored.event_id)),
    )
    if not kinds:
        return
    if any(names.text(tx, kind) in AGGREGATED for (kind,) in kinds):
        events.mark_as_parent(tx, stored.nid, stored.room)
    todo, seen = [stored], {stored.nid}
    while todo:
        parent = todo.pop()
        rows = tx.execute(
            "SELECT child FROM relations WHERE room = ? AND target = ?", (parent.room, event_key(parent.event_id))
        )
        for (nid,) in rows.fetchall():
            child = events.get(tx, nid)
            thread = thread_below(parent, relation_of(child.event.content))
            if nid not in seen and thread is not None and thread != child.thread:
                seen.add(nid)
                todo.append(events.set_thread(tx, nid, thread))


# -- looking from the parent ---------------------------------------------------------------------


def related_by(
    tx: ReadTransaction, room: int, target: str, rel_type: str, event_type: str, sender: str
) -> list[StoredEvent]:
    """What one user has sent of one type that relates to an event in one way, and was not redacted."""
    wanted = [names.find(tx, name) for name in (rel_type, event_type, sender)]
    rows = tx.execute(
        "SELECT child FROM relations WHERE room = ? AND target = ? AND rel_type = ? AND type = ? AND sender = ?",
        (room, event_key(target), *wanted),
    )
    return [events.get(tx, row[0]) for row in rows.fetchall()]


def kinds_and_senders(tx: ReadTransaction, room: int, event_id: str) -> list[tuple[str, str]]:
    """The (relation type, sender) pairs of the events that relate to an event, of the first thousand such pairs."""
    rows = tx.execute(
        f"SELECT DISTINCT rel_type, sender FROM relations WHERE room = ? AND target = ? LIMIT {_CHILDREN_OF_A_FILTER}",
        (room, event_key(event_id)),
    )
    return [(names.text(tx, rel_type), names.text(tx, sender)) for rel_type, sender in rows.fetchall()]


def count_by_sender(
    tx: ReadTransaction, room: int, event_id: str, rel_type: str, after: int, until: int
) -> list[tuple[int, int]]:
    """(sender, how many) of the events that relate to an event in one way, with places in (after, until]."""
    return tx.rows(
        "SELECT sender, count(*) FROM relations "
        "WHERE room = ? AND target = ? AND place > ? AND place <= ? AND rel_type = ? GROUP BY sender",
        (room, event_key(event_id), after, until, names.find(tx, rel_type)),
    )


def edits(tx: ReadTransaction, original: StoredEvent, until: int, limit: int) -> list[int]:
    """The nids of events of the same type and sender that mean to replace an event, by their timestamps, the latest
    first.

    Args:
        until: the last place that counts.
    """
    rows = tx.execute(
        "SELECT child FROM relations WHERE room = ? AND target = ? AND place <= ? AND rel_type = ? AND sender = ? "
        "AND type = ? ORDER BY ts DESC LIMIT ?",
        (
            original.room,
            event_key(original.event_id),
            until,
            names.find(tx, REPLACE),
            original.sender_nid,
            original.type_nid,
            limit,
        ),
    )
    return [row[0] for row in rows]


def before(
    tx: ReadTransaction,
    room: int,
    event_id: str,
    place: int,
    limit: int,
    *,
    after: int,
    rel_type: str | None = None,
    event_type: str | None = None,
) -> list[Entry]:
    """The newest events that relate to an event, at or before a place (inclusive), newest first, none at or before
    `after`.

    Args:
        rel_type, event_type: only of this relation type, of this event type.
    """
    rows = tx.execute(
        f"SELECT {_ENTRY} FROM relations r CROSS JOIN events e ON e.nid = r.child "
        "WHERE r.room = ?1 AND r.target = ?2 AND r.place <= ?3 AND r.place > ?4 "
        "AND (?5 IS NULL OR r.rel_type = ?5) AND (?6 IS NULL OR r.type = ?6) ORDER BY r.place DESC LIMIT ?7",
        (room, event_key(event_id), place, after, _name(tx, rel_type), _name(tx, event_type), limit),
    )
    return [Entry(*row) for row in rows]


def following(
    tx: ReadTransaction,
    room: int,
    event_id: str,
    place: int,
    limit: int,
    *,
    until: int,
    rel_type: str | None = None,
    event_type: str | None = None,
) -> list[Entry]:
    """The oldest events that relate to an event after a place (exclusive), oldest first, up to (inclusive) `until`."""
    rows = tx.execute(
        f"SELECT {_ENTRY} FROM relations r CROSS JOIN events e ON e.nid = r.child "
        "WHERE r.room = ?1 AND r.target = ?2 AND r.place > ?3 AND r.place <= ?4 "
        "AND (?5 IS NULL OR r.rel_type = ?5) AND (?6 IS NULL OR r.type = ?6) ORDER BY r.place LIMIT ?7",
        (room, event_key(event_id), place, until, _name(tx, rel_type), _name(tx, event_type), limit),
    )
    return [Entry(*row) for row in rows]


def descendants(
    tx: ReadTransaction,
    room: int,
    event_id: str,
    depth: int,
    *,
    after: int,
    until: int,
    rel_type: str | None = None,
    event_type: str | None = None,
) -> list[Entry]:
    """The events that relate to an event directly or by way of others like them, with places in (after, until], oldest
    first.

    Args:
        depth: over how many relationships at most.
    """
    rows = tx.execute(
        "WITH RECURSIVE wanted (child, depth) AS ("
        "SELECT child, 1 FROM relations WHERE room = ?1 AND target = ?2 "
        "AND (?3 IS NULL OR rel_type = ?3) AND (?4 IS NULL OR type = ?4) "
        "UNION ALL "
        "SELECT r.child, wanted.depth + 1 FROM wanted CROSS JOIN events p ON p.nid = wanted.child "
        "CROSS JOIN relations r ON r.room = ?1 AND r.target = p.event_id "
        "AND (?3 IS NULL OR r.rel_type = ?3) AND (?4 IS NULL OR r.type = ?4) WHERE wanted.depth < ?5 "
        f"LIMIT {MAX_RELATED}) "
        f"SELECT DISTINCT {_ENTRY} FROM wanted CROSS JOIN events e ON e.nid = wanted.child "
        "WHERE e.place > ?6 AND e.place <= ?7 AND e.event_id IS NOT ?2 ORDER BY e.place",
        (room, event_key(event_id), _name(tx, rel_type), _name(tx, event_type), depth, after, until),
    )
    return [Entry(*row) for row in rows]


def event_ids(tx: ReadTransaction, nids: Iterable[int], version: RoomVersion) -> list[str]:
    """The IDs of some events of a room of this version, in the order given."""
    rows = tx.execute(
        "SELECT event_id FROM json_each(?) AS wanted CROSS JOIN events ON nid = wanted.value",
        ("[" + ",".join(map(str, nids)) + "]",),
    )
    return [event_id_of_key(row[0], version) for row in rows]


def threads(tx: ReadTransaction, room: int, place: int, limit: int, version: RoomVersion) -> list[tuple[int, str]]:
    """The threads of a room whose latest event is at or before a place, those with the latest ones first.

    Returns:
        (the place of the latest event, the root's event ID); the root may not be here, and need not be one that may
        root a thread.
    """
    rows = tx.execute(
        "SELECT latest, root FROM threads WHERE room = ? AND latest <= ? ORDER BY latest DESC LIMIT ?",
        (room, place, limit),
    )
    return [(latest, event_id_of_key(root, version)) for latest, root in rows]


def _name(tx: ReadTransaction, name: str | None) -> int | None:
    """The number of a name to look for; one that nothing has for a name that nobody uses."""
    if name is None:
        return None
    number = names.find(tx, name)
    return -1 if number is None else number
