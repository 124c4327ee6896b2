"""Receipts and read markers over HTTP, as clients see them in sync."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .client import Client, joined
from .harness import TinyServer

SERVER_CONFIG = {"rate_limits": {"enabled": False}}

NewUser = Callable[..., Awaitable[Client]]


def receipts_in(answer: Any, room: str) -> dict[tuple[str, str, str | None], str]:
    """(type, user, thread) -> event ID of all receipts in a room of a sync answer."""
    found = {}
    for event in joined(answer, room).get("ephemeral", {}).get("events", []):
        if event["type"] != "m.receipt":
            continue
        for event_id, by_type in event["content"].items():
            for kind, by_user in by_type.items():
                for user, receipt in by_user.items():
                    assert receipt["ts"] > 0
                    found[(kind, user, receipt.get("thread_id"))] = event_id
    return found


async def two_in_a_room(new_user: NewUser) -> tuple[Client, Client, str]:
    alice, bob = await new_user("alice"), await new_user("bob")
    return alice, bob, await alice.create_room(bob, preset="private_chat")


async def thread_message(client: Client, room: str, root: str, body: str) -> str:
    relation = {"rel_type": "m.thread", "event_id": root}
    event_id: str = await client.send(room, {"msgtype": "m.text", "body": body, "m.relates_to": relation})
    return event_id


async def test_a_receipt_reaches_the_others_and_comes_again_at_first_sync(
    server: TinyServer, new_user: NewUser
) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    event = await alice.send(room, "hello")
    await alice.sync_on()
    await bob.receipt(room, event)
    seen = await alice.sync_until(lambda answer: receipts_in(answer, room))
    assert seen == {("m.read", bob.user_id, None): event}
    for reader in (alice, bob):
        assert receipts_in(await reader.sync(), room) == seen


async def test_a_private_receipt_is_seen_by_its_user_alone(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    event = await alice.send(room, "hello")
    await alice.sync_on()
    await bob.sync_on()
    await bob.receipt(room, event, "m.read.private")
    assert await bob.sync_until(lambda answer: receipts_in(answer, room)) == {
        ("m.read.private", bob.user_id, None): event
    }
    assert not receipts_in(await alice.sync_on(), room)
    assert not receipts_in(await alice.sync(), room)


async def test_a_receipt_never_moves_backwards(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    first, second = await alice.send(room, "1"), await alice.send(room, "2")
    await bob.receipt(room, second)
    await alice.sync_on()
    await bob.receipt(room, first)
    await bob.receipt(room, second)
    assert not receipts_in(await alice.sync_on(), room)
    assert receipts_in(await alice.sync(), room) == {("m.read", bob.user_id, None): second}


async def test_receipts_of_threads_stand_beside_each_other(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    root = await alice.send(room, "root")
    reply = await thread_message(alice, room, root, "in the thread")
    reaction = await alice.send(
        room, {"m.relates_to": {"rel_type": "m.annotation", "event_id": reply, "key": "+"}}, "m.reaction"
    )
    after = await alice.send(room, "after")
    await bob.receipt(room, after, thread_id="main")
    await bob.receipt(room, reaction, thread_id=root)
    await bob.receipt(room, root)
    assert receipts_in(await alice.sync(), room) == {
        ("m.read", bob.user_id, "main"): after,
        ("m.read", bob.user_id, root): reaction,
        ("m.read", bob.user_id, None): root,
    }


@pytest.mark.parametrize(
    ("kind", "thread"),
    [
        ("m.read", ""),
        ("m.read", 7),
        ("m.read", None),
        ("m.read", ["main"]),
        ("m.read", "$elsewhere"),
        ("m.fully_read", "main"),
        ("m.unheard_of", "main"),
        ("m.unheard_of", "x" * 10_000),
    ],
)
async def test_a_wrong_thread_or_type_is_refused(server: TinyServer, new_user: NewUser, kind: str, thread: Any) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    event = await alice.send(room, "hello")
    path = f"{alice.room(room)}/receipt/{kind}/{event}"
    await alice.request("POST", path, {"thread_id": thread}, expect=400, errcode="M_INVALID_PARAM")


async def test_an_event_in_a_thread_is_not_in_main(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    root = await alice.send(room, "root")
    reply = await thread_message(alice, room, root, "in the thread")
    for event, thread, status in ((reply, "main", 400), (root, "main", 200), (root, root, 200), (reply, root, 200)):
        path = f"{alice.room(room)}/receipt/m.read/{event}"
        await alice.request("POST", path, {"thread_id": thread}, expect=status)


async def test_who_may_send_receipts_for_what(server: TinyServer, new_user: NewUser) -> None:
    alice, stranger = await new_user("alice"), await new_user("stranger")
    room, other_room = await alice.create_room(), await alice.create_room()
    event, elsewhere = await alice.send(room, "hello"), await alice.send(other_room, "hello")
    for wrong in ("$unknown", "nonsense", elsewhere, "$" + "a" * 43):
        path = f"{alice.room(room)}/receipt/m.read/{wrong}"
        await alice.request("POST", path, {}, expect=404, errcode="M_NOT_FOUND")
    path = f"{alice.room(room)}/receipt/m.read/{event}"
    await stranger.request("POST", path, {}, expect=403, errcode="M_FORBIDDEN")
    await alice.request("POST", path)  # old clients send no body at all
    await alice.request(
        "POST", f"/rooms/!nowhere:tiny.test/receipt/m.read/{event}", {}, expect=403, errcode="M_FORBIDDEN"
    )


async def test_read_markers_move_together(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    first, second, third = [await alice.send(room, str(number)) for number in range(3)]
    await bob.sync_on()
    markers = {"m.fully_read": first, "m.read": second, "org.matrix.msc2285.read.private": third, "other": 1}
    await bob.request("POST", f"{bob.room(room)}/read_markers", markers)
    answer = await bob.sync_on()
    assert receipts_in(answer, room) == {
        ("m.read", bob.user_id, None): second,
        ("m.read.private", bob.user_id, None): third,
    }
    data = {event["type"]: event["content"] for event in joined(answer, room)["account_data"]["events"]}
    assert data["m.fully_read"] == {"event_id": first}
    # The same once more, and one that is further back, change nothing.
    await bob.request("POST", f"{bob.room(room)}/read_markers", {"m.fully_read": first, "m.read": first})
    assert not joined(await bob.sync_on(), room)
    # Through the other door.
    await bob.receipt(room, second, "m.fully_read")
    answer = await bob.sync_on()
    assert not receipts_in(answer, room)
    assert joined(answer, room)["account_data"]["events"] == [{"type": "m.fully_read", "content": {"event_id": second}}]


async def test_of_wrong_read_markers_none_is_stored(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    event = await alice.send(room, "hello")
    path = f"{alice.room(room)}/read_markers"
    await alice.request("POST", path, {"m.read": event, "m.fully_read": "$unknown"}, expect=404)
    await alice.request("POST", path, {"m.read": 3}, expect=400, errcode="M_BAD_JSON")
    answer = await alice.sync()
    assert not receipts_in(answer, room)
    assert not joined(answer, room)["account_data"]["events"]
    await alice.request("POST", path, {})


async def test_receipts_survive_a_restart(fresh_server: TinyServer, new_user: NewUser) -> None:
    alice, bob, room = await two_in_a_room(new_user)
    first, second = await alice.send(room, "1"), await alice.send(room, "2")
    await alice.sync_on()
    await bob.receipt(room, first)
    await bob.receipt(room, second, "m.read.private")
    fresh_server.kill()
    fresh_server.start()
    assert receipts_in(await alice.sync_on(), room) == {("m.read", bob.user_id, None): first}
    assert receipts_in(await bob.sync(), room) == {
        ("m.read", bob.user_id, None): first,
        ("m.read.private", bob.user_id, None): second,
    }
    assert not receipts_in(await alice.sync_on(), room)
