"""Subscribing to threads, and being told of it by sliding sync."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from .client import Client, joined
from .conftest import NewUser
from .sliding import SlidingSync

Json = Any
NAME = "io.element.msc4308.thread_subscriptions"
UNSTABLE = "/_matrix/client/unstable/io.element.msc4306"
CHANGES = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"


def subscription(room: str, root: str, base: str = UNSTABLE) -> str:
    return f"{base}/rooms/{quote(room, safe='')}/thread/{quote(root, safe='')}/subscription"


async def reply(client: Client, room: str, root: str) -> str:
    relation = {"rel_type": "m.thread", "event_id": root}
    event_id: str = await client.send(room, {"msgtype": "m.text", "body": "reply", "m.relates_to": relation})
    return event_id


async def test_subscribing_by_hand_and_automatically(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    root = await alice.send(room, "root")
    first = await reply(bob, room, root)
    path, stable = subscription(room, root), subscription(room, root, "/_matrix/client/v1")
    await alice.request("GET", path, expect=404, errcode="M_NOT_FOUND")
    await alice.request("DELETE", path)
    await alice.request("PUT", path, {"automatic": first})
    assert await alice.request("GET", stable) == {"automatic": True}
    await alice.request("PUT", path, {})
    await alice.request("PUT", path, {"automatic": first})
    assert await alice.request("GET", path) == {"automatic": False}
    await alice.request("DELETE", path)
    await alice.request("GET", path, expect=404, errcode="M_NOT_FOUND")
    conflict = "M_CONFLICTING_UNSUBSCRIPTION"
    await alice.request("PUT", path, {"automatic": first}, expect=409, errcode=f"IO.ELEMENT.MSC4306.{conflict}")
    await alice.request("PUT", stable, {"automatic": first}, expect=409, errcode=conflict)
    await alice.request("PUT", path, {"automatic": await reply(bob, room, root)})
    assert await alice.request("GET", path) == {"automatic": True}
    await bob.request("GET", path, expect=404, errcode="M_NOT_FOUND")


async def test_what_is_refused(new_user: NewUser) -> None:
    alice, carol = await new_user("alice"), await new_user("carol")
    room = await alice.create_room()
    root, other = await alice.send(room, "root"), await alice.send(room, "other")
    inside = await reply(alice, room, root)
    path = subscription(room, root)
    wrong = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"
    await alice.request("PUT", path, {"automatic": other}, expect=400, errcode=wrong)
    await alice.request("PUT", path, {"automatic": "$none"}, expect=400, errcode=wrong)
    await alice.request("PUT", path, {"automatic": "none"}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("PUT", subscription(room, "none"), {}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("PUT", subscription(room, "$none"), {}, expect=404, errcode="M_NOT_FOUND")
    await alice.request("PUT", subscription(room, inside), {}, expect=404, errcode="M_NOT_FOUND")
    await alice.request("PUT", subscription("!none:x", root), {}, expect=404, errcode="M_NOT_FOUND")
    for method in ("PUT", "GET", "DELETE"):
        await carol.request(method, path, {} if method == "PUT" else None, expect=404, errcode="M_NOT_FOUND")


async def test_sliding_sync_tells_of_it(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    roots = [await alice.send(room, str(number)) for number in range(4)]
    for root in roots[:3]:
        await alice.request("PUT", subscription(room, root), {})
    sliding = SlidingSync(alice, extensions={NAME: {"enabled": True, "limit": 2}})
    news = (await sliding.sync())["extensions"][NAME]
    assert set(news["subscribed"][room]) == set(roots[1:3])
    assert news["subscribed"][room][roots[1]]["automatic"] is False
    page = await alice.request("GET", CHANGES, params={"dir": "b", "from": news["prev_batch"]})
    assert set(page["subscribed"][room]) == {roots[0]}
    assert "end" not in page
    assert (await sliding.sync())["extensions"][NAME] == {}
    waiting = asyncio.ensure_future(sliding.ask(30_000))
    await alice.request("DELETE", subscription(room, roots[0]))
    before, answer = sliding.pos, await waiting
    stamp = answer["extensions"][NAME]["unsubscribed"][room][roots[0]]["bump_stamp"]
    assert stamp > news["subscribed"][room][roots[2]]["bump_stamp"]
    # That answer was lost; the next one has more than fits in.
    await alice.request("PUT", subscription(room, roots[3]), {})
    await alice.request("DELETE", subscription(room, roots[1]))
    news = (await sliding.sync())["extensions"][NAME]
    assert set(news["subscribed"][room]) == {roots[3]}
    assert set(news["unsubscribed"][room]) == {roots[1]}
    params = {"dir": "b", "from": news["prev_batch"], "to": before}
    page = await alice.request("GET", CHANGES, params=params)
    assert page == {"unsubscribed": {room: {roots[0]: {"bump_stamp": stamp}}}}
    await alice.request("GET", CHANGES, params={"dir": "f"}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("GET", CHANGES, params={"dir": "b", "from": "x"}, expect=400, errcode="M_INVALID_PARAM")


def kinds(rules: Json) -> dict[str, list[str]]:
    return {kind: [rule["rule_id"] for rule in of_kind] for kind, of_kind in rules["global"].items()}


THREAD_RULES = [f".io.element.msc4306.rule.{name}_thread" for name in ("unsubscribed", "subscribed")]


async def test_threads_notify_those_who_have_subscribed(new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, carol)
    roots = [await alice.send(room, "one"), await alice.send(room, "two")]
    assert "postcontent" not in kinds(await alice.request("GET", "/pushrules/"))
    path = "/pushrules/global/postcontent"
    await alice.request("GET", f"{path}/{THREAD_RULES[0]}", expect=400, errcode="M_INVALID_PARAM")
    await alice.sync_on()
    await alice.request("PUT", subscription(room, roots[0]), {})

    def told(answer: Json) -> Json:
        events = answer.get("account_data", {}).get("events", [])
        return next((each["content"] for each in events if each["type"] == "m.push_rules"), None)

    found = kinds(await alice.sync_until(told))
    assert found["postcontent"] == THREAD_RULES
    assert list(found) == ["override", "content", "postcontent", "room", "sender", "underride"]

    async def unread(user: Client) -> Json:
        threads = {"room": {"timeline": {"unread_thread_notifications": True}}}
        news = joined(await user.sync(filter=threads), room)
        by_thread = {
            root: (counts["notification_count"], counts["highlight_count"])
            for root, counts in news.get("unread_thread_notifications", {}).items()
        }
        return news["unread_notifications"]["notification_count"], by_thread

    for root in roots:
        await reply(bob, room, root)
    await bob.send(room, "outside")
    assert await unread(alice) == (1, {roots[0]: (1, 0)})
    assert await unread(carol) == (3, dict.fromkeys(roots, (1, 0)))
    relation = {"rel_type": "m.thread", "event_id": roots[1]}
    mention = {"msgtype": "m.text", "body": "x", "m.relates_to": relation, "m.mentions": {"user_ids": [alice.user_id]}}
    await bob.send(room, mention)
    assert await unread(alice) == (1, {roots[0]: (1, 0), roots[1]: (1, 1)})
    listed = (await alice.request("GET", "/notifications"))["notifications"]
    assert [each["event"]["content"]["body"] for each in listed] == ["x", "outside", "reply"]
    assert listed[2]["actions"] == ["notify", {"set_tweak": "sound", "value": "default"}]

    # Thread rules come before those of rooms, and can be switched off like any other.
    await alice.request("PUT", f"/pushrules/global/room/{quote(room, safe='')}", {"actions": []})
    await reply(bob, room, roots[0])
    assert (await unread(alice))[1][roots[0]] == (1, 0)  # of what is in the room already, the room's rule decides
    await alice.request("DELETE", f"/pushrules/global/room/{quote(room, safe='')}")
    await alice.request("PUT", f"{path}/{THREAD_RULES[0]}/enabled", {"enabled": False})
    await reply(bob, room, roots[1])
    assert (await unread(alice))[1][roots[1]] == (2, 1)
    await alice.request("DELETE", subscription(room, roots[0]))
    await alice.request("PUT", f"{path}/{THREAD_RULES[0]}/enabled", {"enabled": True})
    before = (await unread(alice))[1].get(roots[0])
    await reply(bob, room, roots[0])
    assert (await unread(alice))[1].get(roots[0]) == before


async def test_nobody_else_makes_rules_of_that_kind(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    await alice.request("PUT", subscription(room, await alice.send(room, "root")), {})
    path = "/pushrules/global/postcontent"
    await alice.request("PUT", f"{path}/own", {"actions": []}, expect=400, errcode="M_INVALID_PARAM")
    await alice.request("DELETE", f"{path}/{THREAD_RULES[1]}", expect=400, errcode="M_INVALID_PARAM")
    actions = {"actions": ["notify"]}
    await alice.request("PUT", f"{path}/{THREAD_RULES[1]}/actions", actions)
    assert await alice.request("GET", f"{path}/{THREAD_RULES[1]}/actions") == actions
    condition = {"kind": "thread_subscription", "subscribed": "yes"}
    await alice.request("PUT", "/pushrules/global/override/odd", {"actions": [], "conditions": [condition]})
    # Rules of one's own do not make those of threads go.
    assert kinds(await alice.request("GET", "/pushrules/"))["postcontent"] == THREAD_RULES
