"""What this server owes to others: one log of events for all of them, and how far each of them is.

Nothing is stored for each of the servers that an event goes to, so ten thousand events for a server that is down cost
one row. Who gets an event is in `server_stays`. The same cursor counts for what is told of devices
(`device_list_log`) and for messages to devices (`outgoing_messages`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyserver.protocol.identifiers import domain_of
from tinyserver.storage import device_list_log, events, names, outgoing_messages, server_stays
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, Topic, WriteTransaction

SCAN = 2000
"""How many rows of the log are looked at in one step."""
MAX_POSITION = 2**62


@dataclass(frozen=True, slots=True)
class Owed:
    """What a server is owed: everything up to the position `sent` it has. It lacks `events`, the oldest of which was
    made at `oldest_ts` (ms since 1970; None: no event), `messages` to devices and `device_changes`."""

    server: str
    sent: int
    events: int
    oldest_ts: int | None
    messages: int
    device_changes: int


def owe(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Have a new event of the timeline sent to the other servers in its room (but not to that of its sender)."""
    if stored.place is None:
        return
    _tell_the_uninvited(tx, stored, stored.place)
    _tell_of_devices(tx, stored, stored.place)
    if server_stays.any_at(tx, stored.room, stored.place):
        tx.execute("INSERT INTO outgoing_events VALUES (?, ?, ?)", (stored.place, stored.room, stored.nid))
        tx.changed(Topic.OUTGOING, stored.room, stored.place)


def owe_again(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Have an event sent to all servers that are in its room now."""
    position = tx.changed(Topic.OUTGOING, stored.room)
    tx.execute("INSERT INTO outgoing_events VALUES (?, ?, ?)", (position, stored.room, stored.nid))


def _tell_the_uninvited(tx: WriteTransaction, stored: StoredEvent, position: int) -> None:
    """Whose invite or knock comes to nothing has a server that is perhaps not in the room."""
    event = stored.event
    if stored.replaces is None or event.membership not in ("leave", "ban") or event.state_key is None:
        return
    if events.get(tx, stored.replaces).event.membership not in ("invite", "knock"):
        return
    server, own = domain_of(event.state_key), domain_of(event.sender)
    if server != own and not server_stays.is_in_room(tx, stored.room, server):
        server_stays.tell_of(tx, stored.room, server, position)


def _tell_of_devices(tx: WriteTransaction, stored: StoredEvent, position: int) -> None:
    """Who joins a room has devices that the servers there should know."""
    event = stored.event
    if event.membership != "join" or event.state_key is None:
        return
    if stored.replaces is None or events.get(tx, stored.replaces).event.membership != "join":
        device_list_log.joined(tx, names.intern(tx, event.state_key), stored.room, position)


def next_events(tx: ReadTransaction, server: int, after: int, until: int, limit: int) -> tuple[list[int], int]:
    """What a server is owed after a position, up to another: the oldest.

    Returns:
        The nids of events, in order; and up to which position that is all.
    """
    rows = tx.rows(
        "SELECT position, event FROM "
        "(SELECT position, room, event FROM outgoing_events WHERE position > ?1 AND position <= ?2 "
        f"ORDER BY position LIMIT {SCAN}) AS log "
        "WHERE EXISTS (SELECT 1 FROM server_stays s WHERE s.room = log.room AND s.server = ?3 "
        "AND s.since < log.position AND (s.until IS NULL OR s.until >= log.position)) ORDER BY position LIMIT ?4",
        (after, until, server, limit),
    )
    if len(rows) == limit:
        return [row[1] for row in rows], rows[-1][0]
    end = tx.value(
        f"SELECT position FROM outgoing_events WHERE position > ? AND position <= ? LIMIT 1 OFFSET {SCAN - 1}",
        (after, until),
    )
    return [row[1] for row in rows], until if end is None else end


def behind(tx: ReadTransaction) -> dict[int, int]:
    """The servers (nids) that may be owed something, each with the position up to which it has everything."""
    floor = _counter(tx, "outgoing_floor")
    cursors: dict[int, int] = dict(tx.rows("SELECT server, sent FROM outgoing_cursors"))
    found: dict[int, int] = {}
    for room, newest in tx.rows("SELECT room, max(position) FROM outgoing_events GROUP BY room"):
        for server, since, until in tx.execute("SELECT server, since, until FROM server_stays WHERE room = ?", (room,)):
            sent = cursors.get(server, floor)
            if newest > since and min(newest, newest if until is None else until) > sent:
                found[server] = sent
    for user, newest in device_list_log.changed_after(tx, min([floor, *cursors.values()])).items():
        for server in server_stays.around(tx, user):
            if newest > (sent := cursors.get(server, floor)):
                found[server] = sent
    for server in outgoing_messages.servers(tx):
        found[server] = cursors.get(server, floor)
    return found


def overview(tx: ReadTransaction) -> list[Owed]:
    """What each server is owed; those that are owed nothing are left out. Walks the whole log for each of them."""
    found = []
    for server, sent in behind(tx).items():
        count, oldest = tx.row(
            "SELECT count(*), min(log.position) FROM outgoing_events log WHERE log.position > ?1 AND EXISTS "
            "(SELECT 1 FROM server_stays s WHERE s.room = log.room AND s.server = ?2 AND s.since < log.position "
            "AND (s.until IS NULL OR s.until >= log.position))",
            (sent, server),
        )
        oldest_ts = None
        if count:
            event = tx.value("SELECT event FROM outgoing_events WHERE position = ?", (oldest,))
            oldest_ts = events.get(tx, event).event.origin_server_ts
        messages = outgoing_messages.queue(tx, server).messages
        changes = len(device_list_log.updates_for(tx, server, sent, MAX_POSITION, SCAN))
        if count or messages or changes:
            found.append(Owed(names.text(tx, server), sent, count, oldest_ts, messages, changes))
    return sorted(found, key=lambda owed: owed.sent)


def put_cursors(tx: WriteTransaction, sent: Mapping[int, int], alive_ms: int) -> None:
    """Note how far servers (nids) are, and that this server was running at a time."""
    tx.executemany(
        "INSERT INTO outgoing_cursors (server, sent) VALUES (?, ?) ON CONFLICT (server) DO UPDATE SET sent = max("
        "sent, excluded.sent)",
        list(sent.items()),
    )
    outgoing_messages.remove(tx, sent)
    tx.execute("UPDATE counters SET value = ? WHERE name = 'outgoing_alive'", (alive_ms,))


def last_alive(tx: ReadTransaction) -> int:
    """When this server is known to have run last (ms since 1970); 0: never."""
    return _counter(tx, "outgoing_alive")


def tidy(tx: WriteTransaction, floor: int, lagging: Mapping[int, int]) -> None:
    """All servers but the lagging ones (nids, with how far they are) have everything up to `floor`: forget what nobody
    needs any more."""
    tx.execute("DELETE FROM outgoing_cursors")
    put = [(server, sent) for server, sent in lagging.items()]
    tx.executemany("INSERT INTO outgoing_cursors (server, sent) VALUES (?, ?)", put)
    tx.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'outgoing_floor'", (floor,))
    needed = min([floor, *lagging.values()])
    device_list_log.tidy(tx, needed)
    tx.execute("DELETE FROM outgoing_events WHERE position <= ?", (needed,))
    tx.execute("DELETE FROM server_stays WHERE until IS NOT NULL AND until <= ?", (needed,))


def _counter(tx: ReadTransaction, name: str) -> int:
    return int(tx.value("SELECT value FROM counters WHERE name = ?", (name,)) or 0)
