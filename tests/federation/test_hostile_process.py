"""A real server process among servers that mean it harm: its memory and its CPU time are looked at from outside, nobody
gets an error of the server itself, and nothing is stored that must not be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import ssl
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack, closing, suppress
from typing import Any
from urllib.parse import quote

import httpx

from benchmarks.compare.processes import memory, usage
from tinyserver.protocol.request_auth import authorization

from ..server.client import Client
from ..server.harness import TinyServer
from .hostile import alice, authority, entered, peer, running, server, stored_events
from .network import Authority, Reply, Seen, json_reply
from .peers.eventually import eventually
from .scripted_peer import ScriptedPeer, scripted_peer

__all__ = ["alice", "authority", "peer", "running", "server"]

MB = 1024 * 1024
V1 = "/_matrix/federation/v1"


class Watch:
    """The greatest memory of a process while something is done to it, and how long others wait for an answer."""

    def __init__(self, server: TinyServer, someone: Client) -> None:
        self._server, self._someone = server, someone
        self.before = self.greatest = memory(server.pid).rss
        self.waits: list[float] = []

    async def __aenter__(self) -> Watch:
        self._task = asyncio.ensure_future(self._look())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            self.greatest = max(self.greatest, memory(self._server.pid).rss)
            begun = time.monotonic()
            await self._someone.request("GET", "/account/whoami")
            self.waits.append(time.monotonic() - begun)
            await asyncio.sleep(0.02)

    @property
    def growth(self) -> float:
        """Megabytes."""
        return (self.greatest - self.before) / MB


def waits_again(server: TinyServer, room_id: str) -> bool:
    """Whether an event waits in the room that was tried already."""
    with closing(sqlite3.connect(f"file:{server.data_dir / 'tinyserver.db'}?mode=ro", uri=True)) as db:
        room = "SELECT nid FROM rooms WHERE room_id = ?"
        return bool(
            db.execute(f"SELECT 1 FROM waiting_events WHERE room = ({room}) AND tries > 0", (room_id,)).fetchone()
        )


# -- much at once


def huge(kind: int, pdu: Any) -> bytes:
    """A transaction of nearly eight megabytes: of empty values, of long events, of small ones, of commas."""
    size = 7_900_000
    if kind == 0:
        return b'{"pdus":[' + b"{}," * (size // 3) + b"{}]}"
    if kind == 1:
        return json.dumps({"pdus": [{**pdu, "content": {"body": "x" * 158_000}} for _ in range(49)]}).encode()
    if kind == 2:
        return b'{"edus":[' + b'{"edu_type":"m.x","content":{}},' * (size // 32) + b"{}]}"
    return b'{"pdus":[],"edus":[{"x":"' + b"," * size + b'"}]}'


async def test_many_huge_transactions_at_once(
    server: TinyServer, alice: Client, authority: Authority, peer: ScriptedPeer
) -> None:
    room = await entered(alice, peer)
    before = stored_events(server, room.room_id)
    pdu = peer.say(room, "big")
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(scripted_peer(authority, server, b"%d" % n)) for n in range(5)]
        watch = await stack.enter_async_context(Watch(server, alice))

        async def send(number: int) -> int:
            sender = [peer, *others][number % 6]
            body = huge(number % 4, pdu)
            target = f"{V1}/send/h{number}"
            # The signature is wrong for what cannot be parsed in this test's time as well: it is checked after reading.
            header = authorization("PUT", target, sender.name, server.server_name, {"pdus": []}, sender.key)
            if number % 4 in (1, 3):
                with suppress(ValueError):
                    header = authorization("PUT", target, sender.name, server.server_name, json.loads(body), sender.key)
            transport = httpx.AsyncHTTPTransport(verify=trust, local_address=f"127.0.0.{number + 10}")
            async with httpx.AsyncClient(transport=transport, timeout=120) as http:
                url = f"https://{server.server_name}{target}"
                try:
                    return (await http.put(url, content=body, headers={"Authorization": header})).status_code
                except httpx.TransportError:  # refused before all of it was sent
                    return 0

        statuses = await asyncio.gather(*(send(number) for number in range(24)))
    assert set(statuses) <= {0, 200, 400, 401, 413, 429}, statuses
    assert watch.growth < 220, f"{watch.growth:.0f} MB"
    assert max(watch.waits) < 10
    assert stored_events(server, room.room_id) == before
    print(f"grew by {watch.growth:.0f} MB, others waited {max(watch.waits):.2f} s; {sorted(statuses)}")


async def test_many_bodies_that_never_end(server: TinyServer, alice: Client, authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    host, port = server.server_name.split(":")
    writers = []
    for number in range(150):
        _, writer = await asyncio.open_connection(host, int(port), ssl=trust)
        header = 'X-Matrix origin="slow.test",key="ed25519:1",sig="AAAA"'
        size = 8_000_000 if number % 2 else 60_000
        head = (
            f"PUT {V1}/send/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nContent-Length: {size}\r\n\r\n"
        )
        writer.write(head.encode() + b'{"pdus":[')
        writers.append(writer)
    async with Watch(server, alice) as watch, scripted_peer(authority, server) as honest:
        room = await entered(alice, honest)
        for writer in writers:
            writer.write(b" " * 1000)
        await asyncio.wait_for(honest.send([honest.say(room, "hello")]), 10)
        used = usage(server.pid).cpu
        await asyncio.sleep(1)
        used = usage(server.pid).cpu - used
    for writer in writers:
        writer.transport.abort()
    assert watch.growth < 60
    assert used < 0.7  # also of those who look on
    assert stored_events(server, room.room_id) > 0


# -- answers byte by byte


async def drip(seen: Seen) -> Reply:
    """An answer that would take half an hour."""
    return Reply(200, b'{"a":"' + b"x" * 10_000 + b'"}', drip=0.2)


async def all_of(asked: dict[str, Awaitable[httpx.Response]]) -> list[tuple[str, int, float]]:
    """Of each request its name, the status of its answer, and the seconds that it took."""

    async def timed(kind: str, request: Awaitable[httpx.Response]) -> tuple[str, int, float]:
        begun = time.monotonic()
        answer = await request
        return kind, answer.status_code, time.monotonic() - begun

    return await asyncio.wait_for(asyncio.gather(*(timed(*each) for each in asked.items())), 60)


async def test_answers_byte_by_byte_hold_nobody_for_long(
    server: TinyServer, alice: Client, authority: Authority, peer: ScriptedPeer
) -> None:
    room = await entered(alice, peer)
    kinds = (
        "make_join make_knock make_leave send_join invite query publicRooms hierarchy user timestamp_to_event openid "
        "backfill get_missing_events state state_ids event event_auth media send"
    )
    peer.answers = dict.fromkeys(kinds.split(), drip)
    own = await alice.create_room(preset="private_chat")

    async def bob_is_known() -> bool:
        found = await alice.request("POST", "/user_directory/search", {"search_term": "bob", "limit": 50})
        return peer.user_id in [each["user_id"] for each in found["results"]]

    await eventually(bob_is_known)
    there = quote(f"!room:{peer.name}", safe="")
    via = {"via": peer.name}
    v1 = "/_matrix/client/v1"
    bob = peer.user_id
    asked: dict[str, Awaitable[httpx.Response]] = {
        "join": alice.raw("POST", f"/join/{there}", {}, params=via),
        "knock": alice.raw("POST", f"/knock/{there}", {}, params=via),
        "invite": alice.raw("POST", f"{alice.room(own)}/invite", {"user_id": f"@carol:{peer.name}"}),
        "profile": alice.raw("GET", f"/profile/{quote(bob)}"),
        "alias": alice.raw("GET", f"/directory/room/{quote(f'#x:{peer.name}', safe='')}"),
        "directory": alice.raw("GET", "/publicRooms", params={"server": peer.name}),
        "hierarchy": alice.raw("GET", f"{v1}/rooms/{there}/hierarchy"),
        "summary": alice.raw("GET", f"{v1}/room_summary/{there}", params=via),
        "keys": alice.raw("POST", "/keys/query", {"device_keys": {bob: []}, "timeout": 5000}),
        "claim": alice.raw(
            "POST", "/keys/claim", {"one_time_keys": {bob: {"D": "signed_curve25519"}}, "timeout": 5000}
        ),
        "moment": alice.raw("GET", f"{v1}/rooms/{quote(room.room_id, safe='')}/timestamp_to_event?ts=5&dir=b"),
        "history": alice.raw("GET", f"{alice.room(room.room_id)}/messages", params={"dir": "b", "limit": 50}),
        "message": alice.raw("PUT", f"{alice.room(room.room_id)}/send/m.room.message/slow", {"body": "x"}),
    }

    async with scripted_peer(authority, server) as unknown:
        unknown.answers = {"key": drip}
        outcomes = await all_of({**asked, "request with such a key": unknown.transaction([])})
    print(*(f"{kind}: {status} after {seconds:.1f} s" for kind, status, seconds in outcomes), sep="\n")
    assert all(seconds < 25 for _, _, seconds in outcomes), outcomes
    assert all(status != 500 for _, status, _ in outcomes), outcomes
    told = {kind: (status, seconds) for kind, status, seconds in outcomes}
    assert told["message"][0] == 200
    assert told["profile"][0] == 200  # what the room shows, and that soon
    assert told["profile"][1] < 4
    async with scripted_peer(authority, server) as honest:
        other = await entered(alice, honest)
        await asyncio.wait_for(honest.send([honest.say(other, "in time")]), 10)


# -- auth chains


async def test_a_bomb_of_auth_events(server: TinyServer, alice: Client, peer: ScriptedPeer) -> None:
    """A long auth chain, rightly signed, told in one long answer, which hangs from nothing."""
    room = await entered(alice, peer)
    made: list[dict[str, Any]] = []
    last = [*room.auth[:2], "$" + "A" * 43]  # nobody has that one
    for number in range(4000):
        content = {"membership": "join", "displayname": str(number)}
        event, event_id = peer.finish(
            {
                "type": "m.room.member",
                "room_id": room.room_id,
                "sender": peer.user_id,
                "state_key": peer.user_id,
                "content": content,
                "depth": 10 + number,
                "prev_events": [room.last],
                "auth_events": last,
                "origin_server_ts": 1,
            }
        )
        made.append(event)
        last = [*room.auth[:2], event_id]

    async def chain(seen: Seen) -> Reply:
        return json_reply({"auth_chain": made})

    async def nothing(seen: Seen) -> Reply:
        return json_reply({"errcode": "M_NOT_FOUND", "error": "No"}, 404)

    peer.answers = {"event_auth": chain, "event": nothing, "state": nothing, "state_ids": nothing}
    before, events = usage(server.pid).cpu, stored_events(server, room.room_id)
    async with Watch(server, alice) as watch:
        boom = peer.say(room, "boom", auth_events=last)
        assert (await peer.transaction([boom])).status_code == 200
        async with asyncio.timeout(60):  # until it has been given up for the first time
            while not waits_again(server, room.room_id):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    assert watch.growth < 80, f"{watch.growth:.0f} MB"
    assert usage(server.pid).cpu - before < 30
    assert stored_events(server, room.room_id) == events


async def test_a_flood_of_state(server: TinyServer, alice: Client, peer: ScriptedPeer) -> None:
    """A hundred megabytes of rightly signed events in answer to a join, but no room that they could be of."""
    room_id = f"!flood:{peer.name}"
    last = "$" + "A" * 43
    state = []
    for number in range(8000):
        event, last = peer.finish(
            {
                "type": "test.flood",
                "room_id": room_id,
                "sender": peer.user_id,
                "state_key": str(number),
                "content": {"x": "x" * 12_000},
                "depth": number,
                "prev_events": [last],
                "auth_events": [last],
                "origin_server_ts": 1,
            }
        )
        state.append(json.dumps(event).encode())
    body = b'{"state":[' + b",".join(state) + b'],"auth_chain":[]}'

    async def template(seen: Seen) -> Reply:
        return json_reply({"room_version": "11", "event": {"auth_events": [last], "prev_events": [last], "depth": 9}})

    async def flood(seen: Seen) -> Reply:
        return Reply(200, body)

    peer.answers = {"make_join": template, "send_join": flood}
    async with Watch(server, alice) as watch:
        answer = await alice.raw("POST", f"/join/{quote(room_id, safe='')}", {}, params={"via": peer.name})
    assert answer.status_code == 502
    assert watch.growth < 90, f"{watch.growth:.0f} MB"
    assert max(watch.waits) < 5
    assert stored_events(server, room_id) == 0
    print(f"{len(body) / MB:.0f} MB of state: grew by {watch.growth:.0f} MB, others waited {max(watch.waits):.2f} s")
