"""Reporting what is inappropriate, and reading the reports."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .conftest import NewUser
from .harness import TinyServer

SERVER_CONFIG = {"rate_limits": {"enabled": False}}
REPORTS = "/_tinyserver/admin/v1/reports"


async def test_reports_reach_the_administrator(new_user: NewUser, fresh_server: TinyServer) -> None:
    root, alice, bob = await new_user("root", admin=True), await new_user("alice"), await new_user("bob")
    room = await alice.create_room()
    event = await alice.send(room, "rude")

    async def report(reporter: Any, path: str, body: Any, **expectation: Any) -> None:
        await reporter.request("POST", path, body, **expectation)

    of_event = f"{alice.room(room)}/report/{quote(event)}"
    await report(bob, of_event, {"reason": "not in the room"}, expect=404, errcode="M_NOT_FOUND")
    await alice.invite(room, bob)
    await bob.join(room)
    await report(bob, of_event, {"score": -100})
    await report(bob, of_event, {"reason": "it is rude"})  # takes the place of the first
    await report(bob, f"{alice.room(room)}/report", {"reason": ""})
    await report(bob, f"/users/{quote(alice.user_id)}/report", {"reason": "x" * 10_000})
    await report(bob, f"{alice.room(room)}/report/$none", {}, expect=404, errcode="M_NOT_FOUND")
    await report(bob, "/rooms/!none:x/report", {"reason": "x"}, expect=404, errcode="M_NOT_FOUND")
    await report(bob, "/users/@none:x/report", {"reason": "x"}, expect=404, errcode="M_NOT_FOUND")
    await report(bob, f"{alice.room(room)}/report", {}, expect=400, errcode="M_BAD_JSON")

    await bob.request("GET", REPORTS, expect=403, errcode="M_FORBIDDEN")
    found = (await root.request("GET", REPORTS))["reports"]
    assert [(row["subject"], row["room_id"]) for row in found] == [(alice.user_id, None), (room, room), (event, room)]
    assert {row["reporter"] for row in found} == {bob.user_id}
    assert [len(row["reason"]) for row in found] == [5_000, 0, len("it is rude")]
    page = await root.request("GET", REPORTS, params={"before": found[0]["nid"], "limit": 1})
    assert page["reports"] == found[1:2]
    await root.request("GET", REPORTS, params={"limit": 0}, expect=400, errcode="M_INVALID_PARAM")
