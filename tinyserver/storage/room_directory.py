"""The published rooms in their order: the largest first, those of one size by their number.

Where a listing stands is a (joined members, nid) pair, which names a point of that order whether or not a room is
there any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from tinyserver.storage.transaction import ReadTransaction

Place = tuple[int, int]
Network = tuple[int, str]
"""The list that an application service (nid) keeps for a network."""

_BATCH = 50


class Own(Enum):
    """Lists that are no single network's."""

    PUBLIC = 1
    """This server's directory."""
    EVERYTHING = 2
    """That, and the lists of all networks."""


Listing = Own | Network


class ListedRoom(NamedTuple):
    """A published room: its number, how many members it has, and the root of its current state."""

    nid: int
    joined: int
    state: int


def after(tx: ReadTransaction, place: Place | None, listing: Listing = Own.PUBLIC) -> Iterator[ListedRoom]:
    """The rooms of a list after a place of the order, read a few at a time as they are asked for; None: all."""
    place = place or (2**62, 0)
    if listing is Own.EVERYTHING:
        both = heapq.merge(_public_after(tx, place), _of_networks_after(tx, place, None), key=_order)
        return _distinct(both)
    if isinstance(listing, tuple):
        return _of_networks_after(tx, place, listing)
    return _public_after(tx, place)


def before(tx: ReadTransaction, place: Place, listing: Listing = Own.PUBLIC) -> Iterator[ListedRoom]:
    """The rooms of a list before a place of the order, the nearest first."""
    if listing is Own.EVERYTHING:
        both = heapq.merge(_public_before(tx, place), _of_networks_before(tx, place, None), key=_order, reverse=True)
        return _distinct(both)
    if isinstance(listing, tuple):
        return _of_networks_before(tx, place, listing)
    return _public_before(tx, place)


def count(tx: ReadTransaction, listing: Listing = Own.PUBLIC) -> int:
    """How many rooms a list has."""
    if isinstance(listing, tuple):
        return int(tx.value("SELECT count(*) FROM appservice_rooms WHERE service = ? AND network = ?", listing))
    public = int(tx.value("SELECT count(*) FROM rooms INDEXED BY rooms_public WHERE is_public = 1"))
    if listing is Own.PUBLIC:
        return public
    others = tx.value(
        "SELECT count(DISTINCT room) FROM appservice_rooms INDEXED BY appservice_rooms_by_room "
        "CROSS JOIN rooms ON rooms.nid = room WHERE is_public = 0"
    )
    return public + int(others)


def _order(room: ListedRoom) -> Place:
    return -room.joined, room.nid


def _distinct(listed: Iterator[ListedRoom]) -> Iterator[ListedRoom]:
    last = None
    for room in listed:
        if room.nid != last:
            yield room
        last = room.nid


def _public_after(tx: ReadTransaction, place: Place) -> Iterator[ListedRoom]:
    joined, nid = place
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


def _public_before(tx: ReadTransaction, place: Place) -> Iterator[ListedRoom]:
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


# Rooms in the lists of networks are put into their order when they are asked for: there is no index for it.


def _of_networks_after(tx: ReadTransaction, place: Place, network: Network | None) -> Iterator[ListedRoom]:
    joined, nid = place
    if network is None:
        rows = tx.execute(
            "SELECT DISTINCT r.nid, r.joined, r.state FROM appservice_rooms a INDEXED BY appservice_rooms_by_room "
            "CROSS JOIN rooms r ON r.nid = a.room WHERE (-r.joined, r.nid) > (?, ?) ORDER BY r.joined DESC, r.nid",
            (-joined, nid),
        )
    else:
        rows = tx.execute(
            "SELECT r.nid, r.joined, r.state FROM appservice_rooms a CROSS JOIN rooms r ON r.nid = a.room "
            "WHERE a.service = ? AND a.network = ? AND (-r.joined, r.nid) > (?, ?) ORDER BY r.joined DESC, r.nid",
            (*network, -joined, nid),
        )
    return map(ListedRoom._make, rows)


def _of_networks_before(tx: ReadTransaction, place: Place, network: Network | None) -> Iterator[ListedRoom]:
    joined, nid = place
    if network is None:
        rows = tx.execute(
            "SELECT DISTINCT r.nid, r.joined, r.state FROM appservice_rooms a INDEXED BY appservice_rooms_by_room "
            "CROSS JOIN rooms r ON r.nid = a.room WHERE (-r.joined, r.nid) < (?, ?) ORDER BY r.joined, r.nid DESC",
            (-joined, nid),
        )
    else:
        rows = tx.execute(
            "SELECT r.nid, r.joined, r.state FROM appservice_rooms a CROSS JOIN rooms r ON r.nid = a.room "
            "WHERE a.service = ? AND a.network = ? AND (-r.joined, r.nid) < (?, ?) ORDER BY r.joined, r.nid DESC",
            (*network, -joined, nid),
        )
    return map(ListedRoom._make, rows)
