"""The account itself: who am I, changing the password, closing the account."""

from __future__ import annotations

from typing import Any

from tinyserver.api.calls import Call, NoBody, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint


class AccountApi:
    """The account management chapter."""

    surface = Surface.CLIENT

    @endpoint(
        "GET",
        "/_matrix/client/v3/account/whoami",
        spec="client-server-api#current-account-information",
        auth=Auth.USER,
        guests=True,
    )
    async def whoami(self, call: Call[NoBody, NoQuery]) -> Answer:
        """Whose access token this is."""
        requester = call.requester
        answer: dict[str, Any] = {"user_id": requester.user_id, "is_guest": requester.is_guest}
        if requester.device_id is not None:
            answer["device_id"] = requester.device_id
        return answer
