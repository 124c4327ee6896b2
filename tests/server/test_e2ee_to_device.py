"""Messages from device to device over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from .crypto_device import send_to_device, to_device


def contents(answer: Any) -> list[Any]:
    return [event["content"] for event in to_device(answer)]


async def test_a_message_stays_until_it_is_acknowledged(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    start = (await bob.sync())["next_batch"]
    await send_to_device(alice, "m.test", {bob.user_id: {bob.device_id: {"n": 1}}})
    first = await bob.sync(start)
    assert to_device(first) == [{"type": "m.test", "sender": alice.user_id, "content": {"n": 1}}]
    assert to_device(await bob.sync(start)) == to_device(first), "not acknowledged: it comes again"
    assert contents(await bob.sync()) == [{"n": 1}], "also to a client that starts afresh"
    await send_to_device(alice, "m.test", {bob.user_id: {bob.device_id: {"n": 2}}})
    assert contents(await bob.sync(first["next_batch"])) == [{"n": 2}]
    assert contents(await bob.sync()) == [{"n": 2}]


async def test_a_waiting_device_is_woken(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    async with await bob.another_device() as other:
        await bob.sync_on()
        await other.sync_on()
        waiting = asyncio.ensure_future(bob.sync_on(timeout=20_000))
        await send_to_device(alice, "m.test", {bob.user_id: {bob.device_id: {"x": "é"}}})
        assert contents(await waiting) == [{"x": "é"}]
        assert contents(await other.sync_on()) == []


async def test_all_devices_of_a_user(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    async with await bob.another_device() as second, await alice.another_device() as own:
        messages = {
            bob.user_id: {"*": {"to": "all"}, second.device_id: {"to": "second"}, "NONE": {"to": "none"}},
            alice.user_id: {"*": {"to": "all"}},
            "@nobody:tiny.test": {"*": {}},
            "@x:far.test": {"*": {}},
        }
        await send_to_device(alice, "m.test", messages)
        assert contents(await bob.sync()) == [{"to": "all"}]
        assert contents(await second.sync()) == [{"to": "second"}]
        assert contents(await own.sync()) == [{"to": "all"}]
        assert contents(await alice.sync()) == [{"to": "all"}]
        # What several devices got is one thing in the store: it stays for those who have not fetched it yet.
        await bob.sync((await bob.sync())["next_batch"])
        assert contents(await bob.sync()) == []
        assert contents(await own.sync()) == [{"to": "all"}]


async def test_the_same_request_again_does_nothing(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    message = {bob.user_id: {bob.device_id: {"n": 1}}}
    await asyncio.gather(*(send_to_device(alice, "m.test", message, txn="same") for _ in range(5)))
    async with await alice.another_device() as other:
        await send_to_device(other, "m.test", message, txn="same")
    assert contents(await bob.sync()) == [{"n": 1}, {"n": 1}], "one from each device of the sender"


async def test_a_long_queue_comes_in_pieces_in_order(new_user: Any, fresh_server: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.sync_on()
    for first in range(0, 250, 50):
        await asyncio.gather(
            *(
                send_to_device(alice, "m.test", {bob.user_id: {bob.device_id: {"n": n}}})
                for n in range(first, first + 50)
            )
        )
    sizes, numbers = [], []
    for _ in range(3):
        before = bob.since
        answer = await bob.sync_on(timeout=10_000)
        assert contents(await bob.sync(before)) == contents(answer), "the answer was lost: it comes again"
        sizes.append(len(contents(answer)))
        numbers += [content["n"] for content in contents(answer)]
        if len(sizes) == 1:
            await asyncio.to_thread(fresh_server.kill)
            await asyncio.to_thread(fresh_server.start)
    assert sizes == [100, 100, 50]
    assert sorted(numbers) == list(range(250))
    assert [number // 50 for number in numbers] == sorted(number // 50 for number in numbers)
    assert contents(await bob.sync_on()) == []
    assert contents(await bob.sync()) == []


async def test_pieces_and_rooms_together(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await bob.sync_on()
    for n in range(120):
        await send_to_device(alice, "m.test", {bob.user_id: {bob.device_id: {"n": n}}})
    event = await alice.send(room, "hello")
    found, events = 0, []
    for _ in range(3):
        answer = await bob.sync_on()
        found += len(contents(answer))
        rooms = answer.get("rooms", {}).get("join", {})
        events += [each["event_id"] for each in rooms.get(room, {}).get("timeline", {}).get("events", [])]
    assert found == 120
    assert events == [event], "the piece that is missing repeats nothing else"


async def test_messages_go_with_their_device(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    async with await bob.another_device() as other:
        await send_to_device(alice, "m.test", {bob.user_id: {"*": {"n": 1}}})
        await other.request("POST", "/logout", {})
    async with await bob.another_device(device_id=other.device_id) as again:
        assert contents(await again.sync()) == []
    assert contents(await bob.sync()) == [{"n": 1}]


async def test_messages_survive_a_crash(new_user: Any, fresh_server: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.sync_on()
    message = {bob.user_id: {bob.device_id: {"n": 1}}}
    await send_to_device(alice, "m.test", message, txn="once")
    await asyncio.to_thread(fresh_server.kill)
    await asyncio.to_thread(fresh_server.start)
    await send_to_device(alice, "m.test", message, txn="once")
    assert contents(await bob.sync_on()) == [{"n": 1}]


async def test_what_is_no_message_is_refused(new_user: Any) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")

    async def refused(status: int, errcode: str, content: bytes, event_type: str = "m.test") -> None:
        path = f"/sendToDevice/{event_type}/{alice.transaction()}"
        await alice.request("PUT", path, content=content, expect=status, errcode=errcode)

    to_bob = b'{"messages":{"%b":{"%b":%%b}}}' % (bob.user_id.encode(), bob.device_id.encode())
    await refused(400, "M_BAD_JSON", b"{}")
    await refused(400, "M_BAD_JSON", b'{"messages":[]}')
    await refused(400, "M_BAD_JSON", to_bob % b"1")
    await refused(400, "M_BAD_JSON", to_bob % b'"text"')
    await refused(400, "M_NOT_JSON", to_bob % b'{"x":"\\ud800"}')
    await refused(400, "M_INVALID_PARAM", b'{"messages":{"bob":{"*":{}}}}')
    await refused(400, "M_INVALID_PARAM", to_bob % b"{}", "m" * 256)
    await refused(413, "M_TOO_LARGE", to_bob % (b'{"x":"' + b"x" * 65536 + b'"}'))
    many = b",".join(b'"D%d":{}' % number for number in range(5001))
    await refused(413, "M_TOO_LARGE", b'{"messages":{"%b":{%b}}}' % (bob.user_id.encode(), many))
    answer = await alice.raw("PUT", "/sendToDevice/m.test/bad", content=to_bob % b'{"x":"\xff\xfe"}')
    assert answer.status_code == 400
    assert contents(await bob.sync()) == []
