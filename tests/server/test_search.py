"""Searching messages."""

from __future__ import annotations

import asyncio
from typing import Any

from .client import Client
from .conftest import MakeServer, NewUser

ENCRYPTION = {"algorithm": "m.megolm.v1.aes-sha2"}


async def search(reader: Client, term: str, token: str | None = None, **options: Any) -> Any:
    body = {"search_categories": {"room_events": {"search_term": term, **options}}}
    answer = await reader.request("POST", "/search", body, params={"next_batch": token})
    return answer["search_categories"]["room_events"]


def bodies(answer: Any) -> list[str]:
    return [result["result"]["content"].get("body", "") for result in answer["results"]]


async def found(reader: Client, term: str, **options: Any) -> list[str]:
    return bodies(await search(reader, term, **options))


async def test_words_ranked_and_recent(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    texts = ["Tea!", "tea with a lot of milk and even more honey in it", "coffee", "green tea, black tea", "Théâtre"]
    for text in texts:
        await alice.send(room, text)
    assert await found(alice, "TEA", order_by="recent") == [texts[3], texts[1], texts[0]]
    assert await found(alice, "tea") == [texts[3], texts[0], texts[1]]
    assert await found(alice, "tea milk") == [texts[1]]
    assert await found(alice, "theatre") == [texts[4]]
    assert await found(alice, "nothing of the kind") == await found(alice, "?!") == []
    answer = await search(alice, "green")
    assert (answer["count"], answer["highlights"]) == (1, ["green"])
    assert answer["results"][0]["result"]["room_id"] == room
    assert answer["results"][0]["rank"] > 0
    assert "context" not in answer["results"][0]


async def test_names_and_topics(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room(name="Marmalade", topic="jam and marmalade")
    await alice.send(room, "marmalade")

    async def types(**options: Any) -> list[str]:
        return sorted(each["result"]["type"] for each in (await search(alice, "marmalade", **options))["results"])

    assert await types() == ["m.room.message", "m.room.name", "m.room.topic"]
    assert await types(keys=["content.topic"]) == ["m.room.topic"]
    assert await types(keys=["content.body", "content.name"]) == ["m.room.message", "m.room.name"]
    assert await types(filter={"types": ["m.room.name"]}) == ["m.room.name"]
    assert await types(filter={"not_rooms": [room]}) == []
    assert await types(filter={"rooms": [room], "senders": [alice.user_id]}) == await types()


async def test_only_what_one_may_see(new_user: NewUser) -> None:
    alice, bob, carol = [await new_user(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(preset="public_chat")
    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    await alice.send(room, "zebra one")
    await bob.join(room)
    await alice.send(room, "zebra two")
    await bob.leave(room)
    await alice.send(room, "zebra three")
    assert await found(alice, "zebra", order_by="recent") == ["zebra three", "zebra two", "zebra one"]
    assert await found(bob, "zebra") == ["zebra two"]
    assert await found(carol, "zebra") == []
    await bob.request("POST", f"{bob.room(room)}/forget", {})
    assert await found(bob, "zebra") == []
    await alice.put_state(room, "m.room.encryption", ENCRYPTION)
    assert await found(alice, "zebra") == []
    readable = await alice.create_room()
    await alice.put_state(readable, "m.room.history_visibility", {"history_visibility": "world_readable"})
    await alice.send(readable, "zebra four")
    assert await found(carol, "zebra") == []
    await bob.request("POST", f"{bob.room(room)}/leave", {}, expect=(200, 403, 404))


async def test_redactions_and_edits(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    first, second = await alice.send(room, "walrus gone"), await alice.send(room, "walrus stays")
    assert len(await found(alice, "walrus")) == 2
    await alice.redact(room, first)
    assert await found(alice, "walrus") == ["walrus stays"]
    assert await found(alice, "gone") == []
    unseen = await alice.send(room, "walrus never indexed")
    await alice.redact(room, unseen)
    assert await found(alice, "walrus") == ["walrus stays"]
    new = {"msgtype": "m.text", "body": "octopus"}
    relation = {"rel_type": "m.replace", "event_id": second}
    edit = await alice.send(room, {**new, "body": "* octopus", "m.new_content": new, "m.relates_to": relation})
    answer = await search(alice, "octopus")
    assert [result["result"]["event_id"] for result in answer["results"]] == [second]
    assert answer["results"][0]["result"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit
    assert await found(alice, "walrus") == []
    await alice.redact(room, edit)
    assert await found(alice, "octopus") == []
    assert await found(alice, "walrus") == ["walrus stays"]


async def test_pages_context_groups_and_state(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    await bob.request("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": "Bob"})
    rooms = [await alice.create_room(bob), await alice.create_room(bob)]
    sent = []
    for number in range(7):
        sent.append(await (alice, bob)[number % 2].send(rooms[number % 3 == 0], f"lemur {number}"))
    options = {"order_by": "recent", "filter": {"limit": 3}, "groupings": {"group_by": [{"key": "sender"}]}}
    token, pages = None, []
    while True:
        answer = await search(alice, "lemur", token, **options)
        pages.append(bodies(answer))
        token = answer.get("next_batch")
        if token is None:
            break
    assert pages == [["lemur 6", "lemur 5", "lemur 4"], ["lemur 3", "lemur 2", "lemur 1"], ["lemur 0"]]
    groups = (await search(alice, "lemur", **options))["groups"]["sender"]
    assert groups[alice.user_id]["results"] == [sent[6], sent[4]]
    assert groups[bob.user_id]["results"] == [sent[5]]
    more = await search(alice, "lemur", groups[bob.user_id]["next_batch"], **options)
    assert bodies(more) == ["lemur 3", "lemur 1"]
    context = {"before_limit": 1, "after_limit": 1, "include_profile": True}
    answer = await search(alice, "lemur 2", event_context=context, include_state=True)
    (result,) = answer["results"]
    assert [event["event_id"] for event in result["context"]["events_before"]] == [sent[1]]
    assert [event["event_id"] for event in result["context"]["events_after"]] == [sent[4]]
    assert result["context"]["profile_info"][bob.user_id] == {"displayname": "Bob"}
    assert {event["type"] for event in answer["state"][rooms[0]]} >= {"m.room.create", "m.room.member"}
    page = await alice.messages(rooms[0], from_=result["context"]["start"], limit=1)
    assert page["chunk"][0]["type"] == "m.room.member"


async def test_wrong_requests(new_user: NewUser) -> None:
    alice = await new_user("alice")
    category = {"search_term": "x"}
    for wrong in ({"keys": ["body"]}, {"order_by": "x"}, {"filter": {"limit": -1}}, {"search_term": 1}):
        body = {"search_categories": {"room_events": {**category, **wrong}}}
        await alice.request("POST", "/search", body, expect=400, errcode="M_BAD_JSON")
    body = {"search_categories": {"room_events": category}}
    await alice.request("POST", "/search", body, params={"next_batch": "x"}, expect=400, errcode="M_INVALID_PARAM")
    assert await alice.request("POST", "/search", {"search_categories": {}}) == {"search_categories": {}}


async def test_the_index_survives_a_kill(make_server: MakeServer, new_user: NewUser) -> None:
    server = make_server()
    alice = await new_user("alice", server=server)
    room = await alice.create_room()
    await alice.send(room, "before the first")
    assert await found(alice, "before") == ["before the first"]
    await alice.send(room, "before the second")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert await found(alice, "before", order_by="recent") == ["before the second", "before the first"]


async def test_the_words_of_the_erased_are_not_found_by_newcomers(new_user: NewUser) -> None:
    alice, bob, carol = [await new_user(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(bob)
    await bob.send(room, "ocelot")
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": bob.user_id}}
    body = {"erase": True, "auth": {**auth, "password": bob.password}}
    asked = await bob.request("POST", "/account/deactivate", body, expect=(200, 401))
    if "session" in asked:
        body["auth"]["session"] = asked["session"]
        await bob.request("POST", "/account/deactivate", body)
    await alice.invite(room, carol)
    await carol.join(room)
    assert await found(alice, "ocelot") == ["ocelot"]
    assert await found(carol, "ocelot") == []
