"""Key backups over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .client import Client, Json

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
ROOM, OTHER_ROOM = "!room:tiny.test", "!AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMnOpQ"


def session(
    first: int = 0, forwarded: int = 0, verified: bool = False, name: str = "x", padding: int = 0
) -> dict[str, Json]:
    data = {"ephemeral": name, "ciphertext": "c" * padding, "mac": "é"}
    return {
        "first_message_index": first,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": data,
    }


async def new_version(user: Client, **auth_data: Json) -> str:
    body = {"algorithm": ALGORITHM, "auth_data": {"public_key": "abc", **auth_data}}
    version: str = (await user.request("POST", "/room_keys/version", body))["version"]
    return version


def path(room: str | None = None, session_id: str | None = None) -> str:
    parts = ["/room_keys/keys", *(quote(part, safe="") for part in (room, session_id) if part is not None)]
    return "/".join(parts)


async def put(user: Client, version: str, body: Json, *where: str, **expectation: Any) -> Json:
    return await user.request("PUT", path(*where), body, params={"version": version}, **expectation)


async def get(user: Client, version: str, *where: str, **expectation: Any) -> Json:
    return await user.request("GET", path(*where), params={"version": version}, **expectation)


async def delete(user: Client, version: str, *where: str, **expectation: Any) -> Json:
    return await user.request("DELETE", path(*where), params={"version": version}, **expectation)


async def test_versions(new_user: Any) -> None:
    user, other = await new_user("alice"), await new_user("bob")
    versions = "/room_keys/version"
    await user.request("GET", versions, expect=404, errcode="M_NOT_FOUND")
    first = await new_version(user)
    shown = await user.request("GET", versions)
    assert shown.pop("etag")
    assert shown == {"algorithm": ALGORITHM, "auth_data": {"public_key": "abc"}, "count": 0, "version": first}
    second = await new_version(user, more=["ü"])
    assert second != first
    assert (await user.request("GET", versions))["version"] == second
    assert (await user.request("GET", f"{versions}/{first}"))["version"] == first
    await other.request("GET", f"{versions}/{first}", expect=404, errcode="M_NOT_FOUND")
    changed = {"algorithm": ALGORITHM, "auth_data": {"public_key": "def"}, "version": second}
    await user.request("PUT", f"{versions}/{second}", changed)
    assert (await user.request("GET", versions))["auth_data"] == {"public_key": "def"}
    wrong = [{**changed, "algorithm": "other"}, {**changed, "version": first}]
    for body in wrong:
        await user.request("PUT", f"{versions}/{second}", body, expect=400, errcode="M_INVALID_PARAM")
    for unknown in ("0", "99", "x", "-1", "9" * 30, "²"):
        await user.request("GET", f"{versions}/{quote(unknown)}", expect=404, errcode="M_NOT_FOUND")
        await user.request("DELETE", f"{versions}/{quote(unknown)}", expect=404, errcode="M_NOT_FOUND")
    await user.request("DELETE", f"{versions}/{second}")
    await user.request("DELETE", f"{versions}/{second}")
    await user.request("GET", f"{versions}/{second}", expect=404, errcode="M_NOT_FOUND")
    assert (await user.request("GET", versions))["version"] == first
    await user.request("DELETE", f"{versions}/{first}")
    await user.request("GET", versions, expect=404, errcode="M_NOT_FOUND")
    assert await new_version(user) not in (first, second), "a version never comes back"


async def test_sessions_by_themselves_by_room_and_all(new_user: Any) -> None:
    user = await new_user("alice")
    version = await new_version(user)
    assert await get(user, version) == {"rooms": {}}
    assert await get(user, version, ROOM) == {"sessions": {}}
    first = await put(user, version, session(name="1"), ROOM, "s1")
    assert first["count"] == 1
    of_room = {"s2": session(name="2"), "s/3?": session(name="3")}
    second = await put(user, version, {"sessions": of_room}, ROOM)
    assert second["count"] == 3
    assert second["etag"] != first["etag"]
    rest = {"rooms": {OTHER_ROOM: {"sessions": {"s1": session(name="4")}}, ROOM: {"sessions": {"s5": session()}}}}
    assert (await put(user, version, rest))["count"] == 5
    everything = {"s1": session(name="1"), "s5": session(), **of_room}
    assert await get(user, version) == {
        "rooms": {ROOM: {"sessions": everything}, OTHER_ROOM: {"sessions": {"s1": session(name="4")}}}
    }
    assert await get(user, version, ROOM) == {"sessions": everything}
    assert await get(user, version, ROOM, "s/3?") == session(name="3")
    await get(user, version, ROOM, "none", expect=404, errcode="M_NOT_FOUND")
    before = await user.request("GET", "/room_keys/version")
    assert before["count"] == 5
    assert await delete(user, version, ROOM, "none") == {"count": 5, "etag": before["etag"]}
    removed = await delete(user, version, ROOM, "s1")
    assert removed["count"] == 4
    assert removed["etag"] != before["etag"]
    assert (await delete(user, version, ROOM))["count"] == 1
    assert await get(user, version) == {"rooms": {OTHER_ROOM: {"sessions": {"s1": session(name="4")}}}}
    assert (await delete(user, version))["count"] == 0
    assert await get(user, version) == {"rooms": {}}


@pytest.mark.parametrize("way", ["one", "room", "all"])
async def test_only_a_better_key_replaces_one(new_user: Any, way: str) -> None:
    user = await new_user("alice")
    version = await new_version(user)
    # From the worst to the best; none of those before can replace one of those behind.
    ranks = [
        session(5, 3, name="0"),
        session(5, 2, name="1"),
        session(4, 9, name="2"),
        session(7, 9, True, name="3"),
        session(7, 8, True, name="4"),
        session(0, 9, True, name="5"),
    ]

    async def store(value: Json) -> Json:
        if way == "one":
            return await put(user, version, value, ROOM, "s")
        if way == "room":
            return await put(user, version, {"sessions": {"s": value}}, ROOM)
        return await put(user, version, {"rooms": {ROOM: {"sessions": {"s": value}}}})

    for number, better in enumerate(ranks):
        stored = await store(better)
        assert await get(user, version, ROOM, "s") == better
        for worse in [*ranks[:number], {**better, "session_data": {"as": "good"}}]:
            assert await store(worse) == stored, "nothing changed, so the etag stays"
        assert await get(user, version, ROOM, "s") == better
    assert stored["count"] == 1


async def test_only_the_current_version_is_written(new_user: Any) -> None:
    user = await new_user("alice")
    for where, body in (
        ((ROOM, "s"), session()),
        ((ROOM,), {"sessions": {"s": session()}}),
        ((), {"rooms": {ROOM: {"sessions": {"s": session()}}}}),
    ):
        await put(user, "1", body, *where, expect=404, errcode="M_NOT_FOUND")
    first = await new_version(user)
    await put(user, first, session(), ROOM, "s")
    second = await new_version(user)
    for where, body in (
        ((ROOM, "s"), session()),
        ((ROOM,), {"sessions": {"s": session()}}),
        ((), {"rooms": {ROOM: {"sessions": {"s": session()}}}}),
    ):
        refused = await put(user, first, body, *where, expect=403, errcode="M_WRONG_ROOM_KEYS_VERSION")
        assert refused["current_version"] == second
    assert await get(user, first, ROOM, "s") == session(), "an old one can be read"
    for method in ("PUT", "GET", "DELETE"):
        await user.request(method, path(ROOM), {"sessions": {}}, expect=400, errcode="M_MISSING_PARAM")
    for where in ((), (ROOM,), (ROOM, "s")):
        await get(user, "99", *where, expect=404, errcode="M_NOT_FOUND")
        await delete(user, "99", *where, expect=404, errcode="M_NOT_FOUND")
    await user.request("DELETE", f"/room_keys/version/{first}")
    await get(user, first, expect=404, errcode="M_NOT_FOUND")


async def test_what_is_no_session_is_refused(new_user: Any) -> None:
    user = await new_user("alice")
    version = await new_version(user)
    for bad in (
        {**session(), "first_message_index": -1},
        {**session(), "first_message_index": 2**70},
        {**session(), "is_verified": 1},
        {**session(), "session_data": "x"},
        {**session(), "session_data": {"x": 2**70}},
        {"first_message_index": 1},
        [],
        None,
    ):
        await put(user, version, bad if bad is not None else {}, ROOM, "s", expect=400, errcode="M_BAD_JSON")
        await put(user, version, {"sessions": {"s": bad}}, ROOM, expect=400, errcode="M_BAD_JSON")
        everything = {"rooms": {ROOM: {"sessions": {"s": bad}}}}
        await put(user, version, everything, expect=400, errcode="M_BAD_JSON")
    await put(user, version, {"sessions": {"s": session()}}, "room", expect=400, errcode="M_INVALID_PARAM")
    await put(user, version, {"sessions": {"\ud800": session()}}, ROOM, expect=400, errcode="M_INVALID_PARAM")
    await put(user, version, {"sessions": {"s" * 300: session()}}, ROOM, expect=400, errcode="M_INVALID_PARAM")
    await put(user, version, {"sessions": {"s": session(padding=70_000)}}, ROOM, expect=413, errcode="M_TOO_LARGE")
    text = json.dumps({"sessions": {"s": session(name="\ud800")}}).encode()
    await user.request("PUT", path(ROOM), content=text, params={"version": version}, expect=400, errcode="M_BAD_JSON")
    assert await get(user, version) == {"rooms": {}}
    algorithm = {"algorithm": "x" * 300, "auth_data": {}}
    await user.request("POST", "/room_keys/version", algorithm, expect=400, errcode="M_INVALID_PARAM")


def peak_memory(pid: int) -> int:
    """The most memory that a process has ever had, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


async def test_many_sessions_stream_through(new_user: Any, fresh_server: Any) -> None:
    user = await new_user("alice")
    version = await new_version(user)
    await put(user, version, {"rooms": {}})
    sessions = {f"session-{number:05}": session(number, padding=500) for number in range(20_000)}
    body = json.dumps({"rooms": {ROOM: {"sessions": sessions}, OTHER_ROOM: {"sessions": {"s": session()}}}}).encode()
    assert len(body) > 12_000_000
    before = peak_memory(fresh_server.pid)
    stored = await user.request("PUT", path(), content=body, params={"version": version})
    assert stored["count"] == 20_001
    everything = await get(user, version)
    assert everything["rooms"].keys() == {ROOM, OTHER_ROOM}
    assert everything["rooms"][ROOM]["sessions"] == sessions
    assert await get(user, version, ROOM) == {"sessions": sessions}
    grown = peak_memory(fresh_server.pid) - before
    assert grown < 30_000, f"{grown} kB for an upload of {len(body)} bytes"
    await user.request("DELETE", f"/room_keys/version/{version}")
    again = await new_version(user)
    assert await get(user, again) == {"rooms": {}}
