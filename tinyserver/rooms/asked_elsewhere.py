"""What the path of an event asks of other servers: keys, and events that are not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion
from tinyserver.protocol.signing import SignatureError
from tinyserver.storage.rooms import RoomRow


class Signatures(Protocol):
    """Checks the signatures of other servers (implemented by the federation's key ring)."""

    async def check(self, pdu: Mapping[str, Any], version: RoomVersion) -> None:
        """Raise `SignatureError` unless every server whose signature the PDU needs has signed it."""

    async def check_many(self, pdus: Sequence[Mapping[str, Any]], version: RoomVersion) -> list[SignatureError | None]:
        """What `check` would raise for each of many PDUs, or None."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A checked event to be admitted. `state` are the nids of the state before it as another server told it, where not
    all of its parents can be had; None: they are here by the time that it is its turn. In a room whose members are not
    all known nobody is asked for it: `assumed` says that the state is taken for that with which we came in."""

    event: Event
    state: Sequence[int] | None = None
    assumed: bool = False


class MissingEvents(Protocol):
    """Gets events that a stored room lacks from other servers (implemented by federation)."""

    async def fetch(self, origin: str, room: RoomRow, event: Event, missing: Sequence[str]) -> Sequence[Ancestor]:
        """Get the named ancestors or auth events of `event`, as far as they can be had.

        Auth events are stored as outliers. The other ancestors come back in the order in which they are to be admitted,
        at the end the event itself if its parents cannot all be had.
        """
