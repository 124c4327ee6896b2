"""Unread counts in sync, and the push rules that they follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .client import Client, joined
from .harness import TinyServer

SERVER_CONFIG = {"rate_limits": {"enabled": False}}

NewUser = Callable[..., Awaitable[Client]]
BY_THREAD = {"filter": {"room": {"timeline": {"unread_thread_notifications": True}}}}


async def unread(reader: Client, room: str) -> tuple[int, int]:
    """(notifications, highlights) as a first sync tells them."""
    counts = joined(await reader.sync(), room)["unread_notifications"]
    return counts["notification_count"], counts["highlight_count"]


async def three_in_a_room(new_user: NewUser) -> tuple[Client, Client, Client, str]:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    return alice, bob, carol, await alice.create_room(bob, carol, preset="private_chat")


def text(body: str, **more: Any) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body, **more}


async def test_counts_come_with_the_message_and_go_with_the_receipt(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, _, room = await three_in_a_room(new_user)
    await bob.sync_on()
    event = await alice.send(room, "one")
    answer = await bob.sync_on(timeout=5000)
    assert joined(answer, room)["unread_notifications"] == {"notification_count": 1, "highlight_count": 0}
    await alice.send(room, "two")
    await alice.send(room, text("quiet", msgtype="m.notice"))
    assert await unread(bob, room) == (2, 0)
    await bob.receipt(room, event)
    answer = await bob.sync_until(lambda answer: joined(answer, room).get("unread_notifications"))
    assert answer == {"notification_count": 1, "highlight_count": 0}
    assert await unread(alice, room) == (0, 0)


async def test_mentions_highlight(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol, room = await three_in_a_room(new_user)
    await alice.send(room, text("you", **{"m.mentions": {"user_ids": [bob.user_id]}}))
    await alice.send(room, text("all", **{"m.mentions": {"room": True}}))
    await bob.send(room, text("all, says one who may not", **{"m.mentions": {"room": True}}))
    assert await unread(carol, room) == (3, 1)
    assert await unread(alice, room) == (1, 0)
    assert await unread(bob, room) == (0, 0)  # sending is reading
    mention = await alice.send(room, text("you again", **{"m.mentions": {"user_ids": [bob.user_id]}}))
    assert await unread(bob, room) == (1, 1)
    await alice.redact(room, mention)
    assert await unread(bob, room) == (0, 0)


async def test_counts_by_thread(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, _, room = await three_in_a_room(new_user)
    root = await alice.send(room, "root")
    relation = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    threaded = await alice.send(room, text("in the thread", **relation, **{"m.mentions": {"user_ids": [bob.user_id]}}))
    await alice.send(room, "beside it")
    apart = joined(await bob.sync(**BY_THREAD), room)
    assert apart["unread_notifications"] == {"notification_count": 2, "highlight_count": 0}
    assert apart["unread_thread_notifications"] == {root: {"notification_count": 1, "highlight_count": 1}}
    assert await unread(bob, room) == (3, 1)
    await bob.receipt(room, threaded, thread_id=root)
    apart = joined(await bob.sync(**BY_THREAD), room)
    assert apart["unread_notifications"] == {"notification_count": 2, "highlight_count": 0}
    assert not apart.get("unread_thread_notifications")
    await bob.receipt(room, root, "m.read.private", thread_id="main")
    assert await unread(bob, room) == (1, 0)
    await bob.receipt(room, threaded)
    assert await unread(bob, room) == (1, 0)


async def test_what_was_before_the_join_is_not_unread(server: TinyServer, new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(preset="public_chat")
    await alice.send(room, "before")
    await bob.join(room)
    assert await unread(bob, room) == (0, 0)
    await alice.send(room, "after")
    await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Robert"})
    assert await unread(bob, room) == (1, 0)  # a new name is no sign of reading
    await bob.leave(room)
    await alice.send(room, "while away")
    await bob.join(room)
    assert await unread(bob, room) == (0, 0)


async def test_ignored_users_do_not_count(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol, room = await three_in_a_room(new_user)
    await alice.send(room, text("you", **{"m.mentions": {"user_ids": [carol.user_id]}}))
    await bob.send(room, "me too")
    assert await unread(carol, room) == (2, 1)
    path = f"/user/{carol.user_id}/account_data/m.ignored_user_list"
    await carol.request("PUT", path, {"ignored_users": {alice.user_id: {}}})
    assert await unread(carol, room) == (1, 0)
    await carol.request("PUT", path, {"ignored_users": []})
    assert await unread(carol, room) == (2, 1)


async def test_counts_survive_a_restart(fresh_server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol, room = await three_in_a_room(new_user)
    await carol.request("PUT", "/pushrules/global/content/cake", {"pattern": "cake", "actions": ["notify", HIGHLIGHT]})
    for number in range(5):
        event = await alice.send(room, f"message {number}")
        if number == 1:
            await bob.receipt(room, event)
    await alice.send(room, "cake!")
    before = await unread(bob, room), await unread(carol, room)
    assert before == ((4, 0), (6, 1))
    fresh_server.kill()
    fresh_server.start()
    assert (await unread(bob, room), await unread(carol, room)) == before
    await alice.send(room, "more cake")
    assert await unread(carol, room) == (7, 2)


# -- push rules ----------------------------------------------------------------------------------

HIGHLIGHT = {"set_tweak": "highlight"}


async def test_a_muted_room_has_no_unread_messages(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, _, room = await three_in_a_room(new_user)
    await alice.send(room, "hello")
    assert await unread(bob, room) == (1, 0)
    await bob.request("PUT", f"/pushrules/global/room/{room}", {"actions": []})
    assert await unread(bob, room) == (0, 0)
    await bob.request("PUT", f"/pushrules/global/room/{room}/enabled", {"enabled": False})
    assert await unread(bob, room) == (1, 0)
    await bob.request("DELETE", f"/pushrules/global/room/{room}")
    await bob.request("DELETE", f"/pushrules/global/room/{room}", expect=404, errcode="M_NOT_FOUND")
    assert await unread(bob, room) == (1, 0)


async def test_keywords_names_and_senders(server: TinyServer, new_user: NewUser) -> None:
    alice, bob, carol, room = await three_in_a_room(new_user)
    rules = "/pushrules/global"
    await bob.request("PUT", f"{rules}/content/tea", {"pattern": "tea*", "actions": ["notify", HIGHLIGHT]})
    await bob.request("PUT", f"{rules}/sender/{carol.user_id}", {"actions": []})
    condition = {"kind": "contains_display_name"}
    await bob.request("PUT", f"{rules}/override/name", {"conditions": [condition], "actions": ["notify", HIGHLIGHT]})
    await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Bobby"})
    await alice.send(room, "hello")
    await alice.send(room, "a teapot")
    await alice.send(room, "hello Bobby!")
    await carol.send(room, "I am not heard")
    await carol.send(room, "tea?")
    assert await unread(bob, room) == (4, 3)
    assert await unread(alice, room) == (2, 0)


async def test_rules_are_put_read_and_told_to_all_devices(server: TinyServer, new_user: NewUser) -> None:
    bob = await new_user("bob")
    whole = await bob.request("GET", "/pushrules/")
    assert set(whole["global"]) == {"override", "content", "room", "sender", "underride"}
    assert await bob.request("GET", "/pushrules/global/") == whole["global"]
    assert await bob.request("GET", "/pushrules/global") == whole["global"]
    first = {event["type"]: event["content"] for event in (await bob.sync_on())["account_data"]["events"]}
    assert first["m.push_rules"] == whole
    for rule_id, place in (("a", {}), ("b", {}), ("c", {"after": "b"}), ("d", {"before": "a"})):
        body = {"pattern": rule_id, "actions": ["notify"]}
        await bob.request("PUT", f"/pushrules/global/content/{rule_id}", body, params=place)
    answer = await bob.sync_on()
    told = {event["type"]: event["content"] for event in answer["account_data"]["events"]}["m.push_rules"]
    assert told == await bob.request("GET", "/pushrules/")
    assert [rule["rule_id"] for rule in told["global"]["content"]] == ["b", "c", "d", "a"]
    assert told == await bob.request("GET", f"/user/{bob.user_id}/account_data/m.push_rules")
    path = "/pushrules/global/override/.m.rule.reaction"
    await bob.request("PUT", f"{path}/actions", {"actions": ["notify"]})
    assert await bob.request("GET", f"{path}/actions") == {"actions": ["notify"]}
    assert await bob.request("GET", f"{path}/enabled") == {"enabled": True}
    rule = await bob.request("GET", path)
    assert rule["default"] is True
    assert rule["actions"] == ["notify"]
    assert {event["type"] for event in (await bob.sync_on())["account_data"]["events"]} == {"m.push_rules"}
    await bob.request("PUT", f"{path}/actions", {"actions": ["notify"]})  # nothing new
    assert "account_data" not in await bob.sync_on()


async def test_wrong_rules_are_refused(server: TinyServer, new_user: NewUser) -> None:
    bob = await new_user("bob")
    rules, body = "/pushrules/global", {"actions": ["notify"], "pattern": "x"}
    await bob.request("GET", f"{rules}/content/none", expect=404, errcode="M_NOT_FOUND")
    await bob.request("GET", f"{rules}/nokind/none", expect=400)
    await bob.request("PUT", f"{rules}/content/.mine", body, expect=400)
    await bob.request("PUT", f"{rules}/content/a%2Fb", body, expect=400)
    await bob.request("PUT", f"{rules}/content/x", {"actions": []}, expect=400)
    await bob.request("PUT", f"{rules}/content/x", {"pattern": "x", "actions": 3}, expect=400)
    answer = await bob.request("PUT", f"{rules}/content/x", body, params={"before": "y"}, expect=400)
    assert answer == {"errcode": "M_UNKNOWN", "error": "before/after rule not found: y"}
    await bob.request("DELETE", f"{rules}/override/.m.rule.master", expect=400)
    await bob.request("PUT", f"{rules}/content/none/enabled", {"enabled": True}, expect=404)
    await bob.request("PUT", f"{rules}/override/.m.rule.master/enabled", {}, expect=400, errcode="M_MISSING_PARAM")
    assert (await bob.request("GET", f"{rules}/"))["content"] == []
