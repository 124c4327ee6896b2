"""The list of notifications."""

from __future__ import annotations

from typing import Any

from .client import Client
from .conftest import NewUser


async def notifications(reader: Client, **params: Any) -> Any:
    return await reader.request("GET", "/notifications", params={key.rstrip("_"): each for key, each in params.items()})


def ids(page: Any) -> list[str]:
    return [each["event"]["event_id"] for each in page["notifications"]]


async def test_the_newest_first_over_all_rooms(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    await alice.send(room, "before bob came")
    await alice.invite(room, bob)
    await bob.join(room)
    other = await alice.create_room(bob)
    mention = {"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [bob.user_id]}}
    sent = [await alice.send(room, "one"), await alice.send(other, mention), await alice.send(room, "three")]
    await bob.send(other, "an answer")
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": sent[0], "key": "x"}}
    await alice.send(room, reaction, "m.reaction")
    page = await notifications(bob)
    assert ids(page) == sent[::-1]
    assert "next_token" not in page
    assert [each["room_id"] for each in page["notifications"]] == [room, other, room]
    assert [each["read"] for each in page["notifications"]] == [False, False, False]
    newest, middle, _ = page["notifications"]
    assert "notify" in newest["actions"]
    assert {"set_tweak": "highlight"} in middle["actions"]
    assert "room_id" not in newest["event"]
    assert isinstance(newest["ts"], int)
    assert ids(await notifications(bob, only="highlight")) == [sent[1]]
    await bob.receipt(room, sent[0])
    assert [each["read"] for each in (await notifications(bob))["notifications"]] == [False, False, True]
    first = await notifications(bob, limit=2)
    assert ids(first) == sent[:0:-1]
    assert ids(await notifications(bob, limit=2, from_=first["next_token"])) == sent[:1]
    await alice.redact(room, sent[2])
    assert ids(await notifications(bob)) == [sent[1], sent[0]]
    await bob.request("PUT", f"/pushrules/global/room/{room}", {"actions": []})
    assert ids(await notifications(bob)) == [sent[1]]
    await bob.leave(other)
    assert ids(await notifications(bob)) == []


async def test_wrong_questions(new_user: NewUser) -> None:
    alice = await new_user("alice")
    for wrong in ({"from": "x"}, {"limit": -1}, {"limit": "x"}):
        await alice.request("GET", "/notifications", params=wrong, expect=400, errcode="M_INVALID_PARAM")
