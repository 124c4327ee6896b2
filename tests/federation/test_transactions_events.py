"""Transactions from other servers, over real HTTP: what becomes of the events in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.federation.inbox import PER_STEP
from tinyserver.storage import events

from .chain import Chain
from .house import ALICE, House, open_house
from .world import World


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


def place_of(house: House, event_id: str) -> int | None:
    stored = house.db.glance(lambda tx: events.by_id(tx, event_id))
    return None if stored is None else stored.place


def is_shown(house: House, event_id: str) -> bool:
    return place_of(house, event_id) is not None


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
async def test_events_are_taken_in_order(house: House, version: str) -> None:
    peer = await house.world.peer()
    room = await house.public_room(version)
    await house.join(peer, room)
    base = house.rooms.snapshot(room)
    pdus = []
    for number in range(10):
        pdu = house.rooms.remote_event(peer.name, base, f"@bob:{peer.name}", "m.room.message", {"body": str(number)})
        pdus.append(pdu)
        base = base.after(pdu)
    answer = await house.put(peer, "1", pdus)
    ids = [house.rooms.id_of(pdu, room) for pdu in pdus]
    assert (answer.status_code, answer.json()) == (200, {"pdus": {event_id: {} for event_id in ids}})
    places = [place_of(house, event_id) or 0 for event_id in ids]
    assert places == sorted(places)
    assert min(places) > 0


async def test_the_same_transaction_counts_once(house: House) -> None:
    peer = await house.world.peer()
    room = await house.public_room()
    await house.join(peer, room)
    seen: list[str] = []

    async def note(origin: str, content: Any) -> None:
        seen.append(origin)

    house.inbound.handle("m.test", note)
    pdu = house.message(peer, room, "once")
    edus = [{"edu_type": "m.test", "content": {}}, {"edu_type": "m.unknown", "content": {}}, 7, {}]
    answers = await asyncio.gather(*(house.put(peer, "t", [pdu], edus) for _ in range(3)))
    answers.append(await house.put(peer, "t", [pdu], edus))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert seen == [peer.name]
    assert (await house.put(peer, "u", [pdu], edus)).json() == answers[0].json()  # a restart would look like this
    assert seen == [peer.name] * 2


async def test_one_bad_event_does_not_spoil_the_others(house: House) -> None:
    peer = await house.world.peer()
    room = await house.public_room()
    await house.join(peer, room)
    good = house.message(peer, room, "good")
    forged = {**house.message(peer, room, "forged"), "depth": 99}
    stranger = house.message(peer, room, "stranger", name="mallory")
    far = house.rooms.snapshot(room)
    unknown = house.rooms.remote_event(peer.name, far, f"@bob:{peer.name}", "m.room.message", {"body": "orphan"})
    after = house.rooms.remote_event(
        peer.name, far.after(unknown), f"@bob:{peer.name}", "m.room.message", {"body": "child"}
    )
    malformed = [7, None, {}, {"room_id": 7}, {"room_id": house.room_id(room)}, {**good, "content": []}]
    elsewhere = {**good, "room_id": "!elsewhere:tiny.test"}
    odd = [{**good, "type": []}, {**good, "hashes": "x"}, {**good, "content": {"n": 1.5}}, {**good, "sender": "bob"}]
    answer = await house.put(peer, "1", [*malformed, forged, *odd, stranger, after, elsewhere, good])
    assert answer.status_code == 200
    results = answer.json()["pdus"]
    good_id = house.rooms.id_of(good, room)
    assert results[good_id] == {}
    assert is_shown(house, good_id)
    for bad in (forged, stranger):
        event_id = house.rooms.id_of(bad, room)
        assert results[event_id]["error"]
        assert not is_shown(house, event_id)
    orphan_id = house.rooms.id_of(after, room)
    assert results[orphan_id] == {}  # it waits for what nobody gives
    assert not is_shown(house, orphan_id)


async def test_servers_that_the_room_bans_are_not_heard(house: House) -> None:
    peer = await house.world.peer()
    room = await house.public_room()
    await house.join(peer, room)
    acl = {"allow": ["*"], "deny": ["127.0.0.1"], "allow_ip_literals": True}
    await house.rooms.send(room, ALICE, "m.room.server_acl", acl, state_key="")
    pdu = house.message(peer, room, "banned")
    event_id = house.rooms.id_of(pdu, room)
    assert "access control" in (await house.put(peer, "1", [pdu])).json()["pdus"][event_id]["error"]
    assert not is_shown(house, event_id)
    await house.rooms.send(room, ALICE, "m.room.server_acl", {"allow": ["*"]}, state_key="")
    assert (await house.put(peer, "2", [pdu])).json() == {"pdus": {event_id: {}}}


async def test_a_ban_in_the_middle_of_a_transaction_counts_for_the_rest(house: House) -> None:
    chain = await Chain(house).enter()
    bob = f"@bob:{chain.peer.name}"
    house.world.time.pass_(1)
    levels = {"users": {ALICE: 100, bob: 100}}
    await house.rooms.send(chain.room, ALICE, "m.room.power_levels", levels, state_key="")
    chain.look()
    acl = {"allow": ["*"], "deny": ["127.0.0.1"]}
    ban = house.rooms.remote_event(chain.peer.name, chain.base, bob, "m.room.server_acl", acl, state_key="")
    chain.base = chain.base.after(ban)
    said = [chain.say(str(number)) for number in range(2 * PER_STEP)]
    await house.put(chain.peer, "1", [ban, *chain.pdus])
    assert [is_shown(house, event_id) for event_id in said[PER_STEP:]] == [False] * PER_STEP


async def test_rooms_that_nobody_is_in_are_not_followed(house: House) -> None:
    peer = await house.world.peer()
    room = await house.public_room()
    await house.join(peer, room)
    await house.rooms.send(room, ALICE, "m.room.member", {"membership": "leave"}, state_key=ALICE)
    pdu = house.message(peer, room, "to nobody")
    event_id = house.rooms.id_of(pdu, room)
    assert (await house.put(peer, "1", [pdu])).json()["pdus"][event_id]["error"]
    assert not is_shown(house, event_id)


async def test_too_much_at_once(house: House) -> None:
    peer = await house.world.peer()
    pdu = {"room_id": "!nowhere:tiny.test"}
    assert (await house.put(peer, "1", [pdu] * 50, [{}] * 100)).json() == {"pdus": {}}
    for pdus, edus in (([pdu] * 51, []), ([], [{}] * 101)):
        answer = await house.put(peer, "2", pdus, edus)
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")


async def test_who_does_not_wait_for_answers_is_told_to(house: House) -> None:
    peer = await house.world.peer()
    go_on = asyncio.Event()

    async def wait(origin: str, content: Any) -> None:
        await go_on.wait()

    house.inbound.handle("m.test", wait)
    edus = [{"edu_type": "m.test", "content": {}}]
    await house.put(peer, "0", [])  # its keys are known from here on
    sending = [asyncio.ensure_future(house.put(peer, f"{n}", [], edus)) for n in range(1, 9)]
    refused, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result().status_code for task in refused} == {429}
    go_on.set()
    statuses = [(await task).status_code for task in sending]
    assert statuses.count(200) >= 3
    assert set(statuses) == {200, 429}
