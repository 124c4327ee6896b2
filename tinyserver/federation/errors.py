"""What can go wrong between servers, beyond what `tinyserver.outgoing.errors` names."""

from __future__ import annotations

from tinyserver.outgoing.errors import Unreachable


class BackingOff(Unreachable):
    """The server failed lately and is left alone for a while: nothing was sent.

    Args:
        destination: its name.
        retry_at: when it is tried again, ms since 1970.
    """

    def __init__(self, destination: str, retry_at: int, reason: str) -> None:
        super().__init__(f"{destination} cannot be reached at the moment ({reason})")
        self.destination = destination
        self.retry_at = retry_at
