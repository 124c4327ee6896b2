"""What other servers are told of devices, and messages to devices of their users: nothing is lost, whatever happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.errors import LimitExceeded
from tinyserver.storage import device_list_log, outgoing, outgoing_messages

from .house import ALICE, House, open_house
from .network import json_reply
from .receiver import Receiver, receiver
from .world import World

CAROL = "@carol:tiny.test"


@pytest_asyncio.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with open_house(world) as made:
        yield made


def updates(there: Receiver, kind: str = "m.device_list_update") -> list[dict[str, Any]]:
    return [edu["content"] for edu in there.edus if edu["edu_type"] == kind]


def messages(there: Receiver) -> list[dict[str, Any]]:
    return updates(there, "m.direct_to_device")


class Follower:
    """What a server that keeps to the specification knows of a user's devices: `None` from a gap on."""

    def __init__(self) -> None:
        self.devices: dict[str, Any] | None = {}
        self.stream: int | None = None

    def take(self, update: dict[str, Any]) -> None:
        if self.devices is None:
            return
        if update["prev_id"] != ([] if self.stream is None else [self.stream]):
            self.devices = None
            return
        self.stream = update["stream_id"]
        if update.get("deleted"):
            self.devices.pop(update["device_id"], None)
        else:
            self.devices[update["device_id"]] = update["keys"]["version"]


def follow(there: Receiver) -> Follower:
    follower = Follower()
    for update in updates(there):
        follower.take(update)
    return follower


async def send(house: House, sender: Requester, txn_id: str, contents: dict[str, dict[str, Any]]) -> None:
    raw = {
        user: {device: msgspec.Raw(json.dumps(content).encode()) for device, content in of_user.items()}
        for user, of_user in contents.items()
    }
    await house.to_device.send(sender, "m.test", txn_id, raw)


async def restarted(house: House) -> None:
    """The sender forgets all that it has not stored, and starts again."""
    await house.sender.close()
    house.sender = house.new_sender()
    house.sender.start()


async def test_changes_make_a_chain(house: House) -> None:
    there, stranger = await receiver(house.world, "a"), await receiver(house.world, "b")
    room = await house.public_room()
    house.world.time.pass_(1)
    elsewhere = await house.rooms.create_room(CAROL, "11")
    await house.join(there.peer, room)
    await house.rooms.send(elsewhere, CAROL, "m.room.join_rules", {"join_rule": "public"}, state_key="")
    await house.join(stranger.peer, elsewhere)
    phone = await house.device()
    await house.publish(phone)
    await there.until(lambda: len(updates(there)) == 1)
    laptop = await house.device(device_id="LAPTOP")
    await house.publish(laptop)
    await house.publish(phone, 2)
    await there.until(lambda: follow(there).devices == {"PHONE": 2, "LAPTOP": 1})
    await restarted(house)
    await house.log_out(phone)
    await there.until(lambda: follow(there).devices == {"LAPTOP": 1})
    first = updates(there)[0]
    assert first["user_id"] == ALICE
    assert first["prev_id"] == []
    assert updates(stranger) == []


async def test_a_server_that_was_away_gets_the_newest_of_each_device_in_one_chain(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    phone, laptop = await house.device(), await house.device(device_id="LAPTOP")
    await house.publish(phone)
    await there.until(lambda: updates(there))
    there.answer = json_reply({}, 503)
    for version in range(2, 300):
        await house.publish(phone, version)
        if version == 150:
            await house.publish(laptop)
    await restarted(house)
    there.answer = None
    house.world.destinations.contacted(there.peer.name)
    await there.until(lambda: len(updates(there)) == 3)
    # What was dropped for good leaves a gap, and then the other server asks for the whole list.
    assert follow(there).devices in ({"PHONE": 299, "LAPTOP": 1}, None)
    assert [(update["device_id"], update["keys"]["version"]) for update in updates(there)[1:]] == [
        ("LAPTOP", 1), ("PHONE", 299),
    ]  # fmt: skip
    rows = house.db.glance(lambda tx: tx.value("SELECT count(*) FROM device_list_log"))
    assert rows < device_list_log.MAX_OF_USER + 20


async def test_a_few_changes_while_a_server_was_away_leave_no_gap(house: House) -> None:
    there = await receiver(house.world)
    room = await house.public_room()
    await house.join(there.peer, room)
    phone, laptop, tablet = [await house.device(device_id=name) for name in ("PHONE", "LAPTOP", "TABLET")]
    await house.publish(phone)
    await there.until(lambda: updates(there))
    there.answer = json_reply({}, 503)
    for version in range(2, 6):
        for device in (phone, laptop, tablet):
            await house.publish(device, version)
    await house.log_out(tablet)
    await restarted(house)
    there.answer = None
    house.world.destinations.contacted(there.peer.name)
    await there.until(lambda: follow(there).devices == {"PHONE": 5, "LAPTOP": 5})
    assert len(updates(there)) == 4


async def test_who_joins_shows_the_devices_to_the_servers_there(house: House) -> None:
    there, known = await receiver(house.world, "a"), await receiver(house.world, "b")
    room, other = await house.public_room(), await house.public_room("12")
    await house.join(there.peer, room)
    await house.join(known.peer, room, "ben")
    await house.join(known.peer, other)
    carol = await house.device(CAROL)
    await house.publish(carol)
    await house.rooms.send(other, CAROL, "m.room.member", {"membership": "join"}, state_key=CAROL)
    await known.until(lambda: updates(known))
    await house.rooms.send(room, CAROL, "m.room.member", {"membership": "join"}, state_key=CAROL)
    await house.rooms.send(room, ALICE, "m.room.message", {"body": "hello"})
    await there.until(lambda: there.bodies and updates(there))
    await known.until(lambda: known.bodies)
    assert [update["user_id"] for update in updates(there)] == [CAROL]
    assert len(updates(known)) == 1


async def test_messages_arrive_once_and_in_order(house: House) -> None:
    there = await receiver(house.world)
    alice = await house.device()
    bob = f"@bob:{there.peer.name}"
    there.answer = json_reply({}, 503)
    for number in range(5):
        await send(house, alice, str(number), {bob: {"*": {"n": number}, "D": {"n": number}}})
        await send(house, alice, str(number), {bob: {"D": {"n": "again"}}})
    await there.until(lambda: there.tried)
    await restarted(house)
    there.answer = None
    house.world.destinations.contacted(there.peer.name)
    await there.until(lambda: len(messages(there)) == 5)
    assert [message["messages"][bob]["D"]["n"] for message in messages(there)] == list(range(5))
    assert {message["sender"] for message in messages(there)} == {ALICE}
    ids = [message["message_id"] for message in messages(there)]
    assert len(set(ids)) == 5
    assert all(len(message_id) <= 32 for message_id in ids)
    await house.sender.close()
    assert house.db.glance(outgoing.overview) == []
    assert house.db.glance(outgoing_messages.servers) == {}


async def test_what_was_sent_before_a_crash_is_sent_again_as_the_same(house: House) -> None:
    there = await receiver(house.world)
    alice = await house.device()
    bob = f"@bob:{there.peer.name}"
    house.stop_noting()
    await send(house, alice, "1", {bob: {"D": {"n": 1}}})
    await there.until(lambda: messages(there))
    first = list(there.transactions)
    house.sender = house.new_sender()
    house.sender.start()
    await there.until(lambda: len(there.tried) == 2)
    assert there.tried == first * 2


async def test_large_requests_are_split(house: House) -> None:
    there = await receiver(house.world)
    alice = await house.device()
    users = [f"@u{number}:{there.peer.name}" for number in range(30)]
    contents = {user: {f"D{n}": {"text": "x" * 10_000} for n in range(3)} for user in users}
    await send(house, alice, "1", contents)
    await there.until(lambda: sum(len(of) for m in messages(there) for of in m["messages"].values()) == 90)
    assert len(messages(there)) > 10
    merged: dict[str, dict[str, Any]] = {}
    for message in messages(there):
        assert len(json.dumps(message)) < 65536
        for user, of_user in message["messages"].items():
            merged.setdefault(user, {}).update(of_user)
    assert merged == contents
    assert all(len(each["edus"]) <= 100 for each in there.transactions.values())


async def test_who_sends_too_much_to_a_server_that_is_away_has_to_wait(house: House) -> None:
    there = await receiver(house.world)
    alice = await house.device()
    bob = f"@bob:{there.peer.name}"
    there.answer = json_reply({}, 503)
    for number in range(20):
        await send(house, alice, f"{number}", {bob: {"D": {"n": number}}})
    with pytest.raises(LimitExceeded):
        await send(house, alice, "more", {bob: {"D": {}}})
    there.answer = None
    house.world.destinations.contacted(there.peer.name)
    await there.until(lambda: len(messages(there)) == 20)


async def test_messages_of_others_are_delivered_once(house: House) -> None:
    there, other = await receiver(house.world, "a"), await receiver(house.world, "b")
    phone, laptop = await house.device(), await house.device(device_id="LAPTOP")

    def edu(message_id: Any, messages: Any, **more: Any) -> dict[str, Any]:
        content = {"sender": f"@bob:{there.peer.name}", "type": "m.test", "message_id": message_id}
        return {"edu_type": "m.direct_to_device", "content": {**content, "messages": messages, **more}}

    def waiting(device: Requester) -> list[Any]:
        nid = device.device_nid
        rows = house.db.glance(lambda tx: tx.rows("SELECT content, shared FROM to_device WHERE device = ?", (nid,)))
        return [json.loads(row[0]) if row[0] is not None else "shared" for row in rows]

    bad = [
        edu("1", {ALICE: {"PHONE": {"n": 1}}}, sender=f"@bob:{other.peer.name}"), edu(7, {ALICE: {"PHONE": {}}}),
        edu("2", {ALICE: {"PHONE": "text"}}), edu("3", {ALICE: 7, "x": {}}), edu("4", []), edu("x" * 300, {ALICE: {}}),
        edu("5", {ALICE: {"PHONE": {}}}, type=""), edu("6", {ALICE: {"PHONE": {}}}, sender="bob"),
        edu("7", {ALICE: {"PHONE": {"x": "y" * 70_000}}}), edu("8", {"@nobody:tiny.test": {"*": {}}}),
    ]  # fmt: skip
    assert (await house.put(there.peer, "1", [], bad)).status_code == 200
    assert waiting(phone) == []
    good = [edu(f"m{n}", {ALICE: {"PHONE": {"n": n}}}) for n in range(40)]
    for txn_id in ("2", "3"):
        assert (await house.put(there.peer, txn_id, [], good)).status_code == 200
    assert waiting(phone) == [{"n": n} for n in range(40)]
    await house.put(there.peer, "4", [], [edu("all", {ALICE: {"*": {}}})])
    assert waiting(laptop) == ["shared"]
    # A device that takes nothing away does not hold up the other server, and cannot be filled without end.
    for start in range(0, 100, 50):
        await house.put(there.peer, f"f{start}", [], [edu(f"f{start + n}", {ALICE: {"PHONE": {}}}) for n in range(50)])
    assert len(waiting(phone)) == 80
