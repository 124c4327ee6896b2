"""Many events on their way into a room: kept on disk while they arrive, read back in the order of their auth edges."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from tinyserver.protocol import canonical_json
from tinyserver.protocol.events import Event
from tinyserver.protocol.room_versions import RoomVersion

IN_MEMORY = 2 * 1024 * 1024
"""Bytes up to which nothing is written to disk."""


class EventSpool:
    """Events by their IDs. About 300 bytes of memory for each; the rest is in a file without a name.

    Args:
        version: that of the room.
        directory: where the file is made.
    """

    def __init__(self, version: RoomVersion, directory: Path) -> None:
        self._version = version
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(directory))  # noqa: SIM115
        self._numbers: dict[str, int] = {}
        self._offsets = array("q")
        self._auth: list[tuple[int, ...] | None] = []

    def __len__(self) -> int:
        """How many events are held or named by others."""
        return len(self._numbers)

    def __contains__(self, event_id: str) -> bool:
        number = self._numbers.get(event_id)
        return number is not None and self._auth[number] is not None

    def add(self, event: Event) -> None:
        """Keep a checked event."""
        number = self._number(event.event_id)
        auth = [self._number(event_id) for event_id in event.auth_event_ids]
        create = "$" + event.room_id[1:]
        if self._version.room_id_is_create_hash and event.event_id != create:
            auth.append(self._number(create))  # implied by the room ID
        self._file.seek(0, 2)
        self._offsets[number] = self._file.tell()
        self._auth[number] = tuple(auth)
        self._file.write(canonical_json.encode_lenient(event.pdu) + b"\n")

    def in_order(self, wanted: Iterable[str] | None = None) -> Iterator[str]:
        """The IDs of all events, every one after its auth events.

        Args:
            wanted: only these and what authorises them.
        """
        ids = list(self._numbers)
        done = bytearray(len(ids))
        starts = range(len(ids))
        for first in starts if wanted is None else [self._numbers[each] for each in wanted if each in self._numbers]:
            todo = [first]
            while todo:
                number = todo[-1]
                auth = self._auth[number]
                if done[number] == 0 and auth is not None:
                    done[number] = 1  # its auth events come first
                    todo.extend(before for before in auth if done[before] == 0)
                    continue
                todo.pop()
                if done[number] != 2:
                    done[number] = 2
                    if auth is not None:
                        yield ids[number]

    def get(self, event_id: str) -> Event:
        """An event that is here."""
        self._file.seek(self._offsets[self._numbers[event_id]])
        return Event.from_trusted(canonical_json.loads(self._file.readline()), self._version, event_id)

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def _number(self, event_id: str) -> int:
        number = self._numbers.setdefault(event_id, len(self._numbers))
        if number == len(self._auth):
            self._auth.append(None)
            self._offsets.append(-1)
        return number
