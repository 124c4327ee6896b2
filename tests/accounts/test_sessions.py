"""Tokens: found from memory, ended everywhere at once, and their times of use written rarely."""

from __future__ import annotations

import pytest

from tinyserver.accounts.authentication import TokenCache
from tinyserver.accounts.last_seen import WRITE_INTERVAL
from tinyserver.accounts.sessions import NewSession
from tinyserver.protocol.errors import UnknownToken, UserLocked
from tinyserver.storage import accounts, devices
from tinyserver.storage.devices import Seen
from tinyserver.storage.transaction import ReadTransaction

from .world import ORIGIN, CallFrom, World


async def test_a_known_token_costs_no_database_access(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made, tokens = await world.account()
    first = await world.authenticator.authenticate(tokens.access_token, CallFrom())
    assert (first.user_id, first.device_id) == (made.user_id, tokens.device_id)

    def refuse(*_: object) -> None:
        raise AssertionError("the database was asked")

    for way in ("execute", "row", "rows", "value"):
        monkeypatch.setattr(ReadTransaction, way, refuse)
    assert await world.authenticator.authenticate(tokens.access_token, CallFrom()) == first


async def test_a_token_ends_at_its_time(world: World) -> None:
    _, tokens = await world.account(can_refresh=True)
    world.time.pass_(59)
    await world.authenticator.authenticate(tokens.access_token, CallFrom())
    world.time.pass_(2)
    with pytest.raises(UnknownToken) as caught:
        await world.authenticator.authenticate(tokens.access_token, CallFrom())
    assert caught.value.soft_logout
    assert tokens.refresh_token is not None
    renewed = await world.sessions.refresh(tokens.refresh_token)
    await world.authenticator.authenticate(renewed.access_token, CallFrom())
    assert renewed.refresh_token is not None
    world.time.pass_(3601)
    with pytest.raises(UnknownToken) as caught:
        await world.sessions.refresh(renewed.refresh_token)
    assert caught.value.soft_logout


async def test_a_clock_that_jumps_back_ends_nothing(world: World) -> None:
    _, tokens = await world.account(can_refresh=True)
    world.time.wall = 0
    await world.authenticator.authenticate(tokens.access_token, CallFrom())
    assert tokens.refresh_token is not None
    await world.sessions.refresh(tokens.refresh_token)


async def test_refreshing_leaves_at_most_two_sessions(world: World) -> None:
    _, tokens = await world.account(can_refresh=True)
    for _ in range(5):
        assert tokens.refresh_token is not None
        for _ in range(3):
            renewed = await world.sessions.refresh(tokens.refresh_token)
        tokens = renewed
        count = await world.db.read(lambda tx: tx.value("SELECT count(*) FROM sessions"))
        assert count <= 2
    await world.authenticator.authenticate(tokens.access_token, CallFrom())
    assert await world.db.read(lambda tx: tx.value("SELECT count(*) FROM sessions")) == 1


async def test_locked(world: World) -> None:
    made, tokens = await world.account()
    nid = world.db.glance(lambda tx: accounts.find(tx, made.user_id)).nid  # type: ignore[union-attr]
    await world.db.write(lambda tx: tx.execute("UPDATE users SET locked = 1 WHERE nid = ?", (nid,)))
    with pytest.raises(UserLocked):
        await world.authenticator.authenticate(tokens.access_token, CallFrom())
    identifier = {"type": "m.id.user", "user": "alice"}
    with pytest.raises(UserLocked):
        await world.login.with_password(identifier, "secret", NewSession(None, None, False, ORIGIN))
    disguised = CallFrom(scope={"path": "/_matrix/client/v3/user/@alice:tiny.test/account_data/logout"})
    with pytest.raises(UserLocked):
        await world.authenticator.authenticate(tokens.access_token, disguised)
    logout = CallFrom(scope={"path": "/_matrix/client/v3/logout"})
    assert (await world.authenticator.authenticate(tokens.access_token, logout)).user_id == made.user_id


async def test_times_of_use_are_written_once_an_hour(world: World) -> None:
    made, tokens = await world.account()
    requester = await world.authenticator.authenticate(tokens.access_token, CallFrom())
    assert requester.device_nid is not None
    device = requester.device_nid
    before = len(world.commits)
    for _ in range(100):
        world.time.pass_(30)
        await world.authenticator.authenticate(tokens.access_token, CallFrom(client_address="192.0.2.8"))
    assert len(world.commits) == before
    now = world.clock.now_ms()
    assert world.last_seen.of(device) == Seen(now, "192.0.2.8", "Tests/1")
    world.time.pass_(WRITE_INTERVAL)
    for _ in range(5):
        await world.authenticator.authenticate(tokens.access_token, CallFrom())
    await world.last_seen.close()
    stored = world.db.glance(lambda tx: devices.get(tx, device))
    assert stored is not None
    assert stored.seen == Seen(world.clock.now_ms(), "192.0.2.7", "Tests/1")
    assert len(world.commits) <= before + 2
    assert len(world.commits) > before
    assert made.user_id == requester.user_id


async def test_a_device_number_is_never_given_again(world: World) -> None:
    numbers = set()
    for _ in range(3):
        logged_in = await world.login.with_password(
            {"type": "m.id.user", "user": (await world.account(f"u{len(numbers)}"))[0].user_id},
            "secret",
            NewSession("D", None, False, ORIGIN),
        )
        requester = await world.authenticator.authenticate(logged_in.tokens.access_token, CallFrom())
        assert requester.device_nid not in numbers
        numbers.add(requester.device_nid)
        await world.sessions.logout_all(requester)


async def test_the_cache_is_bounded(world: World) -> None:
    small = TokenCache(capacity=3)
    _, tokens = await world.account()
    await world.authenticator.authenticate(tokens.access_token, CallFrom())
    (entry,) = world.cache._entries.values()
    for number in range(10):
        small.put(bytes([number]), entry)
    assert [small.get(bytes([number])) is not None for number in range(10)] == [False] * 7 + [True] * 3
