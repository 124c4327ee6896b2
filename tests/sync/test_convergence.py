"""Whatever happens in between: a client that applies the answers has the server's state and every event, once.

Random people send, change state, come, go and are thrown out, also at the same time on another server, while devices
with small timelines sync at random moments, sometimes losing an answer, sometimes over a restart of the server.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.sync.devices import Device, SyncWorld, open_sync_world
from tinyserver.protocol.errors import Forbidden
from tinyserver.rooms.tokens import parse_token
from tinyserver.storage import events, memberships, timeline
from tinyserver.storage.memberships import Membership

ALICE, BOB, THERE = "@alice:here", "@bob:here", "@bob:there"
ROOMS = 2

actions = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([ALICE, BOB]), st.integers(0, ROOMS - 1), st.integers(1, 4)),
    st.tuples(st.just("state"), st.sampled_from([ALICE, BOB]), st.integers(0, ROOMS - 1), st.integers(0, 2)),
    st.tuples(st.just("join"), st.just(BOB), st.integers(0, ROOMS - 1), st.just(0)),
    st.tuples(st.just("leave"), st.just(BOB), st.integers(0, ROOMS - 1), st.just(0)),
    st.tuples(st.just("kick"), st.just(ALICE), st.integers(0, ROOMS - 1), st.just(0)),
    st.tuples(st.just("rename"), st.just(BOB), st.integers(0, ROOMS - 1), st.integers(0, 3)),
    st.tuples(st.just("fork"), st.just(THERE), st.integers(0, ROOMS - 1), st.integers(0, 2)),
    st.tuples(st.just("sync"), st.sampled_from([ALICE, BOB]), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("lost sync"), st.sampled_from([ALICE, BOB]), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("restart"), st.just(ALICE), st.just(0), st.just(0)),
)


class ClientModel:
    """A device with what its client knows: the state of rooms, and the events that it was given."""

    def __init__(self, device: Device, *, at_end: bool) -> None:
        self.device = device
        self.state_after = ("state_after",) if at_end else ()
        self.state: dict[str, dict[tuple[str, str], str]] = {}
        self.seen: dict[str, list[str]] = {}
        self.joined: set[str] = set()

    async def sync(self, *, lose: bool) -> None:
        before = self.device.since
        answer = await self.device.sync(state_after=self.state_after)
        if lose:
            self.device.since = before
            return
        sections = answer.get("rooms", {})
        for room_id, room in sections.get("leave", {}).items():
            self.joined.discard(room_id)
            events = room["timeline"]["events"]
            if events and self._is_from_outside(events[-1]):
                del events[-1]
            self._apply(room_id, room)
        for room_id, room in sections.get("join", {}).items():
            self.joined.add(room_id)
            self._apply(room_id, room)

    def _apply(self, room_id: str, room: dict[str, Any]) -> None:
        state = self.state.setdefault(room_id, {})
        sources = [room["state_after"]] if self.state_after else [room["state"], room["timeline"]]
        for source in sources:
            for event in source["events"]:
                if "state_key" in event:
                    state[(event["type"], event["state_key"])] = event["event_id"]
        given_now = [event["event_id"] for event in room["timeline"]["events"]]
        if room["timeline"]["limited"]:
            gap = self._fill_gap(room_id, room["timeline"]["prev_batch"])
            given_now = gap + given_now
        seen = self.seen.setdefault(room_id, [])
        repeated = set(seen) & set(given_now)
        assert not repeated, "an event came twice"
        assert len(set(given_now)) == len(given_now)
        seen += given_now

    def _is_from_outside(self, event: dict[str, Any]) -> bool:
        """Whether it ends no stay in the room (an invite that was taken back, a second kick). Who joins later finds it
        in the room's history again."""
        if event.get("state_key") != self.device.reader.user_id or event["content"].get("membership") != "leave":
            return False
        return bool(event["unsigned"].get("prev_content", {}).get("membership") != "join")

    def _fill_gap(self, room_id: str, prev_batch: str) -> list[str]:
        """What lies between the last answer and the start of this timeline, but for what is known already."""
        home = self.device.home
        known = set(self.seen.get(room_id, []))

        def step(tx: Any) -> list[str]:
            room = tx.value("SELECT nid FROM rooms WHERE room_id = ?", (room_id,))
            found = timeline.before(tx, room, parse_token(prev_batch).position, 1000)
            return [events.get(tx, nid).event_id for nid in reversed(found)]

        return [event_id for event_id in home.db.glance(step) if event_id not in known]


async def play(path: Path, script: list[tuple[str, str, int, int]], limit: int, *, at_end: bool, lazy: bool) -> None:
    clients: dict[tuple[str, int], ClientModel] = {}
    rooms: list[int] = []
    position = 0
    run = 0
    while True:
        run += 1
        async with open_sync_world(path, f"run{run}") as home:
            if not rooms:
                rooms = [await furnish(home) for _ in range(ROOMS)]
            else:
                await home.world.second_server(rooms[0])
            filters = {"room": {"timeline": {"limit": limit}, "state": {"lazy_load_members": lazy}}}
            for user in (ALICE, BOB):
                for number in (0, 1):
                    device = await home.device(user, 10 * number + len(user), **filters)
                    if (user, number) in clients:
                        device.since = clients[user, number].device.since
                        clients[user, number].device = device
                    else:
                        clients[user, number] = ClientModel(device, at_end=at_end)
            while position < len(script):
                action = script[position]
                position += 1
                if action[0] == "restart":
                    break
                await act(home, rooms, clients, action, at_end=at_end)
            else:
                for (user, _), client in clients.items():
                    await client.sync(lose=False)
                    for room in rooms:
                        check(home, client, user, room, lazy=lazy)
                return


async def furnish(home: SyncWorld) -> int:
    room = await home.public_room()
    other = await home.world.second_server(room)
    await home.world.join_from(other, room, THERE)
    levels = home.world.levels("12", {ALICE: 100, THERE: 50, BOB: 50})
    content = {"users": levels, "events": {"m.room.topic": 0}, "state_default": 0}
    await home.world.send(room, ALICE, "m.room.power_levels", content, state_key="")
    return room


async def act(
    home: SyncWorld,
    rooms: list[int],
    clients: dict[tuple[str, int], ClientModel],
    action: tuple[str, str, int, int],
    *,
    at_end: bool,
) -> None:
    kind, user, which, number = action
    try:
        if kind in ("sync", "lost sync"):
            await clients[user, which].sync(lose=kind == "lost sync")
        elif kind == "send":
            for at in range(number):
                await home.message(rooms[which], user, str(at))
        elif kind == "state":
            await home.world.send(rooms[which], user, "m.topic", {"n": home.bell.position}, state_key=str(number))
        elif kind in ("join", "leave"):
            await home.member(rooms[which], user, kind)
        elif kind == "rename":
            await home.member(rooms[which], user, "join", displayname=str(number))
        elif kind == "kick":
            await home.member(rooms[which], user, "leave", BOB)
        elif kind == "fork" and at_end:  # without state_after no answer could tell of it
            base = home.world.snapshot(rooms[which])
            await home.world.send(rooms[which], ALICE, "m.topic", {"n": home.bell.position}, state_key=str(number))
            theirs = home.world.remote_event(
                "there", base, THERE, "m.topic", {"n": -home.bell.position}, state_key=str(number)
            )
            await home.world.receive("there", theirs)
    except Forbidden:
        pass  # somebody who was not in the room, or had left it already


def check(home: SyncWorld, client: ClientModel, user: str, room: int, *, lazy: bool) -> None:
    room_id = home.room_id(room)
    row = home.db.glance(lambda tx: memberships.get(tx, room, client.device.reader.user))
    is_joined = row is not None and row.membership is Membership.JOIN
    assert (room_id in client.joined) == is_joined
    if not is_joined:
        return
    expected = home.current_state(room)
    known = client.state[room_id]
    if lazy:  # it need not know all members, but what it knows is right
        for key, event_id in known.items():
            assert expected[key] == event_id
        expected = {key: event_id for key, event_id in expected.items() if key in known or key[0] != "m.room.member"}
    assert known == expected
    # Everything since the client first heard of the room, in order and once; before, as far as it was told.
    everything = home.timeline_ids(room)
    assert client.seen[room_id] == everything


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(actions, max_size=40), limit=st.integers(1, 4))
@example(
    script=[
        ("sync", BOB, 0, 0),
        *[("join", BOB, 0, 0), ("leave", BOB, 0, 0)] * 2,
        ("sync", BOB, 0, 0),
        ("join", BOB, 0, 0),
    ],
    limit=2,
)
def test_client_converges(script: list[tuple[str, str, int, int]], limit: int, at_end: bool, lazy: bool) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory) / "t.db", script, limit, at_end=at_end, lazy=lazy))
