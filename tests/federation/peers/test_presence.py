"""Presence between tinyserver and Synapse."""

from __future__ import annotations

from .conftest import NewUser, Pair
from .eventually import presence_status
from .test_rooms import joined_room


async def test_who_is_there(pair: Pair, new_user: NewUser) -> None:
    _, alice, bob = await joined_room(pair, new_user)
    for reader, other in ((alice, bob), (bob, alice)):
        status = f"I am {other.localpart}"
        body = {"presence": "online", "status_msg": status}
        await other.request("PUT", f"/presence/{other.user_id}/status", body)
        await reader.sync_until(presence_status(status), seconds=30)
        shown = await reader.request("GET", f"/presence/{other.user_id}/status")
        assert (shown["presence"], shown["status_msg"]) == ("online", status)
