"""What encryption stores: queues with an end, contents that are stored once, and queries that find what they want."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tinyserver.accounts.requester import Requester
from tinyserver.encryption.remote import NobodyElse
from tinyserver.encryption.removed_devices import RemovedDevices
from tinyserver.encryption.to_device import QueueLimits, ToDevice
from tinyserver.protocol.errors import LimitExceeded
from tinyserver.storage import (
    accounts,
    cross_signing,
    dehydrated_devices,
    device_keys,
    device_lists,
    devices,
    key_backup,
    one_time_keys,
    to_device,
)
from tinyserver.storage.cross_signing import Usage, UserSignature
from tinyserver.storage.database import Database
from tinyserver.storage.devices import Seen
from tinyserver.storage.key_backup import SessionRow
from tinyserver.storage.one_time_keys import REMEMBERED_CLAIMS, PublicKey
from tinyserver.storage.to_device import REMEMBERED_REQUESTS, Delivery

ALICE, BOB = "@alice:here", "@bob:here"
Json = Any


class People:
    """Two users with two devices each."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.users: dict[str, int] = {}
        self.devices: dict[str, list[int]] = {}

    async def arrive(self) -> None:
        def step(tx: Any) -> None:
            for user_id in (ALICE, BOB):
                user = self.users[user_id] = accounts.add(tx, user_id, None, 0)
                self.devices[user_id] = [devices.add(tx, user, f"D{n}", None, Seen(0, "", "")) for n in range(2)]

        await self.db.write(step)

    def requester(self, user_id: str) -> Requester:
        return Requester(user_id, self.users[user_id], "D0", self.devices[user_id][0])

    def count(self, table: str) -> int:
        return int(self.db.glance(lambda tx: tx.value(f"SELECT count(*) FROM {table}")))


@pytest_asyncio.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    db = Database(tmp_path / "t.db")
    db.start()
    found = People(db)
    await found.arrive()
    yield found
    await db.close()


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@pytest.mark.parametrize("limits", [QueueLimits(messages=3), QueueLimits(bytes=30)], ids=["messages", "bytes"])
async def test_a_full_queue_asks_the_sender_to_wait(people: People, limits: QueueLimits) -> None:
    service = ToDevice(people.db, NobodyElse(), "here", limits)
    sender = people.requester(ALICE)
    full, free = people.devices[BOB]
    accepted = 0
    for number in range(10):
        try:
            await service.send(sender, "m.test", f"t{number}", {BOB: {"D0": raw('{"some":"text"}')}})
        except LimitExceeded:
            break
        accepted += 1
    assert 0 < accepted < 10

    def waiting(device: int) -> int:
        return len(people.db.glance(lambda tx: to_device.waiting(tx, device, 0, 2**60, 100)))

    assert waiting(full) == accepted, "nothing that was accepted is lost"
    both = {BOB: {"D1": raw("{}"), "D0": raw("{}")}}
    with pytest.raises(LimitExceeded):
        await service.send(sender, "m.test", "both", both)
    assert waiting(free) == 0, "a request is carried out wholly or not at all"
    await people.db.write(lambda tx: to_device.remove(tx, full, 2**60))
    await service.send(sender, "m.test", "both", both)
    assert (waiting(full), waiting(free)) == (1, 1), "the same request is good when there is room again"
    assert people.db.glance(lambda tx: to_device.queues(tx, [full, free])).keys() == {full, free}


async def test_a_content_for_many_is_stored_once(people: People) -> None:
    service = ToDevice(people.db, NobodyElse(), "here")
    messages = {ALICE: {"*": raw('{"a":1}')}, BOB: {"*": raw('{"a":1}')}}
    await service.send(people.requester(ALICE), "m.test", "t", messages)
    assert (people.count("to_device"), people.count("to_device_contents")) == (4, 1)
    everybody = [device for of_user in people.devices.values() for device in of_user]
    for number, device in enumerate(everybody):
        found = people.db.glance(lambda tx, device=device: to_device.waiting(tx, device, 0, 2**60, 9))  # type: ignore[misc]
        assert [(message.sender, message.content) for message in found] == [(ALICE, b'{"a":1}')]
        if number % 2:
            await people.db.write(lambda tx, device=device: to_device.remove(tx, device, 2**60))  # type: ignore[misc]
        else:
            await people.db.write(lambda tx, device=device: to_device.remove_all(tx, device))  # type: ignore[misc]
    for table in ("to_device", "to_device_contents", "to_device_queues"):
        assert people.count(table) == 0


async def test_old_requests_and_claims_are_forgotten(people: People) -> None:
    device = people.devices[ALICE][0]

    def step(tx: Any) -> None:
        for number in range(3 * REMEMBERED_REQUESTS):
            assert to_device.is_new_request(tx, device, number.to_bytes(16, "little"))
        assert not to_device.is_new_request(tx, device, number.to_bytes(16, "little"))
        one_time_keys.add(tx, device, [PublicKey("a", f"{n:04}", b"{}") for n in range(3 * REMEMBERED_CLAIMS)])
        claimed = [one_time_keys.claim(tx, device, "a", tx.next_position()) for _ in range(3 * REMEMBERED_CLAIMS)]
        one_time_keys.forget_old_claims(tx, device, "a")
        assert claimed[-1] is not None
        assert one_time_keys.was_claimed(tx, device, "a", claimed[-1].key_id)

    await people.db.write(step)
    assert people.count("to_device_requests") <= REMEMBERED_REQUESTS + 256
    assert people.count("claimed_keys") == REMEMBERED_CLAIMS


def use_everything(tx: Any, people: People) -> None:
    """Every function of encryption's storage at least once."""
    alice, bob = people.users[ALICE], people.users[BOB]
    device, other = people.devices[ALICE]
    device_keys.put(tx, device, b"{}")
    device_keys.get(tx, device)
    list(device_keys.of_users(tx, [alice, bob]))
    key = PublicKey("a", "1", b"{}")
    one_time_keys.add(tx, device, [key])
    one_time_keys.of_device(tx, device)
    one_time_keys.was_claimed(tx, device, "a", "1")
    one_time_keys.put_fallback(tx, device, key)
    for _ in range(2):
        one_time_keys.claim(tx, device, "a", tx.next_position())
    one_time_keys.forget_old_claims(tx, device, "a")
    one_time_keys.state(tx, device)
    cross_signing.put(tx, alice, Usage.MASTER, b"{}")
    cross_signing.of_user(tx, alice)
    list(cross_signing.of_users(tx, [alice, bob]))
    cross_signing.sign(tx, alice, UserSignature(bob, "k", "s", "x"))
    cross_signing.signatures_of(tx, alice)
    cross_signing.signed_between(tx, alice, 0, 10)
    device_lists.note_news(tx, alice)
    device_lists.changed_between(tx, 0, 10)
    device_lists.rooms_changed_after(tx, [1, 2], 0)
    device_lists.members_among(tx, [1, 2], [alice, bob])
    device_lists.members_of(tx, 1)
    content = b"{}"
    to_device.add(tx, alice, "m.test", [Delivery(alice, device, content), Delivery(alice, other, content)])
    to_device.queues(tx, [device, other])
    to_device.waiting(tx, device, 0, 100, 10)
    to_device.oldest(tx, device)
    to_device.remove(tx, device, 2**60)
    for digest in (bytes(16), bytes(15) + b"x"):
        to_device.is_new_request(tx, device, digest)
    version = key_backup.create(tx, alice, "a", b"{}")
    backup = key_backup.latest(tx, alice)
    assert backup is not None
    assert key_backup.get(tx, alice, version) == backup
    key_backup.set_auth_data(tx, backup.nid, b"{}")
    key_backup.store(tx, backup.nid, [SessionRow("!r", f"s{n}", 0, 0, False, b"{}") for n in range(5)])
    key_backup.session(tx, backup.nid, "!r", "s1")
    _, after = key_backup.sessions_after(tx, backup.nid, (0, ""), None, 2)
    key_backup.sessions_after(tx, backup.nid, after, after[0], 2)
    for where in (("!r", "s1"), ("!r", None), (None, None)):
        key_backup.remove(tx, backup.nid, *where)
    key_backup.mark_deleted(tx, backup.nid)
    key_backup.purge(tx, alice, 2)
    dehydrated_devices.put(tx, alice, device, b"{}")
    assert dehydrated_devices.get(tx, alice)
    cross_signing.remove(tx, alice, Usage.MASTER)
    cross_signing.remove_signatures_by(tx, alice)
    cross_signing.remove_signatures_on(tx, alice)
    RemovedDevices().devices_removed(tx, alice, [device, other])
    RemovedDevices().device_renamed(tx, alice, device)


async def test_no_query_reads_a_whole_table(people: People) -> None:
    statements: list[str] = []

    def step(tx: Any) -> list[str]:
        tx.connection.set_trace_callback(statements.append)
        try:
            use_everything(tx, people)
        finally:
            tx.connection.set_trace_callback(None)
        plans = []
        for statement in set(statements):
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")):
                plans += [(row[3], statement) for row in tx.execute(f"EXPLAIN QUERY PLAN {statement}")]
        allowed = ("SCAN json_each", "SCAN wanted", "SCAN u ", "SCAN CONSTANT ROW")
        return [
            f"{plan}: {statement}"
            for plan, statement in plans
            if plan.startswith("SCAN") and not plan.startswith(allowed)
        ]

    assert await people.db.write(step) == []
    assert len(set(statements)) > 50


async def test_nothing_is_left_of_devices_that_are_gone(people: People) -> None:
    await people.db.write(lambda tx: use_everything(tx, people))
    gone = ("device_keys", "one_time_keys", "claimed_keys", "fallback_keys", "to_device", "to_device_contents")
    for table in (*gone, "to_device_queues", "to_device_requests", "dehydrated_devices", "backed_up_sessions"):
        assert people.count(table) == 0, table
