"""Encrypted rooms with matrix-nio, an independent implementation of encryption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from .client import Client
from .conftest import NewUser
from .harness import TinyServer
from .nio_device import NioDevice, done, until

# nio's own dependencies warn of what newer versions make of them.
pytestmark = pytest.mark.filterwarnings("default")

StartNio = Callable[[Client], Awaitable[NioDevice]]


@pytest_asyncio.fixture
async def start_nio(tmp_path: Path) -> AsyncIterator[StartNio]:
    """`await start_nio(session)`: nio on a session that somebody else has logged in."""
    devices: list[NioDevice] = []

    async def make(session: Client) -> NioDevice:
        directory = tmp_path / f"nio-{len(devices)}"
        directory.mkdir()
        devices.append(NioDevice(session, directory))
        return await devices[-1].start()

    yield make
    for device in devices:
        await device.stop()


async def heard(room: str, speaker: NioDevice, listeners: list[NioDevice], body: str) -> None:
    event_id = await speaker.say(room, body)
    for each in listeners:
        await each.reads(event_id, body)


async def test_encrypted_room(fresh_server: TinyServer, new_user: NewUser, start_nio: StartNio) -> None:
    sessions = [await new_user("alice"), await new_user("bob")]
    tablet_session = await sessions[1].another_device()
    alice, bob, tablet = [await start_nio(each) for each in (*sessions, tablet_session)]
    everybody = [alice, bob, tablet]
    room = await alice.new_room(bob)
    await bob.join(room)
    for each in everybody:
        await each.is_in(room, alice.user_id, bob.user_id)
        await each.knows(*(other for other in everybody if other is not each))
    for speaker in everybody:
        await heard(room, speaker, everybody, f"from {speaker.device_id}")

    # Two devices compare emoji.
    theirs = alice.device(bob.user_id, bob.device_id)
    assert theirs is not None
    done(await alice.nio.start_key_verification(theirs))
    await until(
        "both are verified", lambda: theirs.verified and bob.nio.device_store[alice.user_id][alice.device_id].verified
    )
    assert alice.emoji == bob.emoji
    assert len(alice.emoji[0]) == 7

    # One device is away, and the server is killed meanwhile.
    await tablet.stop()
    said: list[tuple[str, str]] = []
    for number in range(6):
        speaker = (alice, bob)[number % 2]
        alice.nio.invalidate_outbound_session(room)
        said.append((await speaker.say(room, f"number {number}"), f"number {number}"))
        if number == 2:
            await asyncio.to_thread(fresh_server.kill)
            await asyncio.to_thread(fresh_server.start)
    await tablet.start()
    for device in everybody:
        for event_id, body in said:
            await device.reads(event_id, body)
    await heard(room, tablet, everybody, "back again")

    # A device that was logged out gets no more keys.
    await tablet_session.request("POST", "/logout", {})
    await until("it is gone", lambda: (seen := alice.device(bob.user_id, tablet.device_id)) is None or seen.deleted)
    await heard(room, alice, [alice, bob], "the two of us")
    await tablet_session.close()
