"""Commands about registration tokens, with which people register."""

from __future__ import annotations

from collections.abc import Callable

from tinyserver.accounts.registration_tokens import RegistrationTokens
from tinyserver.administration.commands import Argument, Caller, Kind, Reply, command, flag, option
from tinyserver.administration.rendering import moment
from tinyserver.clock import Clock
from tinyserver.protocol.errors import InvalidParam, NotFound
from tinyserver.storage.registration_tokens import RegistrationTokenRow

_DAY_MS = 24 * 3600 * 1000
_MAX_DAYS = 100_000

InvitationLink = Callable[[str], str | None]
"""Makes the link to the page where an account is made with a token; None where this server has no URL."""


class TokenCommands:
    """Registration tokens: making, showing and taking them back.

    Args:
        tokens: keeps them.
        clock: for the time when they end.
        link: makes links of them.
    """

    def __init__(self, tokens: RegistrationTokens, clock: Clock, link: InvitationLink) -> None:
        self._tokens = tokens
        self._clock = clock
        self._link = link

    @command(
        "token create",
        "make a token",
        option("token", "the token itself; otherwise a random one"),
        option("uses", "for how many accounts it is good (1); 0: any number", Kind.NUMBER),
        option("days", "for how many days it is good; otherwise for ever", Kind.NUMBER),
        flag("link", "show an invitation link: a page for making the account"),
    )
    async def create(
        self,
        caller: Caller,
        token: str | None = None,
        uses: float = 1,
        days: float | None = None,
        link: bool = False,
    ) -> Reply:
        """Make a token; the answer is the token, or its link."""
        if uses != int(uses):
            raise InvalidParam("The number of uses must be a whole number.")
        if days is not None and not 0 < days < _MAX_DAYS:
            raise InvalidParam(f"The number of days must be greater than zero and less than {_MAX_DAYS}.")
        if link and self._link("") is None:
            raise InvalidParam('A link needs "public_url" in the configuration: where people reach this server.')
        expires = None if days is None else self._clock.now_ms() + int(days * _DAY_MS)
        made = await self._tokens.create(token, uses_allowed=int(uses) or None, expires=expires)
        return Reply((self._link(made) if link else None) or made)

    @command("token list", "show all tokens")
    async def list_tokens(self, caller: Caller) -> Reply:
        """All tokens; administrators make them, so they are few."""
        return Reply("\n".join(_described(row) for row in await self._tokens.all()) or "There are none.")

    @command("token remove", "take a token back", Argument("token", "the token"))
    async def remove(self, caller: Caller, token: str) -> Reply:
        """Take a token back."""
        if not await self._tokens.remove(token):
            raise NotFound("There is no such registration token.")
        return Reply(f"Removed {token}")


def _described(token: RegistrationTokenRow) -> str:
    allowed = "any number of" if token.uses_allowed is None else token.uses_allowed
    told = f"{token.token}  used {token.uses} of {allowed} times"
    if token.expires is not None:
        told += f", until {moment(token.expires)}"
    return told + (", makes the first administrator" if token.makes_admin else "")
