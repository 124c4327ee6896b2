"""Unread counts against a model that does it the slow way, through all kinds of histories."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rooms.world import World, open_world
from tinyserver.accounts.ignored_users import IGNORED_USER_LIST, IgnoredUsers
from tinyserver.accounts.requester import Requester
from tinyserver.push.rules import PushRules
from tinyserver.push.unread import UnreadCounter, UnreadCounts
from tinyserver.rooms.receipts import Receipts
from tinyserver.storage import account_data, accounts, names, rooms

ALICE, BOB, CAROL = "@alice:here", "@bob:here", "@carol:here"
NOTIFYING = ("message", "mention", "reply in thread", "mention in thread")

step = st.one_of(
    st.tuples(st.sampled_from(NOTIFYING), st.sampled_from([ALICE, CAROL, BOB]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["reaction", "name"]), st.sampled_from([ALICE, BOB]), st.integers(0, 30)),
    st.tuples(
        st.sampled_from(["m.read", "m.read.private"]), st.sampled_from(["all", "main", "own"]), st.integers(0, 30)
    ),
    st.tuples(st.just("redact"), st.just(ALICE), st.integers(0, 30)),
    st.tuples(st.just("ignore"), st.sampled_from([CAROL, ""]), st.just(0)),
    st.tuples(st.just("restart"), st.just(""), st.just(0)),
)


@dataclass
class Said:
    """An event of the model: who sent it, in which thread, and whether it still counts and highlights."""

    event_id: str
    sender: str
    thread: str = "main"
    counts: bool = True
    highlights: bool = False
    is_reading: bool = True


@dataclass
class Model:
    """What Bob has read of a room."""

    timeline: list[Said] = field(default_factory=list)
    receipts: dict[str, int] = field(default_factory=dict)
    ignored: str = ""

    def unread(self) -> dict[str, tuple[int, int]]:
        counts: dict[str, tuple[int, int]] = {}
        for place, said in enumerate(self.timeline):
            if said.sender == BOB and said.is_reading:
                counts.pop(said.thread, None)
            read = max(self.receipts.get("", -1), self.receipts.get(said.thread, -1))
            if place <= read or said.sender in (BOB, self.ignored) or not said.counts:
                continue
            notify, highlight = counts.get(said.thread, (0, 0))
            counts[said.thread] = (notify + 1, highlight + said.highlights)
        return counts


def as_model(counts: UnreadCounts) -> dict[str, tuple[int, int]]:
    found = {root: (unread.notification_count, unread.highlight_count) for root, unread in counts.by_thread.items()}
    if counts.notification_count or counts.highlight_count:
        found["main"] = (counts.notification_count, counts.highlight_count)
    return found


class Room:
    """A room of three in the server and in the model."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model()
        self.rules = PushRules(world.db)
        self.receipts = Receipts(world.db, world.clock)
        self.counter = UnreadCounter(self.rules, IgnoredUsers())

    async def set_up(self) -> None:
        db = self.world.db
        await db.write(lambda tx: [accounts.add(tx, user, None, 1) for user in (ALICE, BOB, CAROL)])
        self.bob = self.world.nid(BOB)
        self.room = await self.world.create_room(ALICE)
        self.room_id = db.glance(lambda tx: rooms.room_id(tx, self.room))
        await self.world.send(self.room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
        await self.world.send(self.room, ALICE, "m.room.message", {"body": "before Bob came"})
        for user in (CAROL, BOB):
            await self.world.send(self.room, user, "m.room.member", {"membership": "join"}, state_key=user)
        self.roots = [await self.say(ALICE, {"body": "a root"}) for _ in range(2)]

    async def say(self, sender: str, content: dict[str, Any], **said: Any) -> str:
        event = await self.world.send(self.room, sender, "m.room.message", {"msgtype": "m.text", **content})
        self.model.timeline.append(Said(event.event_id, sender, **said))
        return event.event_id

    async def do(self, what: str, who: str, number: int) -> None:
        if what in NOTIFYING:
            content: dict[str, Any] = {"body": "hi"}
            thread, highlights = "main", False
            if "thread" in what:
                thread = self.roots[number % 2]
                content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
            if "mention" in what:
                content["m.mentions"] = {"user_ids": [BOB]}
                highlights = True
            await self.say(who, content, thread=thread, highlights=highlights)
        elif what == "reaction":
            target = self.model.timeline[number % len(self.model.timeline)]
            relation = {"rel_type": "m.annotation", "event_id": target.event_id, "key": "+"}
            event = await self.world.send(self.room, who, "m.reaction", {"m.relates_to": relation})
            self.model.timeline.append(Said(event.event_id, who, target.thread, counts=False))
        elif what == "name":
            content = {"membership": "join", "displayname": f"{number} {len(self.model.timeline)}"}
            event = await self.world.send(self.room, who, "m.room.member", content, state_key=who)
            self.model.timeline.append(Said(event.event_id, who, counts=False, is_reading=False))
        elif what == "redact":
            await self.redact(number % len(self.model.timeline))
        elif what == "ignore":
            self.model.ignored = who
            content = {"ignored_users": {who: {}} if who else {}}
            await self.world.db.write(
                lambda tx: account_data.put(tx, self.bob, None, IGNORED_USER_LIST, _json(content))
            )
        elif what == "restart":
            self.counter = UnreadCounter(PushRules(self.world.db), IgnoredUsers())
        else:
            await self.read(what, who, number % len(self.model.timeline))

    async def redact(self, index: int) -> None:
        target = self.model.timeline[index]
        content = {"redacts": target.event_id}
        event = await self.world.send(self.room, ALICE, "m.room.redaction", content, redacts=target.event_id)
        target.counts = False
        target.is_reading = True  # what kind of event it was is not known any more
        self.model.timeline.append(Said(event.event_id, ALICE, counts=False))

    async def read(self, kind: str, how: str, index: int) -> None:
        said = self.model.timeline[index]
        thread = {"all": "", "main": "main", "own": said.thread}[how]
        if thread in ("", said.thread):
            requester = Requester(BOB, self.bob)
            sent = self.receipts.send(requester, self.room_id, kind, said.event_id, thread or None)
            await asyncio.gather(sent, self.world.db.write(lambda tx: None))  # receipts wait for others to commit with
            self.model.receipts[thread] = max(index, self.model.receipts.get(thread, -1))

    def check(self) -> None:
        self.check_counter(self.counter)
        self.check_counter(UnreadCounter(self.rules, IgnoredUsers()))

    def check_counter(self, counter: UnreadCounter) -> None:
        wanted = self.model.unread()
        apart = self.world.db.glance(lambda tx: counter.counts(tx, self.bob, self.room, threads=True))
        assert as_model(apart) == wanted
        together = self.world.db.glance(lambda tx: counter.counts(tx, self.bob, self.room))
        assert not together.by_thread
        assert together.notification_count == sum(notify for notify, _ in wanted.values())
        assert together.highlight_count == sum(highlight for _, highlight in wanted.values())


def _json(value: dict[str, Any]) -> bytes:

    return json.dumps(value).encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=25))
def test_counts_agree_with_the_slow_way(steps: list[tuple[str, str, int]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with open_world(Path(directory) / "test.db") as world:
                room = Room(world)
                await room.set_up()
                room.check()
                for what, who, number in steps:
                    await room.do(what, who, number)
                    room.check()

    asyncio.run(run())


async def test_names_interned_meanwhile(tmp_path: Path) -> None:
    """Somebody is ignored before the server has ever heard of them."""
    async with open_world(tmp_path / "test.db") as world:
        room = Room(world)
        await room.set_up()
        content = _json({"ignored_users": {"@dan:here": {}, BOB: {}, "nonsense": 3}})
        await world.db.write(lambda tx: account_data.put(tx, room.bob, None, IGNORED_USER_LIST, content))
        room.check()
        await world.send(room.room, "@dan:here", "m.room.member", {"membership": "join"}, state_key="@dan:here")
        await world.send(room.room, "@dan:here", "m.room.message", {"msgtype": "m.text", "body": "hi"})
        assert world.db.glance(lambda tx: names.find(tx, "@dan:here")) is not None
        room.check()
