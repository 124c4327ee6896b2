"""A peer that takes transactions, and keeps what it got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from .network import Reply, Seen, json_reply
from .world import Peer, World

DEADLINE = 10.0


class Receiver:
    """`transactions` are those that it answered, by ID in the order of their first arrival; `tried` all that came.
    While `answer` is set, it answers that, and takes nothing. While `digests` is not set, it has not dealt with what it
    took, as it says in Synapse's way to those who ask for its last event."""

    peer: Peer

    def __init__(self) -> None:
        self.transactions: dict[str, Any] = {}
        self.tried: list[str] = []
        self.answer: Reply | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.digests = asyncio.Event()
        self.digests.set()
        self.asked: list[str] = []
        self._news = asyncio.Condition()

    async def handle(self, seen: Seen) -> Reply:
        if seen.method == "GET" and seen.target.startswith("/_matrix/federation/v1/event/"):
            async with self._news:
                self.asked.append(unquote(seen.target.rpartition("/")[2]))
                self._news.notify_all()
            return json_reply({"pdus": []}) if self.digests.is_set() else json_reply("", 404)
        assert (seen.method, seen.target.rpartition("/")[0]) == ("PUT", "/_matrix/federation/v1/send")
        txn_id = seen.target.rpartition("/")[2]
        async with self._news:
            self.tried.append(txn_id)
            self._news.notify_all()
        await self.hold.wait()
        if self.answer is not None:
            return self.answer
        async with self._news:
            self.transactions.setdefault(txn_id, json.loads(seen.body))
            self._news.notify_all()
        return json_reply({"pdus": {}})

    @property
    def pdus(self) -> list[Any]:
        return [pdu for transaction in self.transactions.values() for pdu in transaction["pdus"]]

    @property
    def bodies(self) -> list[str]:
        """The bodies of the messages that came."""
        return [pdu["content"]["body"] for pdu in self.pdus if pdu["type"] == "m.room.message"]

    @property
    def edus(self) -> list[Any]:
        return [edu for transaction in self.transactions.values() for edu in transaction["edus"]]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to be true, as more and more comes in."""
        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(lambda: bool(condition()))


async def receiver(world: World, key_name: str = "k1") -> Receiver:
    """A peer of the world that takes transactions."""
    made = Receiver()
    made.peer = await world.peer(key_name, handler=made.handle)
    return made
