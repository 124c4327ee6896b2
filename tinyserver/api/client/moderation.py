"""Suspending and locking accounts.

spec: client-server-api#server-administration
"""

from __future__ import annotations

import msgspec

from tinyserver.accounts.administration import AccountAdministration
from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint

_SUSPEND = "/_matrix/client/v1/admin/suspend/{userId}"
_LOCK = "/_matrix/client/v1/admin/lock/{userId}"
_SPEC = "client-server-api#server-administration"


class SuspendBody(msgspec.Struct):
    """Whether the account is to be suspended."""

    suspended: bool


class LockBody(msgspec.Struct):
    """Whether the account is to be locked."""

    locked: bool


class ModerationApi:
    """What administrators do with accounts by their clients. That they are administrators is known before anything is
    looked up."""

    surface = Surface.CLIENT

    def __init__(self, administration: AccountAdministration) -> None:
        self._administration = administration

    @endpoint("GET", _SUSPEND, spec=_SPEC, auth=Auth.ADMIN)
    async def is_suspended(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whether an account is suspended."""
        return {"suspended": self._administration.state(call.path["userId"], call.requester).is_suspended}

    @endpoint("PUT", _SUSPEND, spec=_SPEC, auth=Auth.ADMIN, body=SuspendBody)
    async def suspend(self, call: Call[SuspendBody, NoQuery]) -> Answer:
        """Suspend an account, or lift that."""
        await self._administration.set_suspended(call.path["userId"], call.body.suspended, call.requester)
        return {"suspended": call.body.suspended}

    @endpoint("GET", _LOCK, spec=_SPEC, auth=Auth.ADMIN)
    async def is_locked(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whether an account is locked."""
        return {"locked": self._administration.state(call.path["userId"], call.requester).is_locked}

    @endpoint("PUT", _LOCK, spec=_SPEC, auth=Auth.ADMIN, body=LockBody)
    async def lock(self, call: Call[LockBody, NoQuery]) -> Answer:
        """Lock an account, or unlock it."""
        await self._administration.set_locked(call.path["userId"], call.body.locked, call.requester)
        return {"locked": call.body.locked}
