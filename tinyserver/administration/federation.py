"""Commands about other servers."""

from __future__ import annotations

from tinyserver.administration.commands import Argument, Caller, Reply, command
from tinyserver.administration.rendering import moment
from tinyserver.federation.destinations import Destinations
from tinyserver.federation.overview import DestinationState, FederationOverview
from tinyserver.protocol.errors import NotFound

_MAX_SHOWN = 500


class FederationCommands:
    """Other servers: what they lack, which of them fail, and trying them again.

    Args:
        overview: looks at them.
        destinations: knows who fails.
    """

    def __init__(self, overview: FederationOverview, destinations: Destinations) -> None:
        self._overview = overview
        self._destinations = destinations

    @command("federation status", "show what each server lacks, and since when and why it fails")
    async def status(self, caller: Caller) -> Reply:
        """The servers that are owed something or fail, those that lack most first."""
        states = await self._overview.destinations()
        lines = [_described(state) for state in states[:_MAX_SHOWN]]
        if len(states) > _MAX_SHOWN:
            lines.append(f"... and {len(states) - _MAX_SHOWN} more")
        return Reply("\n".join(lines) or "All servers have everything, and none is known to fail.")

    @command("federation retry", "try a server that fails again at once", Argument("server", "its name"))
    async def retry(self, caller: Caller, server: str) -> Reply:
        """End the back-off of a server."""
        if not self._destinations.retry(server):
            raise NotFound(f"The server {server[:255]} is not known to fail.")
        return Reply(f"{server} is tried again")


def _described(state: DestinationState) -> str:
    lacks = [
        f"{count} {name}"
        for count, name in (
            (state.events, "events"),
            (state.messages, "messages"),
            (state.device_changes, "device changes"),
        )
        if count
    ]
    told = f"{state.server}  lacks {', '.join(lacks)}" if lacks else f"{state.server}  has everything"
    if state.oldest_ts is not None:
        told += f", the oldest of {moment(state.oldest_ts)}"
    if state.failing_since is not None:
        told += f"; fails since {moment(state.failing_since)} ({state.reason})"
        told += f", next try {moment(state.retry_at or 0)}"
    return told
