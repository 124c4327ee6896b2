"""Rooms that are used before their members are known: a real server joins a room of two hundred, played by a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from benchmarks.crowd_peer import CrowdPeer, crowded_room, on_the_network
from benchmarks.forked_rooms import CREATOR, KEY
from tinyserver.protocol.event_hashes import event_id_of
from tinyserver.protocol.request_auth import authorization

from ..server.client import Client, Json, bodies, joined, timeline
from ..server.harness import TinyServer
from .peers.eventually import eventually

MEMBERS, SERVERS = 200, 12
NOTARY = "s1.test"
LAZY = json.dumps({"room": {"state": {"lazy_load_members": True}}})
BANNED, SPEAKER, OTHER = "@user7:s7.test", "@user8:s8.test", "@user9:s9.test"


class Joining:
    """A server, and the network with the room that its users join."""

    def __init__(self, peer: CrowdPeer, server: TinyServer) -> None:
        self.peer = peer
        self.server = server
        self.room = peer.room_id
        self._clients: list[Client] = []

    async def user(self, name: str) -> Client:
        self._clients.append(Client(self.server.base_url))
        return await self._clients[-1].register(name)

    async def join(self, name: str = "joiner") -> Client:
        """A user who has joined the room."""
        client = await self.user(name)
        await client.join(self.room, params={"via": "s0.test"})
        return client

    async def told(self, *pdus: dict[str, Any]) -> list[Json]:
        """Send events of others to the server: what it says of each."""
        answers = await self.peer.tell(self.server.base_url, self.server.server_name, *pdus)
        return [answers[event_id_of(pdu, self.peer.room.version)] for pdu in pdus]

    def say(self, sender: str, body: str, **options: Any) -> dict[str, Any]:
        return self.peer.make(sender, "m.room.message", {"msgtype": "m.text", "body": body}, **options)

    async def members(self, client: Client) -> set[str]:
        answer = await client.request("GET", f"{client.room(self.room)}/joined_members")
        return set(answer["joined"])

    async def has_heard(self, event_id: str) -> dict[str, Any]:
        """The event as it was sent to the others."""

        async def received() -> Any:
            version = self.peer.room.version
            return next((pdu for pdu in self.peer.received if event_id_of(pdu, version) == event_id), None)

        pdu: dict[str, Any] = await eventually(received)
        return pdu

    async def ask(self, origin: str, path: str) -> httpx.Response:
        """A request of another server."""
        target = f"/_matrix/federation/v1/{path}"
        header = authorization("GET", target, origin, self.server.server_name, None, KEY)
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            return await http.get(self.server.base_url + target, headers={"Authorization": header})

    async def kill_and_start(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@pytest_asyncio.fixture
async def joining(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Joining]:
    room = crowded_room(getattr(request, "param", "11"), MEMBERS, SERVERS)
    peer = CrowdPeer(room)
    peer.make(CREATOR, "m.room.member", {"membership": "ban"}, BANNED)
    peer.gate.clear()
    async with on_the_network(peer, tmp_path) as outgoing:
        federation = {"trusted_key_servers": [NOTARY]}
        server = TinyServer(tmp_path, config={"outgoing": outgoing, "federation": federation})
        server.init()
        await asyncio.to_thread(server.start)
        made = Joining(peer, server)
        try:
            yield made
            server.answer()
        finally:
            peer.gate.set()
            await made.close()
            await asyncio.to_thread(server.kill)
        server.log.check()


def members_in(events: list[Json]) -> set[str]:
    """The users whose member events are among these."""
    return {event["state_key"] for event in events if event["type"] == "m.room.member"}


async def sliding(client: Client, pos: str | None = None) -> Json:
    """One request of sliding sync for all rooms with all their members."""
    wanted = {"ranges": [[0, 9]], "timeline_limit": 5, "required_state": [["m.room.member", "*"]]}
    params = {"timeout": "0"} | ({} if pos is None else {"pos": pos})
    path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    return await client.request("POST", path, {"lists": {"all": wanted}}, params=params)


async def test_the_room_is_used_before_its_members_are_known(joining: Joining) -> None:
    peer, room = joining.peer, joining.room
    joiner = await joining.join()
    first = await joiner.sync_on(filter=LAZY)
    shown = joined(first, room)
    kinds = {event["type"] for event in shown["state"]["events"]}
    assert {"m.room.create", "m.room.power_levels", "m.room.name"} <= kinds
    assert shown["summary"]["m.joined_member_count"] > SERVERS
    impatient = await joiner.sync()
    assert joined(impatient, room) == {}  # who wants all members has to wait

    ours = await joiner.send(room, "hello")
    assert (await joining.has_heard(ours))["sender"] == joiner.user_id
    assert await joining.told(joining.say(SPEAKER, "welcome")) == [{}]
    answer = await joiner.sync_until(lambda answer: "welcome" in bodies(timeline(answer, room)) and answer, filter=LAZY)
    assert SPEAKER in {event["state_key"] for event in joined(answer, room)["state"]["events"]}

    waiting = asyncio.ensure_future(joining.members(joiner))
    for path in (f"state_ids/{quote(room)}?event_id={quote(ours)}", f"make_join/{quote(room)}/@x:s3.test?ver=11"):
        assert (await joining.ask("s3.test", path)).status_code == 404
    second = await joiner.another_device()
    slid = await sliding(second)
    assert members_in(slid["rooms"][room]["required_state"]) == {SPEAKER, joiner.user_id}
    assert not waiting.done()
    peer.gate.set()
    assert await waiting == {*peer.joined()}
    for token in (None, impatient["next_batch"]):
        whole = joined(await second.sync(token), room)
        events = [*whole["state"]["events"], *whole["timeline"]["events"]]
        assert members_in(events) == {*peer.joined(), BANNED}
        assert {"hello", "welcome"} == set(bodies(whole["timeline"]["events"]))
    news = await joiner.sync_until(lambda answer: joined(answer, room).get("summary") and answer, filter=LAZY)
    assert joined(news, room)["summary"]["m.joined_member_count"] == MEMBERS
    assert "state" not in joined(news, room) or not joined(news, room)["state"]["events"]  # nobody has come
    assert {*peer.joined()} - {joiner.user_id} <= set(news["device_lists"]["changed"])
    slid = await sliding(second, slid["pos"])
    assert members_in(slid["rooms"][room]["required_state"]) == {*peer.joined(), BANNED}
    assert slid["rooms"][room]["joined_count"] == MEMBERS
    assert (await joining.ask("s3.test", f"state_ids/{quote(room)}?event_id={quote(ours)}")).status_code == 200
    await second.close()


async def test_what_needs_an_unknown_member_waits(joining: Joining) -> None:
    joiner = await joining.join()
    friend = await joining.user("friend")
    inviting = asyncio.ensure_future(joiner.invite(joining.room, friend))
    asking = asyncio.ensure_future(joiner.get_state(joining.room, "m.room.member", OTHER))
    second = await joining.join("second")  # by way of the others, who know whether this user may come in
    await joining.has_heard(await second.send(joining.room, "me too"))
    assert not inviting.done()
    assert not asking.done()
    joining.peer.gate.set()
    await inviting
    assert (await asking)["membership"] == "join"
    assert {joiner.user_id, second.user_id} < await joining.members(second)


async def test_who_waits_is_answered_when_the_server_stops(joining: Joining) -> None:
    joiner = await joining.join()
    asking = asyncio.ensure_future(joiner.raw("GET", f"{joiner.room(joining.room)}/members"))
    await joiner.send(joining.room, "meanwhile")
    await asyncio.to_thread(joining.server.stop)
    assert (await asking).json()["errcode"] == "M_LIMIT_EXCEEDED"
    await asyncio.to_thread(joining.server.start)


async def test_it_goes_on_after_a_crash(joining: Joining) -> None:
    peer, room = joining.peer, joining.room
    peer.cut_after = 150
    joiner = await joining.join()
    ours = await joiner.send(room, "before the crash")
    peer.gate.set()

    async def broken_off() -> bool:
        return peer.asked.count("state") >= 3

    await eventually(broken_off)
    peer.gate.clear()
    await joining.kill_and_start()
    assert bodies(timeline(await joiner.sync(filter=LAZY), room)) == ["before the crash"]
    await joining.has_heard(ours)
    peer.cut_after = None
    peer.gate.set()
    assert await joining.members(joiner) == {*peer.joined()}
    await joining.kill_and_start()
    assert await joining.members(joiner) == {*peer.joined()}


async def test_another_server_tells_what_the_first_does_not(joining: Joining) -> None:
    peer = joining.peer
    joiner = await joining.join()
    peer.dead = {"s0.test", "s10.test"}
    await joining.kill_and_start()
    peer.gate.set()
    assert await joining.members(joiner) == {*peer.joined()}


async def test_who_tells_another_state_is_not_believed(joining: Joining) -> None:
    peer = joining.peer
    # Before the join: the first question about the state may come as soon as that is answered.
    peer.leaves_out["s0.test"] = "m.room.name"
    joiner = await joining.join()
    peer.gate.set()
    assert await joining.members(joiner) == {*peer.joined()}
    assert "s0.test tells another state" in joining.server.log.text()
    assert (await joiner.get_state(joining.room, "m.room.name"))["name"] == "Everybody"


async def test_events_are_judged_again(joining: Joining) -> None:
    """A banned user speaks, naming the join of long ago: what shows the ban comes later."""
    peer, room = joining.peer, joining.room
    joiner = await joining.join()
    joins = [event_id for event_id, pdu in peer.room.events.items() if pdu.get("state_key") == BANNED]
    before = joining.say(SPEAKER, "before")
    forged = joining.say(BANNED, "still here", cite={("m.room.member", BANNED): joins[0]})
    relation = {"rel_type": "m.annotation", "event_id": event_id_of(before, peer.room.version), "key": "x"}
    cited = {("m.room.member", BANNED): joins[0]}
    liked = peer.make(BANNED, "m.reaction", {"m.relates_to": relation}, cite=cited)
    assert await joining.told(before) == [{}]
    assert await joining.told(forged, liked) == [{}, {}]
    await joiner.sync_event(room, event_id_of(liked, peer.room.version), filter=LAZY)
    related = f"/_matrix/client/v1/rooms/{quote(room)}/relations/{quote(relation['event_id'])}"
    assert len((await joiner.request("GET", related))["chunk"]) == 1
    peer.gate.set()
    assert await joining.members(joiner) == {*peer.joined()}
    assert bodies(timeline(await joiner.sync(), room)) == ["before"]
    assert (await joiner.request("GET", related))["chunk"] == []
    assert (await joiner.get_state(room, "m.room.member", BANNED))["membership"] == "ban"
    heard = await joining.has_heard(await joiner.send(room, "after"))
    assert heard["prev_events"] == [event_id_of(before, peer.room.version)]


@pytest.mark.parametrize("joining", ["11", "12"], indirect=True)
async def test_what_happens_meanwhile_is_true_afterwards(joining: Joining) -> None:
    peer, room = joining.peer, joining.room
    joiner = await joining.join()
    second = await joining.join("second")
    newcomer = "@newcomer:s3.test"
    told = [
        peer.make(newcomer, "m.room.member", {"membership": "join"}, newcomer),
        peer.make(OTHER, "m.room.member", {"membership": "leave"}, OTHER),
        peer.make(SPEAKER, "m.room.member", {"membership": "join", "displayname": "Renamed"}, SPEAKER),
        peer.make(CREATOR, "m.room.member", {"membership": "ban"}, second.user_id),
        peer.make(CREATOR, "m.room.topic", {"topic": "Crowds"}, ""),
    ]
    assert await joining.told(*told) == [{}] * len(told)
    await joiner.sync_event(room, event_id_of(told[-1], peer.room.version), filter=LAZY)
    await second.send(room, "let me in", expect=403)
    assert (await joiner.get_state(room, "m.room.topic"))["topic"] == "Crowds"
    peer.gate.set()
    members = await joining.members(joiner)
    assert members == {*peer.joined()}
    assert newcomer in members
    assert not members & {OTHER, second.user_id, BANNED}
    state = await joiner.request("GET", f"{joiner.room(room)}/state")
    assert {(e["type"], e["state_key"]): e["event_id"] for e in state} == peer.room.state
    renamed = await joiner.get_state(room, "m.room.member", SPEAKER)
    assert renamed["displayname"] == "Renamed"


@pytest.mark.parametrize("forgetful", [False, True])
async def test_who_had_not_heard_of_the_join_yet_is_heard(joining: Joining, forgetful: bool) -> None:
    """Events that follow what happened before the join: their ancestors are asked for, else the state before them."""
    peer, room = joining.peer, joining.room
    peer.forgetful = forgetful
    before = list(peer.room.events)[-5]
    joiner = await joining.join()
    said = joining.say(SPEAKER, "from the side", after=before)
    content = {"membership": "join", "displayname": "Sideways"}
    renamed = peer.make(OTHER, "m.room.member", content, OTHER, after=event_id_of(said, peer.room.version))
    assert await joining.told(said, renamed) == [{}, {}]
    await joiner.sync_event(room, event_id_of(renamed, peer.room.version), filter=LAZY)
    peer.gate.set()
    assert await joining.members(joiner) == {*peer.joined()}
    state = await joiner.request("GET", f"{joiner.room(room)}/state")
    assert {(e["type"], e["state_key"]): e["event_id"] for e in state} == peer.room.state
    assert "from the side" in bodies((await joiner.messages(room, limit=100, dir="b"))["chunk"])


async def test_whoever_leaves_is_not_told_the_rest(joining: Joining) -> None:
    peer, room = joining.peer, joining.room
    joiner = await joining.join()
    await joiner.leave(room)
    assert (await joiner.request("GET", f"{joiner.room(room)}/state"))[0]["room_id"] == room

    async def left() -> bool:
        return any(pdu["content"].get("membership") == "leave" for pdu in peer.received)

    await eventually(left)
    await joining.kill_and_start()
    state = await joiner.request("GET", f"{joiner.room(room)}/state")
    assert ("m.room.name", "") in {(event["type"], event["state_key"]) for event in state}
    peer.gate.set()
    await joiner.join(room, params={"via": "s0.test"})
    assert await joining.members(joiner) == {*peer.joined()}
