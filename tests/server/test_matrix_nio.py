"""Two people with matrix-nio, an independent client library: what they do reaches the other, also over restarts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from nio import (
    AsyncClient,
    AsyncClientConfig,
    JoinError,
    LoginResponse,
    ReceiptEvent,
    RedactedEvent,
    RegisterResponse,
    RoomMemberEvent,
    RoomMessageText,
    RoomTopicEvent,
    TypingNoticeEvent,
)

from .harness import TinyServer
from .nio_person import Person, done

# Its classes warn of what newer versions of its own dependencies make of them.
pytestmark = pytest.mark.filterwarnings("default")

SERVER_CONFIG = {"registration": {"mode": "token"}}


@pytest_asyncio.fixture
async def register(fresh_server: TinyServer) -> AsyncIterator[Callable[..., Any]]:
    """`await register("alice", token)`: a person with a new account, by a registration token."""
    people: list[Person] = []

    async def make(name: str, token: str) -> Person:
        config = AsyncClientConfig(max_timeouts=0, request_timeout=30, encryption_enabled=False)
        person = Person(AsyncClient(fresh_server.base_url, name, config=config), f"{name}'s pass-word")
        people.append(person)
        answer = await person.nio.register_with_token(name, person.password, token, device_name="nio")
        assert isinstance(answer, RegisterResponse), answer
        return person

    yield make
    for person in people:
        await person.nio.close()


def first_token(server: TinyServer) -> str:
    """The token that the server prints for the administrator's account."""
    found = re.search(r"good for one account:\s+(\S+)", server.log.text())
    assert found is not None
    return found[1]


def another_token(server: TinyServer) -> str:
    made = server.command("token", "create", "--config", str(server.config_file))
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[-1]


async def become_friends(alice: Person, bob: Person) -> str:
    """Alice makes a room and invites Bob, who comes; the room."""
    room: str = done(await alice.nio.room_create(name="Family", topic="Everything")).room_id
    assert isinstance(await bob.nio.join(room), JoinError), "nobody comes in without an invite"
    done(await alice.nio.room_invite(room, bob.user_id))
    await bob.see(lambda: room in bob.nio.invited_rooms)
    assert bob.nio.invited_rooms[room].inviter == alice.user_id
    assert bob.nio.invited_rooms[room].name == "Family"
    done(await bob.nio.join(room))
    await bob.see(lambda: room in bob.nio.rooms)
    assert bob.nio.rooms[room].topic == "Everything"
    await alice.see(
        lambda: [
            event
            for where, event in alice.events
            if where == room and isinstance(event, RoomMemberEvent) and event.state_key == bob.user_id
            if event.membership == "join"
        ]
    )
    for person in (alice, bob):
        assert sorted(person.nio.rooms[room].users) == sorted((alice.user_id, bob.user_id))
    return room


async def talk(writer: Person, reader: Person, room: str, when: str) -> None:
    """A message, which is read and answered by typing; another one, which is taken back."""
    text = f"{when}, {writer.user_id} says hello"
    event_id = await writer.say(room, text)
    assert (await reader.see_text(room, text)).event_id == event_id
    done(await reader.nio.update_receipt_marker(room, event_id))
    done(await reader.nio.room_read_markers(room, event_id, event_id))
    await writer.see(lambda: has_read(writer, room, reader, event_id))
    done(await reader.nio.room_typing(room, True))
    await writer.see(lambda: is_typing(writer, room, reader, True))
    done(await reader.nio.room_typing(room, False))
    await writer.see(lambda: is_typing(writer, room, reader, False))
    regretted = await writer.say(room, f"{when}, something wrong")
    await reader.see(lambda: [e for _, e in reader.events if e.event_id == regretted])
    redaction = done(await writer.nio.room_redact(room, regretted, reason="wrong")).event_id
    await reader.see(lambda: [e for _, e in reader.events if e.event_id == redaction])
    shown = done(await reader.nio.room_get_event(room, regretted)).event
    assert isinstance(shown, RedactedEvent)
    assert shown.reason == "wrong"


async def chat(alice: Person, bob: Person, room: str, when: str) -> None:
    """Both talk, and the topic changes; all of it is seen by the other."""
    for writer, reader in ((alice, bob), (bob, alice)):
        await talk(writer, reader, room, when)
    done(await alice.nio.room_put_state(room, "m.room.topic", {"topic": f"{when}"}))
    await bob.see(lambda: [e for _, e in bob.events if isinstance(e, RoomTopicEvent) and e.topic == when])


def has_read(person: Person, room: str, reader: Person, event_id: str) -> bool:
    return any(
        receipt.user_id == reader.user_id and receipt.event_id == event_id
        for where, event in person.ephemeral
        if where == room and isinstance(event, ReceiptEvent)
        for receipt in event.receipts
    )


def is_typing(person: Person, room: str, typist: Person, typing: bool) -> bool:
    notices = [e for where, e in person.ephemeral if where == room and isinstance(e, TypingNoticeEvent)]
    return bool(notices) and (typist.user_id in notices[-1].users) is typing


async def all_texts(person: Person, room: str) -> list[str]:
    """The messages of a room by paging back from now to its beginning."""
    found: list[str] = []
    start = None
    while True:
        page = done(await person.nio.room_messages(room, start, limit=7))
        found += [event.body for event in page.chunk if isinstance(event, RoomMessageText)]
        if page.end is None:
            return found[::-1]
        start = page.end


async def test_two_people_and_restarts(fresh_server: TinyServer, register: Callable[..., Any]) -> None:
    server = fresh_server
    alice = await register("alice", first_token(server))
    bob = await register("bob", another_token(server))
    room = await become_friends(alice, bob)
    second = await become_friends(bob, alice)
    await chat(alice, bob, room, "on the first day")
    tokens = []
    for end, when in ((server.stop, "after a stop"), (server.kill, "after a kill")):
        unseen = [await alice.say(room, f"just before {when}: {number}") for number in range(3)]
        tokens.append((alice.nio.next_batch, bob.nio.next_batch))
        end()
        server.start()
        # Bob goes on from his token: what he had not seen comes now, and nothing again.
        await bob.see(lambda unseen=unseen: unseen[-1] in [event.event_id for _, event in bob.events])
        shown = [event.event_id for where, event in bob.events if where == room]
        assert [event_id for event_id in shown if event_id in unseen] == unseen
        assert len(set(shown)) == len(shown)
        await chat(alice, bob, room, when)
        await chat(bob, alice, second, when)
        assert tokens[-1] != (alice.nio.next_batch, bob.nio.next_batch)
    for where in (room, second):
        await alice.say(where, "the last word")
        await alice.see_text(where, "the last word")
        await bob.see_text(where, "the last word")
        # What was taken back was shown to those who were quick.
        kept = [[text for text in person.texts(where) if "wrong" not in text] for person in (alice, bob)]
        assert kept[0] == kept[1] == await all_texts(alice, where) == await all_texts(bob, where)


async def test_another_device_finds_everything(fresh_server: TinyServer, register: Callable[..., Any]) -> None:
    """A login with the password elsewhere: an initial sync shows rooms, members and the newest messages."""
    server = fresh_server
    alice = await register("alice", first_token(server))
    bob = await register("bob", another_token(server))
    room = await become_friends(alice, bob)
    await chat(alice, bob, room, "today")
    server.kill()
    server.start()
    tablet = Person(AsyncClient(server.base_url, alice.user_id), alice.password)
    try:
        assert isinstance(await tablet.nio.login(alice.password, device_name="tablet"), LoginResponse)
        await tablet.nio.sync(full_state=True)
        assert tablet.nio.rooms[room].name == "Family"
        assert tablet.nio.rooms[room].topic == "today"
        assert sorted(tablet.nio.rooms[room].users) == sorted((alice.user_id, bob.user_id))
        assert await all_texts(tablet, room) == [text for text in bob.texts(room) if "wrong" not in text]
        await bob.say(room, "do you see this?")
        await tablet.see_text(room, "do you see this?")
        await alice.see_text(room, "do you see this?")
        done(await tablet.nio.logout())
    finally:
        await tablet.nio.close()
