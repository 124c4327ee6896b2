"""A server that talks to no other: what the event pipeline gets in place of federation when it is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyserver.protocol.event_hashes import required_signers, verify_event_signature
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.signing import SignatureError, SigningKey
from tinyserver.rooms.asked_elsewhere import Ancestor
from tinyserver.storage.rooms import RoomRow


class Alone:
    """Knows one key, this server's own, and nobody to ask for anything.

    Args:
        server_name: this server.
        key: its signing key.
    """

    def __init__(self, server_name: str, key: SigningKey) -> None:
        self._server_name = server_name
        self._key = key

    async def check(self, pdu: Mapping[str, Any], version: RoomVersion) -> None:
        """Accept what this server signed itself.

        Raises:
            SignatureError: another server's signature is needed, or ours is wrong.
        """
        for server in required_signers(pdu, version):
            if server != self._server_name:
                raise SignatureError(f"federation is off: the key of {server} cannot be fetched")
            verify_event_signature(pdu, version, server, self._key.key_id, self._key.verify_key_base64)

    async def check_many(self, pdus: Sequence[Mapping[str, Any]], version: RoomVersion) -> list[SignatureError | None]:
        """What `check` raises for each of many events, or None."""
        outcomes: list[SignatureError | None] = []
        for pdu in pdus:
            try:
                await self.check(pdu, version)
                outcomes.append(None)
            except SignatureError as error:
                outcomes.append(error)
        return outcomes

    async def fetch(self, origin: str, room: RoomRow, event: Event, missing: Sequence[str]) -> Sequence[Ancestor]:
        """There is nobody to ask: what is missing stays missing."""
        return ()
