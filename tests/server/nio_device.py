"""A device with matrix-nio and its encryption, which syncs by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nio import (
    AsyncClient,
    AsyncClientConfig,
    EnableEncryptionBuilder,
    KeyVerificationEvent,
    KeyVerificationKey,
    KeyVerificationMac,
    KeyVerificationStart,
    MegolmEvent,
    RoomMessageText,
    ToDeviceError,
)
from nio.crypto import OlmDevice

from .client import Client

PATIENCE = 30.0


def done(answer: Any) -> Any:
    """The answer, which is none of nio's error classes."""
    assert not type(answer).__name__.endswith(("Error", "ErrorResponse")), answer
    return answer


async def until(what: str, condition: Callable[[], Any]) -> Any:
    """Wait until a condition gives something, and return that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in {PATIENCE} s: {what}"
        await asyncio.sleep(0.01)
    return found


class NioDevice:
    """One device of a user; `start` and `stop` keep its keys in a directory."""

    def __init__(self, session: Client, directory: Path) -> None:
        self.user_id = session.user_id
        self.device_id = session.device_id
        self._session = session
        self._directory = directory
        self.read: dict[str, str] = {}
        self.unreadable: list[str] = []
        self.emoji: list[Any] = []

    async def start(self) -> NioDevice:
        """Load or make the keys, upload what the server lacks, and sync on."""
        config = AsyncClientConfig(request_timeout=60, store_sync_tokens=True)
        self.nio = AsyncClient(
            self._session.base_url, self.user_id, self.device_id, store_path=str(self._directory), config=config
        )
        self.nio.restore_login(self.user_id, self.device_id, str(self._session.access_token))
        self.nio.add_event_callback(self._message, (RoomMessageText, MegolmEvent))
        self.nio.add_to_device_callback(self._verification, KeyVerificationEvent)
        self._syncing = asyncio.create_task(self.nio.sync_forever(timeout=1000, full_state=True))
        await until("the keys are uploaded", lambda: self.nio.olm.account.shared)
        return self

    async def stop(self) -> None:
        """Stop syncing; what was not acknowledged comes again after the next start."""
        self._syncing.cancel()
        await asyncio.gather(self._syncing, return_exceptions=True)
        await self.nio.close()

    def _message(self, _room: Any, event: Any) -> None:
        if isinstance(event, MegolmEvent):
            self.unreadable.append(event.event_id)
        else:
            assert event.decrypted
            assert self.read.setdefault(event.event_id, event.body) == event.body

    async def _verification(self, event: Any) -> None:
        """Take part in a comparison of emoji, and find them equal."""
        if isinstance(event, KeyVerificationStart):
            done(await self.nio.accept_key_verification(event.transaction_id))
        elif isinstance(event, KeyVerificationKey):
            sas = self.nio.key_verifications[event.transaction_id]
            await self.nio.send_to_device_messages()  # so that our key is there before what it authenticates
            self.emoji.append(sas.get_emoji())
            done(await self.nio.confirm_short_auth_string(event.transaction_id))
        elif isinstance(event, KeyVerificationMac):
            sas = self.nio.key_verifications[event.transaction_id]
            message = sas.get_mac()
            assert not isinstance(await self.nio.to_device(message), ToDeviceError)

    async def new_room(self, *others: NioDevice | Client) -> str:
        """A new encrypted room, with an invitation for others."""
        made = await self.nio.room_create(
            initial_state=[EnableEncryptionBuilder().as_dict()], invite=[each.user_id for each in others]
        )
        room: str = done(made).room_id
        await self.is_in(room, self.user_id)
        return room

    async def join(self, room: str) -> None:
        """Follow an invitation."""
        await until("the invitation", lambda: room in self.nio.invited_rooms)
        done(await self.nio.join(room))

    async def is_in(self, room: str, *user_ids: str) -> None:
        """Wait until this device sees that the room is encrypted and that the users are in it."""

        def condition() -> bool:
            seen = self.nio.rooms.get(room)
            return seen is not None and seen.encrypted and set(user_ids) <= set(seen.users)

        await until(f"{user_ids} in {room}", condition)

    def device(self, user_id: str, device_id: str) -> OlmDevice | None:
        """Another device, if this one has its keys."""
        devices = self.nio.device_store[user_id]
        return devices.get(device_id)

    async def knows(self, *others: NioDevice | Client) -> None:
        """Wait until this device has the keys of others."""
        for each in others:
            await until(f"keys of {each.user_id}", lambda each=each: self.device(each.user_id, each.device_id))  # type: ignore[misc]

    async def say(self, room: str, body: str) -> str:
        """Send a message; its event ID."""
        content = {"msgtype": "m.text", "body": body}
        sent = await self.nio.room_send(room, "m.room.message", content, ignore_unverified_devices=True)
        return str(done(sent).event_id)

    async def reads(self, event_id: str, body: str) -> None:
        """Wait until a message is decrypted, and it must say that."""
        await until(f"{body} or a failure", lambda: event_id in self.read or event_id in self.unreadable)
        assert event_id not in self.unreadable
        assert self.read[event_id] == body
