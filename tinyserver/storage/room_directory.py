"""The published rooms in their order: the largest first, those of one size by their number.

Where a listing stands is a (joined members, nid) pair, which names a point of that order whether or not a room is
there any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tinyserver.storage.transaction import ReadTransaction

Place = tuple[int, int]

_BATCH = 50


class ListedRoom(NamedTuple):
    """A published room: its number, how many members it has, and the root of its current state."""

    nid: int
    joined: int
    state: int


def after(tx: ReadTransaction, place: Place | None) -> Iterator[ListedRoom]:
    """The published rooms after a place of the order, read a few at a time as they are asked for; None: all."""
    joined, nid = place or (2**62, 0)
    while True:
        rows = tx.rows(
            "SELECT nid, joined, state FROM rooms INDEXED BY rooms_public "
            "WHERE is_public = 1 AND joined = ? AND nid > ? ORDER BY nid LIMIT ?",
            (joined, nid, _BATCH),
        )
        if not rows:
            rows = tx.rows(
                "SELECT nid, joined, state FROM rooms INDEXED BY rooms_public "
                "WHERE is_public = 1 AND joined < ? ORDER BY joined DESC, nid LIMIT ?",
                (joined, _BATCH),
            )
        if not rows:
            return
        yield from map(ListedRoom._make, rows)
        nid, joined, _ = rows[-1]


def before(tx: ReadTransaction, place: Place) -> Iterator[ListedRoom]:
    """The published rooms before a place of the order, the nearest first."""
    joined, nid = place
    while True:
        rows = tx.rows(
            "SELECT nid, joined, state FROM rooms INDEXED BY rooms_public "
            "WHERE is_public = 1 AND joined = ? AND nid < ? ORDER BY nid DESC LIMIT ?",
            (joined, nid, _BATCH),
        )
        if not rows:
            rows = tx.rows(
                "SELECT nid, joined, state FROM rooms INDEXED BY rooms_public WHERE is_public = 1 AND joined > ? "
                "ORDER BY joined, nid DESC LIMIT ?",
                (joined, _BATCH),
            )
        if not rows:
            return
        yield from map(ListedRoom._make, rows)
        nid, joined, _ = rows[-1]


def count(tx: ReadTransaction) -> int:
    """How many rooms are published."""
    return int(tx.value("SELECT count(*) FROM rooms INDEXED BY rooms_public WHERE is_public = 1"))
