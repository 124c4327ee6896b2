"""Profiles of others by sync: whoever asks for fields gets those of users here with whom they share a room."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .client import Client
from .conftest import NewUser
from .harness import TinyServer
from .sliding import STABLE, SlidingSync

OLD, NEW = "org.matrix.msc4429.users", "users"
STATUS, TIME_ZONE = "org.matrix.msc4426.status", "m.tz"


def asking(*fields: str, name: str = "org.matrix.msc4429.profile_fields") -> dict[str, Any]:
    return {"filter": {name: {"ids": list(fields)}, "room": {"rooms": []}, "presence": {"not_types": ["*"]}}}


def field(user: Client, name: str) -> str:
    return f"/profile/{quote(user.user_id, safe='')}/{name}"


async def put(user: Client, name: str, value: Any) -> None:
    await user.request("PUT", field(user, name), {name: value})


def updates(answer: dict[str, Any], user: Client, key: str = OLD) -> Any:
    return answer.get(key, {}).get(user.user_id, {}).get("profile_updates")


async def test_fields_of_those_one_shares_a_room_with(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob)
    for user in (alice, bob, carol):
        await put(user, STATUS, {"text": f"I am {user.localpart}"})
        await put(user, TIME_ZONE, "Europe/Rome")
    first = await alice.sync_on(**asking(STATUS))
    assert first[OLD] == {
        user.user_id: {"profile_updates": {STATUS: {"text": f"I am {user.localpart}"}}} for user in (alice, bob)
    }
    assert OLD not in await alice.sync(alice.since, **asking(STATUS))
    assert OLD not in await alice.sync(**asking())
    assert NEW not in await alice.sync()
    assert set((await alice.sync(**asking(TIME_ZONE, name="profile_fields")))[NEW]) == {alice.user_id, bob.user_id}

    await put(carol, STATUS, "nobody hears of it")
    await put(bob, TIME_ZONE, "Europe/Paris")
    await put(bob, STATUS, "one")
    await put(bob, STATUS, "two")
    assert await alice.sync_until(lambda answer: updates(answer, bob), **asking(STATUS)) == {STATUS: "two"}
    await bob.request("DELETE", field(bob, STATUS))
    assert await alice.sync_until(lambda answer: updates(answer, bob), **asking(STATUS)) == {STATUS: None}
    await put(alice, STATUS, "my other devices see it")
    assert await alice.sync_until(lambda answer: updates(answer, alice), **asking(STATUS))

    # Who comes is told of, and who goes.
    await alice.invite(room, carol)
    await carol.join(room)
    assert await alice.sync_until(lambda answer: updates(answer, carol), **asking(STATUS)) == {
        STATUS: "nobody hears of it"
    }
    second = await alice.create_room(carol)
    await carol.leave(room)
    await put(carol, STATUS, "still there")
    assert await alice.sync_until(lambda answer: updates(answer, carol), **asking(STATUS)) == {STATUS: "still there"}
    await carol.leave(second)
    await alice.sync_until(
        lambda answer: answer.get(OLD, {}).get(carol.user_id) == {"profile_updates": None}, **asking(STATUS)
    )
    await put(carol, STATUS, "gone")
    await put(bob, STATUS, "here")
    answer = await alice.sync_on(**asking(STATUS))
    assert (updates(answer, bob), updates(answer, carol)) == ({STATUS: "here"}, None)


async def test_who_comes_into_a_room_is_told_of_those_in_it(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await put(bob, STATUS, "hello")
    room = await bob.create_room(preset="public_chat")
    await alice.sync_on(**asking(STATUS))
    await alice.join(room)
    assert await alice.sync_until(lambda answer: updates(answer, bob), **asking(STATUS)) == {STATUS: "hello"}


async def test_a_token_from_before_a_restart(fresh_server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.create_room(bob)
    await alice.sync_on(**asking(STATUS))
    sliding = SlidingSync(alice, extensions=extension(fields=[STATUS]))
    await sliding.sync()
    await put(bob, STATUS, "before")
    fresh_server.stop()
    fresh_server.start()
    assert await alice.sync_until(lambda answer: updates(answer, bob), **asking(STATUS)) == {STATUS: "before"}
    await put(bob, STATUS, "after")
    assert await alice.sync_until(lambda answer: updates(answer, bob), **asking(STATUS)) == {STATUS: "after"}
    assert (await sliding.until(lambda answer: profiles(answer).get(bob.user_id)))["updated"] == {STATUS: "after"}


def extension(name: str = "org.matrix.msc4262.profiles", **more: Any) -> dict[str, Any]:
    return {name: {"enabled": True, **more}}


def profiles(answer: dict[str, Any], name: str = "org.matrix.msc4262.profiles") -> Any:
    return answer["extensions"].get(name, {}).get("users", {})


async def test_sliding_sync(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    await alice.create_room(bob)
    await put(bob, STATUS, "one")
    await put(carol, STATUS, "not seen")
    sync = SlidingSync(alice, extensions=extension(fields=[STATUS]))
    assert profiles(await sync.sync()) == {bob.user_id: {"updated": {STATUS: "one"}}}
    assert profiles(await sync.ask()) == {}
    await put(bob, STATUS, "two")
    for _ in range(2):  # the first answer is lost
        assert profiles(await sync.ask()) == {bob.user_id: {"updated": {STATUS: "two"}}}
    await sync.sync()
    await bob.request("DELETE", field(bob, STATUS))
    removed = await sync.until(lambda answer: profiles(answer).get(bob.user_id))
    assert removed == {"removed": [STATUS]}

    # More fields: those that the client lacks come, too.
    await put(bob, TIME_ZONE, "Europe/Rome")
    await sync.sync()
    sync.request["extensions"] = extension(fields=[STATUS, TIME_ZONE])
    assert profiles(await sync.sync()) == {bob.user_id: {"updated": {TIME_ZONE: "Europe/Rome"}}}
    sync.request["extensions"] = extension()
    await put(bob, "displayname", "Bob")
    assert profiles(await sync.sync()) == {bob.user_id: {"updated": {TIME_ZONE: "Europe/Rome", "displayname": "Bob"}}}
    sync.request["extensions"] = extension(fields=[])
    assert profiles(await sync.sync()) == {}
    sync.request["extensions"] = extension(fields=["x"] * 51)
    await sync.ask(expect=400, errcode="M_INVALID_PARAM")

    body = {"lists": {}, "extensions": extension("profiles", fields=[TIME_ZONE])}
    answer = await alice.request("POST", STABLE, body)
    assert profiles(answer, "profiles") == {bob.user_id: {"updated": {TIME_ZONE: "Europe/Rome"}}}


async def test_only_the_fields_that_changed_last_are_known_to_have_changed(
    server: TinyServer, new_user: NewUser
) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.create_room(bob)
    wanted = [f"org.example.f{number}" for number in range(105)]
    await alice.sync_on(**asking(*wanted))
    for name in wanted:
        await put(bob, name, 1)
    answer = await alice.sync_on(**asking(*wanted))
    assert len(updates(answer, bob)) == 100
    assert len(updates(await alice.sync(**asking(*wanted)), bob)) == 105
