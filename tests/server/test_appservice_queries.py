"""What application services are asked: for users and aliases, for signs of life, for networks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from ..federation.network import Seen
from .bridge import Bridge
from .client import Client
from .conftest import MakeServer, NewUser
from .harness import TinyServer, free_port

USERS, ROOMS, THIRD_PARTY = "/_matrix/app/v1/users/", "/_matrix/app/v1/rooms/", "/_matrix/app/v1/thirdparty"


def maker_of_users(bridge: Bridge, client: Client, *names: str) -> None:
    """Have a bridge make users when it is asked for them."""

    def answer(name: str) -> Callable[[Seen], Any]:
        async def make(seen: Seen) -> tuple[int, Any]:
            ghost = await bridge.ghost(client, name)
            profile = f"/profile/{quote(ghost['user_id'])}/displayname"
            await client.request("PUT", profile, {"displayname": name.title()}, params=ghost)
            return 200, {}

        return make

    for name in names:
        bridge.answers[f"{USERS}@{bridge.name}_{name}:tiny.test"] = answer(name)


async def test_users_on_demand(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    async with Bridge("ask") as bridge, await bridge.register(server) as client:
        maker_of_users(bridge, client, "invited", "shown", "sent", "first")
        shown = await alice.request("GET", "/profile/@ask_shown:tiny.test")
        assert shown == {"displayname": "Shown"}
        room = await alice.create_room()
        await alice.request("POST", f"{alice.room(room)}/invite", {"user_id": "@ask_invited:tiny.test"})
        path = f"{alice.room(room)}/state/m.room.member/@ask_sent:tiny.test"
        await alice.request("PUT", path, {"membership": "invite"})
        await alice.create_room(invite=["@ask_first:tiny.test"])
        for name in ("invited", "sent", "first"):
            params = {"user_id": f"@ask_{name}:tiny.test"}
            synced = await client.request("GET", "/sync", params={**params, "timeout": 0})
            assert len(synced["rooms"]["invite"]) == 1, name
        asked = len(bridge.seen)
        await alice.request("GET", "/profile/@ask_shown:tiny.test")
        missing = ["@ask_nobody:tiny.test", "@else_nobody:tiny.test"]
        for user_id in [*missing, *missing]:
            await alice.request("GET", f"/profile/{user_id}", expect=404, errcode="M_NOT_FOUND")
        queries = [seen for seen in bridge.seen[asked:] if "/users/" in seen.target]
        # On both paths, but not twice, nor for what is not its own.
        assert len(queries) == 2
        assert all("ask_nobody" in seen.target for seen in queries)


async def test_aliases_on_demand(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    async with Bridge("portal") as bridge, await bridge.register(server) as client:
        for name in ("joined", "resolved"):

            async def make(seen: Seen, name: str = name) -> tuple[int, Any]:
                body = {"room_alias_name": f"portal_{name}", "preset": "public_chat"}
                await client.request("POST", "/createRoom", body)
                return 200, {}

            bridge.answers[f"{ROOMS}#portal_{name}:tiny.test"] = make
        joined = await asyncio.gather(*(alice.join("#portal_joined:tiny.test") for _ in range(3)))
        assert len({answer["room_id"] for answer in joined}) == 1
        found = await alice.request("GET", f"/directory/room/{quote('#portal_resolved:tiny.test')}")
        assert found["servers"] == ["tiny.test"]
        await alice.join("#portal_none:tiny.test", expect=404, errcode="M_NOT_FOUND")
        await alice.join("#elsewhere:tiny.test", expect=404, errcode="M_NOT_FOUND")


async def test_pings(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    async with Bridge("ping") as bridge, await bridge.register(server) as client:
        path = "/_matrix/client/v1/appservice/ping/ping"

        async def pong(seen: Seen) -> tuple[int, Any]:
            assert seen.method == "POST"
            assert seen.body == b'{"transaction_id":"meow"}'
            return 200, {}

        bridge.answers["/_matrix/app/v1/ping"] = pong
        answer = await client.request("POST", path, {"transaction_id": "meow"})
        assert isinstance(answer["duration_ms"], int)
        await client.request("POST", path.replace("v1", "unstable/fi.mau.msc2659"), {"transaction_id": "meow"})
        bridge.answers["/_matrix/app/v1/ping"] = (403, {"errcode": "M_FORBIDDEN"})
        refused = await client.request("POST", path, {}, expect=502, errcode="M_BAD_STATUS")
        assert refused["status"] == 403
        assert "M_FORBIDDEN" in refused["body"]
        await alice.request("POST", path, {}, expect=403, errcode="M_FORBIDDEN")
        other = path.replace("ping/ping", "other/ping")
        await client.request("POST", other, {}, expect=403, errcode="M_FORBIDDEN")
        bridge.more = {"url": f"http://127.0.0.1:{free_port()}"}
        await bridge.register(server)
        await client.request("POST", path, {}, expect=502, errcode="M_CONNECTION_FAILED")
        bridge.more = {"url": None}
        await bridge.register(server)
        await client.request("POST", path, {}, expect=400, errcode="M_URL_NOT_SET")


def described(*networks: str, **more: Any) -> dict[str, Any]:
    instances = [{"desc": name.title(), "fields": {"network": name}, "network_id": name} for name in networks]
    return {
        "user_fields": ["network", "nickname"],
        "location_fields": ["network", "channel"],
        "icon": "mxc://tiny.test/irc",
        "field_types": {"network": {"regexp": ".*", "placeholder": "net"}},
        "instances": instances,
        **more,
    }


async def test_networks(server: TinyServer, new_user: NewUser) -> None:
    alice = await new_user("alice")
    async with (
        Bridge("irca", protocols=["irc", "gitter"]) as one,
        Bridge("ircb", protocols=["irc"]) as two,
        await one.register(server),
        await two.register(server),
    ):
        one.answers[f"{THIRD_PARTY}/protocol/irc"] = (200, described("libera"))
        two.answers[f"{THIRD_PARTY}/protocol/irc"] = (200, described("oftc"))
        one.answers[f"{THIRD_PARTY}/protocol/gitter"] = (200, ["nonsense"])
        found = await alice.request("GET", "/thirdparty/protocols")
        assert list(found) == ["irc"]
        instances = found["irc"]["instances"]
        assert [each["instance_id"] for each in instances] == ["irca|libera", "ircb|oftc"]
        asked = len(one.seen)
        assert await alice.request("GET", "/thirdparty/protocol/irc") == found["irc"]
        await alice.request("GET", "/thirdparty/protocol/gitter", expect=404, errcode="M_NOT_FOUND")
        await alice.request("GET", "/thirdparty/protocol/smoke", expect=404, errcode="M_NOT_FOUND")
        assert len(one.seen) == asked

        channel = {"alias": "#irca_x:tiny.test", "protocol": "irc", "fields": {"channel": "#x"}}

        async def locations(seen: Seen) -> tuple[int, Any]:
            assert dict(parse_qsl(urlsplit(seen.target).query)) == {"channel": "#x", "network": "a b"}
            return 200, [channel, "x", {"alias": 1}]

        one.answers[f"{THIRD_PARTY}/location/irc"] = locations
        two.answers[f"{THIRD_PARTY}/location/irc"] = (500, {})
        params = {"channel": "#x", "network": "a b", "access_token": alice.access_token}
        assert await alice.request("GET", "/thirdparty/location/irc", params=params) == [channel]
        person = {"userid": "@ircb_y:tiny.test", "protocol": "irc", "fields": {"nickname": "y"}}
        two.answers[f"{THIRD_PARTY}/user/irc"] = (200, [person])
        assert await alice.request("GET", "/thirdparty/user/irc", params={"nickname": "y"}) == [person]
        two.answers[f"{THIRD_PARTY}/user"] = (200, [person])
        assert await alice.request("GET", "/thirdparty/user", params={"userid": person["userid"]}) == [person]
        one.answers[f"{THIRD_PARTY}/location"] = (200, [channel])
        assert await alice.request("GET", "/thirdparty/location", params={"alias": channel["alias"]}) == [channel]
        await alice.request("GET", "/thirdparty/user/smoke", expect=404, errcode="M_NOT_FOUND")
        await alice.request("GET", "/thirdparty/location", expect=400, errcode="M_MISSING_PARAM")


async def test_lists_of_rooms(make_server: MakeServer, new_user: NewUser, tmp_path: Path) -> None:
    server = make_server()
    alice = await new_user("alice", server=server)
    bob = await new_user("bob", server=server)

    async def listed(**body: Any) -> list[str]:
        """All rooms of a list, page by page, forwards, and the same backwards."""
        pages, since = [], None
        while True:
            page = await alice.request("POST", "/publicRooms", {"limit": 2, "since": since, **body})
            pages.append([room["room_id"] for room in page["chunk"]])
            if "next_batch" not in page:
                break
            since = page["next_batch"]
        found = [room for page in pages for room in page]
        assert page["total_room_count_estimate"] == len(found)
        for expected in reversed(pages[:-1]):
            page = await alice.request("POST", "/publicRooms", {"limit": 2, "since": page["prev_batch"], **body})
            assert [room["room_id"] for room in page["chunk"]] == expected
        return found

    async with Bridge("lists", protocols=["irc"]) as bridge, await bridge.register(server) as client:
        public = [await alice.create_room(visibility="public") for _ in range(3)]
        channels = [await alice.create_room() for _ in range(4)]
        await alice.invite(channels[2], bob)
        await bob.join(channels[2])
        both = public[1]
        path = "/directory/list/appservice/libera/{}"
        for room in [*channels, both]:
            await client.request("PUT", path.format(room), {"visibility": "public"})
        await client.request("PUT", path.replace("libera", "oftc").format(channels[0]), {"visibility": "public"})
        ordered = [channels[2], both, channels[0], channels[1], channels[3]]
        assert await listed(third_party_instance_id="lists|libera") == ordered
        assert await listed(third_party_instance_id="lists|oftc") == [channels[0]]
        assert await listed(third_party_instance_id="lists|none") == []
        assert await listed(third_party_instance_id="libera") == []
        assert await listed() == public
        assert await listed(include_all_networks=True) == [channels[2], *public, channels[0], channels[1], channels[3]]
        await client.request("PUT", path.format(both), {"visibility": "private"})
        assert both not in await listed(third_party_instance_id="lists|libera")
        refused = path.format(channels[0])
        await alice.request("PUT", refused, {"visibility": "public"}, expect=403, errcode="M_FORBIDDEN")
        await client.request("PUT", refused, {"visibility": "secret"}, expect=400, errcode="M_BAD_JSON")
        await client.request("PUT", refused, {}, expect=400)
        nowhere = path.format("!nowhere:tiny.test")
        await client.request("PUT", nowhere, {"visibility": "public"}, expect=404, errcode="M_NOT_FOUND")
