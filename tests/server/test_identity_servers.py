"""Identity servers: bindings, and invites to mail addresses, on one server and between two."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tinyserver.protocol.request_auth import authorization
from tinyserver.protocol.signing import parse_signing_key_file

from ..federation.network import Authority, Reply, Zone, dns_server
from ..identity_server import IdentityServer
from .client import Client
from .harness import TinyServer, free_port
from .test_threepids import password_stage

_numbers = itertools.count(1)


class Town:
    """Two homeservers that can reach each other, and an identity server."""

    def __init__(self, servers: list[TinyServer], federation: list[str], identity: IdentityServer) -> None:
        self.servers = servers
        self.federation = federation
        """Where other servers reach each homeserver."""
        self.identity = identity

    async def prove(self, address: str, user: Client, expect: int = 200) -> httpx.Response:
        number = next(i for i, server in enumerate(self.servers) if user.user_id.endswith(f":{server.server_name}"))
        answer = await self.identity.prove(address, user.user_id, self.federation[number])
        assert answer.status_code == expect, answer.text
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    directory = tmp_path_factory.mktemp("town")
    authority = Authority(directory)
    ports = [free_port(), free_port()]
    zone = Zone()
    for number, port in enumerate(ports):
        zone.add_address(f"h{number}.test", "127.0.0.1")
        zone.add_srv(f"_matrix-fed._tcp.h{number}.test", f"h{number}.test", port)
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(dns_server(zone))
        identity = await stack.enter_async_context(IdentityServer(authority))
        servers = [homeserver(directory, authority, number, port, dns, identity) for number, port in enumerate(ports)]
        try:
            for server in servers:
                await asyncio.to_thread(server.start)
                identity.server_keys[server.server_name] = await key_of(server)
            yield Town(servers, [f"https://127.0.0.1:{port}" for port in ports], identity)
            for server in servers:
                await asyncio.to_thread(server.stop)
                server.log.check()
        finally:
            for server in servers:
                server.kill()
                print(server.log.text())


def homeserver(
    directory: Path, authority: Authority, number: int, port: int, dns: str, identity: IdentityServer
) -> TinyServer:
    name = f"h{number}.test"
    certificate, key = authority.issue(name)
    place = directory / name
    place.mkdir()
    config = {
        "outgoing": {"extra_ca_files": [str(authority.ca_file)], "allow_private_addresses": True, "dns_servers": [dns]},
        "identity": {"servers": [identity.name], "base_url": f"https://{identity.name}"},
    }
    server = TinyServer(place, server_name=name, config=config)
    server.init_with_federation(port, certificate, key)
    return server


async def key_of(server: TinyServer) -> str:
    done = await asyncio.to_thread(server.command, "key", "show", "--config", str(server.config_file))
    found: str = done.stdout.split()[-1] if done.returncode == 0 else ""
    return found


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def people(town: Town) -> AsyncIterator[list[Client]]:
    """Alice and Bob on the first server, Carol on the second; the identity server as it was."""
    identity = town.identity
    identity.bound.clear(), identity.invites.clear(), identity.sessions.clear(), identity.revoked.clear()
    identity.seen.clear()
    identity.broken, identity.algorithms, identity.supports_unbind = None, ["sha256"], True
    number = next(_numbers)
    made = []
    for name, server in (("alice", 0), ("bob", 0), ("carol", 1)):
        made.append(await Client(town.servers[server].base_url).register(f"{name}-{number}"))
    yield made
    for client in made:
        await client.close()


def by_address(town: Town, address: str, **changes: Any) -> dict[str, Any]:
    return {
        "medium": "email",
        "address": address,
        "id_server": town.identity.name,
        "id_access_token": town.identity.token,
        **changes,
    }


async def invited(user: Client, room: str) -> dict[str, Any]:
    """The invite to a room, once it is there."""

    def found(answer: Any) -> Any:
        return answer.get("rooms", {}).get("invite", {}).get(room)

    events = (await user.sync_until(found))["invite_state"]["events"]
    return next(each for each in events if each["type"] == "m.room.member" and each["state_key"] == user.user_id)


async def pending(user: Client, room: str) -> list[dict[str, Any]]:
    state = await user.request("GET", f"{user.room(room)}/state")
    return [each for each in state if each["type"] == "m.room.third_party_invite"]


async def test_clients_are_told_of_it(town: Town) -> None:
    async with Client(town.servers[0].base_url) as client:
        told = await client.request("GET", "/.well-known/matrix/client")
        assert told["m.identity_server"] == {"base_url": f"https://{town.identity.name}"}


async def test_bindings(town: Town, people: list[Client]) -> None:
    alice, bob, carol = people
    identity = town.identity
    identity.sessions["sid"] = ("secret", "email", "alice@example.org")
    proof = {
        "sid": "sid", "client_secret": "secret", "id_server": identity.name, "id_access_token": identity.token
    }  # fmt: skip
    bind = "/account/3pid/bind"
    for wrong, status, errcode in (
        ({"id_server": "id.example.org"}, 400, "M_SERVER_NOT_TRUSTED"),
        ({"id_access_token": "wrong"}, 403, "M_THREEPID_AUTH_FAILED"),
        ({"id_access_token": "a\r\nX: y"}, 400, "M_INVALID_PARAM"),
        ({"client_secret": "wrong"}, 404, "M_NO_VALID_SESSION"),
        ({"sid": "a b"}, 400, "M_INVALID_PARAM"),
        ({"sid": 3}, 400, "M_BAD_JSON"),
    ):
        await alice.request("POST", bind, {**proof, **wrong}, expect=status, errcode=errcode)
    assert await alice.request("POST", bind, proof) == {}
    assert identity.bound == {("email", "alice@example.org"): alice.user_id}
    # Bound is not added.
    assert (await alice.request("GET", "/account/3pid"))["threepids"] == []
    address = {"medium": "email", "address": "Alice@Example.org"}
    unbind = "/account/3pid/unbind"
    # Nobody knows where Bob's is.
    assert await bob.request("POST", unbind, address) == {"id_server_unbind_result": "no-support"}
    assert await alice.request("POST", unbind, address) == {"id_server_unbind_result": "success"}
    assert identity.bound == {}
    assert await alice.request("POST", unbind, address) == {"id_server_unbind_result": "no-support"}
    # By the path of older clients; and an identity server that cannot unbind.
    await alice.request("POST", "/account/3pid", {"three_pid_creds": proof})
    identity.supports_unbind = False
    for path in (unbind, "/account/3pid/delete"):
        answer = await alice.request("POST", path, {**address, "id_server": identity.name})
        assert answer == {"id_server_unbind_result": "no-support"}
    identity.supports_unbind = True
    assert (await alice.request("POST", "/account/3pid/delete", address))["id_server_unbind_result"] == "success"
    # Closing the account takes it back, too, where the client says or where it was bound.
    for user, server, result in (
        (alice, None, "success"), (bob, identity.name, "success"), (carol, "id.example.org", "no-support"),
    ):  # fmt: skip
        identity.bound.clear()
        await user.request("POST", bind, proof)
        body = {"auth": password_stage(user), **({} if server is None else {"id_server": server})}
        gone = await user.request("POST", "/account/deactivate", body)
        assert gone == {"id_server_unbind_result": result}
        assert (identity.bound == {}) is (result == "success")


async def test_inviting_somebody_whom_the_identity_server_knows(town: Town, people: list[Client]) -> None:
    alice, bob, carol = people
    town.identity.bound["email", "bob@example.org"] = bob.user_id
    town.identity.bound["email", "carol@example.org"] = carol.user_id
    room = await alice.create_room()
    for address, user in (("Bob@Example.org", bob), ("carol@example.org", carol)):
        await alice.request("POST", f"{alice.room(room)}/invite", by_address(town, address))
        assert (await invited(user, room))["content"]["membership"] == "invite"
    assert await pending(alice, room) == []
    # The address itself is not told.
    assert all(b"example.org" not in seen.body for seen in town.identity.seen)


@pytest.mark.parametrize("version", ["3", "10", "12"])
async def test_an_invite_waits_until_the_address_is_proved(town: Town, people: list[Client], version: str) -> None:
    alice, bob, _ = people
    room = await alice.create_room(name="Tea", room_version=version)
    await alice.request("POST", f"{alice.room(room)}/invite", by_address(town, "Bob@Example.org"))
    (waiting,) = await pending(alice, room)
    stored = town.identity.invites[waiting["state_key"]]
    assert stored["address"] == "bob@example.org"
    assert (stored["room_id"], stored["sender"], stored["room_name"]) == (room, alice.user_id, "Tea")
    assert waiting["content"]["public_key"] == town.identity.keys[0]
    assert len(waiting["content"]["public_keys"]) == 2
    assert "example.org" not in waiting["content"]["display_name"]
    await town.prove("bob@example.org", bob)
    event = await invited(bob, room)
    assert event["sender"] == alice.user_id
    assert event["content"]["third_party_invite"]["signed"]["token"] == waiting["state_key"]
    await bob.join(room)
    # Told again: nothing happens to who is in the room.
    await town.prove("bob@example.org", bob)
    assert bob.user_id in (await alice.request("GET", f"{alice.room(room)}/joined_members"))["joined"]


@pytest.mark.parametrize("version", ["6", "12"])
async def test_an_invite_between_servers(town: Town, people: list[Client], version: str) -> None:
    alice, bob, carol = people
    room = await alice.create_room(room_version=version, invite_3pid=[by_address(town, "carol@example.org")])
    (waiting,) = await pending(alice, room)
    await town.prove("carol@example.org", carol)
    event = await invited(carol, room)
    assert event["sender"] == alice.user_id
    await carol.join(room)

    def joined(answer: Any) -> bool:
        events = answer.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {}).get("events", [])
        return any(
            each.get("state_key") == carol.user_id and each["content"]["membership"] == "join" for each in events
        )

    await alice.sync_until(joined)
    assert waiting["state_key"] in town.identity.invites
    assert bob.user_id != carol.user_id


async def test_joining_with_a_proof_in_ones_hands(town: Town, people: list[Client]) -> None:
    """The way of those who were invited by a mail with a link: nobody has told their server of the invite."""
    alice, bob, carol = people
    room = await alice.create_room()
    await alice.request("POST", f"{alice.room(room)}/invite", by_address(town, "who@example.org"))
    (waiting,) = await pending(alice, room)
    path, token = f"/join/{quote(room, safe='')}", waiting["state_key"]
    wrong = town.identity.signed(carol.user_id, "another", sender=alice.user_id)
    await carol.request("POST", path, {"third_party_signed": wrong}, expect=403, errcode="M_FORBIDDEN")
    for user in (bob, carol):
        proof = town.identity.signed(user.user_id, token, sender=alice.user_id)
        await user.request("POST", path, {"third_party_signed": proof})
        assert room in (await user.request("GET", "/joined_rooms"))["joined_rooms"]


async def test_keys_that_are_revoked_and_proofs_that_are_none(town: Town, people: list[Client]) -> None:
    alice, bob, carol = people
    room = await alice.create_room()
    await alice.request("POST", f"{alice.room(room)}/invite", by_address(town, "bob@example.org"))
    (waiting,) = await pending(alice, room)
    good = {"room_id": room, "sender": alice.user_id, "signed": town.identity.signed(bob.user_id, waiting["state_key"])}
    body = {"medium": "email", "address": "bob@example.org", "mxid": bob.user_id}
    signatures = good["signed"]["signatures"]
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:

        async def tell(*invites: Any, **changes: Any) -> int:
            url = f"{town.federation[0]}/_matrix/federation/v1/3pid/onbind"
            answer = await client.put(url, json={**body, "invites": list(invites), **changes})
            assert answer.status_code < 500 or answer.json()["errcode"] == "M_UNKNOWN"
            return answer.status_code

        wrong_token = {**good, "signed": {**good["signed"], "token": "another"}}
        for bad in (
            3, {}, {**good, "signed": {}}, {**good, "sender": bob.user_id}, {**good, "room_id": "!no:h0.test"},
            {**good, "signed": {"mxid": carol.user_id, "token": waiting["state_key"], "signatures": signatures}},
            {**good, "signed": {"mxid": bob.user_id, "token": waiting["state_key"], "signatures": {}}}, wrong_token,
        ):  # fmt: skip
            assert await tell(bad) == 200
        assert await tell(good, mxid="@nobody:h0.test") == 400
        assert await tell(good, mxid=carol.user_id) == 400
        assert await tell(*[good] * 101) == 413
        town.identity.revoked = set(town.identity.keys)
        assert await tell(good) == 200
        # Not a word of all that came into the room.
        members = await alice.request("GET", f"{alice.room(room)}/members")
        assert [each["state_key"] for each in members["chunk"]] == [alice.user_id]
        # A server that cannot be reached: to be told again.
        assert await tell({**good, "sender": "@x:far.example"}) == 502
        town.identity.revoked = set()
        assert await tell({}, good) == 200
        await invited(bob, room)
        # Nor may other servers exchange what is none of theirs, or without a signature.
        url = f"{town.federation[0]}/_matrix/federation/v1/exchange_third_party_invite/{room}"
        assert (await client.put(url, json={})).status_code == 401


async def test_other_servers_exchange_only_what_is_theirs(town: Town, people: list[Client]) -> None:
    alice, bob, carol = people
    room = await alice.create_room()
    await alice.request("POST", f"{alice.room(room)}/invite", by_address(town, "carol@example.org"))
    (waiting,) = await pending(alice, room)
    key = parse_signing_key_file((town.servers[1].data_dir / "signing.key").read_text())

    def event(user: Client, **changes: Any) -> dict[str, Any]:
        signed = town.identity.signed(user.user_id, waiting["state_key"])
        content = {"membership": "invite", "third_party_invite": {"display_name": "c", "signed": signed}}
        return {
            "type": "m.room.member", "room_id": room, "sender": alice.user_id, "state_key": user.user_id,
            "content": content, **changes,
        }  # fmt: skip

    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:

        async def exchange(body: Any, room_id: str = room) -> int:
            """As the second server."""
            path = f"/_matrix/federation/v1/exchange_third_party_invite/{quote(room_id, safe='')}"
            signature = authorization("PUT", path, "h1.test", "h0.test", body, key)
            answer = await client.put(town.federation[0] + path, json=body, headers={"Authorization": signature})
            return answer.status_code

        assert await exchange(event(bob)) == 403
        assert await exchange(event(carol, sender=bob.user_id)) == 403
        assert await exchange(event(carol, state_key="@eve:h1.test")) == 403
        assert await exchange(event(carol, room_id="!other:h0.test")) == 400
        assert await exchange(event(carol, room_id="!other:h0.test"), "!other:h0.test") == 404
        assert await exchange(event(carol, type="m.room.message")) == 400
        assert await exchange(event(carol, content={"membership": "join"})) == 400
        assert await exchange({}) == 400
        await alice.put_state(room, "m.room.server_acl", {"allow": ["*"], "deny": ["h1.test"]})
        assert await exchange(event(carol)) == 403
        await alice.put_state(room, "m.room.server_acl", {"allow": ["*"]})
        members = await alice.request("GET", f"{alice.room(room)}/members")
        assert [each["state_key"] for each in members["chunk"]] == [alice.user_id]
        assert await exchange(event(carol)) == 200
        assert await exchange(event(carol)) == 200
    await invited(carol, room)


async def test_an_invite_that_was_taken_back(town: Town, people: list[Client]) -> None:
    alice, bob, carol = people
    room = await alice.create_room()
    await alice.request("POST", f"{alice.room(room)}/invite", by_address(town, "both@example.org"))
    (waiting,) = await pending(alice, room)
    await alice.put_state(room, "m.room.third_party_invite", {}, waiting["state_key"])
    for user in (bob, carol):
        await town.prove("both@example.org", user)
    members = await alice.request("GET", f"{alice.room(room)}/members")
    assert [each["state_key"] for each in members["chunk"]] == [alice.user_id]


async def test_who_may_not_invite(town: Town, people: list[Client]) -> None:
    alice, bob, _ = people
    room = await alice.create_room(bob, power_level_content_override={"invite": 50})
    path, wanted = f"{alice.room(room)}/invite", by_address(town, "x@example.org")
    await bob.request("POST", path, wanted, expect=403, errcode="M_FORBIDDEN")
    for wrong, errcode in (
        ({"id_server": "id.example.org"}, "M_SERVER_NOT_TRUSTED"),
        ({"id_server": f"{town.identity.name}/x"}, "M_SERVER_NOT_TRUSTED"),
        ({"address": "nobody"}, "M_INVALID_PARAM"),
        ({"medium": "fax"}, "M_INVALID_PARAM"),
        ({"id_access_token": ""}, "M_INVALID_PARAM"),
    ):
        await alice.request("POST", path, {**wanted, **wrong}, expect=400, errcode=errcode)
        if wrong.keys() != {"id_access_token"}:
            body = {"invite_3pid": [{**wanted, **wrong}]}
            await alice.request("POST", "/createRoom", body, expect=400, errcode=errcode)
    assert town.identity.seen == []
    assert (await alice.request("GET", "/joined_rooms"))["joined_rooms"] == [room]


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"nonsense"),
        Reply(200, b"[]"),
        Reply(200, b"[" * 10_000),
        Reply(200, b'{"lookup_pepper":3,"algorithms":["sha256"],"token":"","public_keys":[]}'),
        Reply(200, b'{"lookup_pepper":"x","algorithms":["none"]}'),
        Reply(500, b"{}"),
        Reply(302, b"{}", {"Location": "https://127.0.0.1:1/"}),
        Reply(200, b"x" * 100_000),
        Reply(raw=b""),
    ],
)
async def test_identity_servers_that_answer_nonsense(town: Town, people: list[Client], answer: Reply) -> None:
    alice, *_ = people
    room = await alice.create_room()
    town.identity.broken = answer
    wanted = by_address(town, "x@example.org")
    await alice.request("POST", f"{alice.room(room)}/invite", wanted, expect=502, errcode="M_UNKNOWN")
    proof = {"sid": "s", "client_secret": "c", "id_server": wanted["id_server"], "id_access_token": "t"}
    await alice.request("POST", "/account/3pid/bind", proof, expect=502, errcode="M_UNKNOWN")
    assert await pending(alice, room) == []
    # A room is made, whatever an identity server says.
    assert await alice.create_room(invite_3pid=[wanted])
