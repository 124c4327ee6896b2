"""What state resolution reads of stored events: a lot of them at once, of each only what it needs, nothing kept.

A body is decoded only by `parsed`, if nobody has done it lately; everything else stands in columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.state_resolution import EventHeader
from tinyserver.storage import event_codec, names
from tinyserver.storage.events import event_id_of_key, unpack_nids
from tinyserver.storage.transaction import ReadTransaction


def _select(tx: ReadTransaction, columns: str, nids: Collection[int], condition: str = "") -> Iterator[Any]:
    """These columns of these events; one statement for any number, so that SQLite prepares it once."""
    return tx.execute(
        f"SELECT {columns} FROM (SELECT value AS wanted FROM json_each(?)) "
        f"CROSS JOIN events ON nid = wanted {condition}",
        ("[" + ",".join(map(str, nids)) + "]",),
    )


def auth_nids(tx: ReadTransaction, nids: Collection[int]) -> dict[int, tuple[int, ...]]:
    """The nids of each event's auth events."""
    return {nid: unpack_nids(blob) for nid, blob in _select(tx, "nid, auth", nids)}


def keys(tx: ReadTransaction, nids: Collection[int]) -> dict[int, tuple[str, str]]:
    """The (type, state key) of each event that is a state event."""
    rows = list(_select(tx, "nid, type, state_key", nids, "WHERE state_key IS NOT NULL"))
    text = names.texts(tx, {name for row in rows for name in row[1:]})
    return {nid: (text[type_nid], text[key_nid]) for nid, type_nid, key_nid in rows}


def headers(tx: ReadTransaction, version: RoomVersion, nids: Collection[int]) -> dict[int, EventHeader]:
    """Time, ID and sender of each event; all are of rooms of this version."""
    rows = list(_select(tx, "nid, ts, event_id, sender", nids))
    text = names.texts(tx, {row[3] for row in rows})
    return {nid: EventHeader(ts, event_id_of_key(key, version), text[sender]) for nid, ts, key, sender in rows}


def rejected(tx: ReadTransaction, nids: Collection[int]) -> set[int]:
    """Those of the events that were rejected."""
    return {nid for (nid,) in _select(tx, "nid", nids, "WHERE flags & 1")}


def parsed(tx: ReadTransaction, version: RoomVersion, nids: Collection[int]) -> dict[int, Event]:
    """The events as the authorization rules need them: a content hash that follows from the rest can be left out.

    Args:
        version: that of their room.
    """
    cached = {nid: stored.event for nid in nids if (stored := tx.caches.events.get(nid)) is not None}
    if len(cached) == len(nids):
        return cached
    missing = [nid for nid in nids if nid not in cached]
    return cached | {
        nid: Event.from_trusted(event_codec.decode(body, with_hash=False), version, event_id_of_key(key, version))
        for nid, key, body in _select(tx, "nid, event_id, body", missing)
    }


def event_ids(tx: ReadTransaction, version: RoomVersion, nids: Collection[int]) -> dict[int, str]:
    """The ID of each event; all are of rooms of this version."""
    return {nid: event_id_of_key(key, version) for nid, key in _select(tx, "nid, event_id", nids)}
