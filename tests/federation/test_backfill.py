"""History that is not here, read back through another server, played by a script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.rooms.history import MessagesPage, MessagesRequest, RoomHistory
from tinyserver.storage import events, graph
from tinyserver.sync.windows import open_window

from .chain import Chain
from .house import ALICE, House, open_house
from .world import World


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


class Reader:
    """Alice, reading."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.history = RoomHistory(house.db, house.world.clock, IgnoredUsers(), house.backfill)
        self.requester = Requester(ALICE, house.rooms.nid(ALICE))

    async def page(self, room: int, start: str | None = None, limit: int = 30) -> MessagesPage:
        request = MessagesRequest(backwards=True, start=start, limit=limit)
        return await self.history.messages(self.requester, self.house.room_id(room), request)

    async def everything(self, room: int) -> list[Any]:
        """The bodies of all messages, newest first."""
        found: list[Any] = []
        token: str | None = None
        while True:
            page = await self.page(room, token)
            found += [orjson.loads(event) for event in page.chunk]
            if page.end is None or page.end == token:
                return [event["content"].get("body") for event in found if event["type"] == "m.room.message"]
            token = page.end


async def gap(house: House, count: int) -> Chain:
    """A room where so many messages before the newest are missing."""
    chain = await Chain(house).enter()
    chain.tells, chain.tells_state = False, True
    await house.rooms.send(chain.room, ALICE, "m.room.message", {"body": "before"})
    chain.look()
    for number in range(count + 1):
        chain.say(str(number))
    await house.put(chain.peer, "1", chain.pdus[-1:])
    await chain.settled()
    assert chain.shown(house.rooms.id_of(chain.pdus[-1], chain.room))
    await house.rooms.send(chain.room, ALICE, "m.room.message", {"body": "after"})
    return chain


def expected(count: int) -> list[str]:
    return ["after", *(str(number) for number in range(count, -1, -1)), "before"]


@pytest.mark.parametrize("page", [100, 7])
async def test_a_gap_in_the_middle_is_filled_where_it_is(house: House, page: int) -> None:
    chain = await gap(house, 25)
    chain.backfills, chain.page = True, page
    assert await Reader(house).everything(chain.room) == expected(25)
    assert not house.db.glance(lambda tx: graph.has_missing_parents(tx, chain.room))
    asked = len(chain.asked)
    assert await Reader(house).everything(chain.room) == expected(25)
    assert len(chain.asked) == asked


async def test_devices_that_wait_are_told_of_the_gap(house: House) -> None:
    chain = await gap(house, 5)
    last = house.rooms.id_of(chain.pdus[-1], chain.room)
    stored = house.db.glance(lambda tx: events.by_id(tx, last))
    assert stored is not None
    window = house.db.glance(lambda tx: open_window(tx, chain.room, 1, house.db.position, 50))
    assert window.limited
    assert window.events[0].event_id == last
    assert window.start == (stored.place or 0) - 1


async def test_the_reader_gets_what_is_known_when_nobody_tells(house: House) -> None:
    chain = await gap(house, 5)
    assert await Reader(house).everything(chain.room) == ["after", "5", "before"]
    chain.backfills = True  # the other server is back
    house.world.time.pass_(3600)
    assert await Reader(house).everything(chain.room) == expected(5)


async def test_forged_and_foreign_events_are_left_out(house: House) -> None:
    chain = await gap(house, 5)
    chain.backfills = True
    aside = house.message(chain.peer, chain.room, "not what was asked for")
    forged = {**chain.pdus[3], "content": {"body": "forged"}}
    whole = chain.pdus
    chain.pdus = [{**aside, "depth": 1}, aside, *whole[:3], forged, *whole[4:]]
    honest = house.rooms.id_of(whole[3], chain.room)
    found = await Reader(house).everything(chain.room)
    assert "forged" not in found
    assert "not what was asked for" not in found
    # The hash tells that the content was changed: what the signature covers remains.
    stored = house.db.glance(lambda tx: events.by_id(tx, honest))
    assert stored is not None
    assert stored.event.content == {}


async def test_who_may_not_see_history_has_none_fetched(house: House) -> None:
    chain = await Chain(house).enter()
    await house.rooms.send(
        chain.room, ALICE, "m.room.history_visibility", {"history_visibility": "joined"}, state_key=""
    )
    carol = "@carol:tiny.test"
    chain.tells, chain.tells_state, chain.backfills = False, True, True
    chain.look()
    join = {"membership": "join"}
    for number in range(3):
        chain.say(str(number))
    await house.rooms.send(chain.room, carol, "m.room.member", join, state_key=carol)
    await house.put(chain.peer, "1", chain.pdus[-1:])
    await chain.settled()
    reader = Reader(house)
    reader.requester = Requester(carol, house.rooms.nid(carol))
    assert await reader.everything(chain.room) == []
    assert not [target for target in chain.asked if "/backfill/" in target]
