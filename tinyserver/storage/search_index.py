"""The index of words: which events have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tinyserver.protocol.search_text import searchable_text, words
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.timeline_entries import Entry
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction


class Match(NamedTuple):
    """An event of some room's timeline, and when it was sent (ms)."""

    entry: Entry
    room: int
    ts: int


def indexed_until(tx: ReadTransaction) -> int:
    """The nid up to which events are in the index."""
    return int(tx.value("SELECT value FROM counters WHERE name = 'search'"))


def set_indexed_until(tx: WriteTransaction, nid: int) -> None:
    """Events up to this nid are in the index."""
    tx.execute("UPDATE counters SET value = ? WHERE name = 'search'", (nid,))


def not_indexed(tx: ReadTransaction, after: int, limit: int) -> list[tuple[int, int]]:
    """(nid, nid of the type) of the first events after a nid."""
    return tx.rows("SELECT nid, type FROM events WHERE nid > ? ORDER BY nid LIMIT ?", (after, limit))


def add(tx: WriteTransaction, found: Iterable[StoredEvent]) -> None:
    """Put events into the index: those that have text, and were not redacted."""
    for stored in found:
        listed = None if stored.flags & Flag.REDACTED else _words(stored)
        if listed is not None:
            tx.execute("INSERT INTO search_index (rowid, words) VALUES (?, ?)", (stored.nid, listed))


def remove(tx: WriteTransaction, stored: StoredEvent) -> None:
    """Take an event out of the index before it is redacted."""
    listed = _words(stored)
    if listed is not None and stored.nid <= indexed_until(tx):
        tx.execute(
            "INSERT INTO search_index (search_index, rowid, words) VALUES ('delete', ?, ?)", (stored.nid, listed)
        )


def matches(tx: ReadTransaction, wanted: Sequence[str], below: int, limit: int) -> list[int]:
    """The nids of the newest events below a nid that have all of the words, the newest first."""
    query = " ".join(f'"{word}"' for word in wanted)  # words hold no quotes
    rows = tx.execute(
        "SELECT rowid FROM search_index WHERE search_index MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
        (query, below, limit),
    )
    return [row[0] for row in rows]


def placed(tx: ReadTransaction, nids: Sequence[int]) -> list[Match]:
    """Those of the events that are part of a timeline, in the order of the nids."""
    marks = ",".join("?" * len(nids))
    rows = tx.execute(
        "SELECT nid, place, type, sender, state_key, state, room, ts FROM events "
        f"WHERE nid IN ({marks}) AND place IS NOT NULL",
        nids,
    )
    found = {row[0]: Match(Entry(*row[:6]), row[6], row[7]) for row in rows}
    return [found[nid] for nid in nids if nid in found]


def _words(stored: StoredEvent) -> str | None:
    text = searchable_text(stored.event.type, stored.event.content)
    listed = [] if text is None else words(text)
    return " ".join(dict.fromkeys(listed)) if listed else None
