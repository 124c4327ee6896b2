"""A peer in a room that says one thing after the other, and tells as much of it as the test lets it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, unquote

from tinyserver.storage import events, room_state, waiting_events

from ..rooms.world import Base
from .house import House
from .network import Reply, Seen, json_reply
from .world import Peer

DEADLINE = 20.0


class Chain:
    """A peer in a room with a chain of messages: given to those who ask for missing events while `tells`, `page` at a
    time to those who ask for history while `backfills`, one by one while `gives`. It tells the state that it found
    while `tells_state`. While it `is_away`, nobody but a proxy answers."""

    peer: Peer
    base: Base

    def __init__(self, house: House) -> None:
        self.house = house
        self.pdus: list[dict[str, Any]] = []
        self.tells = True
        self.backfills = self.tells_state = self.gives = self.is_away = False
        self.page = 100
        self.state: list[str] = []
        self.asked: list[str] = []
        self.room = 0

    async def enter(self, version: str = "11") -> Chain:
        self.peer = await self.house.world.peer(handler=self.handle)
        self.room = await self.house.public_room(version)
        await self.house.join(self.peer, self.room)
        self.look()
        return self

    def look(self) -> None:
        """Learn what the room is now: to go on from there, and to tell that state."""
        self.base = self.house.rooms.snapshot(self.room)
        root = self.base.room.state
        self.state = self.house.db.glance(lambda tx: [stored.event_id for stored in room_state.all_events(tx, root)])

    def say(self, body: str) -> str:
        """One more message; its ID."""
        pdu = self.house.rooms.remote_event(
            self.peer.name, self.base, f"@bob:{self.peer.name}", "m.room.message", {"body": body}
        )
        self.base = self.base.after(pdu)
        self.pdus.append(pdu)
        return self.house.rooms.id_of(pdu, self.room)

    async def handle(self, seen: Seen) -> Reply:
        self.asked.append(seen.target)
        if self.is_away:
            return Reply(502, b"")
        endpoint = seen.target.split("/")[4]
        ids = [self.house.rooms.id_of(pdu, self.room) for pdu in self.pdus]
        if self.tells and endpoint == "get_missing_events":
            end = max(ids.index(event_id) for event_id in json.loads(seen.body)["latest_events"])
            return json_reply({"events": self.pdus[:end][-10:]})
        if self.backfills and endpoint == "backfill":
            query = parse_qs(seen.target.partition("?")[2])
            end = max(ids.index(event_id) for event_id in query["v"])
            return json_reply({"pdus": self.pdus[: end + 1][::-1][: self.page]})
        if self.gives and endpoint == "event" and (wanted := unquote(seen.target.split("/")[5])) in ids:
            return json_reply({"pdus": [self.pdus[ids.index(wanted)]]})
        if endpoint == "make_leave":
            return json_reply({"room_version": "11", "event": {"prev_events": ids[-1:]}})
        if self.tells_state and endpoint == "state_ids":
            return json_reply({"pdu_ids": self.state, "auth_chain_ids": []})
        return json_reply({"errcode": "M_NOT_FOUND", "error": "No"}, 404)

    async def settled(self, waiting: int = 0) -> None:
        """Wait until so many events wait, and nothing is under way."""
        inbox = self.house.inbox
        while working := [*inbox._releasing, *inbox._work.values()]:
            await asyncio.wait_for(asyncio.gather(*working), DEADLINE)
        assert self.waiting() == waiting

    def waiting(self) -> int:
        return self.house.db.glance(lambda tx: waiting_events.count(tx, self.room))

    def named(self) -> int:
        return self.house.db.glance(lambda tx: waiting_events.count_names(tx, self.room))

    def shown(self, event_id: str) -> bool:
        stored = self.house.db.glance(lambda tx: events.by_id(tx, event_id))
        return stored is not None and stored.place is not None
