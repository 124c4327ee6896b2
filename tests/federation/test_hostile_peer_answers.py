"""A server that misuses what it is asked for: endless ancestors, circles, bombs of auth events, answers that never end.

Others in the same room are heard meanwhile, and what is asked, kept and waited for has bounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tinyserver.federation.participation import missing_events
from tinyserver.protocol.event_hashes import add_content_hash, sign_event
from tinyserver.storage import events, room_state, waiting_events

from .chain import Chain
from .house import ALICE, House, open_house
from .network import Reply, Seen, json_reply
from .world import World


@pytest_asyncio.fixture
async def house(world: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    caplog.set_level(logging.ERROR)
    async with open_house(world) as made:
        yield made
    assert not caplog.records, "the server met an error of its own"


class Hostile(Chain):
    """Answers what `answers` makes of each request to one of its endpoints."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.answers: dict[str, Any] = {}

    async def handle(self, seen: Seen) -> Reply:
        endpoint = seen.target.split("/")[4]
        if endpoint in self.answers:
            self.asked.append(seen.target)
            answer = self.answers[endpoint](seen)
            return await answer if asyncio.iscoroutine(answer) else answer
        return await super().handle(seen)

    def signed(self, **changes: Any) -> dict[str, Any]:
        """A message with some fields changed, rightly signed."""
        pdu = self.house.message(self.peer, self.room, "bent")
        bare = {name: value for name, value in {**pdu, **changes}.items() if name not in ("hashes", "signatures")}
        return sign_event(add_content_hash(bare), self.base.room.version, self.peer.name, self.peer.key)

    async def others_are_heard(self) -> None:
        """A message of an honest server in the same room gets in at once, whatever is being waited for."""
        honest = await self.house.world.peer("k2")
        await self.house.join(honest, self.room, "carol")
        pdu = self.house.message(honest, self.room, "hello", name="carol")
        async with asyncio.timeout(5):
            await self.house.put(honest, "1", [pdu])
        assert self.shown(self.house.rooms.id_of(pdu, self.room))

    async def over(self) -> None:
        """Wait until nothing is under way."""
        while self.house.inbox._work:
            await asyncio.wait_for(asyncio.gather(*self.house.inbox._work.values()), 60)


def unknown(number: int) -> str:
    return "$" + f"{number:x}".rjust(43, "A")


async def test_ancestors_without_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_events, "MAX_EVENTS", 100)
    chain = await Hostile(house).enter()
    made: dict[str, dict[str, Any]] = {}
    counter = iter(range(10**6))

    def ancestor() -> dict[str, Any]:
        """An event whose parent will be made when it is asked for."""
        pdu = chain.signed(prev_events=[unknown(next(counter))], depth=10)
        made[house.rooms.id_of(pdu, chain.room)] = pdu
        return pdu

    # Each answer is a forest of events that lack further ones.
    chain.answers["get_missing_events"] = lambda seen: json_reply({"events": [ancestor() for _ in range(20)]})
    await house.put(chain.peer, "1", [ancestor()])
    await chain.others_are_heard()
    await chain.over()
    assert len([target for target in chain.asked if "get_missing_events" in target]) <= 20
    assert len(chain.asked) < 60


async def test_events_that_follow_each_other_in_a_circle(house: House) -> None:
    chain = await Hostile(house).enter("1")  # here the sender chooses the IDs
    name = chain.peer.name
    ids = [f"${letter}:{name}" for letter in "abc"]
    circle = [
        chain.signed(event_id=ids[number], prev_events=[[ids[number - 1], {"sha256": "A" * 43}]]) for number in range(3)
    ]
    in_auth = chain.signed(event_id=f"$self:{name}", auth_events=[[f"$self:{name}", {"sha256": "A" * 43}]])
    chain.answers["get_missing_events"] = lambda seen: json_reply({"events": circle})
    chain.answers["event_auth"] = lambda seen: json_reply({"auth_chain": [in_auth, *circle]})
    answer = await house.put(chain.peer, "1", [*circle, in_auth])
    assert answer.status_code == 200
    await chain.others_are_heard()
    await chain.over()
    assert not any(chain.shown(event_id) for event_id in [*ids, f"$self:{name}"])


async def test_many_auth_events(house: House) -> None:
    chain = await Hostile(house).enter()
    bomb = chain.signed(auth_events=[unknown(number) for number in range(1000)])
    twice = chain.signed(auth_events=chain.signed()["auth_events"] * 100)
    await house.put(chain.peer, "1", [bomb, twice])
    await chain.others_are_heard()
    await chain.over()
    assert not any(chain.shown(house.rooms.id_of(pdu, chain.room)) for pdu in (bomb, twice))
    assert len(chain.asked) < 30


async def test_auth_chains_without_end(house: House) -> None:
    """What is told to authorise an event is only stored as far as it does."""
    chain = await Hostile(house).enter()
    unrelated = [chain.signed(content={"body": str(number)}, prev_events=[unknown(number)]) for number in range(300)]
    chain.answers["event_auth"] = lambda seen: json_reply({"auth_chain": unrelated})
    lacking = chain.signed(auth_events=[*chain.signed()["auth_events"], unknown(7)])
    before = house.db.glance(lambda tx: tx.value("SELECT count(*) FROM events"))
    await house.put(chain.peer, "1", [lacking])
    await chain.over()
    after = house.db.glance(lambda tx: tx.value("SELECT count(*) FROM events"))
    assert after == before


async def test_a_state_with_events_of_another_room(house: House) -> None:
    """There its users have the power that they lack here."""
    chain = await Hostile(house).enter()
    chain.tells, bob = False, f"@bob:{chain.peer.name}"
    house.world.time.pass_(1)
    elsewhere = await house.public_room()
    await house.join(chain.peer, elsewhere)
    levels = await house.rooms.send(elsewhere, ALICE, "m.room.power_levels", {"users": {bob: 100}}, state_key="")
    own = house.db.glance(lambda tx: room_state.event_at(tx, chain.base.room.state, "m.room.power_levels"))
    assert own is not None
    told = [levels.event_id if event_id == own.event_id else event_id for event_id in chain.state]
    chain.answers["state_ids"] = lambda seen: json_reply({"pdu_ids": told, "auth_chain_ids": []})
    lacking = chain.signed(prev_events=[unknown(1)])
    await house.put(chain.peer, "1", [lacking])
    await chain.over()
    lacking_id = house.rooms.id_of(lacking, chain.room)
    stored = house.db.glance(lambda tx: events.by_id(tx, lacking_id))
    assert stored is not None
    for root in (stored.state, house.rooms.snapshot(chain.room).room.state):
        found = house.db.glance(lambda tx, root=root: room_state.event_at(tx, root, "m.room.power_levels"))
        assert found is None or found.event_id == own.event_id


@pytest.mark.parametrize("endpoint", ["get_missing_events", "state_ids", "event_auth"])
async def test_answers_that_never_come(house: House, endpoint: str) -> None:
    chain = await Hostile(house).enter()
    never = asyncio.Event()

    async def wait(seen: Seen) -> Reply:
        await never.wait()
        return json_reply({})

    chain.answers = {"get_missing_events": lambda seen: json_reply({"events": []}), endpoint: wait}
    lacking = chain.signed(prev_events=[unknown(1)])
    without_auth = chain.signed(auth_events=[unknown(2)])
    async with asyncio.timeout(10):
        answer = await house.put(chain.peer, "1", [lacking, without_auth])
    assert answer.status_code == 200
    await chain.others_are_heard()
    assert house.db.glance(lambda tx: waiting_events.count(tx, chain.room)) == 2
    never.set()


async def test_keys_that_never_come(house: House) -> None:
    """Events in the names of servers that do not tell their keys hold up nobody else in the room."""
    chain = await Hostile(house).enter()
    never = asyncio.Event()

    async def wait(seen: Seen) -> Reply:
        await never.wait()
        return json_reply({})

    silent = [await house.world.serve(wait, "127.0.0.1") for _ in range(3)]
    forged = []
    for number, server in enumerate(silent):
        name = f"127.0.0.1:{server.port}"
        pdu = chain.signed(sender=f"@eve:{name}", content={"body": str(number)})
        forged.append({**pdu, "signatures": {name: {"ed25519:k": "A" * 86}}})
    sending = asyncio.ensure_future(house.put(chain.peer, "1", forged))
    async with asyncio.timeout(10):
        while not all(server.seen for server in silent):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await chain.others_are_heard()
    assert not sending.done()
    never.set()
    answer = await sending
    assert all(result["error"] for result in answer.json()["pdus"].values())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"events":7}',
        b'{"events":[7,null,{}]}',
        b'{"pdu_ids":7}',
        b'{"pdus":[{}]}',
        b"\xff",
    ],
)
async def test_nonsense(house: House, answer: bytes) -> None:
    chain = await Hostile(house).enter()
    for endpoint in ("get_missing_events", "state_ids", "state", "event", "event_auth", "backfill"):
        chain.answers[endpoint] = lambda seen: Reply(200, answer)
    lacking = chain.signed(prev_events=[unknown(1)])
    await house.put(chain.peer, "1", [lacking])
    await chain.over()
    assert not chain.shown(house.rooms.id_of(lacking, chain.room))
    await chain.others_are_heard()
