"""Events of other servers that refer to what is not here: kept, completed, and never lost once acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tinyserver.federation.inbox import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, MAX_TRIES
from tinyserver.federation.participation.comparison import RoomComparison
from tinyserver.protocol.events import parse_pdu
from tinyserver.rooms.outliers import store_outlier
from tinyserver.storage import events, graph, room_state

from .chain import Chain
from .house import US, House, open_house
from .network import Reply, Seen, json_reply
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
    house.inbox = house.new_inbox()  # as after a restart
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


async def put_all(house: House, chain: Chain, start: int) -> None:
    """Send what the chain has said, none of which is refused."""
    for first in range(start, len(chain.pdus), 50):
        answer = await house.put(chain.peer, f"t{first}", chain.pdus[first : first + 50])
        assert all(result == {} for result in answer.json()["pdus"].values())


async def test_of_what_is_too_much_the_names_are_kept_and_nothing_is_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyserver.federation.inbox.MAX_IN_ROOM", 20)
    chain = await Chain(house).enter()
    chain.tells = False
    chain.say("missing")
    base, ids = chain.base, []
    for number in range(25):
        chain.base = base  # all follow the one that is missing, and nothing follows them
        ids.append(chain.say(str(number)))
    await put_all(house, chain, 1)
    await chain.settled(waiting=20)
    assert chain.named() == 5
    chain.base = base
    good = house.message(chain.peer, chain.room, "heard all the same")
    assert (await house.put(chain.peer, "good", [good])).json() == {"pdus": {house.rooms.id_of(good, chain.room): {}}}
    assert chain.shown(house.rooms.id_of(good, chain.room))
    chain.gives = True
    house.world.time.pass_(2 * FIRST_PAUSE_MS / 1000)
    await house.put(chain.peer, "late", chain.pdus[:1])
    await chain.settled()
    assert all(chain.shown(event_id) for event_id in ids)
    assert chain.named() == 0


async def test_of_too_many_names_the_oldest_give_way_and_come_as_ancestors(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyserver.federation.inbox.MAX_IN_ROOM", 3)
    monkeypatch.setattr("tinyserver.federation.inbox.MAX_NAMES_IN_ROOM", 4)
    chain = await Chain(house).enter()
    chain.tells = False
    ids = [chain.say(str(number)) for number in range(20)]
    await put_all(house, chain, 1)
    await chain.settled(waiting=3)
    assert chain.named() == 4
    chain.tells = chain.gives = True
    house.world.time.pass_(2 * FIRST_PAUSE_MS / 1000)
    house.inbox.start()
    await chain.settled()
    assert chain.named() == 0
    assert all(chain.shown(event_id) for event_id in ids)


async def test_who_waits_for_a_server_that_is_away_is_not_given_up(house: House) -> None:
    chain = await Chain(house).enter()
    chain.is_away = True
    house.world.destinations.on_return.append(house.inbox.on_return)
    chain.say("missing")
    orphan = chain.say("orphan")
    await house.put(chain.peer, "1", chain.pdus[1:])
    for _ in range(2 * MAX_TRIES):
        await chain.settled(waiting=1)
        house.world.time.pass_(LONGEST_PAUSE_MS / 1000)
        house.inbox.start()
    await chain.settled(waiting=1)
    chain.is_away = False
    house.world.destinations.contacted(chain.peer.name)  # no time passes: it is tried since its server is back
    await chain.settled()
    assert chain.shown(orphan)


async def test_a_connection_that_breaks_leaves_no_gap(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state would do for the newest event, but nobody would ask for what is between."""
    chain = await Chain(house).enter()
    # As if the server showed up by itself right after the connection broke.
    monkeypatch.setattr(house.world.destinations, "failed", lambda *_, **__: None)
    chain.tells_state = True
    ids = [chain.say(str(number)) for number in range(25)]
    broken: list[str] = []

    async def breaking(seen: Seen) -> Reply:
        if "get_missing_events" in seen.target and not broken:
            broken.append(seen.target)
            return Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        return await chain.handle(seen)

    chain.peer.answer = breaking
    await house.put(chain.peer, "1", chain.pdus[-1:])
    await chain.settled(waiting=1)
    assert broken
    house.world.time.pass_(2 * FIRST_PAUSE_MS / 1000)
    house.inbox.start()
    await chain.settled()
    assert all(chain.shown(event_id) for event_id in ids)


async def test_other_servers_of_the_room_are_asked_as_well(house: House) -> None:
    chain = await Chain(house).enter()
    other = await house.world.peer("k2", handler=chain.handle)
    await house.join(other, chain.room)
    chain.look()
    chain.say("missing")
    orphan = chain.say("orphan")
    chain.peer.answer = _no  # it has lost what it said
    await house.put(chain.peer, "1", chain.pdus[1:])
    await chain.settled()
    assert chain.shown(orphan)


async def test_what_was_rejected_by_a_false_state_is_accepted_when_its_author_tells_more(
    house: House,
) -> None:
    chain = await Chain(house).enter()
    chain.tells, chain.tells_state = False, True
    joined = house.db.glance(
        lambda tx: room_state.nid_at(tx, chain.base.room.state, "m.room.member", f"@bob:{chain.peer.name}")
    )
    assert joined is not None
    chain.state.remove(house.db.glance(lambda tx: events.get(tx, joined)).event_id)
    chain.say("missing")
    last = chain.say("by nobody of the room")
    await house.put(chain.peer, "1", chain.pdus[1:])
    await chain.settled()
    assert not chain.shown(last)
    chain.tells = True
    await house.put(chain.peer, "2", chain.pdus[1:])
    await chain.settled()
    assert chain.shown(last)


async def _no(seen: Seen) -> Reply:
    return json_reply({"errcode": "M_NOT_FOUND", "error": "No"}, 404)


def comparison_of(house: House) -> RoomComparison:
    world = house.world
    return RoomComparison(
        house.db, world.client, house.missing, house.inbox, house.backfill, world.clock, US, world.time.monotonic
    )


async def test_gaps_that_a_comparison_leaves_are_filled_without_a_reader(house: House) -> None:
    chain = await Chain(house).enter()
    chain.tells, chain.tells_state, chain.gives, chain.backfills, chain.page = False, True, True, True, 10
    comparison = comparison_of(house)
    comparison.start()
    ids = [chain.say(str(number)) for number in range(35)]
    comparison.compare_all()
    await asyncio.gather(*comparison._tasks)
    assert [event_id for event_id in ids if not chain.shown(event_id)] == []
    assert not house.db.glance(lambda tx: graph.has_missing_parents(tx, chain.room))


async def test_a_comparison_fetches_what_is_known_as_an_auth_event_alone(house: House) -> None:
    chain = await Chain(house).enter()
    comparison = comparison_of(house)
    renamed = house.rooms.remote_event(
        chain.peer.name,
        chain.base,
        f"@bob:{chain.peer.name}",
        "m.room.member",
        {"membership": "join", "displayname": "Bob"},
        state_key=f"@bob:{chain.peer.name}",
    )
    chain.pdus.append(renamed)
    event = parse_pdu(renamed, chain.base.room.version)
    await house.db.write(lambda tx: store_outlier(tx, chain.base.room, event))
    assert not chain.shown(event.event_id)
    chain.gives = True
    comparison.compare_all()
    await asyncio.gather(*comparison._tasks)
    await chain.settled()
    assert chain.shown(event.event_id)
