"""What this server and this user can do, as clients ask for it.

spec: client-server-api#capabilities-negotiation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyserver.accounts.requester import Requester
from tinyserver.protocol.room_versions import ROOM_VERSIONS

CapabilityProvider = Callable[[Requester], dict[str, Any]]
"""Gives some capabilities (name to object) of a requester."""


def room_versions(default: str) -> CapabilityProvider:
    """`m.room_versions`: every version that this server knows is stable.

    Args:
        default: the version of new rooms.
    """
    capability = {"m.room_versions": {"default": default, "available": dict.fromkeys(ROOM_VERSIONS, "stable")}}
    return lambda requester: capability


def account_capabilities(requester: Requester) -> dict[str, Any]:
    """What the user can do with the account. Guests have no password and only a display name."""
    is_user = not requester.is_guest
    profile: dict[str, Any] = {"enabled": True}
    if requester.is_guest:
        profile["allowed"] = ["displayname"]
    return {
        "m.change_password": {"enabled": is_user},
        "m.get_login_token": {"enabled": is_user},
        "m.profile_fields": profile,
        "uk.tcpip.msc4133.profile_fields": profile,
        "m.set_displayname": {"enabled": True},
        "m.set_avatar_url": {"enabled": is_user},
    }


def moderation_capability(requester: Requester) -> dict[str, Any]:
    """What administrators can do with other accounts; others are not told of it."""
    return {"m.account_moderation": {"suspend": True, "lock": True}} if requester.is_admin else {}


class Capabilities:
    """Puts together what the parts of the server can do."""

    def __init__(self, providers: Sequence[CapabilityProvider]) -> None:
        self._providers = providers

    def of(self, requester: Requester) -> dict[str, Any]:
        """All capabilities, by name."""
        capabilities: dict[str, Any] = {}
        for provider in self._providers:
            capabilities |= provider(requester)
        return capabilities
