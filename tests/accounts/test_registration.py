"""Registration tokens, the shared secret's nonces, login tokens, reserved names, and passwords."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path

import pytest

from tinyserver.accounts.login import LOGIN_TOKEN_SECONDS
from tinyserver.accounts.passwords import PasswordHasher
from tinyserver.accounts.registration import RegistrationRequest
from tinyserver.accounts.requester import Requester
from tinyserver.accounts.sessions import NewSession
from tinyserver.accounts.shared_secret import NONCE_SECONDS
from tinyserver.accounts.uia import UserInteractionRequired
from tinyserver.protocol.errors import Exclusive, Forbidden, InvalidParam, LimitExceeded
from tinyserver.storage import accounts, registration_tokens

from .world import ORIGIN, World


def wanted(name: str) -> RegistrationRequest:
    return RegistrationRequest(name, "secret", None)


def stage(token: str) -> dict[str, str]:
    return {"type": "m.login.registration_token", "token": token}


async def test_tokens_end_by_use_and_by_time(tmp_path: Path) -> None:
    world = World(tmp_path, mode="token")
    world.db.start()
    twice = await world.tokens.create("twice", uses_allowed=2)
    hour = await world.tokens.create(expires=world.clock.now_ms() + 3_600_000)
    for number in range(2):
        await world.registration.register(wanted(f"user{number}"), stage(twice))
    with pytest.raises(UserInteractionRequired) as caught:
        await world.registration.register(wanted("user2"), stage(twice))
    assert caught.value.body()["errcode"] == "M_UNAUTHORIZED"
    await world.registration.register(wanted("user2"), stage(hour))
    world.time.pass_(3600)
    assert not world.tokens.is_valid(hour)
    assert {row.token: row.uses for row in await world.tokens.all()} == {twice: 2, hour: 1}
    with pytest.raises(InvalidParam):
        await world.tokens.create("twice")
    for bad in ("x" * 65, "white space", "ä", ""):
        with pytest.raises(InvalidParam):
            await world.tokens.create(bad)
    assert await world.tokens.remove(twice)
    assert not await world.tokens.remove(twice)
    await world.close()


async def test_the_last_use_is_given_once(tmp_path: Path) -> None:
    world = World(tmp_path, mode="token")
    world.db.start()
    token = await world.tokens.create(uses_allowed=1)
    tries = (world.registration.register(wanted(f"user{number}"), stage(token)) for number in range(5))
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in done) == 1
    assert all(isinstance(result, Forbidden) for result in done if isinstance(result, BaseException))
    await world.close()


async def test_a_name_is_given_once(world: World) -> None:
    tries = (world.registration.register(wanted("same"), {"type": "m.login.dummy"}) for _ in range(5))
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in done) == 1


async def test_first_token_makes_one_administrator(world: World) -> None:
    token = await world.tokens.first()
    assert token is not None
    assert await world.tokens.first() == token
    # A guest is no account in this sense.
    await world.registration.register_guest(NewSession(None, None, False, ORIGIN))
    assert await world.tokens.first() == token
    made = await world.registration.register(wanted("mother"), stage(token))
    account = world.db.glance(lambda tx: accounts.find(tx, made.user_id))
    assert account is not None
    assert account.is_admin
    assert await world.tokens.first() is None
    assert world.db.glance(registration_tokens.all_tokens) == []


def proof(nonce: str, name: str) -> str:
    return hmac.new(b"secret", f"{nonce}\0{name}\0pass\0notadmin".encode(), hashlib.sha1).hexdigest()


async def by_secret(world: World, nonce: str, name: str) -> None:
    await world.shared_secret.register(
        nonce, name, "pass", proof(nonce, name), admin=False, user_type=None, session=None, displayname=None
    )


async def test_nonces_end(world: World) -> None:
    nonce = world.shared_secret.new_nonce()
    world.time.pass_(NONCE_SECONDS)
    with pytest.raises(InvalidParam):
        await by_secret(world, nonce, "late")
    nonces = [world.shared_secret.new_nonce() for _ in range(1000)]
    with pytest.raises(InvalidParam):
        await by_secret(world, nonces[0], "crowded-out")
    await by_secret(world, nonces[-1], "in-time")


async def test_login_token_ends(world: World) -> None:
    made, _ = await world.account()
    nid = world.db.glance(lambda tx: accounts.find(tx, made.user_id)).nid  # type: ignore[union-attr]
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "secret"}
    requester = Requester(made.user_id, nid)
    token, _ = await world.login.new_token(requester, auth)
    world.time.pass_(LOGIN_TOKEN_SECONDS)
    with pytest.raises(Forbidden):
        await world.login.with_token(token, NewSession(None, None, False, ORIGIN))


class Bridge:
    """An application service that wants all names with a prefix."""

    def is_reserved(self, user_id: str) -> bool:
        return user_id.startswith("@irc_")


async def test_reserved_names(world: World) -> None:
    world.registration._reservations = [Bridge()]
    with pytest.raises(Exclusive):
        world.registration.check_username("irc_bob")
    with pytest.raises(Exclusive):
        await world.registration.register(wanted("IRC_bob"), None)


async def test_password_hashes() -> None:
    hasher = PasswordHasher(8 * 1024 * 1024, 2)
    stored = await hasher.hash("pässword\0 with NUL")
    assert stored.startswith("$argon2id$v=19$m=8192,t=2,p=1$")
    assert await hasher.verify(stored, "pässword\0 with NUL")
    assert not await hasher.verify(stored, "pässword")
    assert not await hasher.verify(None, "pässword\0 with NUL")
    assert not await hasher.verify(stored, "x" * 1000)
    assert not await hasher.verify("not a hash", "x")
    assert not hasher.is_outdated(stored)
    assert PasswordHasher(16 * 1024 * 1024, 2).is_outdated(stored)
    waiting = [hasher.verify(stored, "x") for _ in range(60)]
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in done} == {bool, LimitExceeded}
    hasher.close()
