"""Threads, edits, reactions, spaces, knocking, upgrades, push rules and unread counts with matrix-nio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from nio import (
    AsyncClient,
    AsyncClientConfig,
    PushDontNotify,
    PushNotify,
    PushRuleKind,
    PushSetTweak,
    ReactionEvent,
    RoomSendError,
    RoomUpgradeEvent,
)
from nio.api import RelationshipType, ThreadInclusion

from .client import Client
from .harness import TinyServer
from .nio_person import Person, done

pytestmark = pytest.mark.filterwarnings("default")

People = Callable[..., Awaitable[Person]]


@pytest_asyncio.fixture
async def person(server: TinyServer, new_user: Callable[..., Awaitable[Client]]) -> AsyncIterator[People]:
    """`await person("alice")`: a person with a new account, who has synced once."""
    made: list[Person] = []

    async def make(name: str) -> Person:
        account = await new_user(name)
        config = AsyncClientConfig(max_timeouts=0, request_timeout=30, encryption_enabled=False)
        one = Person(AsyncClient(server.base_url, account.user_id, config=config), account.password)
        made.append(one)
        one.nio.restore_login(account.user_id, account.device_id, str(account.access_token))
        done(await one.nio.sync())
        return one

    yield make
    for one in made:
        await one.nio.close()


async def room_of(host: Person, *guests: Person, **options: Any) -> str:
    """A room that the guests have joined and that all have seen."""
    invite = [guest.user_id for guest in guests]
    room: str = done(await host.nio.room_create(invite=invite, **options)).room_id
    for guest in guests:
        done(await guest.nio.join(room))
    for one in (host, *guests):
        await one.see(lambda one=one: room in one.nio.rooms and len(one.nio.rooms[room].users) == 1 + len(guests))
    return room


async def related(writer: Person, room: str, text: str, event_id: str, kind: str, **more: Any) -> str:
    """Send a message with a relation; its event ID."""
    content = {"msgtype": "m.text", "body": text, "m.relates_to": {"rel_type": kind, "event_id": event_id}, **more}
    return str(done(await writer.nio.room_send(room, "m.room.message", content)).event_id)


async def test_threads_edits_and_reactions(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)
    roots = [await alice.say(room, "one"), await alice.say(room, "two")]
    answers = [await related(bob, room, f"answer {number}", roots[0], "m.thread") for number in range(3)]
    await related(alice, room, "my own", roots[1], "m.thread")
    found = [event.event_id async for event in bob.nio.room_get_threads(room)]
    assert found == [roots[1], roots[0]]
    found = [event.event_id async for event in bob.nio.room_get_threads(room, ThreadInclusion.participated, limit=1)]
    assert found == [roots[0]]
    pages = bob.nio.room_get_event_relations(room, roots[0], RelationshipType.thread, limit=2)
    assert [event.event_id async for event in pages] == answers[::-1]

    edit = await related(alice, room, "* uno", roots[0], "m.replace", **{"m.new_content": {"body": "uno"}})
    shown = done(await bob.nio.room_get_event(room, roots[0])).event
    assert shown.source["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit
    thread = shown.source["unsigned"]["m.relations"]["m.thread"]
    assert (thread["count"], thread["current_user_participated"]) == (3, True)

    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": roots[1], "key": "+"}}
    done(await bob.nio.room_send(room, "m.reaction", content))
    await alice.see(lambda: [event for _, event in alice.events if isinstance(event, ReactionEvent)])
    assert isinstance(again := await bob.nio.room_send(room, "m.reaction", content), RoomSendError)
    assert again.status_code == "M_DUPLICATE_ANNOTATION"
    pages = alice.nio.room_get_event_relations(room, roots[1], RelationshipType.annotation, "m.reaction")
    assert [event.reacts_to async for event in pages] == [roots[1]]


async def test_push_rules_and_unread_counts(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    room = await room_of(alice, bob)

    def counts() -> tuple[int, int]:
        return alice.nio.rooms[room].unread_notifications, alice.nio.rooms[room].unread_highlights

    await bob.say(room, "hello")
    await alice.see(lambda: counts() == (1, 0))
    actions = [PushNotify(), PushSetTweak("highlight", True)]
    done(await alice.nio.set_pushrule("global", PushRuleKind.content, "tea", pattern="tea", actions=actions))
    last = await bob.say(room, "More tea?")
    await alice.see(lambda: counts() == (2, 1))
    done(await alice.nio.enable_pushrule("global", PushRuleKind.content, "tea", False))
    last = await bob.say(room, "No tea then.")
    await alice.see(lambda: counts() == (3, 1))
    done(await alice.nio.update_receipt_marker(room, last))
    await alice.see(lambda: counts() == (0, 0))
    done(await alice.nio.enable_pushrule("global", PushRuleKind.content, "tea", True))
    done(await alice.nio.set_pushrule_actions("global", PushRuleKind.content, "tea", [PushDontNotify()]))
    await bob.say(room, "tea again")
    await bob.say(room, "and biscuits")
    await alice.see(lambda: counts() == (1, 0))
    done(await alice.nio.delete_pushrule("global", PushRuleKind.content, "tea"))
    await bob.say(room, "tea, at last")
    await alice.see(lambda: "tea, at last" in alice.texts(room))
    assert counts()[1] == 0


async def test_spaces_knocking_and_upgrades(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    space = done(await alice.nio.room_create(name="Club", space=True)).room_id
    rooms = [done(await alice.nio.room_create(name=name)).room_id for name in ("Bar", "Garden", "Library")]
    for room in rooms:
        done(await alice.nio.room_put_state(space, "m.space.child", {"via": ["tiny.test"]}, room))
    found: list[str] = []
    page = None
    while page is None or page.next_batch:
        page = done(await alice.nio.space_get_hierarchy(space, page and page.next_batch, limit=2))
        assert len(page.rooms) <= 2
        found += [each["room_id"] for each in page.rooms]
    assert (found[0], sorted(found[1:])) == (space, sorted(rooms))

    knocked = rooms[0]
    done(await alice.nio.sync())
    done(await alice.nio.room_enable_knocking(knocked))
    done(await bob.nio.room_knock(knocked, reason="thirsty"))
    done(await alice.nio.room_invite(knocked, bob.user_id))
    done(await bob.nio.join(knocked))
    await alice.see(lambda: bob.user_id in alice.nio.rooms[knocked].users)

    # nio carries out an upgrade by itself, step by step.
    answer = await alice.nio.room_upgrade(knocked, "12", room_power_level_overwrite={"users": {}})
    after = done(answer).room_id
    await bob.see(lambda: [e for _, e in bob.events if isinstance(e, RoomUpgradeEvent)])
    done(await alice.nio.sync())
    assert alice.nio.rooms[after].room_version == "12"
    assert alice.nio.rooms[after].name == "Bar"
