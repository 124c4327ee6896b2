"""Users and aliases of this server that come into being when somebody asks for them."""

from __future__ import annotations

from typing import Protocol


class OnDemand(Protocol):
    """Whoever makes them (implemented by application services)."""

    async def user(self, user_id: str) -> bool:
        """Whether there is such a local user, who may have been made just now.

        Raises:
            Unknown (408): who should know does not answer.
        """

    async def alias(self, alias: str) -> bool:
        """The same of an alias of this server."""


class NothingOnDemand:
    """Where nobody makes anything."""

    async def user(self, user_id: str) -> bool:
        """Nobody is made."""
        return False

    async def alias(self, alias: str) -> bool:
        """Nothing is made."""
        return False
