"""Events: stored once, found by ID, by room order and by transaction ID."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tinyserver.protocol import base64
from tinyserver.protocol.events import Event
from tinyserver.protocol.redaction import redact
from tinyserver.protocol.room_versions import EventIdFormat, RoomVersion, get_room_version
from tinyserver.storage import event_codec, names
from tinyserver.storage.errors import CorruptDatabase
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

_HASH_ID = re.compile(r"^\$[A-Za-z0-9+/_-]{43}$")
_COLUMNS = (
    "nid, room, event_id, type, sender, state_key, place, flags, state, replaces, redacted_by, notify, thread, "
    "device, txn_id, auth, body"
)
_BATCH = 200


def event_key(event_id: str) -> bytes | str:
    """How an event ID is stored: the raw hash where it is one, else the text."""
    if _HASH_ID.match(event_id):
        try:
            return base64.decode(event_id[1:])
        except ValueError:
            return event_id
    return event_id


def event_id_of_key(key: bytes | str, version: RoomVersion) -> str:
    """The event ID behind its stored form."""
    if isinstance(key, str):
        return key
    if version.event_id_format is EventIdFormat.HASH_URLSAFE:
        return "$" + base64.encode_urlsafe(key)
    return "$" + base64.encode(key)


def pack_nids(nids: Iterable[int]) -> bytes:
    """Numbers as differences in variable-length bytes, ascending."""
    out = bytearray()
    last = 0
    for nid in sorted(nids):
        delta = nid - last
        last = nid
        while delta > 0x7F:
            out.append(delta & 0x7F | 0x80)
            delta >>= 7
        out.append(delta)
    return bytes(out)


def unpack_nids(blob: bytes) -> tuple[int, ...]:
    """The numbers that `pack_nids` packed, ascending."""
    nids = []
    last = shift = value = 0
    for byte in blob:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            last += value
            nids.append(last)
            shift = value = 0
    return tuple(nids)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be stored; fields as in `StoredEvent`."""

    nid: int
    room: int
    event: Event
    place: int | None
    flags: int
    state: int | None
    auth: tuple[int, ...]
    replaces: int | None = None
    notify: int = 0
    thread: int | None = None
    device: int | None = None
    txn_id: str | None = None
    aside: bool = False
    """Stored for one user's sake, and not to be found by its ID: the room's own copy may come later."""


_INSERT = (
    "INSERT INTO events (nid, room, event_id, type, sender, state_key, place, depth, ts, flags, state, replaces, "
    "notify, thread, device, txn_id, auth, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_REPLACE = _INSERT.replace("INSERT", "INSERT OR REPLACE", 1)


def store(tx: WriteTransaction, new: NewEvent, *, known: bool = False) -> StoredEvent:
    """Store an event; its auth events are stored already.

    Args:
        known: it was stored before as an outlier or as rejected, under the same nid.

    Returns:
        The event as later reads will see it.
    """
    event = new.event
    type_nid = names.intern(tx, event.type)
    sender_nid = names.intern(tx, event.sender)
    state_key_nid = None if event.state_key is None else names.intern(tx, event.state_key)
    body = event_codec.encode(event.pdu)
    if known:
        tx.caches.resolutions.clear()  # it may have been rejected then
        _forget(tx, new.nid)
    tx.execute(
        _REPLACE if known else _INSERT,
        (
            new.nid,
            new.room,
            event.event_id if new.aside else event_key(event.event_id),
            type_nid,
            sender_nid,
            state_key_nid,
            new.place,
            event.depth,
            event.origin_server_ts,
            new.flags,
            new.state,
            new.replaces,
            new.notify,
            new.thread,
            new.device,
            new.txn_id,
            pack_nids(new.auth),
            body,
        ),
    )
    stored = StoredEvent(
        nid=new.nid,
        room=new.room,
        event=event,
        type_nid=type_nid,
        sender_nid=sender_nid,
        state_key_nid=state_key_nid,
        place=new.place,
        flags=new.flags,
        state=new.state,
        replaces=new.replaces,
        redacted_by=None,
        notify=new.notify,
        thread=new.thread,
        device=new.device,
        txn_id=new.txn_id,
        auth=new.auth,
        weight=_weight(body),
    )
    # A nid is never given out twice, so an entry that a roll-back orphans is never asked for.
    if not known:
        tx.caches.events.put(new.nid, stored)
    return stored


def _weight(body: bytes) -> int:
    return 2500 + 8 * len(body)


def _from_row(tx: ReadTransaction, row: Sequence[Any], version: RoomVersion | None = None) -> StoredEvent:
    if version is None:
        version = _version(tx, row[1])
    event = Event.from_trusted(event_codec.decode(row[16]), version, event_id_of_key(row[2], version))
    return StoredEvent(
        nid=row[0],
        room=row[1],
        event=event,
        type_nid=row[3],
        sender_nid=row[4],
        state_key_nid=row[5],
        place=row[6],
        flags=row[7],
        state=row[8],
        replaces=row[9],
        redacted_by=row[10],
        notify=row[11],
        thread=row[12],
        device=row[13],
        txn_id=row[14],
        auth=unpack_nids(row[15]),
        weight=_weight(row[16]),
    )


def _version(tx: ReadTransaction, room: int) -> RoomVersion:
    identifier = tx.value("SELECT version FROM rooms WHERE nid = ?", (room,))
    if identifier is None:
        raise CorruptDatabase(f"an event refers to room number {room}, which does not exist")
    return get_room_version(identifier)


def find(tx: ReadTransaction, event_id: str) -> int | None:
    """The nid of an event, or None when it is not stored."""
    key = event_key(event_id)
    nid: int | None = tx.value(
        "SELECT nid FROM events INDEXED BY events_by_id "
        "WHERE substr(event_id, 1, 7) = substr(?1, 1, 7) AND event_id = ?1",
        (key,),
    )
    return nid


def find_many(tx: ReadTransaction, event_ids: Iterable[str]) -> dict[str, int]:
    """The nids of those events that are stored."""
    found = {}
    for event_id in event_ids:
        nid = find(tx, event_id)
        if nid is not None:
            found[event_id] = nid
    return found


def has_state(tx: ReadTransaction, nid: int) -> bool:
    """Whether the state around a stored event is known; it is not around outliers."""
    return bool(tx.value("SELECT state IS NOT NULL FROM events WHERE nid = ?", (nid,)))


def get(tx: ReadTransaction, nid: int) -> StoredEvent:
    """An event by its number.

    Raises:
        CorruptDatabase: there is none.
    """
    stored = tx.caches.events.get(nid)
    if stored is None:
        row = tx.row(f"SELECT {_COLUMNS} FROM events WHERE nid = ?", (nid,))
        if row is None:
            raise CorruptDatabase(f"event number {nid} is missing")
        stored = _from_row(tx, row)
        _remember(tx, stored)
    return stored


def _remember(tx: ReadTransaction, stored: StoredEvent) -> None:
    # Not what a commit since the start of this snapshot may have reduced, nor what this step has changed itself.
    if tx.epoch == tx.caches.epoch and not (isinstance(tx, WriteTransaction) and stored.nid in tx.changed_events):
        tx.caches.events.put(stored.nid, stored)
        if tx.epoch != tx.caches.epoch:  # changed this very moment: whoever dropped it may have come before the put
            tx.caches.events.drop(stored.nid)


def by_id(tx: ReadTransaction, event_id: str) -> StoredEvent | None:
    """An event by its ID, or None when it is not stored."""
    nid = find(tx, event_id)
    return None if nid is None else get(tx, nid)


def get_many(tx: ReadTransaction, nids: Collection[int], *, keep: bool = True) -> dict[int, StoredEvent]:
    """Events by their numbers; numbers that do not exist are left out.

    Args:
        keep: whether they are worth remembering in the cache (not for long walks).
    """
    found: dict[int, StoredEvent] = {}
    missing = []
    for nid in nids:
        stored = tx.caches.events.get(nid)
        if stored is None:
            missing.append(nid)
        else:
            found[nid] = stored
    versions: dict[int, RoomVersion] = {}
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        marks = ",".join("?" * len(batch))
        for row in tx.execute(f"SELECT {_COLUMNS} FROM events WHERE nid IN ({marks})", batch):
            version = versions.get(row[1])
            if version is None:
                version = versions[row[1]] = _version(tx, row[1])
            stored = _from_row(tx, row, version)
            found[stored.nid] = stored
            if keep:
                _remember(tx, stored)
    return found


def states_after(tx: ReadTransaction, nids: Iterable[int]) -> dict[int, int]:
    """The roots of the states after events, of those where it is known, by nid; without reading the events."""
    sql = "SELECT nid, state FROM events WHERE nid IN (SELECT value FROM json_each(?)) AND state IS NOT NULL"
    return dict(tx.rows(sql, ("[" + ",".join(map(str, nids)) + "]",)))


def state_entries(tx: ReadTransaction, room: int, nids: Iterable[int]) -> Iterator[tuple[tuple[int, int], int]]:
    """((type nid, state key nid), nid) of those of the events that are state events of a room and were not rejected."""
    for nid in nids:
        row = tx.row(
            "SELECT type, state_key FROM events WHERE nid = ? AND room = ? AND state_key IS NOT NULL AND NOT flags & 1",
            (nid, room),
        )
        if row is not None:
            yield (row[0], row[1]), nid


def of_transaction(tx: ReadTransaction, device: int, txn_id: str, room: int, event_type: str) -> list[StoredEvent]:
    """The events that a device sent with a transaction ID: one, or with redactions one for each redacted event.

    Args:
        room, event_type: they stand in the path of the request, and a transaction ID counts for its path alone.
    """
    type_nid = names.find(tx, event_type)
    rows = tx.execute(
        "SELECT nid FROM events INDEXED BY events_by_txn "
        # The + keeps SQLite from putting the constant into the indexed expression.
        "WHERE device = ?1 AND substr(txn_id, -8) = substr(?2, -8) AND txn_id IS NOT NULL AND +txn_id = ?2 "
        "AND +room = ?3 AND type = ?4",
        (device, txn_id, room, type_nid),
    )
    return [get(tx, row[0]) for row in rows.fetchall()]


def apply_redaction(tx: WriteTransaction, target: StoredEvent, redaction: int) -> StoredEvent:
    """Reduce a stored event to what redaction leaves of it.

    Args:
        redaction: nid of the redaction event.

    Returns:
        The reduced event.
    """
    version = target.event.version
    pdu = redact(target.event.pdu, version)
    body = event_codec.encode(pdu)
    tx.execute(
        "UPDATE events SET body = ?, flags = flags | ?, redacted_by = ?, notify = 0 WHERE nid = ?",
        (body, int(Flag.REDACTED), redaction, target.nid),
    )
    if target.state_key_nid is not None:
        tx.caches.resolutions.clear()
    _forget(tx, target.nid)
    row = tx.row(f"SELECT {_COLUMNS} FROM events WHERE nid = ?", (target.nid,))
    return _from_row(tx, row, version)


def discard(tx: WriteTransaction, room: int, nids: Iterable[int]) -> None:
    """Take away outliers of a room that nothing refers to."""
    for nid in nids:
        tx.execute("DELETE FROM events WHERE nid = ? AND room = ? AND state IS NULL AND place IS NULL", (nid, room))
        _forget(tx, nid)


def set_flags(tx: WriteTransaction, nid: int, flags: int, place: int | None, state: int | None) -> None:
    """Change what became of an event: an outlier that gets its place, a rejected one that is accepted after all."""
    tx.execute("UPDATE events SET flags = ?, place = ?, state = ? WHERE nid = ?", (flags, place, state, nid))
    tx.caches.resolutions.clear()
    _forget(tx, nid)


def set_state(tx: WriteTransaction, nid: int, state: int | None, replaces: int | None, *, rejected: bool) -> None:
    """The state after an event is another one than was thought; with it, the event may have to be rejected."""
    tx.execute(
        "UPDATE events SET state = ?2, replaces = ?3, flags = flags | ?4, place = iif(?4, NULL, place) WHERE nid = ?1",
        (nid, state, replaces, int(rejected)),
    )
    tx.caches.resolutions.clear()
    _forget(tx, nid)


def mark_as_parent(tx: WriteTransaction, nid: int, room: int) -> None:
    """Note that an event of this room has child events that are aggregated."""
    changed = tx.execute(
        "UPDATE events SET flags = flags | ?1 WHERE nid = ?2 AND room = ?3 AND NOT flags & ?1",
        (int(Flag.PARENT), nid, room),
    ).rowcount
    if changed:
        _forget(tx, nid)


def set_thread(tx: WriteTransaction, nid: int, thread: int) -> StoredEvent:
    """Put an event into a thread whose root (a nid) came after it."""
    tx.execute("UPDATE events SET thread = ? WHERE nid = ?", (thread, nid))

    def note() -> None:
        tx.caches.threads_moved += 1

    tx.on_commit(note)
    _forget(tx, nid)
    return get(tx, nid)


def _forget(tx: WriteTransaction, nid: int) -> None:
    caches = tx.caches
    tx.changed_events.add(nid)
    caches.events.drop(nid)

    def forget_again() -> None:  # a reader may have remembered the old form until the commit
        caches.epoch += 1
        caches.events.drop(nid)

    tx.on_commit(forget_again)


def newest_timestamp(tx: ReadTransaction) -> int:
    """The greatest `origin_server_ts` (ms) among those of the newest events that users of this server sent, 0 if there
    are none: for clocks that jumped backwards."""
    value = tx.value(
        f"SELECT max(ts) FROM (SELECT ts, sender, flags FROM events ORDER BY nid DESC LIMIT 2000) "
        f"WHERE NOT flags & {int(Flag.DATED)} AND sender IN (SELECT nid FROM users)"
    )
    return int(value or 0)
