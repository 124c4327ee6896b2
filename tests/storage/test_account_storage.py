"""Account data by position, and look-ups that never scan a table."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tinyserver.storage import account_data, accounts, devices, filters, names, profiles, registration_tokens, sessions
from tinyserver.storage.database import Commit, Database
from tinyserver.storage.transaction import Topic


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "t.db")
    database.start()
    yield database
    await database.close()


async def test_account_data_by_position(db: Database) -> None:
    commits: list[Commit] = []
    db.on_commit = commits.append
    user, other = await db.write(lambda tx: (names.intern(tx, "@a:b"), names.intern(tx, "@c:b")))
    one = await db.write(lambda tx: account_data.put(tx, user, None, "t1", b"{}"))
    two = await db.write(lambda tx: account_data.put(tx, user, "!r:b", "t2", b'{"x":1}'))
    await db.write(lambda tx: account_data.put(tx, other, None, "t1", b"{}"))
    three = await db.write(lambda tx: account_data.put(tx, user, None, "t1", b'{"y":2}'))
    assert one < two < three
    assert [(change.topic, change.nid) for change in commits[-1].changes] == [(Topic.USER, user)]

    def seen(since: int, until: int) -> list[tuple[str | None, str, bytes]]:
        rows = db.glance(lambda tx: account_data.changed_since(tx, user, since, until))
        return [(row.room_id, row.type, row.content) for row in rows]

    assert seen(0, three) == [("!r:b", "t2", b'{"x":1}'), (None, "t1", b'{"y":2}')]
    assert seen(two, three) == [(None, "t1", b'{"y":2}')]
    assert seen(three, three + 10) == []
    assert [row.type for row in db.glance(lambda tx: account_data.of_room(tx, user, None))] == ["t1"]
    assert [row.type for row in db.glance(lambda tx: account_data.of_room(tx, user, "!r:b"))] == ["t2"]
    assert db.glance(lambda tx: account_data.of_room(tx, user, "!never:seen")) == []
    await db.write(lambda tx: account_data.remove_all(tx, user))
    assert seen(0, three) == []


# What the server asks at its start, or for its administrator, or of a table that administrators fill.
MAY_SCAN = ("FROM registration_tokens", "FROM users WHERE guest = 0", "WHERE makes_admin = 1")
STATEMENT = re.compile(r'"((?:SELECT|UPDATE|DELETE)[^"]*)"((?:\s*f?"[^"]*")*)')


@pytest.mark.parametrize("module", [account_data, accounts, devices, filters, profiles, registration_tokens, sessions])
async def test_no_statement_scans_a_table(db: Database, module: object) -> None:
    source = inspect.getsource(module).replace("{_COLUMNS}", "*")  # type: ignore[arg-type]
    statements = [first + "".join(re.findall(r'"([^"]*)"', rest)) for first, rest in STATEMENT.findall(source)]
    assert statements
    for statement in statements:
        if any(part in statement for part in MAY_SCAN):
            continue
        numbers = statement.count("?")
        plan = db.glance(lambda tx, s=statement, n=numbers: tx.rows(f"EXPLAIN QUERY PLAN {s}", (1,) * n))  # type: ignore[misc]
        details = [row[3] for row in plan]
        scans = [detail for detail in details if detail.startswith("SCAN") and "INDEX" not in detail]
        assert [scan for scan in scans if scan != "SCAN CONSTANT ROW"] == [], statement
