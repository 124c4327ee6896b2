"""Events that come before the event that they relate to, as they do from other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.world import World, open_world
from tinyserver.accounts.ignored_users import IgnoredUsers
from tinyserver.push.rules import PushRules
from tinyserver.push.unread import Unread, UnreadCounter
from tinyserver.rooms.aggregations import Aggregations
from tinyserver.rooms.visibility import ALWAYS, Sight
from tinyserver.storage import accounts, events, relations
from tinyserver.storage.stored_event import Flag

ALICE, CAROL = "@alice:here", "@carol:there"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "test.db") as opened:
        yield opened


async def test_a_late_root_gets_its_thread(world: World) -> None:
    await world.db.write(lambda tx: accounts.add(tx, ALICE, None, 1))
    room = await world.create_room(ALICE)
    await world.send(room, ALICE, "m.room.join_rules", {"join_rule": "public"}, state_key="")
    server = await world.second_server(room)
    await world.join_from(server, room, CAROL)
    base = world.snapshot(room)
    alice = world.nid(ALICE)
    counter = UnreadCounter(PushRules(world.db), IgnoredUsers())

    async def say(content: dict[str, Any], event_type: str = "m.room.message") -> int:
        pdu = world.remote_event(server, base, CAROL, event_type, {"msgtype": "m.text", "body": "x", **content})
        return (await world.receive(server, pdu)).stored.nid

    root_pdu = world.remote_event(server, base, CAROL, "m.room.message", {"msgtype": "m.text", "body": "root"})
    root_id = world.id_of(root_pdu, room)
    reply = await say({"m.relates_to": {"rel_type": "m.thread", "event_id": root_id}})
    reply_id = world.db.glance(lambda tx: events.get(tx, reply)).event_id
    deeper = await say({"m.relates_to": {"rel_type": "m.reference", "event_id": reply_id}}, "org.example.mark")
    unread = world.db.glance(lambda tx: counter.counts(tx, alice, room, threads=True))
    assert unread.notification_count == 1
    assert not unread.by_thread

    root = (await world.receive(server, root_pdu)).stored.nid
    stored = world.db.glance(lambda tx: events.get(tx, root))
    assert stored.flags & Flag.PARENT
    for child in (reply, deeper):
        assert world.db.glance(lambda tx, child=child: events.get(tx, child)).thread == root
    unread = world.db.glance(lambda tx: counter.counts(tx, alice, room, threads=True))
    assert unread.by_thread == {root_id: Unread(1, 0)}
    assert unread.notification_count == 1  # the root

    def bundled(tx: Any) -> Any:
        return Aggregations(tx, room, alice, Sight(tx, alice, ALICE, ALWAYS), frozenset()).of(stored)

    found = world.db.glance(bundled)
    assert (found.thread.count, found.thread.latest.nid) == (1, reply)
    version = stored.event.version
    assert world.db.glance(lambda tx: relations.threads(tx, room, ALWAYS, 5, version)) == [(reply, root_id)]
