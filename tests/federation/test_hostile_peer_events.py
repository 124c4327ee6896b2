"""A server that sends events which are malformed, forged, or not allowed: nothing of it becomes part of a room."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.storage import events, rooms

from .chain import Chain
from .house import ALICE, House, open_house
from .world import World

JUNK: list[Any] = [None, True, -1, 1.5, 2**63, "", "x" * 300, "\0", [], [[]], ["$x"], [None], {}, {"": {}}]
FIELDS = (
    *("type", "room_id", "sender", "content", "depth", "prev_events", "auth_events", "origin_server_ts", "hashes"),
    *("signatures", "state_key", "unsigned", "event_id", "redacts", "origin"),
)
HARMLESS = {"unsigned", "origin", "event_id", "redacts"}
"""What an event may hold whatever its value: it means nothing there."""


@pytest_asyncio.fixture
async def house(world: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    caplog.set_level(logging.ERROR)
    async with open_house(world) as made:
        yield made
    assert not caplog.records, "the server met an error of its own"


def signed(chain: Chain, pdu: dict[str, Any]) -> dict[str, Any]:
    """The event with the hash and the signature that it should have, where it can have one."""
    version = chain.base.room.version
    bare = {name: value for name, value in pdu.items() if name not in ("hashes", "signatures")}
    return sign_event(add_content_hash(bare), version, chain.peer.name, chain.peer.key)


def extremities(house: House, room: int) -> tuple[int, ...]:
    return house.db.glance(lambda tx: rooms.get(tx, room)).extremities


@pytest.mark.parametrize("version", ["1", "5", "11"])
async def test_malformed_events_are_refused_one_by_one(house: House, version: str) -> None:
    chain = await Chain(house).enter(version)
    before = extremities(house, chain.room)
    good = house.message(chain.peer, chain.room, "good")
    harmful = []
    for field in FIELDS:
        if field in HARMLESS or (field == "event_id" and version != "1"):
            continue
        bent = [{**good, field: copy.deepcopy(junk)} for junk in JUNK if not (field == "state_key" and junk == "")]
        bent.append({name: value for name, value in good.items() if name != field} if field != "state_key" else {})
        for number, pdu in enumerate(bent):
            if version == "1" and field != "event_id":  # there the sender chooses the ID; two with one are one event
                pdu = {**pdu, "event_id": f"$bent-{field}-{number}:{chain.peer.name}"}
            if field not in ("hashes", "signatures"):
                with suppress(ValueError, TypeError, AttributeError, KeyError):  # else it goes out as it is
                    pdu = signed(chain, pdu)
            harmful.append(pdu)
    allowed = ("content", "depth", "origin_server_ts", "state_key", "type")  # some of these values make another event
    harmful = [pdu for pdu in harmful if not any(is_sound(pdu, good, field) for field in allowed)]
    for start in range(0, len(harmful), 50):
        answer = await house.put(chain.peer, f"m{start}", harmful[start : start + 50])
        assert answer.status_code == 200, answer.text
    await chain.settled(chain.waiting())
    assert extremities(house, chain.room) == before
    answer = await house.put(chain.peer, "good", [good])
    assert list(answer.json()["pdus"].values()) == [{}]
    assert chain.shown(house.rooms.id_of(good, chain.room))


def is_sound(pdu: dict[str, Any], good: dict[str, Any], field: str) -> bool:
    """Whether only this field differs from the good event's, in a way that a room may hold."""
    value = pdu.get(field)
    free = (field, "hashes", "signatures", "event_id")
    if any(pdu.get(name) != good.get(name) for name in FIELDS if name not in free):
        return False
    if field == "content":
        return isinstance(value, dict)
    if field in ("depth", "origin_server_ts"):
        return type(value) is int
    return isinstance(value, str)


async def test_nobody_speaks_for_users_of_others(house: House) -> None:
    chain = await Chain(house).enter()
    other = await house.world.peer("k2")
    await house.join(other, chain.room, "carol")
    base = house.message(chain.peer, chain.room, "forged")
    before = extremities(house, chain.room)
    for number, sender in enumerate((ALICE, f"@carol:{other.name}")):
        forged = signed(chain, {**base, "sender": sender})
        # Signed in the other's name with the wrong key, and under its key's name.
        claimed = copy.deepcopy(forged)
        own = claimed["signatures"][chain.peer.name]
        server = sender.partition(":")[2]
        claimed["signatures"] = {server: dict.fromkeys(("ed25519:k1", "ed25519:k2", "ed25519:mine"), *own.values())}
        answer = await house.put(chain.peer, str(number), [forged, claimed])
        assert all(result["error"] for result in answer.json()["pdus"].values())
    assert extremities(house, chain.room) == before


async def test_those_who_are_not_in_the_room_are_not_heard(house: House) -> None:
    chain = await Chain(house).enter()
    mallory, bob = f"@mallory:{chain.peer.name}", f"@bob:{chain.peer.name}"
    stranger = house.message(chain.peer, chain.room, "stranger", name="mallory")
    old = house.rooms.snapshot(chain.room)
    await house.rooms.send(chain.room, ALICE, "m.room.member", {"membership": "ban"}, state_key=bob)
    before = extremities(house, chain.room)
    banned = house.message(chain.peer, chain.room, "banned")
    # As if the ban had not reached it: allowed there, but not by what the room is now.
    late = house.rooms.remote_event(chain.peer.name, old, bob, "m.room.message", {"body": "late"})
    back = house.rooms.remote_event(
        chain.peer.name, old, bob, "m.room.member", {"membership": "join", "displayname": "B"}, state_key=bob
    )
    coup = house.rooms.remote_event(
        chain.peer.name, old, bob, "m.room.power_levels", {"users": {bob: 100}}, state_key=""
    )
    friend = house.rooms.remote_event(
        chain.peer.name, old, bob, "m.room.member", {"membership": "join"}, state_key=mallory
    )
    await house.put(chain.peer, "1", [stranger, banned, late, back, coup, friend])
    assert extremities(house, chain.room) == before
    for pdu in (stranger, banned, late, back, coup, friend):
        assert not chain.shown(house.rooms.id_of(pdu, chain.room))


async def test_extreme_depths_and_times_change_nothing(house: House) -> None:
    chain = await Chain(house).enter()
    first = house.message(chain.peer, chain.room, "from the future")
    depth = chain.base.room.version.max_depth
    bent = signed(chain, {**first, "depth": depth, "origin_server_ts": 2**53 - 1})
    now = house.world.clock.now_ms()
    answer = await house.put(chain.peer, "1", [bent])
    # Its server's keys are not good for that long: where the room's version looks at this, it is refused.
    assert next(iter(answer.json()["pdus"].values()))["error"]
    bent = signed(chain, {**first, "depth": depth, "origin_server_ts": now + 3600_000})
    assert list((await house.put(chain.peer, "2", [bent])).json()["pdus"].values()) == [{}]
    reply = await house.rooms.send(chain.room, ALICE, "m.room.message", {"body": "reply"})
    assert reply.event.depth == depth
    assert abs(reply.event.origin_server_ts - now) < 60_000
    assert reply.event.prev_event_ids == [house.rooms.id_of(bent, chain.room)]
    later = house.message(chain.peer, chain.room, "and on")
    assert list((await house.put(chain.peer, "3", [later])).json()["pdus"].values()) == [{}]
    later_id = house.rooms.id_of(later, chain.room)
    stored = house.db.glance(lambda tx: events.by_id(tx, later_id))
    assert stored is not None
    assert (stored.place or 0) > (reply.place or 0)


async def test_huge_and_nested_transactions_are_refused(house: House) -> None:
    chain = await Chain(house).enter()
    good = house.message(chain.peer, chain.room, "good")
    big = {**good, "content": {"body": "x" * 200_000}}
    answer = await house.put(chain.peer, "1", [big] * 39)
    assert (answer.status_code, len(answer.json()["pdus"])) == (200, 1)
    assert next(iter(answer.json()["pdus"].values()))["error"]
    answer = await house.put(chain.peer, "2", [{**good, "content": {"body": "x" * 9_000_000}}])
    assert (answer.status_code, answer.json()["errcode"]) == (413, "M_TOO_LARGE")
    nested: Any = []
    for _ in range(150):
        nested = [nested]
    answer = await house.put(chain.peer, "3", [{**good, "content": {"n": nested}}])
    assert answer.status_code in (200, 400)
    assert list((await house.put(chain.peer, "4", [good])).json()["pdus"].values()) == [{}]
