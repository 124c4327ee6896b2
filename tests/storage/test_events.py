"""Stored events: what comes back, what a redaction leaves, and that no look-up of the storage scans a table."""

from __future__ import annotations

import ast
import asyncio
import importlib
import pkgutil
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.rooms.world import World, open_world
from tinyserver import storage
from tinyserver.storage import events, memberships, names, relations
from tinyserver.storage.caches import BoundedCache
from tinyserver.storage.database import Database
from tinyserver.storage.memberships import Membership
from tinyserver.storage.stored_event import Flag, StoredEvent
from tinyserver.storage.transaction import ReadTransaction, WriteTransaction

VERSIONS = [str(number) for number in range(1, 13)]
ALICE = "@alice:here"


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path / "t.db") as opened:
        yield opened


def fields(stored: StoredEvent) -> dict[str, Any]:
    """All that is known of a stored event, to be compared."""
    known = {name: getattr(stored, name) for name in StoredEvent.__slots__ if name not in ("event", "client_bytes")}
    return {**known, "pdu": stored.event.pdu, "event_id": stored.event.event_id, "room_id": stored.event.room_id}


# -- round trip ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_stored_comes_back(world: World, version: str) -> None:
    room = await world.create_room(ALICE, version)
    content = {"body": "Grüße 👋\0", "n": [0, -1, 2**53 - 1], "deep": {"a": {"b": [None, True, "x" * 3000]}}, "": ""}
    if int(version) < 6:
        content |= {"float": 1.5, "big": 10**40}
    sent = [
        await world.send(room, ALICE, "m.room.message", content, device=7, txn_id="t1"),
        await world.send(room, ALICE, "com.example", content, state_key="k\0"),
        await world.send(room, ALICE, "com.example", {}, state_key="k\0"),
    ]
    world.db.caches.events.clear()
    for stored in sent:
        assert fields(world.db.glance(lambda tx, nid=stored.nid: events.get(tx, nid))) == fields(stored)  # type: ignore[misc]
        by_id = world.db.glance(lambda tx, event_id=stored.event_id: events.by_id(tx, event_id))  # type: ignore[misc]
        assert by_id is not None
        assert by_id.nid == stored.nid
    assert sent[2].replaces == sent[1].nid
    found = world.db.glance(lambda tx: events.get_many(tx, [2**40, *(stored.nid for stored in sent)]))
    assert list(found) == [stored.nid for stored in sent]
    wanted = [stored.event_id for stored in sent]
    missing = ["$nothing", "", "$" + "a" * 43, wanted[0][:-1], wanted[0] + "x"]
    assert list(world.db.glance(lambda tx: events.find_many(tx, [*missing, *wanted]))) == wanted


@given(st.lists(st.integers(0, 2**62), unique=True, max_size=40))
def test_packed_numbers(nids: list[int]) -> None:
    assert events.unpack_nids(events.pack_nids(nids)) == tuple(sorted(nids))


@given(st.text(max_size=60) | st.from_regex(r"\A\$[A-Za-z0-9_\-+/]{43}(:[a-z]+)?\Z"))
def test_event_ids_have_one_key_each(text: str) -> None:
    """IDs of hash form are stored as bytes, and only those which come back from them."""
    key = events.event_key(text)
    assert isinstance(key, bytes) == bool(re.fullmatch(r"\$[A-Za-z0-9+/_-]{43}", text))
    if isinstance(key, str):
        assert key == text
    else:
        assert len(key) == 32


# -- transaction IDs -------------------------------------------------------------------------------


async def test_transactions_are_found_by_device_room_and_type(world: World) -> None:
    room, other = await world.create_room(ALICE), await world.create_room(ALICE)
    ids = ["t", "tt", "a-12345678", "b-12345678", "é-12345678", "12345678", "\0", "a\0b"]
    sent = {txn: await world.send(room, ALICE, "m.x", {}, device=1, txn_id=txn) for txn in ids}
    for txn, stored in sent.items():

        def ask(device: int, nid: int, event_type: str, txn_id: str = txn) -> list[int]:
            rows = world.db.glance(lambda tx: events.of_transaction(tx, device, txn_id, nid, event_type))
            return [row.nid for row in rows]

        assert ask(1, room, "m.x") == [stored.nid]
        assert (
            ask(2, room, "m.x") == ask(1, other, "m.x") == ask(1, room, "m.room.member") == ask(1, room, "m.new") == []
        )
    again = await world.send(room, ALICE, "m.x", {"other": 1}, device=1, txn_id="t")
    assert again.nid == sent["t"].nid


# -- redactions and the cache ----------------------------------------------------------------------


async def message(world: World, room: int) -> StoredEvent:
    stored = await world.send(room, ALICE, "m.room.message", {"body": "secret"})
    world.db.glance(lambda tx: events.get(tx, stored.nid))
    return stored


def content(world: World, nid: int) -> Any:
    return world.db.glance(lambda tx: events.get(tx, nid)).event.content


async def redact(world: World, room: int, target: StoredEvent) -> StoredEvent:
    return await world.send(room, ALICE, "m.room.redaction", {}, redacts=target.event_id)


async def test_redaction(world: World) -> None:
    room = await world.create_room(ALICE)
    target = await message(world, room)
    assert content(world, target.nid) == {"body": "secret"}
    redaction = await redact(world, room, target)
    for _ in range(2):
        after = world.db.glance(lambda tx: events.get(tx, target.nid))
        assert after.event.content == {}
        assert after.event_id == target.event_id
        assert after.flags & Flag.REDACTED
        assert after.redacted_by == redaction.nid
        world.db.caches.events.clear()


async def test_a_failed_redaction_leaves_the_event(world: World) -> None:
    room = await world.create_room(ALICE)
    target = await message(world, room)

    def step(tx: WriteTransaction) -> None:
        events.apply_redaction(tx, target, target.nid)
        assert events.get(tx, target.nid).event.content == {}
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        await world.db.write(step)
    for _ in range(2):
        assert content(world, target.nid) == {"body": "secret"}
        world.db.caches.events.clear()


async def test_a_group_that_cannot_be_stored_leaves_the_event(world: World) -> None:
    """The next step of the group has read what the first one changed; then the commit fails."""
    room = await world.create_room(ALICE)
    target = await message(world, room)
    writer: Any = world.db._writer

    def read_and_fill(tx: WriteTransaction) -> None:
        assert events.get(tx, target.nid).event.content == {}
        tx.execute("ROLLBACK")  # as SQLite does by itself when the disk is full in the middle
        raise OSError(28, "No space left on device")

    started, release = threading.Event(), threading.Event()

    def keep_busy(tx: WriteTransaction) -> None:
        started.set()
        assert release.wait(10)

    busy = asyncio.ensure_future(world.db.write(keep_busy))
    await asyncio.to_thread(started.wait, 10)
    one = asyncio.ensure_future(world.db.write(lambda tx: events.apply_redaction(tx, target, target.nid)))
    two = asyncio.ensure_future(world.db.write(read_and_fill))
    await asyncio.sleep(0)
    release.set()
    await busy
    results = await asyncio.gather(one, two, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results), results
    assert not writer.in_transaction
    assert content(world, target.nid) == {"body": "secret"}


async def test_a_reader_of_before_does_not_bring_the_old_form_back(world: World) -> None:
    room = await world.create_room(ALICE)
    target = await message(world, room)
    world.db.caches.events.clear()
    started, go_on = threading.Event(), threading.Event()

    def slow(tx: ReadTransaction) -> Any:
        tx.value("SELECT 1 FROM events LIMIT 1")  # the snapshot begins
        started.set()
        assert go_on.wait(10)
        return events.get(tx, target.nid).event.content

    reading = asyncio.ensure_future(world.db.read(slow))
    await asyncio.to_thread(started.wait, 10)
    await redact(world, room, target)
    world.db.caches.events.clear()
    go_on.set()
    assert await reading == {"body": "secret"}  # its snapshot is from before
    assert content(world, target.nid) == {}


def test_cache_stays_within_its_budget() -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(1000, len)
    for number in range(500):
        cache.put(number, bytes(100))
        assert len(cache) <= 12
        assert cache.get(number) == bytes(100)
    assert cache.get(0) is None
    kept = 499
    for number in range(1000, 1100):  # what is asked for again and again stays
        cache.put(number, bytes(100))
        assert cache.get(kept) == bytes(100)
    cache.drop(kept)
    assert cache.get(kept) is None
    cache.clear()
    assert len(cache) == 0


# -- relations and memberships ---------------------------------------------------------------------


async def test_relations_by_their_sender(world: World) -> None:
    room = await world.create_room(ALICE)
    target = await message(world, room)
    relation = {"m.relates_to": {"rel_type": "m.annotation", "event_id": target.event_id, "key": "x"}}
    reaction = await world.send(room, ALICE, "m.reaction", relation)
    await world.send(room, ALICE, "m.other", relation)

    def found(sender: str = ALICE, kind: str = "m.annotation") -> list[int]:
        rows = world.db.glance(lambda tx: relations.related_by(tx, room, target.event_id, kind, "m.reaction", sender))
        return [row.nid for row in rows]

    assert found() == [reaction.nid]
    assert found("@nobody:here") == found(kind="m.thread") == []
    await redact(world, room, reaction)
    assert found() == []


async def test_forgotten_until_wanted_again(world: World) -> None:
    def step(tx: WriteTransaction) -> list[bool]:
        seen = []
        for membership in (Membership.LEAVE, Membership.BAN, Membership.LEAVE, Membership.KNOCK, Membership.LEAVE):
            memberships.set_membership(
                tx, room=1, user=2, membership=membership, event=3, position=tx.next_position(), is_local=True
            )
            if not seen:
                memberships.forget(tx, 1, 2)
            row = memberships.get(tx, 1, 2)
            assert row is not None
            seen.append(row.forgotten)
        return seen

    assert await world.db.write(step) == [True, True, True, False, False]


# -- every statement finds what it needs by an index -----------------------------------------------

# Read at start or by administrators, or of tables that hold a row or a handful.
MAY_SCAN = (
    "own_account",  # one row
    "FROM appservice_rooms a INDEXED BY appservice_rooms_by_room",  # the lists of all networks are wanted
    "count(DISTINCT room) FROM appservice_rooms",
    "registration FROM appservices",  # they are few, and all of them are wanted
    "FROM (SELECT ts, sender FROM events ORDER BY nid DESC LIMIT 2000)",
    "max(seen_ts) FROM devices",
    "FROM open_rooms o CROSS JOIN memberships",  # one look-up for each public room that this server is in
    "FROM push_rules WHERE exact = 0",
    "FROM pushers WHERE enabled = 1",  # all of them are wanted
    "FROM registration_tokens",
    "own_account",  # one row
    "FROM notices",  # at most a hundred that are being sent
    "FROM users WHERE guest = 0",
    "outgoing_cursors",
    "FROM outgoing_events GROUP BY room",
    "FROM outgoing_message_queues WHERE messages > 0",
    "state_trie_collection",
    "FROM state_trie_fresh",
)
PUT_IN = ("marks",)  # names of what becomes a list of parameters


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(storage.__path__):
        yield importlib.import_module(f"{storage.__name__}.{found.name}")


def statements(module: ModuleType) -> Iterator[str]:
    """The SQL in a module. Statements that are put together from parts known only at run time are left out."""
    assert module.__file__ is not None
    pending: list[ast.AST] = [ast.parse(Path(module.__file__).read_text())]
    while pending:
        node = pending.pop()
        text = None
        if isinstance(node, ast.JoinedStr):
            parts = [_rendered(part, module) for part in node.values]
            text = None if None in parts else "".join(part for part in parts if part is not None)
        else:
            pending.extend(ast.iter_child_nodes(node))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
        if text is not None and "{" not in text and re.match(r"(SELECT .* FROM|UPDATE|DELETE|WITH) ", text, re.DOTALL):
            yield text


def _rendered(part: ast.expr, module: ModuleType) -> str | None:
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = part.value.id if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) else ""
    known = getattr(module, name, None)
    return known if isinstance(known, str) else "?" if name in PUT_IN else None


STATEMENTS = {module: list(statements(module)) for module in modules()}


def plan(db: Database, sql: str) -> list[str]:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    count = max(numbered, default=0) or sql.count("?")
    rows = db.glance(lambda tx: tx.rows(f"EXPLAIN QUERY PLAN {sql}", [None] * count))
    return [row[3] for row in rows]


@pytest.mark.parametrize("module", list(STATEMENTS), ids=lambda module: module.__name__.rpartition(".")[2])
async def test_no_statement_scans_a_table(tmp_path: Path, module: ModuleType) -> None:
    db = Database(tmp_path / "t.db")
    try:
        for sql in STATEMENTS[module]:
            if not any(allowed in sql for allowed in MAY_SCAN):
                for detail in plan(db, sql):
                    assert not re.fullmatch(r"SCAN (?!wanted)\w+", detail), (sql, detail)
    finally:
        await db.close()


async def test_the_look_ups_of_every_message_use_their_indexes(world: World) -> None:
    """Not just some index: the one that was made for it."""
    wanted = {
        "device = ?1": "events_by_txn (device=? AND <expr>=?)",
        "INDEXED BY events_by_id": "events_by_id (<expr>=?)",
        "place <= ? AND place IS NOT NULL": "events_by_room (room=? AND place>? AND place<?)",
        "place > ? AND place <= ? ORDER BY place LIMIT": "events_by_room (room=? AND place>? AND place<?)",
    }
    seen = set()
    for found in STATEMENTS.values():
        for sql in found:
            for part, index in wanted.items():
                if part in sql and "FROM events" in sql:
                    seen.add(part)
                    assert any(index in detail for detail in plan(world.db, sql)), (sql, plan(world.db, sql))
    assert seen == set(wanted)
    nid = world.db.glance(lambda tx: names.find(tx, "nothing"))
    assert nid is None
