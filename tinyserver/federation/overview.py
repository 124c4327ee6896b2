"""What an administrator sees of other servers: what each is owed, and which of them fail."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyserver.federation.destinations import Destinations
from tinyserver.storage import outgoing
from tinyserver.storage.database import Database
from tinyserver.storage.destinations import FailingRow


@dataclass(frozen=True, slots=True)
class DestinationState:
    """A server that is owed something or fails: how many `events` (the oldest made at `oldest_ts`, ms since 1970),
    `messages` to devices and `device_changes` it lacks; since when it fails, when it is tried again, and why."""

    server: str
    events: int = 0
    oldest_ts: int | None = None
    messages: int = 0
    device_changes: int = 0
    failing_since: int | None = None
    retry_at: int | None = None
    reason: str | None = None


class FederationOverview:
    """Looks at all servers that are owed something or fail.

    Args:
        db: what is owed.
        destinations: who fails.
    """

    def __init__(self, db: Database, destinations: Destinations) -> None:
        self._db = db
        self._destinations = destinations

    async def destinations(self) -> list[DestinationState]:
        """The servers: those that lack most first."""
        owed = {each.server: each for each in await self._db.read(outgoing.overview)}
        failing = {row.server: row for row in self._destinations.failing()}
        states = [_state(server, owed.get(server), failing.get(server)) for server in owed.keys() | failing.keys()]
        return sorted(states, key=lambda each: (-each.events - each.messages - each.device_changes, each.server))


def _state(server: str, owed: outgoing.Owed | None, failing: FailingRow | None) -> DestinationState:
    state = DestinationState(server)
    if owed is not None:
        state = replace(
            state,
            events=owed.events,
            oldest_ts=owed.oldest_ts,
            messages=owed.messages,
            device_changes=owed.device_changes,
        )
    if failing is not None:
        state = replace(state, failing_since=failing.failing_since, retry_at=failing.retry_at, reason=failing.reason)
    return state
