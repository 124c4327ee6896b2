"""People who talk and change a room on all of its servers at once, whatever becomes of the network."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from ...server.client import Client
from ..peers.eventually import whole_history
from .cluster import Cluster

ORDINARY = 3
"""So many people on each server come, go, and are thrown out. One more always stays, and so does the server."""
LEVELS = (0, 25, 50, 75)
REFUSALS = {400, 403, 404, 502, 504}
"""The last two: somebody of another server who cannot be reached is invited."""


@dataclass
class Person:
    """Somebody on the server with the number `home`."""

    client: Client
    home: int
    stays: bool


@dataclass
class Tally:
    """What the servers said: `told` are the IDs of events that were acknowledged, `bodies` the messages among them."""

    told: set[str] = field(default_factory=set)
    bodies: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    """Requests that were not answered."""


class Crowd:
    """All people in the room, and what they do."""

    def __init__(self, servers: Cluster, people: list[Person], room: str) -> None:
        self._servers = servers
        self.people = people
        self.room = room
        self.tally = Tally()

    def host_of(self, home: int) -> Client:
        """Who stays in the room on a server."""
        return next(person.client for person in self.people if person.home == home and person.stays)

    async def live(self, home: int, rng: random.Random, deeds: int) -> None:
        """Let somebody of a server do something, one after the other, until so much was acknowledged."""
        locals_ = [person for person in self.people if person.home == home]
        kinds: dict[str, tuple[int, Callable[[Person, random.Random, str], Awaitable[httpx.Response]]]] = {
            "message": (64, self._speak),
            "redaction": (3, self._redact),
            "state": (8, self._describe),
            "name": (5, self._rename),
            "power": (6, self._empower),
            "membership": (9, self._move),
            "coming and going": (9, self._come_or_go),
        }
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        done = 0
        while done < deeds:
            (name,) = rng.choices(names, weights)
            word = f"{home} {rng.getrandbits(48):x}"
            if await self._do(name, kinds[name][1], rng.choice(locals_), rng, word):
                done += 1

    async def _do(self, name: str, act: Callable[..., Awaitable[httpx.Response]], *arguments: Any) -> bool:
        """Do something until there is an answer (saying the same twice says it once); whether it happened."""
        person, rng, word = arguments
        seed = rng.getrandbits(32)
        while True:
            await self._servers.is_up[person.home].wait()
            try:
                answer = await act(person, random.Random(seed), word)
            except httpx.TransportError:
                self.tally.broken += 1
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                self.tally.done[name] += 1
                if "event_id" in answer.json():
                    self.tally.told.add(answer.json()["event_id"])
                if name == "message":
                    self.tally.bodies.add(word)
                return True
            assert answer.status_code in REFUSALS, f"{name}: {answer.status_code} {answer.text}"
            self.tally.refused[name] += 1
            return False

    # -- what they do ----------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return "/".join([Client.room(self.room), *(quote(part, safe="") for part in parts)])

    async def _speak(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        content = {"msgtype": "m.text", "body": word}
        return await person.client.raw("PUT", self._path("send", "m.room.message", word), content)

    async def _redact(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        target = rng.choice(sorted(self.tally.told)) if self.tally.told else "$nothing"
        return await person.client.raw("PUT", self._path("redact", target, word), {})

    async def _describe(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        kind, content = rng.choice(
            [
                ("m.room.topic", {"topic": word}),
                ("m.room.name", {"name": word}),
                ("m.room.join_rules", {"join_rule": rng.choice(["public", "public", "invite"])}),
                ("org.example.note", {"note": word}),
            ]
        )
        key = rng.choice(["a", "b", "c"]) if kind == "org.example.note" else ""
        return await person.client.raw("PUT", self._path("state", kind) + "/" + key, content)

    async def _rename(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        path = f"/profile/{quote(person.client.user_id, safe='')}/displayname"
        return await person.client.raw("PUT", path, {"displayname": word})

    async def _empower(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        asked = await person.client.raw("GET", self._path("state", "m.room.power_levels"))
        if asked.status_code != 200:
            return asked
        levels = asked.json()
        levels["users"][self._ordinary(rng).client.user_id] = rng.choice(LEVELS)
        return await person.client.raw("PUT", self._path("state", "m.room.power_levels"), levels)

    async def _move(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        action = rng.choice(["kick", "ban", "unban", "unban", "invite"])
        target = self._ordinary(rng).client.user_id
        return await person.client.raw("POST", self._path(action), {"user_id": target, "reason": word})

    async def _come_or_go(self, person: Person, rng: random.Random, word: str) -> httpx.Response:
        action = "join" if person.stays or rng.random() < 0.8 else "leave"
        return await person.client.raw("POST", self._path(action), {"reason": word})

    def _ordinary(self, rng: random.Random) -> Person:
        return rng.choice([person for person in self.people if not person.stays])


async def gathered(servers: Cluster, version: str) -> Crowd:
    """A room that people of all servers are in, and of which all of them have everything."""
    people = []
    for home, server in enumerate(servers.servers):
        for number in range(ORDINARY + 1):
            client = await Client(server.base_url).register(f"u{number}")
            people.append(Person(client, home, stays=number == 0))
    hosts = [person.client for person in people if person.stays]
    maker = hosts[0]
    trusted = hosts if version != "12" else hosts[1:]
    levels = {
        "users": {host.user_id: 100 for host in trusted},
        "events": {"m.room.power_levels": 50, "m.room.join_rules": 50, "m.room.topic": 0, "org.example.note": 25},
        "invite": 0,
    }
    room = await maker.create_room(
        preset="public_chat", room_version=version, power_level_content_override=levels, name="Together"
    )
    for person in people:
        if person.client is not maker:
            await person.client.join(room, params={"via": servers.servers[0].server_name})
    for host in hosts:
        await whole_history(host, room)
    return Crowd(servers, people, room)
