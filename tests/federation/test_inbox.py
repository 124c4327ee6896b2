"""Events of other servers that refer to what is not here: kept, completed, and never lost once acknowledged."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tinyserver.federation.inbox import FIRST_PAUSE_MS, MAX_IN_ROOM, MAX_TRIES, Inbox
from tinyserver.storage import events

from .chain import Chain
from .house import House, open_house
from .world import World


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


async def test_what_is_missing_is_fetched_after_the_answer(house: House) -> None:
    chain = await Chain(house).enter()
    ids = [chain.say(str(number)) for number in range(25)]
    answer = await house.put(chain.peer, "1", [chain.pdus[-1]])
    assert answer.json() == {"pdus": {ids[-1]: {}}}
    await chain.settled()
    places = [house.db.glance(lambda tx, event_id=event_id: events.by_id(tx, event_id)).place for event_id in ids]
    assert None not in places
    assert places == sorted(places)


async def test_it_goes_on_when_what_is_missing_comes_by_itself(house: House) -> None:
    chain = await Chain(house).enter()
    chain.tells = False
    first, second, third = chain.say("1"), chain.say("2"), chain.say("3")
    await house.put(chain.peer, "1", chain.pdus[1:])
    await chain.settled(waiting=2)
    assert not chain.shown(third)
    await house.put(chain.peer, "2", chain.pdus[:1])
    await chain.settled()
    assert all(chain.shown(event_id) for event_id in (first, second, third))


async def test_acknowledged_events_survive_a_crash(house: House) -> None:
    chain = await Chain(house).enter()
    chain.tells = False
    chain.say("1")
    last = chain.say("2")
    await house.put(chain.peer, "1", chain.pdus[1:])
    await chain.settled(waiting=1)
    await house.inbox.close()
    chain.tells = True
    house.world.time.pass_(2 * FIRST_PAUSE_MS / 1000)
    house.inbox = Inbox(house.db, house.pipeline, house.world.clock)  # as after a restart
    house.inbox.start()
    await chain.settled()
    assert chain.shown(last)


async def test_who_waits_for_nothing_is_given_up(house: House) -> None:
    chain = await Chain(house).enter()
    chain.tells = False
    chain.say("never seen")
    orphan = chain.say("orphan")
    await house.put(chain.peer, "1", chain.pdus[1:])
    for _ in range(MAX_TRIES - 1):
        await chain.settled(waiting=1)
        house.world.time.pass_(FIRST_PAUSE_MS * 2**MAX_TRIES / 1000)
        house.inbox.start()
    await chain.settled()
    assert not chain.shown(orphan)
    asked = len(chain.asked)
    chain.tells = True
    await house.put(chain.peer, "2", chain.pdus[1:])  # it may come again
    await chain.settled()
    assert chain.shown(orphan)
    assert len(chain.asked) > asked


async def test_what_waits_is_bounded(house: House) -> None:
    chain = await Chain(house).enter()
    chain.tells = False
    chain.say("missing")
    base = chain.base
    for number in range(MAX_IN_ROOM + 5):
        chain.base = base  # all follow the one that is missing
        chain.say(str(number))
    refused = 0
    for start in range(1, len(chain.pdus), 50):
        answer = await house.put(chain.peer, f"t{start}", chain.pdus[start : start + 50])
        refused += sum("error" in result for result in answer.json()["pdus"].values())
    assert refused == 5
    assert chain.waiting() == MAX_IN_ROOM
    chain.base = base
    good = house.message(chain.peer, chain.room, "heard all the same")
    assert (await house.put(chain.peer, "good", [good])).json() == {"pdus": {house.rooms.id_of(good, chain.room): {}}}
    assert chain.shown(house.rooms.id_of(good, chain.room))
