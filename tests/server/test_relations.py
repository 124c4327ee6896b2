"""Edits, references and threads: what is bundled with their parents, and how they are listed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from .client import Client, joined, timeline
from .conftest import NewUser

SERVER_CONFIG = {"rate_limits": {"enabled": False}}
Event = dict[str, Any]


def relating(rel_type: str, event_id: str, body: str = "child", **more: Any) -> Event:
    return {"msgtype": "m.text", "body": body, "m.relates_to": {"rel_type": rel_type, "event_id": event_id}, **more}


def edit(event_id: str, body: str) -> Event:
    return relating("m.replace", event_id, f"* {body}", **{"m.new_content": {"msgtype": "m.text", "body": body}})


async def event(client: Client, room: str, event_id: str, **expectation: Any) -> Event:
    found: Event = await client.request("GET", f"{client.room(room)}/event/{quote(event_id)}", **expectation)
    return found


async def bundled(client: Client, room: str, event_id: str) -> Event:
    relations: Event = (await event(client, room, event_id))["unsigned"].get("m.relations", {})
    return relations


async def relations(client: Client, room: str, event_id: str, *path: str, expect: int = 200, **params: Any) -> Event:
    whole = "/".join(("/_matrix/client/v1", client.room(room)[1:], "relations", quote(event_id), *path))
    query = {key.rstrip("_"): str(value).lower() if value in (True, False) else value for key, value in params.items()}
    found: Event = await client.request("GET", whole, params=query, expect=expect)
    return found


async def threads(client: Client, room: str, *, expect: int = 200, **params: Any) -> Event:
    query = {key.rstrip("_"): value for key, value in params.items()}
    path = f"/_matrix/client/v1{client.room(room)}/threads"
    found: Event = await client.request("GET", path, params=query, expect=expect)
    return found


async def ignore(client: Client, other: Client) -> None:
    path = f"/user/{quote(client.user_id)}/account_data/m.ignored_user_list"
    await client.request("PUT", path, {"ignored_users": {other.user_id: {}}})


def ids(page: Event) -> list[str]:
    return [each["event_id"] for each in page["chunk"]]


# -- edits -----------------------------------------------------------------------------------------


async def test_the_latest_valid_edit_is_bundled_everywhere(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    original = await alice.send(room, "origial")
    await alice.send(room, edit(original, "original"))
    latest = await alice.send(room, edit(original, "the original"))
    # None of these may replace it.
    await bob.send(room, edit(original, "by somebody else"))
    await alice.send(room, edit(original, "of another type"), "org.example.message")
    await alice.send(room, edit(latest, "an edit of an edit"))
    await alice.send(room, relating("m.replace", original, "without new content"))

    def check(found: Event) -> None:
        replacement = found["unsigned"]["m.relations"]["m.replace"]
        assert replacement["event_id"] == latest
        assert replacement["content"]["m.new_content"]["body"] == "the original"
        assert replacement["sender"] == alice.user_id
        assert replacement["type"] == "m.room.message"
        assert "age" in replacement["unsigned"]
        assert found["content"]["body"] == "origial"  # what was signed is what is shown

    check(await event(bob, room, original))
    page = await bob.messages(room, limit=50)
    check(next(each for each in page["chunk"] if each["event_id"] == original))
    context = await bob.request("GET", f"{bob.room(room)}/context/{quote(original)}")
    check(context["event"])
    context = await bob.request("GET", f"{bob.room(room)}/context/{quote(latest)}?limit=20")
    check(next(each for each in context["events_before"] if each["event_id"] == original))
    assert not (await bundled(bob, room, latest))

    await alice.redact(room, latest)
    assert (await bundled(bob, room, original))["m.replace"]["content"]["m.new_content"]["body"] == "original"
    await alice.redact(room, original)
    assert not await bundled(bob, room, original)


async def test_state_cannot_be_edited(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    topic = await alice.put_state(room, "m.room.topic", {"topic": "x"})
    await alice.send(room, {"m.new_content": {}, **relating("m.replace", topic)}, "m.room.topic")
    assert not await bundled(alice, room, topic)


async def test_encrypted_edits_count(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    original = await alice.send(room, {"ciphertext": "a"}, "m.room.encrypted")
    latest = await alice.send(room, {"ciphertext": "b", **relating("m.replace", original)}, "m.room.encrypted")
    assert (await bundled(alice, room, original))["m.replace"]["event_id"] == latest


async def test_reactions_are_listed_but_not_bundled(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    target = await alice.send(room)
    key = {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": "x"}}
    reaction = await alice.send(room, key, "m.reaction")
    assert not await bundled(alice, room, target)
    assert ids(await relations(alice, room, target, "m.annotation", "m.reaction")) == [reaction]


# -- references ------------------------------------------------------------------------------------


async def test_references(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    poll = await alice.send(room, "poll")
    votes = [await alice.send(room, relating("m.reference", poll), "org.example.vote")]
    votes += [await bob.send(room, relating("m.reference", poll), "org.example.vote")]
    named = [{"event_id": vote} for vote in votes]
    assert await bundled(alice, room, poll) == {"m.reference": {"chunk": named}}
    await ignore(alice, bob)
    assert await bundled(alice, room, poll) == {"m.reference": {"chunk": named[:1]}}
    await alice.redact(room, votes[0])
    assert not await bundled(alice, room, poll)
    assert await bundled(bob, room, poll) == {"m.reference": {"chunk": named[1:]}}


# -- threads ---------------------------------------------------------------------------------------


async def test_a_thread_is_summed_up_at_its_root(new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, carol)
    root = await alice.send(room, "root")
    await bob.send(room, relating("m.thread", root, "one"))
    last = await bob.send(room, relating("m.thread", root, "two"))
    correction = await bob.send(room, edit(last, "TWO"))

    async def summary(reader: Client) -> Event:
        found: Event = (await bundled(reader, room, root))["m.thread"]
        return found

    seen = await summary(carol)
    assert (seen["count"], seen["current_user_participated"]) == (2, False)
    assert seen["latest_event"]["event_id"] == last
    assert seen["latest_event"]["room_id"] == room
    assert seen["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == correction
    assert (await summary(bob))["current_user_participated"] is True
    assert (await summary(alice))["current_user_participated"] is True  # began it

    await carol.send(room, relating("m.thread", root, "three"))
    seen = await summary(carol)
    assert (seen["count"], seen["current_user_participated"]) == (3, True)
    await ignore(alice, carol)
    seen = await summary(alice)
    assert (seen["count"], seen["latest_event"]["event_id"]) == (2, last)
    await bob.redact(room, last)
    seen = await summary(alice)
    assert (seen["count"], seen["latest_event"]["content"]["body"]) == (1, "one")

    await alice.redact(room, root)  # its children stay
    assert (await summary(bob))["count"] == 2


async def test_a_thread_cannot_start_at_a_child(new_user: NewUser) -> None:
    alice = await new_user("alice")
    room = await alice.create_room()
    root = await alice.send(room, "root")
    child = await alice.send(room, relating("m.thread", root))
    error = await alice.send(room, relating("m.thread", child), expect=400, errcode="M_UNKNOWN")
    assert "thread" in error["error"]
    reply = await alice.send(
        room, {"msgtype": "m.text", "body": "reply", "m.relates_to": {"m.in_reply_to": {"event_id": root}}}
    )
    await alice.send(room, relating("m.thread", reply))
    assert (await bundled(alice, room, reply))["m.thread"]["count"] == 1


async def test_what_a_reader_may_not_see_is_left_out(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    visibility = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room = await alice.create_room(bob, initial_state=[visibility])
    root, poll = await alice.send(room, "root"), await alice.send(room, "poll")
    first = await alice.send(room, relating("m.thread", root, "seen"))
    await bob.leave(room)
    hidden = await alice.send(room, relating("m.thread", root, "hidden"))
    await alice.send(room, relating("m.reference", poll))
    await alice.send(room, edit(root, "hidden"))
    mine = await bundled(bob, room, root)
    assert "m.replace" not in mine
    assert mine["m.thread"]["count"] == 1
    assert mine["m.thread"]["latest_event"]["event_id"] == first
    assert not await bundled(bob, room, poll)
    assert ids(await relations(bob, room, root)) == [first]
    assert ids(await threads(bob, room)) == [root]

    await alice.invite(room, bob)
    await bob.join(room)
    last = await bob.send(room, relating("m.thread", root, "back"))
    thread = (await bundled(bob, room, root))["m.thread"]
    assert (thread["count"], thread["latest_event"]["event_id"]) == (2, last)
    assert ids(await relations(bob, room, root, "m.thread")) == [last, first]
    assert ids(await relations(alice, room, root, "m.thread")) == [last, hidden, first]
    await relations(bob, room, hidden, expect=404)


async def test_threads_by_their_latest_events(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    roots = [await alice.send(room, f"root {number}") for number in range(5)]
    replies = {root: [await bob.send(room, relating("m.thread", root))] for root in roots}
    await alice.send(room, relating("m.thread", "$" + "A" * 43))  # a root that is not here
    replies[roots[1]].append(await bob.send(room, relating("m.thread", roots[1])))
    order = [roots[1], *(root for root in roots[::-1] if root != roots[1])]

    async def pages(reader: Client, limit: int = 2, **params: Any) -> list[str]:
        found: list[str] = []
        page = await threads(reader, room, limit=limit, **params)
        while True:
            assert len(page["chunk"]) <= limit
            assert all(each["unsigned"]["m.relations"]["m.thread"]["count"] > 0 for each in page["chunk"])
            found += ids(page)
            if "next_batch" not in page:
                return found
            page = await threads(reader, room, limit=limit, from_=page["next_batch"], **params)

    assert await pages(alice) == await pages(bob) == await pages(alice, limit=5) == order
    carol = await new_user("carol")
    await alice.invite(room, carol)
    await carol.join(room)
    await carol.send(room, relating("m.thread", roots[0]))
    order = [roots[0], *(root for root in order if root != roots[0])]
    assert await pages(carol) == order
    assert await pages(carol, include="participated") == [roots[0]]
    assert await pages(bob, include="participated") == order
    await ignore(bob, carol)  # carol's reply does not lift the thread any more
    assert await pages(bob) == [roots[1], roots[4], roots[3], roots[2], roots[0]]
    await bob.redact(room, replies[roots[1]][1])
    await bob.redact(room, replies[roots[4]][0])
    assert await pages(alice) == [roots[0], roots[3], roots[2], roots[1]]

    await ignore(carol, alice)
    page = await threads(carol, room, limit=10)
    assert ids(page) == [roots[0], roots[3], roots[2], roots[1]]
    assert all(each["content"] == {} for each in page["chunk"])  # the roots are those of an ignored user
    mallory = await new_user("mallory")
    assert (await threads(mallory, room, expect=403))["errcode"] == "M_FORBIDDEN"
    assert (await threads(alice, room, expect=400, from_="junk"))["errcode"] == "M_INVALID_PARAM"
    assert (await threads(alice, room, expect=400, limit=0))["errcode"] == "M_INVALID_PARAM"


# -- GET /relations --------------------------------------------------------------------------------


async def test_children_in_pages(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    root = await alice.send(room, "root")
    before = (await alice.sync())["next_batch"]
    children = [await alice.send(room, relating("m.thread", root, str(number))) for number in range(7)]
    reference = await bob.send(room, relating("m.reference", root), "org.example.other")

    async def pages(**params: Any) -> list[str]:
        found: list[str] = []
        page = await relations(alice, room, root, "m.thread", limit=3, **params)
        assert ("prev_batch" in page) == ("from_" in params)
        while True:
            found += ids(page)
            assert all(each["room_id"] == room for each in page["chunk"])
            if "next_batch" not in page:
                return found
            params["from_"] = page["next_batch"]
            page = await relations(alice, room, root, "m.thread", limit=3, **params)
            assert page["prev_batch"] == params["from_"]

    assert await pages() == children[::-1]
    assert await pages(dir="f") == children
    assert await pages(dir="f", from_=before) == children
    assert await pages(to=before) == children[::-1]
    assert await pages(dir="f", to=before) == []
    middle = (await relations(alice, room, root, "m.thread", limit=3))["next_batch"]
    assert await pages(dir="f", from_=middle) == children[4:]
    assert ids(await relations(alice, room, root)) == [reference, *children[::-1]]
    assert ids(await relations(alice, room, root, "m.reference", "org.example.other")) == [reference]
    assert ids(await relations(alice, room, root, "m.reference", "m.room.message")) == []
    assert ids(await relations(alice, room, root, "org.example.nobody-uses-it")) == []
    assert "recursion_depth" not in await relations(alice, room, root)
    await ignore(alice, bob)
    assert ids(await relations(alice, room, root)) == children[::-1]
    for junk in ({"limit": 0}, {"limit": "x"}, {"from_": "x"}, {"to": "x"}, {"dir": "x"}, {"recurse": "x"}):
        assert (await relations(alice, room, root, expect=400, **junk))["errcode"] == "M_INVALID_PARAM"


async def test_children_of_children(new_user: NewUser) -> None:
    alice, mallory = await new_user("alice"), await new_user("mallory")
    room = await alice.create_room()
    root = await alice.send(room, "root")
    child = await alice.send(room, relating("m.thread", root))
    reaction = await alice.send(
        room, {"m.relates_to": {"rel_type": "m.annotation", "event_id": child, "key": "x"}}, "m.reaction"
    )
    deep = await alice.send(room, relating("m.reference", reaction))
    deeper = await alice.send(room, relating("m.reference", deep))
    page = await relations(alice, room, root, recurse=True)
    assert page["recursion_depth"] >= 3
    assert ids(page)[-3:] == [deep, reaction, child]
    assert deeper not in ids(page)
    page = await relations(alice, room, root, recurse=True, dir="f", limit=2)
    assert ids(page) == [child, reaction]
    assert ids(await relations(alice, room, root, recurse=True, dir="f", from_=page["next_batch"])) == [deep]
    assert ids(await relations(alice, room, root, recurse=False)) == [child]
    # What is reached only by way of what was not asked for is not reached.
    assert ids(await relations(alice, room, root, "m.thread", recurse=True)) == [child]
    assert ids(await relations(alice, room, root, "m.annotation", recurse=True)) == []
    for reader, where, what in ((mallory, room, root), (alice, room, "$nothing"), (alice, "!nowhere:x", root)):
        assert (await relations(reader, where, what, expect=404))["errcode"] == "M_NOT_FOUND"


# -- sync ------------------------------------------------------------------------------------------


async def test_sync_bundles_where_the_timeline_has_a_gap(new_user: NewUser) -> None:
    alice, bob, carol = await new_user("alice"), await new_user("bob"), await new_user("carol")
    room = await alice.create_room(bob, carol)
    since = {reader: (await reader.sync())["next_batch"] for reader in (alice, bob, carol)}
    for number in range(5):
        await alice.send(room, str(number))
    root = await alice.send(room, "root")
    await bob.send(room, relating("m.thread", root))
    latest = await alice.send(room, edit(root, "ROOT"))
    short = {"filter": json.dumps({"room": {"timeline": {"limit": 3}}})}

    def at_root(answer: Event) -> Event:
        found = next(each for each in timeline(answer, room) if each["event_id"] == root)
        relations: Event = found["unsigned"].get("m.relations", {})
        return relations

    for reader in (alice, bob, carol):
        for answer in (await reader.sync(since[reader], **short), await reader.sync(**short)):
            assert joined(answer, room)["timeline"]["limited"]
            found = at_root(answer)
            assert found["m.replace"]["event_id"] == latest
            assert found["m.thread"]["count"] == 1
            assert found["m.thread"]["current_user_participated"] == (reader is not carol)
            assert "room_id" not in found["m.replace"]
        # Who gets all children puts them together.
        assert not at_root(await reader.sync(since[reader]))
    await ignore(carol, bob)
    assert "m.thread" not in at_root(
        await carol.sync(since[carol], filter=json.dumps({"room": {"timeline": {"limit": 2}}}))
    )


async def test_filters_by_relation(new_user: NewUser) -> None:
    alice, bob = await new_user("alice"), await new_user("bob")
    room = await alice.create_room(bob)
    root, other = await alice.send(room, "root"), await alice.send(room, "other")
    await bob.send(room, relating("m.thread", root))
    await alice.send(room, relating("m.reference", other))

    async def matching(**wanted: list[str]) -> list[str]:
        return ids(await alice.messages(room, filter=json.dumps(wanted), limit=50))

    assert await matching(related_by_rel_types=["m.thread"]) == [root]
    assert await matching(related_by_senders=[alice.user_id]) == [other]
    assert await matching(related_by_senders=[alice.user_id], related_by_rel_types=["m.thread"]) == []


async def test_parts_of_events_that_were_asked_for(new_user: NewUser) -> None:
    alice = await new_user("alice")
    alice.checked = False  # parts of events are no events
    room = await alice.create_room()
    root = await alice.send(room, "root")
    await alice.send(room, relating("m.thread", root))
    fields = {"event_fields": ["event_id", "unsigned.m\\.relations"], "room": {"timeline": {"limit": 2}}}
    answer = await alice.sync(filter=json.dumps(fields))
    thread = timeline(answer, room)[0]["unsigned"]["m.relations"]["m.thread"]
    assert thread["count"] == 1
    assert set(timeline(answer, room)[0]) == {"event_id", "unsigned"}
