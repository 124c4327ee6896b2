"""Inviting somebody of whom only a mail address or telephone number is known.

spec: client-server-api#third-party-invites
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Invitee:
    """Whom to invite, and by way of which identity server (with the inviter's access token there)."""

    medium: str
    address: str
    id_server: str
    id_access_token: str


class ThirdPartyInviter(Protocol):
    """Invites by address (implemented by `identity`)."""

    def check(self, invitee: Invitee) -> None:
        """Whether somebody can be invited like this.

        Raises:
            ServerNotTrusted: users may not use this identity server.
            InvalidParam: no address.
        """
        ...

    async def invite(self, sender: str, room_id: str, invitee: Invitee, *, is_direct: bool = False) -> None:
        """Invite whoever has the address, at once or as soon as they prove it.

        Raises:
            Forbidden, InviteBlocked: the sender may not.
            MatrixError: the identity server refuses or cannot be reached.
        """
        ...
