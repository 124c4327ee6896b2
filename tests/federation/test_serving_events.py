"""Events and states that other servers get, and what they do not get to see; over real signed HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest_asyncio

from tinyserver.protocol.event_hashes import check_content_hash
from tinyserver.storage import accounts
from tinyserver.storage.stored_event import StoredEvent

from .serving import ALICE, CAROL, US, V1, Site, open_site, refused
from .world import Peer, World


@pytest_asyncio.fixture
async def site(world: World) -> AsyncIterator[Site]:
    async with open_site(world) as made:
        yield made


@pytest_asyncio.fixture
async def peer(world: World) -> Peer:
    return await world.peer()


async def event(site: Site, peer: Peer, event_id: str) -> Any:
    return await site.get(peer, f"{V1}/event/{quote(event_id, safe='')}")


async def missing(site: Site, peer: Peer, room: int, latest: list[str], **more: Any) -> list[str]:
    body = {"latest_events": latest, "earliest_events": [], **more}
    answer = await site.request(peer, "POST", f"{V1}/get_missing_events/{site.quoted_id(room)}", body)
    assert answer.status_code == 200, answer.text
    return site.ids(room, answer.json()["events"])


async def backfill(site: Site, peer: Peer, room: int, start: list[str], limit: int) -> list[dict[str, Any]]:
    answer = await site.get(peer, f"{V1}/backfill/{site.quoted_id(room)}", v=start, limit=limit)
    assert answer.status_code == 200, answer.text
    assert answer.json()["origin"] == US
    pdus: list[dict[str, Any]] = answer.json()["pdus"]
    return pdus


def is_whole(pdu: dict[str, Any]) -> bool:
    """Whether an event has its content."""
    return check_content_hash(pdu)


# -- single events


async def test_an_event(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.join(peer, room)
    said = await site.say(room, "hello")
    answer = (await event(site, peer, said.event_id)).json()
    assert answer["origin"] == US
    assert answer["origin_server_ts"] > 0
    assert answer["pdus"] == [said.event.pdu]
    refused(await event(site, peer, "$nothing"), 404, "M_NOT_FOUND")
    await site.state(room, "m.room.server_acl", {"allow": ["other.test"]})
    refused(await event(site, peer, said.event_id), 403, "M_FORBIDDEN")


async def test_events_are_for_servers_in_the_room(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    said = await site.say(room, "hello")
    refused(await event(site, peer, said.event_id), 403, "M_FORBIDDEN")
    await site.state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
    read = await site.say(room, "read all about it")
    refused(await event(site, peer, said.event_id), 403, "M_FORBIDDEN")
    assert is_whole((await event(site, peer, read.event_id)).json()["pdus"][0])
    await site.join(peer, room)
    assert is_whole((await event(site, peer, said.event_id)).json()["pdus"][0])
    await site.member(room, ALICE, ALICE, "leave")
    refused(await event(site, peer, said.event_id), 404, "M_NOT_FOUND")


async def test_history_that_a_server_may_not_see_is_redacted(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    hidden = await site.say(room, "before")
    await site.join(peer, room)
    seen = await site.say(room, "after")
    await site.member(room, ALICE, f"@bob:{peer.name}", "leave")
    between = await site.say(room, "while away")
    await site.join(peer, room, "ben")
    pdus = await backfill(site, peer, room, [between.event_id], 100)
    whole = {site.event_id(room, pdu): is_whole(pdu) for pdu in pdus}
    assert whole[seen.event_id] is True
    assert whole[hidden.event_id] is False
    assert whole[between.event_id] is False
    (shown,) = (await event(site, peer, hidden.event_id)).json()["pdus"]
    assert shown["content"] == {}
    assert await missing(site, peer, room, [seen.event_id], limit=2)


async def test_history_for_the_invited(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.state(room, "m.room.history_visibility", {"history_visibility": "invited"})
    hidden = await site.say(room, "before the invite")
    await site.member(room, ALICE, f"@bob:{peer.name}", "invite")
    shown = await site.say(room, "after the invite")
    await site.join(peer, room)
    assert not is_whole((await event(site, peer, hidden.event_id)).json()["pdus"][0])
    assert is_whole((await event(site, peer, shown.event_id)).json()["pdus"][0])


# -- states


async def test_the_state_before_an_event(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.join(peer, room)
    first = await site.state(room, "m.room.name", {"name": "First"})
    second = await site.state(room, "m.room.name", {"name": "Second"})
    said = await site.say(room, "hello")

    async def names_at(stored: StoredEvent) -> list[str]:
        answer = (await site.get(peer, f"{V1}/state/{site.quoted_id(room)}", event_id=stored.event_id)).json()
        ids = (await site.get(peer, f"{V1}/state_ids/{site.quoted_id(room)}", event_id=stored.event_id)).json()
        state, chain = site.ids(room, answer["pdus"]), site.ids(room, answer["auth_chain"])
        assert (ids["pdu_ids"], ids["auth_chain_ids"]) == (state, chain)
        named = {name for pdu in [*answer["pdus"], *answer["auth_chain"]] for name in pdu["auth_events"]}
        assert named == set(chain)
        return [pdu["content"]["name"] for pdu in answer["pdus"] if pdu["type"] == "m.room.name"]

    assert await names_at(first) == []
    assert await names_at(second) == ["First"]
    assert await names_at(said) == ["Second"]


async def test_who_gets_no_state(site: Site, peer: Peer) -> None:
    room, other = await site.public_room(), await site.public_room("11")
    said = await site.say(room, "hello")
    path = f"{V1}/state_ids/{site.quoted_id(room)}"
    refused(await site.get(peer, path, event_id=said.event_id), 403, "M_FORBIDDEN")
    await site.join(peer, room)
    await site.join(peer, other)
    refused(await site.get(peer, path), 400, "M_MISSING_PARAM")
    refused(await site.get(peer, path, event_id="$nothing"), 404, "M_NOT_FOUND")
    elsewhere = await site.say(other, "elsewhere")
    refused(await site.get(peer, path, event_id=elsewhere.event_id), 404, "M_NOT_FOUND")
    refused(await site.get(peer, f"{V1}/state/!no:{US}", event_id=said.event_id), 404, "M_NOT_FOUND")
    assert (await site.get(peer, path, event_id=said.event_id)).status_code == 200
    await site.state(room, "m.room.server_acl", {"allow": ["other.test"]})
    for target in (path, f"{V1}/state/{site.quoted_id(room)}"):
        refused(await site.get(peer, target, event_id=said.event_id), 403, "M_FORBIDDEN")


async def test_a_large_state_is_whole(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.join(peer, room)
    for number in range(600):
        await site.rooms.send(room, ALICE, "org.test.part", {"n": number}, state_key=str(number))
    said = await site.say(room, "many")
    answer = (await site.get(peer, f"{V1}/state/{site.quoted_id(room)}", event_id=said.event_id)).json()
    parts = [pdu["state_key"] for pdu in answer["pdus"] if pdu["type"] == "org.test.part"]
    assert sorted(parts, key=int) == [str(number) for number in range(600)]
    ids = (await site.get(peer, f"{V1}/state_ids/{site.quoted_id(room)}", event_id=said.event_id)).json()
    assert sorted(ids["pdu_ids"]) == sorted(site.ids(room, answer["pdus"]))


async def test_the_auth_chain_of_an_event(site: Site, peer: Peer) -> None:
    room = await site.public_room("11")
    said = await site.say(room, "hello")
    target = f"{V1}/event_auth/{site.quoted_id(room)}/"
    refused(await site.get(peer, target + quote(said.event_id)), 403, "M_FORBIDDEN")
    await site.join(peer, room)
    chain = (await site.get(peer, target + quote(said.event_id))).json()["auth_chain"]
    assert [pdu["type"] for pdu in chain] == ["m.room.create", "m.room.member", "m.room.power_levels"]
    ids = site.ids(room, chain)
    assert set(said.event.auth_event_ids) <= set(ids)
    refused(await site.get(peer, target + "$nothing"), 404, "M_NOT_FOUND")


# -- what precedes


async def test_backfill_to_the_beginning(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.join(peer, room)
    said = [await site.say(room, str(number)) for number in range(5)]
    pdus = await backfill(site, peer, room, [said[-1].event_id], 3)
    assert site.ids(room, pdus) == [stored.event_id for stored in reversed(said[2:])]
    pdus = await backfill(site, peer, room, [said[-1].event_id], 1000)
    assert pdus[-1]["type"] == "m.room.create"
    assert len(pdus) == 10
    assert await backfill(site, peer, room, ["$unknown"], 10) == []
    assert await backfill(site, peer, room, [said[-1].event_id], 0) == []


async def test_who_gets_no_history(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    said = await site.say(room, "hello")
    path = f"{V1}/backfill/{site.quoted_id(room)}"
    refused(await site.get(peer, path, v=said.event_id, limit=1), 403, "M_FORBIDDEN")
    body = {"latest_events": [said.event_id], "earliest_events": []}
    target = f"{V1}/get_missing_events/{site.quoted_id(room)}"
    refused(await site.request(peer, "POST", target, body), 403, "M_FORBIDDEN")
    refused(await site.get(peer, path, limit=1), 400, "M_MISSING_PARAM")
    refused(await site.get(peer, path, v=said.event_id), 400, "M_MISSING_PARAM")
    refused(await site.get(peer, path, v=said.event_id, limit=-1), 400, "M_INVALID_PARAM")
    refused(await site.get(peer, path, v=said.event_id, limit="x"), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "POST", target, {"latest_events": []}), 400, "M_BAD_JSON")
    refused(await site.request(peer, "POST", target, {**body, "limit": -1}), 400, "M_INVALID_PARAM")
    refused(await site.request(peer, "POST", target, {**body, "earliest_events": [1]}), 400, "M_BAD_JSON")


async def test_missing_events(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.join(peer, room)
    said = [(await site.say(room, str(number))).event_id for number in range(8)]
    assert await missing(site, peer, room, [said[7]], earliest_events=[said[3]]) == said[4:7]
    assert await missing(site, peer, room, [said[7]], earliest_events=[said[0]], limit=2) == said[5:7]
    depth = site.stored(said[5]).event.depth
    assert await missing(site, peer, room, [said[7]], min_depth=depth) == said[5:7]
    assert await missing(site, peer, room, [said[7]], limit=0) == []
    assert await missing(site, peer, room, ["$unknown"]) == []
    everything = await missing(site, peer, room, [said[7]], limit=10_000)
    assert len(everything) == 12


async def test_missing_events_of_a_fork(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.join(peer, room)
    user = f"@bob:{peer.name}"
    base = site.rooms.snapshot(room)
    here = await site.say(room, "here")
    pdu = site.rooms.remote_event(peer.name, base, user, "m.room.message", {"body": "there"})
    await site.pipeline.receive(peer.name, site.room_id(room), pdu)
    joined_up = await site.say(room, "both")
    base_id = base.parents[0].event_id
    found = await missing(site, peer, room, [joined_up.event_id], earliest_events=[base_id])
    assert sorted(found) == sorted([here.event_id, site.event_id(room, pdu)])


async def test_what_an_erased_user_said_is_kept_from_newcomers(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    await site.member(room, CAROL, CAROL, "join")
    early = await site.say(room, "early", CAROL)
    await site.join(peer, room)
    late = await site.say(room, "late", CAROL)

    def erase(tx: Any) -> None:
        accounts.deactivate(tx, accounts.add(tx, CAROL, None, 0), erase=True)

    await site.db.write(erase)
    assert not is_whole((await event(site, peer, early.event_id)).json()["pdus"][0])
    assert is_whole((await event(site, peer, late.event_id)).json()["pdus"][0])


async def test_the_event_closest_to_a_moment(site: Site, peer: Peer) -> None:
    room = await site.public_room()
    said = []
    for number in range(3):
        site.world.time.pass_(60)
        said.append(await site.say(room, str(number)))
    path = f"{V1}/timestamp_to_event/{site.quoted_id(room)}"
    at = said[1].event.origin_server_ts
    refused(await site.get(peer, path, ts=at, dir="f"), 403, "M_FORBIDDEN")
    await site.join(peer, room)
    for ts, direction, expected in ((at, "f", 1), (at, "b", 1), (at + 1, "f", 2), (at - 1, "b", 0)):
        found = (await site.get(peer, path, ts=ts, dir=direction)).json()
        assert found == {
            "event_id": said[expected].event_id,
            "origin_server_ts": said[expected].event.origin_server_ts,
        }
    refused(await site.get(peer, path, ts=2**53 - 1, dir="f"), 404, "M_NOT_FOUND")
    refused(await site.get(peer, path, ts=at, dir="x"), 400, "M_INVALID_PARAM")
    refused(await site.get(peer, path, dir="f"), 400, "M_MISSING_PARAM")
