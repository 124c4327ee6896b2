"""A day in a large, busy room of many servers, and a day of silence: what they cost.

    python -m benchmarks.federation_day [--servers 50] [--members 2000] [--idle 60] [--share 1.0]

The day is made up after Matrix HQ: 1,500 messages, 400 reactions, 600 joins and leaves, 60 redactions, 6,000 receipts,
4,000 times somebody begins or stops typing, 2,000 changes of presence. Each event comes in a request of its own from
whichever server it is of, as does what is not an event, but for what comes from one server between two events. It is
played as fast as the server takes it: the figures are CPU time and bytes, not time. One local user is in the room and
syncs. Afterwards nothing happens for a while, with all servers in the room and one waiting sync; then some of the
servers are dead and owed something.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from typing import Any

from benchmarks.compare.processes import memory, usage
from benchmarks.many_servers import ManyServers, Server, SharedRoom, many_servers

DAY = {
    "message": 1500,
    "relation": 400,
    "membership": 600,
    "redaction": 60,
    "receipt": 6000,
    "typing": 4000,
    "presence": 2000,
}
DEAD = 10
IN_TRANSACTION = 50


def membership(room: SharedRoom, server: Server, user: str, what: str, before: str | None) -> Any:
    """A join or leave of a user of a server; `before` is the ID of the user's last membership."""
    known = server.rooms[room.room_id]
    rules = [event_id for event_id, pdu in known.state.items() if pdu["type"] == "m.room.join_rules"]
    create_and_levels = known.auth[:2]
    auth = [*create_and_levels, *(rules if what == "join" else []), *([before] if before else [])]
    return room.event(
        server, type="m.room.member", sender=user, state_key=user, content={"membership": what}, auth_events=auth
    )


async def fill(room: SharedRoom, members: int) -> dict[str, tuple[Server, str]]:
    """Let many users join; the server and the last membership event of each."""
    joined: dict[str, tuple[Server, str]] = {}
    share = members // len(room.servers)
    for server in room.servers:
        users = [f"@member{number}:{server.name}" for number in range(share)]
        for start in range(0, share, IN_TRANSACTION):
            batch = []
            for user in users[start : start + IN_TRANSACTION]:
                batch.append(membership(room, server, user, "join", None))
                joined[user] = (server, room.last)
            await server.send(batch)
    return joined


class Day:
    """Plays the day."""

    def __init__(self, room: SharedRoom, joined: dict[str, tuple[Server, str]], share: float) -> None:
        self._share = share
        self._room, self._joined = room, joined
        self._random = random.Random(1)
        self._gone: dict[str, tuple[Server, str]] = {}
        self._said: list[tuple[Server, str, str]] = []
        self.sent = self.requests = 0

    async def play(self) -> None:
        """All of it, in an order that is the same in every run."""
        kinds = [kind for kind, count in DAY.items() for _ in range(round(count * self._share))]
        self._random.shuffle(kinds)
        edus: dict[Server, list[Any]] = {}
        for kind in kinds:
            user = self._random.choice(list(self._joined))
            server, join = self._joined[user]
            pdu, edu = self._make(kind, user, server, join)
            if edu is not None:
                edus.setdefault(server, []).append(edu)
                continue
            await asyncio.gather(*(self._send(sender, [], told) for sender, told in edus.items()))
            edus.clear()
            if pdu is not None:
                await self._send(server, [pdu], [])

    async def _send(self, server: Server, pdus: list[Any], edus: list[Any]) -> None:
        answer = await server.transaction(pdus, edus)
        answer.raise_for_status()
        refused = [result for result in answer.json()["pdus"].values() if result]
        if refused:
            raise RuntimeError(f"refused: {refused}")
        self.requests += 1
        self.sent += int(answer.request.headers["content-length"])

    def _make(self, kind: str, user: str, server: Server, join: str) -> tuple[Any, Any]:
        room, known = self._room, server.rooms[self._room.room_id]
        auth = [*known.auth[:2], join]
        if kind == "membership":
            if self._gone and self._random.random() < 0.5:
                user, (server, before) = self._gone.popitem()
                pdu = membership(room, server, user, "join", before)
                self._joined[user] = (server, room.last)
            else:
                pdu = membership(room, server, user, "leave", join)
                self._gone[user] = (server, room.last)
                del self._joined[user]
            return pdu, None
        if kind in ("receipt", "typing", "presence"):
            return None, self._edu(kind, user)
        if kind == "message" or not self._said:
            body = " ".join(self._random.choice(("lorem", "ipsum", "dolor", "sit", "amet")) for _ in range(20))
            pdu = room.event(server, sender=user, auth_events=auth, content={"msgtype": "m.text", "body": body})
            self._said.append((server, user, room.last))
            return pdu, None
        of_server, author, target = self._random.choice(self._said[-50:])
        if kind == "relation":
            relates = {"rel_type": "m.annotation", "event_id": target, "key": "\U0001f44d" + str(len(self._said))}
            return room.event(
                server, type="m.reaction", sender=user, auth_events=auth, content={"m.relates_to": relates}
            ), None
        if author not in self._joined:
            return None, None
        auth = [*of_server.rooms[room.room_id].auth[:2], self._joined[author][1]]
        content = {"redacts": target}
        return room.event(of_server, type="m.room.redaction", sender=author, auth_events=auth, content=content), None

    def _edu(self, kind: str, user: str) -> Any:
        room_id, now = self._room.room_id, int(time.time() * 1000)
        if kind == "receipt":
            read = {user: {"event_ids": [self._room.last], "data": {"ts": now}}}
            return {"edu_type": "m.receipt", "content": {room_id: {"m.read": read}}}
        if kind == "typing":
            typing = self._random.random() < 0.5
            return {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": user, "typing": typing}}
        state = self._random.choice(("online", "unavailable", "offline"))
        push = [{"user_id": user, "presence": state, "last_active_ago": 1000}]
        return {"edu_type": "m.presence", "content": {"push": push}}


async def follow(made: ManyServers) -> None:
    """Alice's client."""
    while True:
        await made.alice.sync_on(timeout=30_000)


async def run(servers: int, members: int, idle: float, share: float) -> None:
    async with many_servers(servers) as made:
        room = await made.room(made.servers)
        joined = await fill(room, members)
        await made.alice.sync_on()
        following = asyncio.ensure_future(follow(made))
        day = Day(room, joined, share)
        size, before = made.database_size(), usage(made.tiny.pid)
        made.traffic.sent = made.traffic.received = 0
        begun = time.monotonic()
        await day.play()
        seconds, used = time.monotonic() - begun, usage(made.tiny.pid).since(before)
        rss = memory(made.tiny.pid).rss / 2**20
        grown = made.database_size() - size
        print(f"{share:.0%} of a day in {day.requests} requests of {servers} servers, {members} members; a whole day:")
        print(
            f"CPU {used.cpu / share:.0f} s   in {day.sent / share / 2**20:.1f} MB   out "
            f"{made.traffic.sent / share / 2**20:.1f} MB   written to disk {used.written / share / 2**20:.0f} MB   "
            f"database grows by {grown / share / 2**20:.1f} MB   (RSS {rss:.0f} MB, played in {seconds:.0f} s)"
        )
        await asyncio.sleep(3)
        print(f"idle, one waiting sync: {await cpu_per_minute(made, idle):.2f} s CPU per minute")
        for server in made.servers[:DEAD]:
            server.answers["send"] = gone
        await made.alice.send(room.room_id, "who is there?")
        print(f"and {DEAD} servers that have just died: {await cpu_per_minute(made, idle):.2f} s CPU per minute")
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def cpu_per_minute(made: ManyServers, seconds: float) -> float:
    """What the process uses while it is left in peace."""
    before = usage(made.tiny.pid)
    await asyncio.sleep(seconds)
    return usage(made.tiny.pid).since(before).cpu / seconds * 60


async def gone(seen: Any) -> Any:
    """What a dead server says."""
    raise ConnectionResetError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--share", type=float, default=1.0, help="how much of the day is played")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.servers, arguments.members, arguments.idle, arguments.share))


if __name__ == "__main__":
    main()
