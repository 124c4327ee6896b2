"""Time for a machine without a battery-backed clock.

A Raspberry Pi that boots without network believes in 1970 or in its last shutdown. Timestamps of new events must
nevertheless never be older than what is already stored, and must never go backwards while the server runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Milliseconds since 1970 that never go backwards.

    Args:
        floor_ms: the newest timestamp known from before the start: the clock starts after it, whatever the
            machine believes, and goes on at the pace of the monotonic clock until the machine's time overtakes it.
        wall: seconds since 1970 as the machine believes.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(
        self,
        floor_ms: int = 0,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._floor_ms = floor_ms
        self._floor_at = monotonic()

    def raise_floor(self, floor_ms: int) -> None:
        """Never again tell a time before this one."""
        now = self._monotonic()
        self._floor_ms = max(floor_ms, self._floor_ms + int((now - self._floor_at) * 1000))
        self._floor_at = now

    def now_ms(self) -> int:
        """The time, in milliseconds since 1970."""
        wall_ms = int(self._wall() * 1000)
        monotonic = self._monotonic()
        held_ms = self._floor_ms + int((monotonic - self._floor_at) * 1000)
        if wall_ms > held_ms:
            self._floor_ms, self._floor_at = wall_ms, monotonic
            return wall_ms
        return held_ms
