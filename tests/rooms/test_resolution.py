"""Forks made by several servers: what becomes of them does not depend on the order in which the events arrive.

Whether an event is rejected, and the state after it, follow from the graph alone. The current state follows from the
forward extremities, and which events a server holds back from these (soft failure) does depend on what it knew when
they arrived: so current states are equal at once where nothing was soft-failed, and always after an event of a server
that follows all ends.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.world import World, open_world
from tinyserver.protocol.auth_rules import auth_keys_for
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import EventIdFormat, RoomVersion, get_room_version
from tinyserver.protocol.signing import SigningKey
from tinyserver.rooms.drafts import EventDraft, EventSigner
from tinyserver.rooms.pipeline import Outcome
from tinyserver.rooms.resolution import resolve_roots
from tinyserver.storage import events, memberships, names, room_state, rooms, state_trie
from tinyserver.storage.memberships import Membership
from tinyserver.storage.stored_event import StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

CREATOR = "@creator:one"
OTHERS = ("@bob:two", "@carol:three", "@dave:one", "@erin:two")
ROOMS = 8
STEPS = 40
State = Mapping[tuple[str, str], str]


class SeededSigner(EventSigner):
    """Makes the same events in every run."""

    def __init__(self, server: str, rng: random.Random) -> None:
        super().__init__(server, SigningKey("k", bytes(32)))
        self._rng = rng

    def _chosen_id(self, version: RoomVersion) -> str | None:
        if version.event_id_format is not EventIdFormat.OPAQUE:
            return None
        return f"${self._rng.getrandbits(64):x}:{self.server_name}"


@dataclass
class View:
    """What one server makes of a room."""

    world: World
    room: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    async def found(self, room_id: str, version: RoomVersion) -> None:
        self.room = (await self.world.db.write(lambda tx: rooms.create(tx, room_id, version))).nid

    async def take(self, arriving: Sequence[Event]) -> None:
        def step(tx: WriteTransaction) -> None:
            for event in arriving:
                self.outcomes[event.event_id] = self.world.pipeline.admit(tx, self.room, event).outcome

        await self.world.db.write(step)

    def state_after(self, event_id: str) -> State:
        def step(tx: ReadTransaction) -> State:
            stored = events.by_id(tx, event_id)
            assert stored is not None
            assert stored.state is not None
            return state_by_id(tx, stored.state)

        return self.world.db.glance(step)

    def now(self) -> tuple[State, list[str], dict[str, tuple[Membership, str]], int]:
        """The current state, the forward extremities, the members and how many are joined."""

        def step(tx: ReadTransaction) -> tuple[State, list[str], dict[str, tuple[Membership, str]], int]:
            room = rooms.get(tx, self.room)
            members = {
                names.text(tx, user): (kind, events.get(tx, event).event_id)
                for kind in Membership
                for user, event in memberships.members(tx, self.room, kind)
            }
            ends = sorted(events.get(tx, nid).event_id for nid in room.extremities)
            return state_by_id(tx, room.state), ends, members, room.joined

        return self.world.db.glance(step)


def state_by_id(tx: ReadTransaction, root: int) -> State:
    found = events.get_many(tx, [nid for _, nid in state_trie.items(tx, root)])
    return {stored.event.key: stored.event_id for stored in found.values()}


class Gossip:
    """A room that several servers write into at once, each behind the others; `author` takes it all as it is made."""

    def __init__(self, author: View, version: RoomVersion, seed: int) -> None:
        self.author = author
        self.version = version
        self.rng = random.Random(f"{version.identifier}/{seed}")
        self.room_id: str | None = None if version.room_id_is_create_hash else f"!room{seed}:one"
        self.events: list[Event] = []
        self.now = 1_700_000_000_000 + seed

    async def found(self) -> None:
        content = {"creator": CREATOR} if self.version.creator_in_content else {}
        draft = EventDraft("m.room.create", CREATOR, {"room_version": self.version.identifier, **content}, "")
        create = self.signer(CREATOR).make(
            draft, self.version, room_id=self.room_id, parents=(), auth_events=(), now_ms=self.now
        )
        self.room_id = create.room_id
        await self.author.found(self.room_id, self.version)
        await self.add(create)
        await self.follow(EventDraft("m.room.member", CREATOR, {"membership": "join"}, CREATOR), [create.event_id])
        await self.follow(self.power({OTHERS[0]: 50}), self.ends())
        await self.follow(EventDraft("m.room.join_rules", CREATOR, {"join_rule": "public"}, ""), self.ends())
        for user in OTHERS[:3]:
            await self.follow(EventDraft("m.room.member", user, {"membership": "join"}, user), self.ends())

    def signer(self, user: str) -> SeededSigner:
        return SeededSigner(user.partition(":")[2], self.rng)

    def power(self, users: Mapping[str, int], sender: str = CREATOR) -> EventDraft:
        creator = {} if self.version.privileged_creators else {CREATOR: 100}
        content = {"users": {**creator, **users}, "events": {"m.room.power_levels": 50, "test.any": 0}}
        return EventDraft("m.room.power_levels", sender, content, "")

    def ends(self) -> list[str]:
        """The events that were taken and that no taken event follows."""
        taken = [event for event in self.events if self.author.outcomes[event.event_id] is not Outcome.REJECTED]
        followed = {parent for event in taken for parent in event.prev_event_ids}
        return [event.event_id for event in taken if event.event_id not in followed]

    async def follow(self, draft: EventDraft, parents: Sequence[str]) -> Event:
        """An honest server's event after these."""

        def step(tx: WriteTransaction) -> Event:
            stored = [found for found in (events.by_id(tx, each) for each in parents) if found is not None]
            root = resolve_roots(tx, self.version, [each.state for each in stored if each.state is not None])
            keys = auth_keys_for(self.version, draft.type, draft.sender, draft.state_key, draft.content)
            auth: list[StoredEvent] = list(room_state.events_at(tx, root, keys).values())
            return self.signer(draft.sender).make(
                draft, self.version, room_id=self.room_id, parents=stored, auth_events=auth, now_ms=self.now
            )

        event = await self.author.world.db.write(step)
        await self.add(event)
        return event

    async def add(self, event: Event) -> None:
        if event.event_id not in self.author.outcomes:
            await self.author.take([event])
            self.events.append(event)
            self.now += 1000 * self.rng.choice((0, 1, 1, 2))

    async def wander(self) -> None:
        """Events after some of the newest ones, allowed or not."""
        for number in range(STEPS):
            outcomes = self.author.outcomes
            taken = [event for event in self.events if outcomes[event.event_id] is not Outcome.REJECTED][-8:]
            some = self.rng.sample(taken, min(len(taken), self.rng.choice((1, 1, 1, 2, 3))))
            await self.follow(self.draft(number), [event.event_id for event in some])

    def draft(self, number: int) -> EventDraft:
        rng = self.rng
        actor, user = rng.choice((CREATOR, CREATOR, *OTHERS)), rng.choice(OTHERS)
        kind = rng.choice(
            ("join", "join", "leave", "ban", "kick", "invite", "topic", "any", "power", "rule", "message")
        )
        if kind == "join":
            return EventDraft("m.room.member", user, {"membership": "join", "displayname": str(number)}, user)
        if kind == "leave":
            return EventDraft("m.room.member", user, {"membership": "leave"}, user)
        if kind in ("ban", "kick", "invite"):
            return EventDraft("m.room.member", actor, {"membership": "leave" if kind == "kick" else kind}, user)
        if kind == "topic":
            return EventDraft("m.room.topic", actor, {"topic": str(number)}, "")
        if kind == "any":
            return EventDraft("test.any", actor, {"n": number}, rng.choice(("a", "b")))
        if kind == "power":
            return self.power({user: rng.choice((25, 50, 75)), OTHERS[0]: 50}, actor)
        if kind == "rule":
            return EventDraft("m.room.join_rules", actor, {"join_rule": rng.choice(("public", "invite"))}, "")
        return EventDraft("m.room.message", actor, {"body": str(number)})

    def shuffled(self) -> list[Event]:
        """The events in another order in which each comes after its parents and auth events."""
        arrived: list[Event] = []
        here: set[str] = set()
        waiting = list(self.events)
        while waiting:
            ready = [event for event in waiting if here.issuperset([*event.prev_event_ids, *event.auth_event_ids])]
            event = self.rng.choice(ready)
            waiting.remove(event)
            here.add(event.event_id)
            arrived.append(event)
        return arrived


@pytest.mark.parametrize("version", ["1", "2", "10", "12"])
async def test_the_order_of_arrival_does_not_matter(tmp_path: Path, version: str) -> None:
    room_version = get_room_version(version)
    seen: dict[Any, int] = dict.fromkeys([*Outcome, "merged"], 0)
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(open_world(tmp_path / f"{n}.db")) for n in range(3)]
        for seed in range(ROOMS):
            author = View(worlds[0])
            gossip = Gossip(author, room_version, seed)
            await gossip.found()
            await gossip.wander()
            others = [View(world) for world in worlds[1:]]
            for view in others:
                assert gossip.room_id is not None
                await view.found(gossip.room_id, room_version)
                await view.take(gossip.shuffled())
                compare(gossip, view, seen)
            await gossip.follow(EventDraft("m.room.topic", CREATOR, {"topic": "end"}, ""), gossip.ends())
            end = gossip.events[-1]
            for view in others:
                await view.take([end])
            for view in (author, *others):
                assert view.outcomes[end.event_id] is Outcome.ACCEPTED
                assert view.now() == author.now()
                assert view.now()[1] == [end.event_id]
                assert view.now()[0] == author.state_after(end.event_id)
    assert all(seen[kind] for kind in (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.SOFT_FAILED, "merged"))


def compare(gossip: Gossip, view: View, seen: dict[Any, int]) -> None:
    """What follows from the graph is the same for this view and for the author's."""
    author = gossip.author
    for event in gossip.events:
        event_id = event.event_id
        seen[view.outcomes[event_id]] += 1
        seen["merged"] += len(event.prev_event_ids) > 1
        assert (view.outcomes[event_id] is Outcome.REJECTED) == (author.outcomes[event_id] is Outcome.REJECTED)
        assert view.state_after(event_id) == author.state_after(event_id)
    held_back = [
        {i for i, outcome in each.outcomes.items() if outcome is Outcome.SOFT_FAILED} for each in (view, author)
    ]
    if held_back[0] == held_back[1]:
        assert view.now() == author.now()
