"""Which member events a device has been given, so that lazy loading need not repeat them.

A device has got an answer only when it comes back with that answer's token; what is asked again with an older token
is given again.

spec: client-server-api#lazy-loading-room-members
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Set

from tinyserver.rooms.tokens import Point

MAX_MEMBERS = 50_000
"""How many members are remembered, over all devices and rooms."""


class DeviceMembers:
    """The members that one device knows, by room."""

    __slots__ = ("confirmed", "confirmed_at", "count", "fresh", "pending", "pending_at")

    def __init__(self) -> None:
        self.confirmed: dict[int, set[int]] = {}
        self.confirmed_at: Point | None = None
        self.pending: Mapping[int, Collection[int]] = {}
        self.pending_at: Point | None = None
        self.fresh: Collection[int] = ()
        self.count = 0

    def known(self, room: int) -> Set[int]:
        """The users of a room whose member events the device certainly has."""
        return self.confirmed.get(room, _NOBODY)

    def _confirm(self) -> None:
        for room in self.fresh:
            self.confirmed.pop(room, None)
        for room, users in self.pending.items():
            self.confirmed.setdefault(room, set()).update(users)
        self.confirmed_at, self.pending_at = self.pending_at, None
        self.pending, self.fresh = {}, ()
        self.count = sum(map(len, self.confirmed.values()))


_NOBODY: Set[int] = frozenset()
NOTHING_KNOWN = DeviceMembers()


class SentMembers:
    """The members that devices know; the devices that have not asked for longest are forgotten first."""

    def __init__(self, limit: int = MAX_MEMBERS) -> None:
        self._limit = limit
        self._count = 0
        self._devices: dict[Hashable, DeviceMembers] = {}

    def asked(self, device: Hashable, since: Point | None) -> DeviceMembers:
        """A device asks for what is new since a token: what it knows."""
        memory = self._devices.pop(device, None) or DeviceMembers()
        self._count -= memory.count
        if since is not None and since == memory.pending_at:
            memory._confirm()
        elif since is None or since != memory.confirmed_at:
            memory = DeviceMembers()
        self._devices[device] = memory
        self._count += memory.count
        while self._count > self._limit and len(self._devices) > 1:
            self._count -= self._devices.pop(next(iter(self._devices))).count
        return memory

    def answered(
        self,
        device: Hashable,
        since: Point | None,
        token: Point,
        shown: Mapping[int, Collection[int]],
        fresh: Collection[int],
    ) -> None:
        """A device was answered.

        Args:
            since: the token that it had asked with.
            token: the one in the answer.
            shown: the users in the answer by room.
            fresh: the rooms that the client begins anew with this answer.
        """
        memory = self._devices.get(device)
        if memory is None:
            return
        if token == since:  # whether the device has got this answer will never be known
            return
        memory.confirmed_at = since
        memory.pending_at = token
        memory.pending = shown
        memory.fresh = fresh
