"""Profiles, account data, tags and filters."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client, joined

SERVER_CONFIG = {"registration": {"mode": "open"}}


def profile(user: Client, field: str = "") -> str:
    return f"/profile/{quote(user.user_id, safe='')}" + (f"/{quote(field, safe='')}" if field else "")


# Profiles


async def test_profile(server: Any, new_user: Any, connect: Any) -> None:
    user, anybody = await new_user("shown"), connect(server)
    assert await anybody.request("GET", profile(user)) == {}
    await anybody.request("GET", profile(user, "displayname"), expect=404, errcode="M_NOT_FOUND")
    fields = {
        "displayname": "Ada ✨",
        "avatar_url": "mxc://tiny.test/SEsfnsuifSDFSSEF",
        "m.tz": "Europe/London",
        "org.example.job_title": {"de": "Mathematikerin", "since": [1843, 0.5, None]},
        "org.example.nothing": None,
    }
    for field, value in fields.items():
        assert await user.request("PUT", profile(user, field), {field: value}) == {}
        assert await anybody.request("GET", profile(user, field)) == {field: value}
    assert await anybody.request("GET", profile(user)) == fields
    for field in fields:
        assert await user.request("DELETE", profile(user, field)) == {}
        assert await user.request("DELETE", profile(user, field)) == {}
        await anybody.request("GET", profile(user, field), expect=404, errcode="M_NOT_FOUND")
    assert await anybody.request("GET", profile(user)) == {}


async def test_empty_string_takes_a_field_away(new_user: Any) -> None:
    user = await new_user("plain")
    for field, value in (("displayname", "Name"), ("avatar_url", "mxc://tiny.test/abc")):
        await user.request("PUT", profile(user, field), {field: value})
        await user.request("PUT", profile(user, field), {field: ""})
        await user.request("GET", profile(user, field), expect=404, errcode="M_NOT_FOUND")


async def test_unknown_users(server: Any, connect: Any) -> None:
    anybody = connect(server)
    for user_id in ("@nobody:tiny.test", "@somebody:elsewhere.test"):
        for path in (f"/profile/{user_id}", f"/profile/{user_id}/displayname"):
            await anybody.request("GET", path, expect=404, errcode="M_NOT_FOUND")
    await anybody.request("GET", "/profile/nobody", expect=400, errcode="M_INVALID_PARAM")


@pytest.mark.parametrize(
    ("field", "body", "errcode"),
    [
        ("displayname", {}, "M_MISSING_PARAM"),
        ("displayname", {"avatar_url": "x"}, "M_MISSING_PARAM"),
        ("displayname", {"displayname": 5}, "M_BAD_JSON"),
        ("displayname", {"displayname": None}, "M_BAD_JSON"),
        ("displayname", {"displayname": "x" * 257}, "M_INVALID_PARAM"),
        ("displayname", ["x"], "M_BAD_JSON"),
        ("avatar_url", {"avatar_url": "https://example.org/a.png"}, "M_INVALID_PARAM"),
        ("avatar_url", {"avatar_url": "mxc://tiny.test/" + "x" * 2000}, "M_INVALID_PARAM"),
        ("m.tz", {"m.tz": 1}, "M_BAD_JSON"),
        ("m.tz", {"m.tz": ""}, "M_INVALID_PARAM"),
        ("Upper.case", {"Upper.case": 1}, "M_INVALID_PARAM"),
        ("nodots", {"nodots": 1}, "M_INVALID_PARAM"),
        ("1.x", {"1.x": 1}, "M_INVALID_PARAM"),
        ("org.example." + "x" * 244, {"org.example." + "x" * 244: 1}, "M_KEY_TOO_LARGE"),
        ("org.example.big", {"org.example.big": "x" * 65536}, "M_PROFILE_TOO_LARGE"),
    ],
)
async def test_bad_fields(new_user: Any, field: str, body: Any, errcode: str) -> None:
    user = await new_user("fields")
    await user.request("PUT", profile(user, field), body, expect=400, errcode=errcode)
    assert await user.request("GET", profile(user)) == {}


async def test_whole_profile_is_limited(new_user: Any) -> None:
    user = await new_user("huge")
    for number in range(6):
        field = f"org.example.f{number}"
        await user.request("PUT", profile(user, field), {field: "x" * 10_000})
    field = "org.example.last"
    await user.request("PUT", profile(user, field), {field: "x" * 6000}, expect=400, errcode="M_PROFILE_TOO_LARGE")
    await user.request("DELETE", profile(user, "org.example.f0"))
    await user.request("PUT", profile(user, field), {field: "x" * 6000})


async def test_profile_of_others(new_user: Any) -> None:
    user, other = await new_user("mine"), await new_user("yours")
    body = {"displayname": "Hacked"}
    await user.request("PUT", profile(other, "displayname"), body, expect=403, errcode="M_FORBIDDEN")
    await user.request("DELETE", profile(other, "displayname"), expect=403, errcode="M_FORBIDDEN")


async def test_profile_goes_into_the_rooms(new_user: Any) -> None:
    user, witness = await new_user("renamed"), await new_user("sees")
    room = await user.create_room(witness)
    await user.request("PUT", profile(user, "displayname"), {"displayname": "New Name"})
    await user.request("PUT", profile(user, "avatar_url"), {"avatar_url": "mxc://tiny.test/abc"})
    member = await witness.get_state(room, "m.room.member", user.user_id)
    assert member["membership"] == "join"
    assert member["displayname"] == "New Name"
    assert member["avatar_url"] == "mxc://tiny.test/abc"
    await user.request("DELETE", profile(user, "displayname"))
    assert "displayname" not in await witness.get_state(room, "m.room.member", user.user_id)


# Account data


def data(user: Client, kind: str, room: str | None = None) -> str:
    in_room = "" if room is None else f"/rooms/{quote(room, safe='')}"
    return f"/user/{quote(user.user_id, safe='')}{in_room}/account_data/{quote(kind, safe='')}"


async def test_account_data(new_user: Any) -> None:
    user = await new_user("keeper")
    for room in (None, "!room:tiny.test", "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"):
        await user.request("GET", data(user, "org.example/x", room), expect=404, errcode="M_NOT_FOUND")
        for content in ({"a": [1, {"b": None}]}, {"huge": 10**40, "tiny": 1e-9, "text": "ä\u2028"}, {}):
            assert await user.request("PUT", data(user, "org.example/x", room), content) == {}
            assert await user.request("GET", data(user, "org.example/x", room)) == content


async def test_account_data_reaches_other_devices(new_user: Any) -> None:
    user = await new_user("synced")
    room = await user.create_room()
    async with await user.another_device() as other:
        await other.sync_on()
        await user.request("PUT", data(user, "org.example.global"), {"n": 1})
        await user.request("PUT", data(user, "org.example.room", room), {"n": 2})
        event = {"type": "org.example.global", "content": {"n": 1}}
        await other.sync_until(lambda answer: event in answer.get("account_data", {}).get("events", []))
        other.since = None
        event = {"type": "org.example.room", "content": {"n": 2}}
        await other.sync_until(lambda answer: event in joined(answer, room).get("account_data", {}).get("events", []))


def deletion(user: Client, kind: str, room: str | None = None) -> str:
    return "/_matrix/client/unstable/org.matrix.msc3391" + data(user, kind, room)


async def test_deleted_account_data(new_user: Any, connect: Any, server: Any) -> None:
    user = await new_user("eraser")
    room = await user.create_room()
    for where in (None, room):
        await user.request("PUT", data(user, "org.example.gone", where), {"n": 1})
        await user.request("PUT", data(user, "org.example.kept", where), {"n": 2})
    device = await connect(server).login(user.user_id)
    await device.sync_on()
    for where in (None, room):
        for _ in range(2):
            assert await user.request("DELETE", deletion(user, "org.example.gone", where)) == {}
        await user.request("GET", data(user, "org.example.gone", where), expect=404, errcode="M_NOT_FOUND")
        await user.request("GET", data(user, "org.example.kept", where))
    answer = await device.sync_on()
    event = {"type": "org.example.gone", "content": {}}
    assert answer["account_data"]["events"] == [event]
    assert joined(answer, room)["account_data"]["events"] == [event]
    answer = await device.sync()
    for events in (answer["account_data"]["events"], joined(answer, room)["account_data"]["events"]):
        assert "org.example.gone" not in [each["type"] for each in events]
    await user.request("PUT", data(user, "org.example.gone"), {"n": 3})
    assert await user.request("GET", data(user, "org.example.gone")) == {"n": 3}
    await user.request("DELETE", deletion(user, "m.push_rules"), expect=405, errcode="M_BAD_JSON")
    await user.request("DELETE", deletion(await new_user(), "org.example"), expect=403, errcode="M_FORBIDDEN")


async def test_notification_settings_of_a_device_go_with_it(new_user: Any, connect: Any, server: Any) -> None:
    user = await new_user("silencer")
    device = await connect(server).login(user.user_id)
    kinds = [
        f"{prefix}.{device.device_id}"
        for prefix in ("org.matrix.msc3890.local_notification_settings", "m.local_notification_settings")
    ]
    other = f"m.local_notification_settings.{user.device_id}"
    for kind in (*kinds, other):
        await user.request("PUT", data(user, kind), {"is_silenced": True})
    await device.request("POST", "/logout", {})
    for kind in kinds:
        await user.request("GET", data(user, kind), expect=404, errcode="M_NOT_FOUND")
    assert await user.request("GET", data(user, other)) == {"is_silenced": True}


async def test_bad_account_data(new_user: Any) -> None:
    user, other = await new_user("bad"), await new_user("good")
    await user.request("PUT", data(other, "org.example"), {}, expect=403, errcode="M_FORBIDDEN")
    await user.request("GET", data(other, "org.example"), expect=403, errcode="M_FORBIDDEN")
    for kind in ("m.fully_read", "m.push_rules"):
        for room in (None, "!room:tiny.test"):
            await user.request("PUT", data(user, kind, room), {}, expect=405, errcode="M_BAD_JSON")
    path = data(user, "org.example")
    await user.request("PUT", path, [], expect=400, errcode="M_BAD_JSON")
    await user.request("PUT", path, content=b"{", expect=400, errcode="M_NOT_JSON")
    await user.request("PUT", path, content=b'{"a": "\\ud800"}', expect=400, errcode="M_NOT_JSON")
    await user.request("PUT", path, content=b"[" * 100_000, expect=400)
    await user.request("PUT", path, {"x": "y" * 600_000}, expect=413, errcode="M_TOO_LARGE")
    await user.request("PUT", data(user, "x" * 256), {}, expect=400, errcode="M_INVALID_PARAM")
    await user.request("PUT", data(user, "org.example", "room"), {}, expect=400, errcode="M_INVALID_PARAM")
    await user.request("GET", data(user, "org.example", "room"), expect=400, errcode="M_INVALID_PARAM")
    await user.request("GET", path, expect=404, errcode="M_NOT_FOUND")


# Tags


async def test_tags(new_user: Any) -> None:
    user, other = await new_user("tagger"), await new_user("nosy")
    room = await user.create_room()
    tags = f"/user/{quote(user.user_id, safe='')}/rooms/{quote(room, safe='')}/tags"
    assert await user.request("GET", tags) == {"tags": {}}
    await user.request("PUT", f"{tags}/m.favourite", {"order": 0.25, "org.example": [1]})
    await user.request("PUT", f"{tags}/{quote('u.Städte & Länder/1', safe='')}", {})
    await user.request("PUT", f"{tags}/u.gone", {"order": 1})
    await user.request("DELETE", f"{tags}/u.gone")
    await user.request("DELETE", f"{tags}/u.gone")
    wanted = {"m.favourite": {"order": 0.25, "org.example": [1]}, "u.Städte & Länder/1": {}}
    assert await user.request("GET", tags) == {"tags": wanted}
    assert await user.request("GET", data(user, "m.tag", room)) == {"tags": wanted}

    for order in ("0.5", -0.1, 1.1, True, [], 10**50):
        await user.request("PUT", f"{tags}/u.bad", {"order": order}, expect=400, errcode="M_BAD_JSON")
    await user.request("PUT", f"{tags}/{'x' * 256}", {}, expect=400, errcode="M_INVALID_PARAM")
    await other.request("GET", tags, expect=403, errcode="M_FORBIDDEN")
    await other.request("PUT", f"{tags}/u.x", {}, expect=403, errcode="M_FORBIDDEN")
    await other.request("DELETE", f"{tags}/m.favourite", expect=403, errcode="M_FORBIDDEN")
    # A client can also set m.tag to anything.
    await user.request("PUT", data(user, "m.tag", room), {"tags": 5})
    assert await user.request("GET", tags) == {"tags": {}}
    await user.request("PUT", f"{tags}/u.again", {})
    assert await user.request("GET", tags) == {"tags": {"u.again": {}}}


# Filters


async def test_filters(fresh_server: Any, new_user: Any) -> None:
    user = await new_user("filtering")
    path = f"/user/{user.user_id}/filter"
    definition = {"room": {"timeline": {"limit": 5, "not_types": ["m.*"]}}, "event_format": "client"}
    one = (await user.request("POST", path, definition))["filter_id"]
    assert not one.startswith("{")
    assert (await user.request("POST", path, definition))["filter_id"] == one
    two = (await user.request("POST", path, {}))["filter_id"]
    assert two != one
    fresh_server.kill()
    fresh_server.start()
    assert await user.request("GET", f"{path}/{one}") == definition
    assert await user.request("GET", f"{path}/{two}") == {}


async def test_bad_filters(new_user: Any) -> None:
    user, other = await new_user("filter"), await new_user("others")
    path = f"/user/{user.user_id}/filter"
    for bad in ({"room": {"timeline": {"limit": "many"}}}, {"room": []}, {"presence": {"types": "m.*"}}, []):
        await user.request("POST", path, bad, expect=400, errcode="M_BAD_JSON")
    large = {"room": {"rooms": ["!x" * 10] * 6000}}
    await user.request("POST", path, large, expect=413, errcode="M_TOO_LARGE")
    await other.request("POST", path, {}, expect=403, errcode="M_FORBIDDEN")
    known = (await user.request("POST", path, {}))["filter_id"]
    await other.request("GET", f"{path}/{known}", expect=403, errcode="M_FORBIDDEN")
    for unknown in ("9999", "x", "-1", "9" * 40, "١", json.dumps({})):
        await user.request("GET", f"{path}/{quote(unknown, safe='')}", expect=404, errcode="M_NOT_FOUND")
