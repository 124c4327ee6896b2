"""What is sent to other servers: every event, to exactly those who were there, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from tinyserver.federation import greetings, sender
from tinyserver.federation.greetings import Greetings
from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.protocol.room_versions import ROOM_VERSIONS
from tinyserver.storage import events, outgoing, server_stays, sticky_events
from tinyserver.storage.transaction import WriteTransaction

from .house import ALICE, House, open_house
from .network import json_reply
from .receiver import receiver
from .world import World


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


async def say(house: House, room: int, *bodies: str) -> None:
    for body in bodies:
        await house.rooms.send(room, ALICE, "m.room.message", {"body": body})


async def test_members_of_other_servers_get_events(house: House) -> None:
    first, second = await receiver(house.world, "a"), await receiver(house.world, "b")
    room, quiet = await house.public_room(), await house.public_room("12")
    await say(house, room, "before anybody came")
    await house.join(first.peer, room)
    await house.join(second.peer, quiet)
    await say(house, room, "one", "two")
    await say(house, quiet, "for the second")
    await first.until(lambda: len(first.bodies) == 2)
    await second.until(lambda: second.bodies)
    assert (first.bodies, second.bodies) == (["one", "two"], ["for the second"])
    assert first.transactions[first.tried[0]]["origin"] == "tiny.test"
    event_id = house.rooms.id_of(first.pdus[0], room)
    stored = house.db.glance(lambda tx: events.by_id(tx, event_id))
    assert stored is not None
    assert first.pdus[0] == stored.event.pdu


async def test_who_comes_later_gets_what_is_sticky(house: House) -> None:
    first, second = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    await house.join(first.peer, room)

    async def stick(body: str, duration: int | None) -> None:
        draft = replace(house.draft(ALICE, {"body": body}), sticky=duration)
        await house.db.write(lambda tx: house.pipeline.send(tx, room, draft))

    await stick("sticks", 600_000)
    await stick("does not", None)
    await stick("over", 1000)
    house.world.time.pass_(2)
    await house.join(second.peer, room)
    await second.until(lambda: second.bodies)
    await house.join(second.peer, room, "ben")  # not the first of that server
    await say(house, room, "on")
    for each in (first, second):
        await each.until(lambda each=each: "on" in each.bodies)  # type: ignore[misc]
    assert second.bodies == ["sticks", "on"]
    assert [pdu["msc4354_sticky"] for pdu in second.pdus[:1]] == [{"duration_ms": 600_000}]


async def test_events_of_others_are_sticky_as_long_as_they_say_but_not_longer(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    now = house.world.clock.now_ms()
    for number, (said, ts) in enumerate(
        [
            ({"duration_ms": 10_000}, now),
            ({"duration_ms": 99_000_000}, now + 3_000_000),
            ({"duration_ms": 10_000}, now - 60_000),
            ({"duration_ms": True}, now),
            ({"duration_ms": "10000"}, now),
            ([10_000], now),
            (None, now),
        ]
    ):
        pdu = house.message(there.peer, room, str(number))
        del pdu["hashes"], pdu["signatures"]
        changed = add_content_hash({**pdu, "msc4354_sticky": said, "origin_server_ts": ts})
        signed = sign_event(changed, ROOM_VERSIONS["11"], there.peer.name, there.peer.key)
        await house.rooms.receive(there.peer.name, signed)
    rows = house.db.glance(lambda tx: sticky_events.in_room(tx, room, 0, house.db.position, 10))
    bodies = [house.db.glance(lambda tx, row=row: events.get(tx, row.event)).event.content["body"] for row in rows]
    assert bodies == ["0", "1"]
    assert rows[1].until - now <= 3_600_000 + 60_000  # not from when it says that it was sent


async def test_sticky_events_that_were_soft_failed_are_told_of_when_their_sender_comes_back(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    user = f"@bob:{there.peer.name}"
    base = house.rooms.snapshot(room)

    async def late(body: str) -> str:
        """A message that Bob sent before he heard that he was thrown out."""
        pdu = house.rooms.remote_event(there.peer.name, base, user, "m.room.message", {"body": body})
        del pdu["hashes"], pdu["signatures"]
        changed = add_content_hash({**pdu, "msc4354_sticky": {"duration_ms": 600_000}})
        signed = sign_event(changed, ROOM_VERSIONS["11"], there.peer.name, there.peer.key)
        return (await house.rooms.receive(there.peer.name, signed)).outcome.value

    def told() -> list[str]:
        rows = house.db.glance(lambda tx: sticky_events.in_room(tx, room, 0, house.db.position, 10))
        return [house.db.glance(lambda tx, row=row: events.get(tx, row.event)).event.content["body"] for row in rows]

    await house.rooms.send(room, ALICE, "m.room.member", {"membership": "leave"}, state_key=user)
    before = house.db.position
    assert await late("in the call") == "soft-failed"
    assert told() == []
    await house.join(there.peer, room, "ben")
    assert told() == []
    await house.join(there.peer, room)
    assert told() == ["in the call"]
    (row,) = house.db.glance(lambda tx: sticky_events.in_room(tx, room, before, house.db.position, 10))
    stored = house.db.glance(lambda tx: events.get(tx, row.event))
    assert stored.place is None, "it has no place in the timeline"


async def test_who_is_thrown_out_is_told_so_and_nothing_more(house: House) -> None:
    there, stays = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    await house.join(there.peer, room)
    await house.join(there.peer, room, "ben")
    await house.join(stays.peer, room)
    for name in ("bob", "ben"):
        user = f"@{name}:{there.peer.name}"
        await house.rooms.send(room, ALICE, "m.room.member", {"membership": "leave"}, state_key=user)
    await say(house, room, "they are gone")
    await stays.until(lambda: stays.bodies)
    await there.until(lambda: len(there.pdus) == 2)
    assert [pdu["state_key"] for pdu in there.pdus] == [f"@bob:{there.peer.name}", f"@ben:{there.peer.name}"]
    await house.join(there.peer, room)
    await say(house, room, "welcome back")
    await there.until(lambda: there.bodies)
    assert there.bodies == ["welcome back"]


async def test_who_is_no_longer_invited_is_told(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    user = f"@bob:{there.peer.name}"
    await house.rooms.send(room, ALICE, "m.room.member", {"membership": "invite"}, state_key=user)
    await say(house, room, "not for them")
    await house.rooms.send(room, ALICE, "m.room.member", {"membership": "leave"}, state_key=user)
    await say(house, room, "nor this")
    await there.until(lambda: there.pdus)
    assert [pdu["content"] for pdu in there.pdus] == [{"membership": "leave"}]


async def test_events_of_others_are_not_passed_on_unless_that_is_our_task(house: House) -> None:
    there, third = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    await house.join(third.peer, room)
    joined = await house.join(there.peer, room)
    await house.db.write(lambda tx: outgoing.owe(tx, joined))
    await say(house, room, "hello")
    await third.until(lambda: third.bodies)
    await there.until(lambda: there.bodies)
    assert [pdu["type"] for pdu in third.pdus] == ["m.room.member", "m.room.message"]
    assert [pdu["type"] for pdu in there.pdus] == ["m.room.message"]


async def say_at_once(house: House, room: int, bodies: list[str]) -> None:
    """Messages that are all stored by one commit."""

    def step(tx: WriteTransaction) -> None:
        for body in bodies:
            draft = house.draft(ALICE, {"body": body})
            house.pipeline.send(tx, room, draft)

    await house.db.write(step)


async def test_many_events_go_out_in_order_in_full_transactions(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    there.hold.clear()
    await say(house, room, "0")
    await there.until(lambda: there.tried)
    bodies = [str(number) for number in range(1, 121)]
    await say_at_once(house, room, bodies)
    there.hold.set()
    await there.until(lambda: len(there.bodies) == 121)
    assert there.bodies == ["0", *bodies]
    assert [len(each["pdus"]) for each in there.transactions.values()] == [1, 50, 50, 20]


async def test_who_lacks_much_is_not_flooded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "FIRST_REST_MS", 10)
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                house.world.time.pass_(1)
                await asyncio.sleep(0.01)

    there.digests.clear()
    await say_at_once(house, room, [str(number) for number in range(220)])
    await until(lambda: len(there.asked) == 4)
    assert len(there.pdus) == 50
    assert set(there.asked) == {house.rooms.id_of(there.pdus[-1], room)}
    there.digests.set()
    await until(lambda: len(there.bodies) == 220)
    # It is not waited for without end: it may not want that event at all.
    there.digests.clear()
    there.asked.clear()
    await say_at_once(house, room, [str(number) for number in range(60)])
    await until(lambda: len(there.bodies) == 280)
    assert len(there.asked) == sender.MAX_RESTS + 1
    assert house.world.destinations.state_of(there.peer.name) is None


async def test_a_server_that_was_down_gets_everything(house: House) -> None:
    there, well = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    for each in (there, well):
        await house.join(each.peer, room)
    there.answer = json_reply({}, 503)
    await say(house, room, *map(str, range(130)))
    await well.until(lambda: len(well.bodies) == 130)
    assert there.tried[1:] == []  # it is not asked again and again
    owed = {each.server: each.events for each in house.db.glance(outgoing.overview)}
    assert owed[there.peer.name] == 130
    there.answer = None
    house.world.destinations.contacted(there.peer.name)  # it is back, and makes a request
    await there.until(lambda: len(there.bodies) == 130)
    assert there.bodies == [str(number) for number in range(130)]
    assert there.tried[0] == there.tried[1]  # what was tried once is sent under the same ID again


async def test_a_server_that_says_no_is_not_pestered(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    there.answer = json_reply({"errcode": "M_FORBIDDEN", "error": "Go away"}, 403)
    await say(house, room, "one")
    await there.until(lambda: there.tried)
    await asyncio.sleep(0)
    await say(house, room, *map(str, range(20)))
    there.answer = None
    assert len(there.tried) == 1
    house.world.time.pass_(31)
    await say(house, room, "last")
    await there.until(lambda: "last" in there.bodies)
    assert len(there.bodies) == 22
    assert len(set(there.bodies)) == 22


async def test_a_restart_loses_and_doubles_nothing(house: House) -> None:
    there, well = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    for each in (there, well):
        await house.join(each.peer, room)
    await say(house, room, "one")
    await well.until(lambda: well.bodies)
    await there.until(lambda: there.bodies)
    there.hold.clear()
    await say(house, room, "two")
    await there.until(lambda: len(there.tried) == 2)
    await well.until(lambda: len(well.bodies) == 2)
    await house.sender.close()  # while the answer is not there yet
    await say(house, room, "three")  # stored, but nobody was there to send it
    there.hold.set()
    house.sender = house.new_sender()
    house.sender.start()
    await well.until(lambda: len(well.bodies) == 3)
    await there.until(lambda: "three" in there.bodies)
    assert well.bodies == ["one", "two", "three"]
    assert len(well.tried) == 3  # what it has is not sent again
    assert list(dict.fromkeys(there.bodies)) == ["one", "two", "three"]


async def test_after_a_crash_events_are_sent_again_under_the_same_transaction_id(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    house.stop_noting()  # as if the process were killed before it noted what was sent
    await say(house, room, "one")
    await there.until(lambda: there.bodies)
    house.sender = house.new_sender()
    house.sender.start()
    await there.until(lambda: len(there.tried) == 2)
    assert there.tried[0] == there.tried[1]
    assert there.bodies == ["one"]


async def test_what_everybody_has_is_forgotten(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    await say(house, room, "one", "two")
    await there.until(lambda: len(there.bodies) == 2)
    await asyncio.gather(*house.sender._running.values())
    await house.sender.close()
    count = house.db.glance(lambda tx: tx.value("SELECT count(*) FROM outgoing_events"))
    assert (count, house.db.glance(outgoing.behind)) == (0, {})
    house.sender = house.new_sender()
    house.sender.start()
    await say(house, room, "three")
    await there.until(lambda: len(there.bodies) == 3)
    assert there.bodies == ["one", "two", "three"]


async def test_a_room_without_others_owes_nothing(house: House) -> None:
    room = await house.public_room()
    await say(house, room, "alone")
    assert house.db.glance(lambda tx: tx.value("SELECT count(*) FROM outgoing_events")) == 0
    assert house.db.glance(server_stays.everywhere) == []


async def test_after_an_outage_all_who_share_a_room_hear_from_us(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greetings, "WITHIN", 0.1)
    first, second, dead = [await receiver(house.world, name) for name in "abc"]
    room = await house.public_room()
    for there in (first, second, dead):
        await house.join(there.peer, room)
    destinations = house.world.destinations
    destinations.failed(dead.peer.name, "broken")
    greeting = Greetings(house.db, house.sender, destinations)
    greeting.greet_all()
    await first.until(lambda: first.tried)
    await second.until(lambda: second.tried)
    assert first.transactions[first.tried[0]]["pdus"] == []
    # The network goes away for a minute: as soon as anybody answers, all are greeted, and tried that were out of reach.
    for name in (first.peer.name, second.peer.name):
        destinations.failed(name, "no network", local=True)
    house.world.time.pass_(20)
    destinations.answered(second.peer.name)
    house.world.time.pass_(60)
    for name in (first.peer.name, second.peer.name):
        destinations.failed(name, "no network", local=True)
    house.world.time.pass_(60)
    destinations.answered("elsewhere.test")
    await first.until(lambda: len(first.tried) == 2)
    await second.until(lambda: len(second.tried) == 2)
    await greeting.close()
    assert dead.tried == []


async def test_a_sender_that_never_started_forgets_nothing(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    there.answer = json_reply({}, 503)
    await say(house, room, "hello")
    await there.until(lambda: there.tried)
    await house.new_sender().close()
    owed = house.db.glance(outgoing.overview)
    assert [(each.server, each.events) for each in owed] == [(there.peer.name, 1)]
