"""Boards without a clock battery start in 1970: order, tokens and timestamps go on all the same.

The machine's time is faked with libfaketime (Debian: the package libfaketime) below the server process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from .client import Client, Json, bodies, timeline
from .conftest import MakeServer, NewUser
from .harness import TinyServer

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (apt-get install libfaketime)")

IN_1970 = "@1970-01-01 00:00:30"
YEAR_MS = 365 * 86_400_000
SHORT_SESSIONS = {"sessions": {"access_token_lifetime": "3s", "refresh_token_lifetime": "8s"}}


def fake(when: str) -> dict[str, str]:
    """The environment in which the machine's clock starts at `when`; nothing is faked with "+0"."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": when,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "TZ": "UTC",
    }


def now_ms() -> int:
    return int(time.time() * 1000)


async def history(client: Client, room: str) -> list[Json]:
    events: list[Json] = []
    token = None
    while True:
        page = await client.messages(room, dir="f", from_=token, limit=100)
        events += page["chunk"]
        token = page.get("end")
        if token is None:
            return events


def check_times(events: list[Json]) -> None:
    """No event is older than one before it, and none comes from the future."""
    stamps = [event["origin_server_ts"] for event in events]
    assert stamps == sorted(stamps)
    assert all(event["unsigned"]["age"] >= 0 for event in events if "age" in event.get("unsigned", {}))
    assert any("age" in event.get("unsigned", {}) for event in events)


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_start_in_1970(make_server: MakeServer, new_user: NewUser, end: str) -> None:
    server = make_server()
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    room = await alice.create_room(bob)
    await alice.send(room, "1")
    await bob.sync_on()
    await alice.send(room, "2")
    before = now_ms()
    getattr(server, end)()
    server.start(fake(IN_1970))
    for number in ("3", "4"):
        event_id = await alice.send(room, number)
    await alice.receipt(room, event_id)
    answer = await bob.sync_on()
    assert bodies(timeline(answer, room)) == ["2", "3", "4"]
    check_times(timeline(answer, room))
    newest = timeline(answer, room)[-1]["origin_server_ts"]
    assert before - 60_000 < newest < now_ms() + 1000
    receipts = [each["content"][event_id]["m.read"] for each in answer["rooms"]["join"][room]["ephemeral"]["events"]]
    assert receipts[0][alice.user_id]["ts"] >= newest
    getattr(server, end)()
    server.start(fake("@1970-01-01 00:00:01"))  # and again, before the network brought the time
    await alice.send(room, "5")
    getattr(server, end)()
    server.start(fake("+0"))
    await alice.send(room, "6")
    events = await history(bob, room)
    assert bodies(events) == ["1", "2", "3", "4", "5", "6"]
    check_times(events)
    answer = await bob.sync_on()
    assert bodies(timeline(answer, room)) == ["5", "6"]
    # An initial sync, in which rooms go by their newest event, agrees.
    assert bodies(timeline(await bob.sync(), room)) == bodies(events)


async def test_the_newest_event_may_be_of_any_kind(make_server: MakeServer, new_user: NewUser) -> None:
    """Also when no message was ever sent, only rooms made and joined."""
    server = make_server()
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    room = await alice.create_room(bob)
    server.kill()
    server.start(fake(IN_1970))
    await bob.send(room, "later")
    events = await history(alice, room)
    check_times(events)
    assert events[-1]["origin_server_ts"] > now_ms() - YEAR_MS


async def test_the_first_start_of_all_is_in_1970(make_server: MakeServer, new_user: NewUser) -> None:
    server = make_server(environment=fake(IN_1970))
    alice, bob = await new_user("alice", server=server), await new_user("bob", server=server)
    room = await alice.create_room(bob)
    await alice.send(room, "in 1970")
    await bob.sync_on()
    assert (await history(alice, room))[-1]["origin_server_ts"] < YEAR_MS
    server.stop()
    server.start(fake("+0"))
    await alice.send(room, "today")
    answer = await bob.sync_on()
    assert bodies(timeline(answer, room)) == ["today"]
    assert timeline(answer, room)[0]["origin_server_ts"] > now_ms() - 60_000
    check_times(await history(bob, room))


async def test_the_clock_is_set_while_the_server_runs(
    make_server: MakeServer, new_user: NewUser, tmp_path: Path
) -> None:
    """Forwards, as when the network comes, and back again."""
    machine = tmp_path / "time"
    machine.write_text(IN_1970 + "\n")
    environment = {**fake(""), "FAKETIME_TIMESTAMP_FILE": str(machine), "FAKETIME_NO_CACHE": "1"}
    del environment["FAKETIME"]
    server = make_server(environment=environment)
    alice = await new_user(server=server)
    room = await alice.create_room()
    await alice.sync_on()
    for number, when in enumerate((IN_1970, "+0", "-2h", "@1970-01-01 00:00:01", "+0")):
        machine.write_text(when + "\n")
        event_id = await alice.send(room, f"{number}")
        event = await alice.sync_event(room, event_id)
        assert event["unsigned"]["age"] >= 0
    events = await history(alice, room)
    assert bodies(events) == ["0", "1", "2", "3", "4"]
    check_times(events)
    assert events[-5]["origin_server_ts"] < YEAR_MS
    assert events[-4]["origin_server_ts"] > now_ms() - 600_000


async def until_refused(request: Callable[[], Awaitable[httpx.Response]]) -> Json:
    """Repeat a request until its token has expired; the error."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = await request()
        if answer.status_code == 401:
            return answer.json()
        assert answer.status_code == 200, answer.text
        await asyncio.sleep(0.1)
    raise AssertionError("the token lives for ever")


async def refreshing(server: TinyServer, user: Client, connect: Callable[..., Client]) -> Client:
    """A session of the user whose access token expires."""
    return await connect(server).login(user.user_id, user.password, refresh_token=True)


async def refresh(client: Client, **expectation: int) -> Json:
    answer = await client.request("POST", "/refresh", {"refresh_token": client.refresh_token}, **expectation)
    if "access_token" in answer:
        client.access_token, client.refresh_token = answer["access_token"], answer["refresh_token"]
    return answer


async def test_tokens_of_today_in_1970(
    make_server: MakeServer, new_user: NewUser, connect: Callable[..., Client]
) -> None:
    """They are valid, and expire after as long as they should: not at once, not in half a century."""
    server = make_server(config=SHORT_SESSIONS)
    alice = await new_user(server=server)
    client, other = await refreshing(server, alice, connect), await refreshing(server, alice, connect)
    server.kill()
    server.start(fake(IN_1970))
    await client.request("GET", "/account/whoami")
    told = await until_refused(lambda: client.raw("GET", "/account/whoami"))
    assert (told["errcode"], told.get("soft_logout")) == ("M_UNKNOWN_TOKEN", True)
    answer = await refresh(client)
    assert 0 < answer["expires_in_ms"] <= 3000
    await client.request("GET", "/account/whoami")
    # Refresh tokens that are not used expire as well.
    told = await until_refused(lambda: other.raw("POST", "/refresh", {"refresh_token": other.refresh_token}))
    assert (told["errcode"], told.get("soft_logout")) == ("M_UNKNOWN_TOKEN", True)
    # A token that does not expire stays, and a new login works.
    await alice.request("GET", "/account/whoami")
    await (await refreshing(server, alice, connect)).request("GET", "/account/whoami")


async def test_tokens_of_1970_today(make_server: MakeServer, new_user: NewUser, connect: Callable[..., Client]) -> None:
    """A session that was opened before the time was known is renewed by its refresh token."""
    server = make_server(environment=fake(IN_1970))
    alice = await new_user(server=server)
    client = await refreshing(server, alice, connect)
    await client.request("GET", "/account/whoami")
    server.stop()
    server.start(fake("+0"))
    told = await client.request("GET", "/account/whoami", expect=401, errcode="M_UNKNOWN_TOKEN")
    assert told["soft_logout"] is True
    await refresh(client)
    await client.request("GET", "/account/whoami")
    await alice.request("GET", "/account/whoami")


async def test_registration_tokens_and_user_create_in_1970(make_server: MakeServer, new_user: NewUser) -> None:
    server = make_server()
    await new_user(server=server)
    server.stop()
    server.start(fake(IN_1970))
    async with Client(server.base_url) as newcomer:
        await newcomer.register_open("newcomer")
        await newcomer.create_room()
    async with Client(server.base_url) as again:
        await again.login("newcomer")
        device = (await again.request("GET", "/devices"))["devices"][0]
        assert device["last_seen_ts"] > now_ms() - YEAR_MS
