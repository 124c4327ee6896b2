"""Whatever happens in between: a client of sliding sync that applies the answers has the state and every event, once.

Random people send, change state, come, go and are thrown out, while connections with small windows and timelines ask at
random moments, look at other rooms, lose an answer, or live through a restart of the server or a loss of power.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.sync.devices import SyncWorld, open_sync_world
from tests.sync.test_convergence import ALICE, BOB, THERE, furnish
from tinyserver.protocol.errors import Forbidden, UnknownPos
from tinyserver.rooms.tokens import parse_token
from tinyserver.storage import devices, events, memberships, names, timeline
from tinyserver.storage.devices import Seen
from tinyserver.storage.memberships import Membership
from tinyserver.sync.requests import Reader
from tinyserver.sync.sliding.requests import ListSpec, SlidingRequest
from tinyserver.sync.sliding.required_state import MEMBER, RoomConfig, StatePart

ROOMS = 3
EVERYTHING = frozenset((StatePart(frozenset(((None, None),))),))
BUT_MEMBERS = frozenset((StatePart(frozenset(((None, None),)), frozenset(((MEMBER, None),))),))
room_numbers = st.integers(0, ROOMS - 1)
people = st.sampled_from([ALICE, BOB])

actions = st.one_of(
    *[st.tuples(st.just("send"), people, room_numbers, st.integers(1, 4))] * 2,
    st.tuples(st.just("state"), people, room_numbers, st.integers(0, 2)),
    st.tuples(st.just("join"), st.just(BOB), room_numbers, st.just(0)),
    st.tuples(st.just("leave"), st.just(BOB), room_numbers, st.just(0)),
    st.tuples(st.just("kick"), st.just(ALICE), room_numbers, st.just(0)),
    st.tuples(st.just("rename"), st.just(BOB), room_numbers, st.integers(0, 3)),
    st.tuples(st.just("fork"), st.just(THERE), room_numbers, st.integers(0, 2)),
    *[st.tuples(st.just("window"), people, st.sampled_from([-1, 0, 0, ROOMS - 1]), st.just(0))] * 2,
    st.tuples(st.just("subscribe"), people, room_numbers, st.integers(0, 5)),
    *[st.tuples(st.just("sync"), people, st.just(0), st.just(0))] * 5,
    st.tuples(st.just("lost sync"), people, st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["restart", "power loss"]), st.just(ALICE), st.just(0), st.just(0)),
)


class Viewer:
    """A client with one connection, and what it knows: the state of rooms, and the events that it was given."""

    def __init__(self, reader: Reader, config: RoomConfig) -> None:
        self.reader = reader
        self.config = config
        self.window = 0
        self.subscriptions: dict[str, int] = {}
        self.pos: str | None = None
        self.state: dict[str, dict[tuple[str, str], str]] = {}
        self.seen: dict[str, list[str]] = {}

    async def sync(self, home: SyncWorld, *, lose: bool) -> Any:
        lists = {} if self.window < 0 else {"all": ListSpec(self.config, [(0, self.window)])}
        subscriptions = {
            room_id: RoomConfig(limit, self.config.state, self.config.lazy_members)
            for room_id, limit in self.subscriptions.items()
        }
        request = SlidingRequest(
            self.reader, "c", self.pos, lists=lists, subscriptions=subscriptions, set_presence="offline"
        )
        try:
            answer = json.loads(await home.sliding.sync(request))
        except UnknownPos:
            self.pos, self.state, self.seen = None, {}, {}
            return await self.sync(home, lose=lose)
        if not lose:
            self.pos = answer["pos"]
            for room_id, room in answer["rooms"].items():
                self._apply(home, room_id, room)
        return answer

    def _apply(self, home: SyncWorld, room_id: str, room: Any) -> None:
        if room.get("initial"):
            self.state[room_id], self.seen[room_id] = {}, []
        state, seen = self.state[room_id], self.seen[room_id]
        for event in room.get("required_state", ()):
            state[event["type"], event["state_key"]] = event["event_id"]
        given_now = [event["event_id"] for event in room.get("timeline", ())]
        if room.get("unstable_expanded_timeline"):
            given_now = [event_id for event_id in given_now if event_id not in seen]
        if room.get("limited"):
            known = {*seen, *given_now}
            given_now = [each for each in before(home, room_id, room["prev_batch"]) if each not in known] + given_now
        assert not set(seen) & set(given_now), "an event came twice"
        assert len(set(given_now)) == len(given_now)
        seen += given_now


def before(home: SyncWorld, room_id: str, prev_batch: str) -> list[str]:
    def step(tx: Any) -> list[str]:
        room = tx.value("SELECT nid FROM rooms WHERE room_id = ?", (room_id,))
        found = timeline.before(tx, room, parse_token(prev_batch).position, 1000)
        return [events.get(tx, nid).event_id for nid in reversed(found)]

    return home.db.glance(step)


async def play(path: Path, script: list[tuple[str, str, int, int]], config: RoomConfig) -> None:
    viewers: dict[str, Viewer] = {}
    rooms: list[int] = []
    position, run = 0, 0
    while True:
        run += 1
        async with open_sync_world(path, f"run{run}") as home:
            if rooms:
                await home.world.second_server(rooms[0])
            else:
                rooms = [await furnish(home) for _ in range(ROOMS)]
                viewers = {user: await viewer(home, user, config) for user in (ALICE, BOB)}
            while position < len(script):
                action = script[position]
                position += 1
                if action[0] == "restart":
                    await home.sliding.close()
                if action[0] in ("restart", "power loss"):
                    break
                await act(home, rooms, viewers, action)
            else:
                for user, each in viewers.items():
                    each.window = ROOMS
                    while (await each.sync(home, lose=False))["rooms"]:
                        pass
                    for room in rooms:
                        check(home, each, user, room)
                return


async def viewer(home: SyncWorld, user: str, config: RoomConfig) -> Viewer:
    nid = await home.db.write(lambda tx: names.intern(tx, user))
    device = await home.db.write(lambda tx: devices.add(tx, nid, "PHONE", None, Seen(0, "", "")))
    return Viewer(Reader(user, nid, device), config)


async def act(home: SyncWorld, rooms: list[int], viewers: dict[str, Viewer], action: tuple[str, str, int, int]) -> None:
    kind, user, which, number = action
    try:
        if kind in ("sync", "lost sync"):
            await viewers[user].sync(home, lose=kind == "lost sync")
        elif kind == "window":
            viewers[user].window = which
        elif kind == "subscribe":
            room_id = home.room_id(rooms[which])
            viewers[user].subscriptions.pop(room_id, None)
            if number:
                viewers[user].subscriptions[room_id] = number
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
        elif kind == "fork":
            base = home.world.snapshot(rooms[which])
            await home.world.send(rooms[which], ALICE, "m.topic", {"n": home.bell.position}, state_key=str(number))
            theirs = home.world.remote_event(
                "there", base, THERE, "m.topic", {"n": -home.bell.position}, state_key=str(number)
            )
            await home.world.receive("there", theirs)
    except Forbidden:
        pass  # somebody who was not in the room, or had left it already


def check(home: SyncWorld, client: Viewer, user: str, room: int) -> None:
    room_id = home.room_id(room)
    row = home.db.glance(lambda tx: memberships.get(tx, room, client.reader.user))
    if row is None or row.membership is not Membership.JOIN:
        member = client.state.get(room_id, {}).get((MEMBER, user))
        if member is not None:  # the client has seen that it is over
            stored = home.db.glance(lambda tx: events.by_id(tx, member))
            assert stored is not None
            assert stored.event.membership == "leave"
        return
    expected = home.current_state(room)
    known = client.state[room_id]
    if client.config.lazy_members:  # it need not know all members, but what it knows is right
        for key, event_id in known.items():
            assert expected[key] == event_id
        expected = {key: event_id for key, event_id in expected.items() if key in known or key[0] != MEMBER}
    assert known == expected
    assert client.seen[room_id] == home.timeline_ids(room)


@pytest.mark.parametrize("lazy", [False, True])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(actions, min_size=15, max_size=40), limit=st.integers(0, 4))
@example(
    script=[
        *[("window", ALICE, ROOMS - 1, 0), ("sync", ALICE, 0, 0), ("window", ALICE, -1, 0)],
        *[("send", ALICE, 1, 3), ("sync", ALICE, 0, 0)],
    ],
    limit=2,
)
def test_client_converges(script: list[tuple[str, str, int, int]], limit: int, lazy: bool) -> None:
    config = RoomConfig(limit, BUT_MEMBERS if lazy else EVERYTHING, lazy)
    with TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory) / "t.db", script, config))
