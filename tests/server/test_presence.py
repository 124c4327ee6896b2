"""Presence over HTTP. What time does to it is tested in `tests/presence`, on a turned clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .client import Client
from .harness import TinyServer

SERVER_CONFIG = {"rate_limits": {"enabled": False}}

NewUser = Callable[..., Awaitable[Client]]


def presence_of(answer: Any, user: Client) -> Any:
    """The content of the newest presence event of a user in a sync answer, or None."""
    events = answer.get("presence", {}).get("events", [])
    return next((event["content"] for event in events if event["sender"] == user.user_id), None)


async def put(user: Client, presence: str, **more: Any) -> None:
    await user.request("PUT", f"/presence/{user.user_id}/status", {"presence": presence, **more})


async def get(reader: Client, user: Client, **expectation: Any) -> Any:
    return await reader.request("GET", f"/presence/{user.user_id}/status", **expectation)


async def test_others_see_who_syncs(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.create_room(bob)
    assert await get(alice, bob) == {"presence": "offline"}
    await alice.sync_on()
    await bob.sync_on(set_presence="offline")
    assert await get(alice, bob) == {"presence": "offline"}
    await bob.sync_on()
    seen = await alice.sync_until(lambda answer: presence_of(answer, bob))
    assert seen["presence"] == "online"
    assert seen["currently_active"] is True
    assert 0 <= seen["last_active_ago"] < 10_000
    assert presence_of(await bob.sync(), alice)["presence"] == "online"


async def test_a_status_is_set_and_seen(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    await alice.sync_on()
    await put(bob, "unavailable", status_msg="at lunch")
    seen = await alice.sync_until(lambda answer: presence_of(answer, bob))
    assert seen["presence"] == "unavailable"
    assert seen["status_msg"] == "at lunch"
    assert "currently_active" not in seen
    await bob.sync_on()  # to look is not to be back
    assert (await get(alice, bob))["presence"] == "unavailable"
    await bob.send(room, "I am back")
    seen = await alice.sync_until(lambda answer: presence_of(answer, bob))
    assert (seen["presence"], seen["status_msg"]) == ("online", "at lunch")
    await put(bob, "offline")
    assert (await get(alice, bob))["presence"] == "offline"
    await bob.send(room, "nobody sees me")
    await bob.sync_on()
    content = await get(alice, bob)
    assert content["presence"] == "offline"
    assert "status_msg" not in content


async def test_a_new_name_comes_with_presence(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await alice.create_room(bob)
    await bob.request("PUT", f"/profile/{bob.user_id}/avatar_url", {"avatar_url": "mxc://tiny.test/bob"})
    await bob.sync_on()
    seen = await alice.sync_until(lambda answer: presence_of(answer, bob))
    assert seen["avatar_url"] == "mxc://tiny.test/bob"
    assert "displayname" not in seen
    for name in ("Bob", "Robert"):
        await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": name})
        seen = await alice.sync_until(lambda answer: presence_of(answer, bob))
        assert (seen["presence"], seen["displayname"]) == ("online", name)
        assert seen["avatar_url"] == "mxc://tiny.test/bob"
    await bob.request("DELETE", f"/profile/{bob.user_id}/displayname")
    assert "displayname" not in await alice.sync_until(lambda answer: presence_of(answer, bob))
    assert "displayname" not in presence_of(await bob.sync_on(), bob)
    assert set(await get(alice, bob)) == {"presence", "last_active_ago", "currently_active"}


async def test_ignored_users_are_not_seen(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, carol)
    ignored = {"ignored_users": {bob.user_id: {}}}
    await alice.request("PUT", f"/user/{alice.user_id}/account_data/m.ignored_user_list", ignored)
    await alice.sync_on()
    for user in (bob, carol):
        await put(user, "unavailable", status_msg="here I am")
        await user.typing(room)
    seen: list[Any] = []

    def carol_is_seen(answer: Any) -> bool:
        seen.append(answer)
        return presence_of(answer, carol) is not None

    await alice.sync_until(carol_is_seen)
    first = await alice.sync()
    typing = [e for e in first["rooms"]["join"][room]["ephemeral"]["events"] if e["type"] == "m.typing"]
    assert [event["content"]["user_ids"] for event in typing] == [[carol.user_id]]
    assert [answer for answer in (*seen, first) if presence_of(answer, bob)] == []


async def test_strangers_see_nothing(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.sync_on()
    assert presence_of(await alice.sync_on(), bob) is None
    await get(alice, bob, expect=403, errcode="M_FORBIDDEN")
    assert (await get(bob, bob))["presence"] == "online"
    path = f"/presence/{bob.user_id}/status"
    await alice.request("PUT", path, {"presence": "offline"}, expect=403, errcode="M_FORBIDDEN")
    await alice.request("GET", "/presence/@nobody:tiny.test/status", expect=404, errcode="M_NOT_FOUND")
    await alice.request("GET", "/presence/nonsense/status", expect=400)
    await alice.create_room(bob)  # now they are no strangers any more
    await alice.sync_until(lambda answer: presence_of(answer, bob))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"presence": "busy"},
        {"presence": "online", "status_msg": 3},
        {"presence": None},
        {"presence": "online", "status_msg": "x" * 2000},
    ],
)
async def test_a_wrong_status_is_refused(server: TinyServer, new_user: NewUser, body: Any) -> None:
    alice = await new_user("alice")
    await alice.request("PUT", f"/presence/{alice.user_id}/status", body, expect=400)


async def test_presence_can_be_turned_off(make_server: Callable[..., TinyServer], new_user: NewUser) -> None:
    server = make_server(config={"presence": {"enabled": False}})
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    await alice.create_room(bob)
    await put(bob, "online")
    await bob.sync_on()
    assert not (await alice.sync_on()).get("presence", {}).get("events")
    assert await get(alice, bob) == {"presence": "offline"}
