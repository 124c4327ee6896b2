"""What sync tells a client of its rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sync.devices import SyncWorld, bodies, ids, open_sync_world, until_waiting

ALICE, BOB, CAROL = "@alice:here", "@bob:here", "@carol:here"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[SyncWorld]:
    async with open_sync_world(tmp_path / "test.db") as opened:
        yield opened


async def test_first_sync_then_news(home: SyncWorld) -> None:
    room = await home.public_room()
    phone = await home.device(ALICE)
    first = await phone.joined(room)
    assert ids(first["timeline"]) == home.timeline_ids(room)
    assert first["state"]["events"] == []
    assert first["timeline"]["limited"] is False
    message = await home.message(room, ALICE, "hello")
    second = await phone.joined(room)
    assert ids(second["timeline"]) == [message]
    assert second["state"]["events"] == []
    assert await phone.joined(room) == {}


async def test_limited_timeline_has_the_state_of_the_gap(home: SyncWorld) -> None:
    room = await home.public_room()
    phone = await home.device(ALICE, room={"timeline": {"limit": 2}})
    await phone.sync()
    topic = await home.world.send(room, ALICE, "m.room.topic", {"topic": "gap"}, state_key="")
    for number in range(3):
        await home.message(room, ALICE, str(number))
    news = await phone.joined(room)
    assert bodies(news["timeline"]) == ["1", "2"]
    assert news["timeline"]["limited"] is True
    assert ids(news["state"]) == [topic.event_id]


async def test_waiting_device_is_woken_by_its_rooms_only(home: SyncWorld) -> None:
    room, other = await home.public_room(), await home.public_room(BOB, "11")
    phone = await home.device(ALICE)
    await phone.sync()
    waiting = asyncio.ensure_future(phone.sync(timeout=30))
    await until_waiting(phone)
    await home.message(other, BOB, "not for alice")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    message = await home.message(room, ALICE, "for alice")
    news = await asyncio.wait_for(waiting, 5)
    assert ids(news["rooms"]["join"][home.room_id(room)]["timeline"]) == [message]


async def test_time_is_up(home: SyncWorld) -> None:
    await home.public_room()
    phone = await home.device(ALICE)
    first = await phone.sync()
    news = await phone.sync(timeout=0.05)
    assert "rooms" not in news
    assert news["next_batch"] == first["next_batch"]
    assert not home.followers.get(phone.reader.user).waiting


async def test_disconnected_client_leaves_nothing_behind(home: SyncWorld) -> None:
    await home.public_room()
    phone = await home.device(ALICE)
    await phone.sync()
    waiting = asyncio.ensure_future(phone.sync(timeout=30))
    await until_waiting(phone)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not home.followers.get(phone.reader.user).waiting


async def test_joining_gives_the_whole_room(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.message(room, ALICE, "before")
    phone = await home.device(BOB)
    await phone.sync()
    join = await home.member(room, BOB, "join")
    news = await phone.joined(room)
    assert bodies(news["timeline"]) == ["before"]
    assert ids(news["timeline"])[-1] == join.event_id
    told = set(ids(news["timeline"])) | set(ids(news["state"]))
    assert told == set(home.timeline_ids(room))
    assert news["summary"] == {"m.joined_member_count": 2, "m.invited_member_count": 0, "m.heroes": [ALICE]}


async def test_leaving_and_coming_back_repeats_nothing(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.member(room, BOB, "join")
    phone = await home.device(BOB)
    await phone.sync()
    seen = await home.message(room, ALICE, "seen")
    leave = await home.member(room, BOB, "leave")
    missed = await home.message(room, ALICE, "missed")
    news = (await phone.sync())["rooms"]
    assert "join" not in news
    assert ids(news["leave"][home.room_id(room)]["timeline"]) == [seen, leave.event_id]
    join = await home.member(room, BOB, "join")
    back = await phone.joined(room)
    assert ids(back["timeline"]) == [missed, join.event_id]
    assert back["timeline"]["limited"] is True  # another device may never have seen what was before


async def test_leaving_and_coming_back_within_one_sync(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.world.send(room, ALICE, "m.room.history_visibility", {"history_visibility": "joined"}, state_key="")
    await home.member(room, BOB, "join")
    phone = await home.device(BOB)
    await phone.sync()
    seen = await home.message(room, ALICE, "seen")
    leave = await home.member(room, BOB, "leave")
    await home.message(room, ALICE, "hidden")
    join = await home.member(room, BOB, "join")
    news = await phone.joined(room)
    assert ids(news["timeline"]) == [seen, leave.event_id, join.event_id]


async def test_history_visibility_joined(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.world.send(room, ALICE, "m.room.history_visibility", {"history_visibility": "joined"}, state_key="")
    while_shared = home.timeline_ids(room)
    await home.message(room, ALICE, "hidden")
    join = await home.member(room, BOB, "join")
    shown = await home.message(room, ALICE, "shown")
    phone = await home.device(BOB)
    first = await phone.joined(room)
    assert ids(first["timeline"]) == [*while_shared, join.event_id, shown]
    memberships = [event["unsigned"]["membership"] for event in first["timeline"]["events"]]
    assert memberships == ["leave"] * len(while_shared) + ["join"] * 2


async def test_history_visibility_invited(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.world.send(room, ALICE, "m.room.history_visibility", {"history_visibility": "invited"}, state_key="")
    while_shared = home.timeline_ids(room)
    await home.message(room, ALICE, "hidden")
    invite = await home.member(room, ALICE, "invite", BOB)
    await home.message(room, ALICE, "while invited")
    join = await home.member(room, BOB, "join")
    phone = await home.device(BOB)
    first = await phone.joined(room)
    assert bodies(first["timeline"]) == ["while invited"]
    assert ids(first["timeline"])[: len(while_shared)] == while_shared
    news = first["timeline"]["events"][len(while_shared) :]
    assert [news[0]["event_id"], news[2]["event_id"]] == [invite.event_id, join.event_id]
    assert [event["unsigned"]["membership"] for event in news] == ["invite", "invite", "join"]


async def test_invite_and_its_refusal(home: SyncWorld) -> None:
    room = await home.world.create_room(ALICE)
    await home.world.send(room, ALICE, "m.room.name", {"name": "Den"}, state_key="")
    phone = await home.device(BOB)
    await phone.sync()
    await home.member(room, ALICE, "invite", BOB)
    invited = (await phone.sync())["rooms"]["invite"][home.room_id(room)]["invite_state"]["events"]
    assert {"m.room.create", "m.room.name", "m.room.member"} <= {event["type"] for event in invited}
    assert all(set(event) == {"type", "state_key", "sender", "content"} for event in invited)
    assert {"membership": "invite"} in [event["content"] for event in invited]
    again = await (await home.device(BOB, 2)).sync()
    assert home.room_id(room) in again["rooms"]["invite"]
    assert "rooms" not in await phone.sync()
    await home.message(room, ALICE, "secret")
    assert "rooms" not in await phone.sync()
    refusal = await home.member(room, BOB, "leave")
    left = (await phone.sync())["rooms"]["leave"][home.room_id(room)]
    assert ids(left["timeline"]) == [refusal.event_id]
    assert left["state"]["events"] == []


async def test_knock(home: SyncWorld) -> None:
    room = await home.world.create_room(ALICE)
    await home.world.send(room, ALICE, "m.room.join_rules", {"join_rule": "knock"}, state_key="")
    phone = await home.device(BOB)
    await phone.sync()
    await home.member(room, BOB, "knock")
    knocked = (await phone.sync())["rooms"]["knock"][home.room_id(room)]["knock_state"]["events"]
    assert {"m.room.create", "m.room.join_rules"} <= {event["type"] for event in knocked}
    assert {"membership": "knock"} in [event["content"] for event in knocked]


async def test_ban_ends_the_room_and_later_changes_are_told(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.member(room, BOB, "join")
    phone = await home.device(BOB)
    await phone.sync()
    ban = await home.member(room, ALICE, "ban", BOB)
    await home.message(room, ALICE, "good riddance")
    left = (await phone.sync())["rooms"]["leave"][home.room_id(room)]
    assert ids(left["timeline"]) == [ban.event_id]
    pardon = await home.member(room, ALICE, "leave", BOB)
    left = (await phone.sync())["rooms"]["leave"][home.room_id(room)]
    assert ids(left["timeline"]) == [pardon.event_id]


async def test_left_rooms_on_demand(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.member(room, BOB, "join")
    seen = await home.message(room, ALICE, "seen")
    leave = await home.member(room, BOB, "leave")
    await home.world.send(room, ALICE, "m.room.topic", {"topic": "later"}, state_key="")
    without = await (await home.device(BOB)).sync()
    assert "rooms" not in without
    archive = await home.device(BOB, 2, room={"include_leave": True, "timeline": {"limit": 2}})
    left = (await archive.sync())["rooms"]["leave"][home.room_id(room)]
    assert ids(left["timeline"]) == [seen, leave.event_id]
    assert "m.room.topic" not in {event["type"] for event in left["state"]["events"]}
    assert "m.room.create" in {event["type"] for event in left["state"]["events"]}


async def test_ignored_users_are_not_heard(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.member(room, BOB, "join")
    phone = await home.device(ALICE)
    await phone.sync()
    await home.put_account_data(ALICE, "m.ignored_user_list", {"ignored_users": {BOB: {}}})
    await home.message(room, BOB, "annoying")
    renamed = await home.member(room, BOB, "join", displayname="Bobby")
    secret = await home.world.create_room(BOB, "11")
    await home.member(secret, BOB, "invite", ALICE)
    news = await phone.sync()
    assert news["account_data"]["events"][0]["type"] == "m.ignored_user_list"
    assert ids(news["rooms"]["join"][home.room_id(room)]["timeline"]) == [renamed.event_id]
    assert "invite" not in news["rooms"]
    await home.put_account_data(ALICE, "m.ignored_user_list", {"ignored_users": {}})
    heard = await home.message(room, BOB, "forgiven")
    assert ids((await phone.joined(room))["timeline"]) == [heard]


async def test_lazy_members(home: SyncWorld) -> None:
    room = await home.public_room()
    for user in (BOB, CAROL):
        await home.member(room, user, "join")
    for number in range(4):
        await home.message(room, ALICE, str(number))
    await home.world.send(room, ALICE, "m.room.name", {"name": "named"}, state_key="")
    lazy = {"lazy_load_members": True}
    phone = await home.device(BOB, room={"state": lazy, "timeline": {"limit": 2}})

    def members(section: dict[str, object]) -> set[str]:
        events = section["state"]["events"]  # type: ignore[index]
        return {event["state_key"] for event in events if event["type"] == "m.room.member"}

    assert members(await phone.joined(room)) == {ALICE, BOB}
    await home.message(room, ALICE, "known")
    assert members(await phone.joined(room)) == set()
    before = phone.since
    await home.message(room, CAROL, "new")
    assert members(await phone.joined(room)) == {CAROL}
    # The answer got lost: asked again, it says the same; only then it is known to have arrived.
    assert members(await phone.joined(room, since=before)) == {CAROL}
    await home.message(room, CAROL, "again")
    assert members(await phone.joined(room)) == set()
    talkative = await home.device(BOB, 2, room={"state": {**lazy, "include_redundant_members": True}})
    await talkative.sync()
    await home.message(room, CAROL, "again")
    assert members(await talkative.joined(room)) == {CAROL}
    # Whoever changed in a gap is told of, known or not.
    await home.member(room, CAROL, "join", displayname="Caro")
    for number in range(4):
        await home.message(room, ALICE, str(number))
    assert members(await phone.joined(room)) == {CAROL}


async def test_state_after_tells_of_state_without_timeline_events(home: SyncWorld) -> None:
    """Branches of history are merged: what loses shows in the timeline, what wins is the state."""
    room = await home.public_room()
    other = await home.world.second_server(room)
    await home.world.join_from(other, room, "@bob:there")
    levels = home.world.levels("12", {ALICE: 100, "@bob:there": 50})
    await home.world.send(room, ALICE, "m.room.power_levels", {"users": levels}, state_key="")
    phone = await home.device(ALICE)
    await phone.sync()
    base = home.world.snapshot(room)
    await home.world.send(room, ALICE, "m.room.topic", {"topic": "ours"}, state_key="")
    theirs = home.world.remote_event(other, base, "@bob:there", "m.room.topic", {"topic": "theirs"}, state_key="")
    await home.world.receive(other, theirs)
    news = await phone.joined(room, state_after=("state_after", "org.matrix.msc4222.state_after"))
    assert "state" not in news
    assert news["state_after"] == news["org.matrix.msc4222.state_after"]
    assert ids(news["state_after"]) == [home.current_state(room)[("m.room.topic", "")]]
    assert len(news["timeline"]["events"]) == 2


async def test_full_state(home: SyncWorld) -> None:
    room = await home.public_room()
    phone = await home.device(ALICE)
    await phone.sync()
    message = await home.message(room, ALICE, "new")
    full = await phone.joined(room, full_state=True, timeout=30)
    assert set(ids(full["state"])) == set(home.current_state(room).values())
    assert ids(full["timeline"]) == [message]


async def test_unsigned(home: SyncWorld) -> None:
    room = await home.public_room()
    phone, tablet = await home.device(ALICE, 7), await home.device(ALICE, 8)
    await phone.sync()
    await tablet.sync()
    first = await home.world.send(room, ALICE, "m.room.topic", {"topic": "one"}, state_key="")
    await home.world.send(room, ALICE, "m.room.topic", {"topic": "two"}, state_key="")
    message = await home.message(room, ALICE, "hello", device=7, txn_id='t"1')
    mine = (await phone.joined(room))["timeline"]["events"]
    assert mine[2]["unsigned"]["transaction_id"] == 't"1'
    assert mine[1]["unsigned"]["prev_content"] == {"topic": "one"}
    assert mine[1]["unsigned"]["replaces_state"] == first.event_id
    assert mine[1]["unsigned"]["prev_sender"] == ALICE
    assert mine[2]["unsigned"]["membership"] == "join"
    assert 0 <= mine[2]["unsigned"]["age"] < 60_000
    theirs = (await tablet.joined(room))["timeline"]["events"]
    assert "transaction_id" not in theirs[2]["unsigned"]
    redaction = await home.world.send(room, ALICE, "m.room.redaction", {"redacts": message}, redacts=message)
    assert ids((await phone.joined(room))["timeline"]) == [redaction.event_id]
    again = (await (await home.device(ALICE, 9)).joined(room))["timeline"]["events"]
    redacted = next(event for event in again if event["event_id"] == message)
    assert redacted["content"] == {}
    assert redacted["unsigned"]["redacted_because"]["event_id"] == redaction.event_id


async def test_account_data_typing_and_presence(home: SyncWorld) -> None:
    room = await home.public_room()
    room_id = home.room_id(room)
    phone = await home.device(ALICE)
    first = await phone.sync()
    assert [event["type"] for event in first["account_data"]["events"]] == ["m.push_rules"]
    await home.put_account_data(ALICE, "m.direct", {"a": [1]})
    await home.put_account_data(ALICE, "m.tag", {"tags": {}}, room_id)
    news = await phone.sync()
    assert news["account_data"]["events"] == [{"type": "m.direct", "content": {"a": [1]}}]
    assert news["rooms"]["join"][room_id]["account_data"]["events"] == [{"type": "m.tag", "content": {"tags": {}}}]
    home.typing.start(room, ALICE, phone.reader.user, 60)
    typing = (await phone.joined(room))["ephemeral"]["events"]
    assert typing == [{"type": "m.typing", "content": {"user_ids": [ALICE]}}]
    home.typing.stop(room, ALICE)
    assert (await phone.joined(room))["ephemeral"]["events"][0]["content"] == {"user_ids": []}


async def test_presence_of_those_who_share_a_room(home: SyncWorld) -> None:
    room = await home.public_room()
    await home.member(room, BOB, "join")
    phone, stranger = await home.device(ALICE), await home.device(CAROL)
    await phone.sync(presence="online")
    await stranger.sync(presence="online")
    await phone.sync(presence="online")
    waiting = asyncio.ensure_future(phone.sync(timeout=30, presence="online"))
    await until_waiting(phone)
    await (await home.device(BOB)).sync(presence="online")
    events = (await asyncio.wait_for(waiting, 5))["presence"]["events"]
    assert [(event["sender"], event["content"]["presence"]) for event in events] == [(BOB, "online")]
    assert "presence" not in await phone.sync(presence="online")
    assert "presence" not in await stranger.sync(presence="online")


async def test_filters(home: SyncWorld) -> None:
    room = await home.public_room()
    other = await home.public_room()
    await home.message(room, ALICE, "hello")
    only_names = await home.device(
        ALICE,
        room={"rooms": [home.room_id(room)], "timeline": {"types": ["m.room.message"]}, "state": {"types": ["x"]}},
        account_data={"types": []},
        event_fields=["content.body", "event_id"],
    )
    answer = await only_names.sync()
    assert list(answer["rooms"]["join"]) == [home.room_id(room)]
    found = answer["rooms"]["join"][home.room_id(room)]
    assert [event["content"] for event in found["timeline"]["events"]] == [{"body": "hello"}]
    assert "sender" not in found["timeline"]["events"][0]
    assert found["state"]["events"] == []
    assert "account_data" not in answer
    await home.message(other, ALICE, "elsewhere")
    assert "rooms" not in await only_names.sync()
    raw = await home.device(ALICE, 2, event_format="federation")
    assert "auth_events" in (await raw.joined(room))["timeline"]["events"][0]


async def test_tokens_of_an_earlier_run_go_on(tmp_path: Path) -> None:
    async with open_sync_world(tmp_path / "t.db", "run1") as home:
        room = await home.public_room()
        phone = await home.device(ALICE)
        await phone.sync()
        token = phone.since
        missed = await home.message(room, ALICE, "before the restart")
    async with open_sync_world(tmp_path / "t.db", "run2") as home:
        phone = await home.device(ALICE)
        phone.since = token
        news = await phone.joined(room)
        assert ids(news["timeline"]) == [missed]
        later = await home.message(room, ALICE, "after the restart")
        assert ids((await phone.joined(room))["timeline"]) == [later]


async def test_token_from_the_future_counts_as_now(home: SyncWorld) -> None:
    room = await home.public_room()
    phone = await home.device(ALICE)
    await phone.sync()
    phone.since = f"s{10**17}_0.x"
    assert await phone.joined(room) == {}
    message = await home.message(room, ALICE, "next")
    assert ids((await phone.joined(room))["timeline"]) == [message]


async def test_server_that_stops_answers_those_who_wait(home: SyncWorld) -> None:
    await home.public_room()
    phone = await home.device(ALICE)
    await phone.sync()
    waiting = asyncio.ensure_future(phone.sync(timeout=30))
    await until_waiting(phone)
    home.service.close()
    assert "rooms" not in await asyncio.wait_for(waiting, 5)
    assert "rooms" not in await asyncio.wait_for(phone.sync(timeout=30), 5)
